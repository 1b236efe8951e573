"""The comparison of a graph with the module that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ashneuro.spiking.contract import Contract


@dataclass(frozen=True)
class SourcePopulation:
    """One population of a module, beside the graph's.

    Args:
        name: the graph's node, named after the module.
        compared: number of values compared: neurons · steps · samples.
        spikes: number of spikes or graded messages among them, as the module sent them.
        mismatches: values in which the module's float64 copy differs from the graph.
        ties: values in which the module itself differs and its float64 copy does not: float32
            rounded a potential across its threshold, or what follows from such a spike.
        first: (sample, step, neuron) of the first mismatch, ordered by sample, then step.
    """

    name: str
    compared: int
    spikes: int
    mismatches: int
    ties: int
    first: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Source:
    """A module's own spikes, compared with those of its graph.

    Args:
        module: name of the module's class.
        frameworks: version of each framework that took part, by name.
        samples, timesteps: size of the sample that both ran.
        populations: every population of the module, in the order of its first call.
    """

    module: str
    frameworks: Mapping[str, str]
    samples: int
    timesteps: int
    populations: tuple[SourcePopulation, ...]

    @property
    def compared(self) -> int:
        """Number of values compared."""
        return sum(population.compared for population in self.populations)

    @property
    def mismatches(self) -> int:
        """Number of values that differ."""
        return sum(population.mismatches for population in self.populations)

    @property
    def ties(self) -> int:
        """Number of values that differ through float32 alone."""
        return sum(population.ties for population in self.populations)

    @property
    def first(self) -> tuple[str, tuple[int, int, int]] | None:
        """First population with a mismatch, and (sample, step, neuron) there."""
        return next(((found.name, found.first) for found in self.populations if found.first is not None), None)

    @property
    def silent(self) -> tuple[str, ...]:
        """Populations that sent nothing: zeros were compared."""
        return tuple(population.name for population in self.populations if not population.spikes)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the totals."""
        totals = {"compared": self.compared, "mismatches": self.mismatches, "ties": self.ties}
        return {**asdict(self), "frameworks": dict(self.frameworks), **totals}


@dataclass(frozen=True)
class ContractMatch:
    """The contract with which a file spikes as its module does, or the one that comes closest.

    Args:
        contract: the contract.
        source: comparison of the module with the file under it.
        options: its fields that differ from how the file is read without options, as command-line
            options.
        either: fields whose other value gives the same spikes on this sample.
        tried: number of contracts that were compared.
    """

    contract: Contract
    source: Source
    options: str
    either: tuple[str, ...]
    tried: int

    @property
    def found(self) -> bool:
        """True if no value differs."""
        return not self.source.mismatches

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "found": self.found,
            "contract": self.contract.to_metadata(),
            "options": self.options,
            "either": list(self.either),
            "tried": self.tried,
            "comparison": self.source.to_json(),
        }
