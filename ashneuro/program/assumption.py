"""Assumptions: what the source of a network leaves open, and the value that was taken.

A NIR file need not say how long a step is or how a spike resets v, and a lava-dl file does not say
how v is compared with the threshold. Assumptions travel with the network: from the file that is
read to its program, bundle, certificate, spikes and report. Changes to a graph that only spell out
what it says, such as a bias that becomes a line, are notes and not assumptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ashneuro.spiking.contract import contract_option


@dataclass(frozen=True)
class Assumption:
    """A field that the source of a network leaves open, and the value that was taken.

    Args:
        field: field of `Contract`.
        value: the value taken.
        nodes: names of the nodes, or layers, that depend on it.
        spikes: True if other values give other spikes, or other potentials of a read-out.
    """

    field: str
    value: float | int | str
    nodes: tuple[str, ...]
    spikes: bool = True

    @property
    def option(self) -> str:
        """Command-line option that states the value, e.g. ``--dt 0.001``."""
        return contract_option(self.field, self.value)

    def __str__(self) -> str:
        """Return field and value, e.g. ``dt = 0.001 s``."""
        return f"dt = {self.value:g} s" if self.field == "dt_s" else f"{self.field} = {self.value}"

    def to_json(self) -> dict[str, Any]:
        """Return the assumption as plain values."""
        return {"field": self.field, "value": self.value, "nodes": list(self.nodes), "spikes": self.spikes}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Assumption:
        """Return the assumption that `to_json` wrote."""
        return cls(values["field"], values["value"], tuple(values["nodes"]), values["spikes"])


Assumptions = tuple[Assumption, ...] | None
"""``None``: not recorded, by a version of ashneuro that did not keep them."""


def to_json(found: Assumptions) -> list[dict[str, Any]] | None:
    """Return assumptions as plain values; ``None`` where they were not recorded."""
    return None if found is None else [item.to_json() for item in found]


def from_json(values: Iterable[Mapping[str, Any]] | None) -> Assumptions:
    """Return the assumptions that `to_json` wrote."""
    return None if values is None else tuple(Assumption.from_json(item) for item in values)


def assuming(found: Assumptions) -> str:
    """Return the words after a result with assumptions, e.g. ``", assuming dt = 0.001 s"``.

    Empty if nothing was assumed.
    """
    if found is None:
        return ", assumptions not recorded"
    return f", assuming {', '.join(map(str, found))}" if found else ""
