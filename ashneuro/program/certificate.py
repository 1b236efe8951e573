"""The certificate of a bundle: which computations were compared, spike for spike, with what
result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Literal

from ashneuro.display import Shown
from ashneuro.errors import BundleError
from ashneuro.program.assumption import Assumptions, assuming, to_json
from ashneuro.program.source import Source
from ashneuro.schemas import Format, remedy_of

"""Schema 1 has neither assumptions nor a verdict."""

Status = Literal["equal", "different", "not run"]


class Computation(StrEnum):
    """One way to compute the answers of a network; the values are those of ``certificate.json``."""

    GRAPH = "graph, float64"
    FLOAT = "float program"
    FLOAT32 = "float program, float32"
    INTEGER = "integer program"
    LAVA_FLOAT = "Lava, floating_pt"
    LAVA_INTEGER = "Lava, fixed_pt"
    RECORDED = "reference.npz"


PAIRS = (
    (Computation.GRAPH, Computation.FLOAT, True),
    (Computation.GRAPH, Computation.LAVA_FLOAT, True),
    (Computation.INTEGER, Computation.LAVA_INTEGER, True),
    (Computation.FLOAT, Computation.FLOAT32, False),
    (Computation.GRAPH, Computation.INTEGER, False),
)
"""Pairs of which a certificate states a comparison, and whether they have to be equal. A network of
integers only has the pair of the integer program with Lava alone."""


@dataclass(frozen=True)
class LayerComparison:
    """One layer in two computations.

    Args:
        layer: name of the layer.
        compared: number of values compared: neurons · steps · samples.
        spikes: number of spikes or graded messages among them, in the first of the two
            computations.
        mismatches: number of values that differ.
        first: (sample, step, neuron) of the first mismatch, ordered by sample, then step.
        largest: largest absolute difference of a read-out or of graded messages; ``None`` for
            spikes.
    """

    layer: str
    compared: int
    spikes: int
    mismatches: int
    first: tuple[int, int, int] | None = None
    largest: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two computations of the same samples, layer by layer.

    Args:
        left, right: the computations.
        required: they have to be equal for the certificate to pass.
        layers: empty if a computation was not run.
        reason: why it was not run.
        stock_samples: number of samples that Lava's own processes computed; ``None`` if ``right``
            is not Lava.
    """

    left: Computation
    right: Computation
    required: bool
    layers: tuple[LayerComparison, ...] = ()
    reason: str = ""
    stock_samples: int | None = None

    @property
    def status(self) -> Status:
        """Result over all layers."""
        if self.reason:
            return "not run"
        return "equal" if not self.mismatches else "different"

    @property
    def mismatches(self) -> int:
        """Number of values that differ, over all layers."""
        return sum(layer.mismatches for layer in self.layers)

    @property
    def compared(self) -> int:
        """Number of values compared, over all layers."""
        return sum(layer.compared for layer in self.layers)

    @property
    def first(self) -> tuple[str, tuple[int, int, int]] | None:
        """First layer with a mismatch, in program order, and (sample, step, neuron) there."""
        return next(((layer.layer, layer.first) for layer in self.layers if layer.first is not None), None)

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain values, with its totals."""
        return {
            **asdict(self),
            "left": self.left.value,
            "right": self.right.value,
            "status": self.status,
            "mismatches": self.mismatches,
            "compared": self.compared,
        }


CheckStatus = Literal["consistent", "different", "not checked"]


@dataclass(frozen=True)
class Check:
    """One part of a bundle, compared with what follows from its other parts.

    Args:
        what: the part, and what it was compared with.
        status: ``"not checked"`` where a bundle of an earlier version does not allow it.
        compared, differing: number of values; 0 where they are not counted.
        detail: where it differs, why it was not checked, or how it was compared.
        do: remedy of a difference.
    """

    what: str
    status: CheckStatus
    compared: int = 0
    differing: int = 0
    detail: str = ""
    do: str = ""

    @property
    def part(self) -> str:
        """The part alone."""
        return self.what.partition(" – ")[0]


# Processes of ashneuro's in Lava, and why Lava's own neurons cannot run their layers.
OWN_PROCESSES: Mapping[str, str] = {
    "Fired": "Lava has none with this comparison or reset",
    "Changes": "its SigmaDelta has no reset between samples",
    "Counted": "it has none that spikes several times in a step",
    "Potential": "it has none that sends its potential",
    "Graded": "it has none in floats, and its GradedReluVec takes neither a bias nor a limit",
    "Refractory": "its LIFRefractory has no reset between samples, and no fixed-point model",
    "Adaptive": "its ATRLIF has no reset between samples",
    "Resonate": "its RF has no reset between samples",
    "Izhikevich": "its RF_IZ has no reset between samples",
    "Ternary": "its TernaryLIF has no reset between samples",
}


@dataclass(frozen=True, repr=False)
class Certificate(Shown):
    """Results of all comparisons of one exported network.

    Args:
        samples, timesteps: size of the inputs that every computation ran.
        comparisons: all pairs of computations, including those that were not run.
        versions: version of each package that took part, by name.
        accuracy: task metrics by computation, if measured, e.g. ``{"float32": {"R@1": 0.31}}``.
        own_processes: layers that ran in Lava through a process of ashneuro's, because Lava has
            none for their neurons, and the name of that process.
        source: comparison of the graph with the module that it came from; ``None``: the proof
            starts from a graph or a lava-dl file.
        assumptions: what the network's source left open: the proof holds for the values taken.
        checks: parts of a bundle that were found consistent with each other, or not; none in a
            certificate that is written into a bundle.
        taken_over: what was taken from an earlier certificate without comparing it, in sentences.
    """

    samples: int
    timesteps: int
    comparisons: tuple[Comparison, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    own_processes: Mapping[str, str] = field(default_factory=dict)
    source: Source | None = None
    assumptions: Assumptions = ()
    checks: tuple[Check, ...] = ()
    taken_over: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The result in words: passed, failed or incomplete, what was not run, what is assumed."""
        absent = [f"{pair.left} – {pair.right}" for pair in self.required if pair.status == "not run"]
        result = "passed" if self.passed else "failed" if self.failed else "incomplete"
        unchecked = [check.part for check in self.checks if check.status == "not checked"]
        lacks = [f"not run: {'; '.join(absent)}"] if absent else []
        lacks += [f"not checked: {'; '.join(unchecked)}"] if unchecked else []
        said = f" ({'; '.join(lacks)})" if lacks else ""
        return f"{result}{said}{assuming(self.assumptions)}"

    @property
    def required(self) -> tuple[Comparison, ...]:
        """The comparisons that have to be equal."""
        return tuple(comparison for comparison in self.comparisons if comparison.required)

    @property
    def passed(self) -> bool:
        """True if every required comparison was run and is equal, and every check is consistent."""
        consistent = all(check.status == "consistent" for check in self.checks)
        equal = all(comparison.status == "equal" for comparison in self.required)
        return consistent and equal and not self._source_differs

    @property
    def failed(self) -> bool:
        """True if a required comparison was run and is different, or a check is.

        A certificate may neither pass nor fail.
        """
        found = {comparison.status for comparison in self.required} | {check.status for check in self.checks}
        return self._source_differs or "different" in found

    @property
    def _source_differs(self) -> bool:
        return self.source is not None and self.source.mismatches > 0

    @property
    def not_compared(self) -> tuple[str, ...]:
        """Everything that this certificate makes no statement about, in sentences."""
        skipped = [f"{c.left} with {c.right}: {c.reason}" for c in self.comparisons if c.status == "not run"]
        skipped += [
            f"{c.right}: {self.samples - c.stock_samples} of {self.samples} samples through Lava's own synapses;"
            f" they ran through batched ones, which had answered the other {c.stock_samples} alike"
            for c in self.comparisons
            if c.stock_samples is not None and c.stock_samples < self.samples
        ]
        for process in dict.fromkeys(self.own_processes.values()):
            layers = ", ".join(name for name, own in self.own_processes.items() if own == process)
            skipped.append(
                f"Lava's own neurons for {layers}: {OWN_PROCESSES.get(process, 'this version does not know why')};"
                f" they ran in ashneuro's process {process}, with Lava's arithmetic of u and v"
            )
        if self.source is None and any(c.left == Computation.GRAPH for c in self.comparisons):
            skipped.append("the model that the graph came from: this proof starts from the graph")
        if silent := self._silent():
            names = ", ".join(silent)
            skipped.append(f"what spikes of {names} would do: on these samples not one neuron there spiked")
        return (
            *skipped,
            *self.taken_over,
            "membrane potentials and currents: only what a layer sends was compared",
            "silicon: nothing here ran on a chip",
        )

    def _silent(self) -> list[str]:
        # Behind a spiking layer that never spiked, zeros were compared: any weights would have
        # passed.
        spikes: dict[str, int] = {}
        for layer in (layer for comparison in self.comparisons for layer in comparison.layers):
            if layer.largest is None:
                spikes[layer.layer] = spikes.get(layer.layer, 0) + layer.spikes
        return [name for name, count in spikes.items() if not count]

    def comparison(self, left: Computation, right: Computation) -> Comparison:
        """Return the comparison of two computations."""
        return next(pair for pair in self.comparisons if (pair.left, pair.right) == (left, right))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``certificate.json``."""
        return {
            "schema": CERTIFICATE.schema,
            "verdict": self.verdict,
            "passed": self.passed,
            "failed": self.failed,
            "samples": self.samples,
            "timesteps": self.timesteps,
            **({"source": self.source.to_json()} if self.source else {}),
            **({"checks": [asdict(check) for check in self.checks]} if self.checks else {}),
            "assumptions": to_json(self.assumptions),
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "versions": dict(self.versions),
            "accuracy": {name: dict(metrics) for name, metrics in self.accuracy.items()},
            "not_compared": list(self.not_compared),
        } | ({"own_processes": dict(self.own_processes)} if self.own_processes else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Certificate:
        """Return the certificate that `to_json` wrote.

        Raises:
            BundleError: it is damaged or of another schema.
        """
        try:
            file: CertificateFile = CERTIFICATE.parse(values)
        except ValueError as error:
            do = remedy_of(error, "export the network again")
            raise BundleError("certificate.json cannot be read", str(error), do) from error
        return cls(**{item.name: getattr(file, item.name) for item in fields(file)})


@dataclass(frozen=True)
class CertificateFile:
    """``certificate.json``: what of a `Certificate` its verdict follows from."""

    samples: int
    timesteps: int
    comparisons: tuple[Comparison, ...]
    versions: dict[str, str]
    accuracy: dict[str, dict[str, float]]
    own_processes: dict[str, str] = field(default_factory=dict)
    source: Source | None = None
    assumptions: Assumptions = None


CERTIFICATE = Format("ashneuro-certificate", CertificateFile, version=2)
