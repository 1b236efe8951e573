"""Units of what a layer sends: from the numbers that neurons compute to those of the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Layer, Precision


@dataclass(frozen=True, eq=False)
class Units:
    """The value of a number x in units of the graph: v_unit · (2^shift · x / scale) + v_origin.

    Args:
        shift: of changes: bits that the message lacks.
        scale: units of x in one unit of the layer; 1 for float programs.
        v_unit, v_origin: of the layer, see `ashneuro.program.program.Neuron`.
    """

    shift: int = 0
    scale: float = 1.0
    v_unit: NDArray[Any] = field(default_factory=lambda: np.ones(()))
    v_origin: NDArray[Any] = field(default_factory=lambda: np.zeros(()))

    @classmethod
    def of(cls, layer: Layer, precision: Precision) -> Units:
        """Return the units of what ``layer`` sends: membrane potentials of a read-out, or messages.

        Integers count 1/(64·scale) of a potential (1/scale of a sum of changes), 1/scale of a
        graded message or of a potential that is sent, and 2^shift/scale of a change. Spikes and
        their counts have no unit.
        """
        neuron = layer.neuron
        if neuron.scale_free:
            return cls()
        scale = (
            1.0
            if precision == "float"
            else layer.scale * (1 if neuron.graded or neuron.potential else neuron.state_unit)
        )
        shift = neuron.message.shift if neuron.changes else 0
        return cls(shift, scale, np.asarray(neuron.v_unit), np.asarray(neuron.v_origin))

    def read(self, numbers: NDArray[Any]) -> NDArray[np.float64]:
        """Return ``numbers`` (T, B, *shape) in units of the graph, in a new array."""
        # Only where something changes: each pass takes as long as the neurons themselves.
        if self.scale != 1 and not self.shift:
            values: NDArray[np.float64] = np.divide(numbers, self.scale, dtype=np.float64)
        else:
            values = np.array(numbers, np.float64)
            if self.shift:
                values *= 2.0**self.shift
            if self.scale != 1:
                values /= self.scale
        if (self.v_unit != 1).any():
            values *= self.v_unit
        if self.v_origin.any():
            values += self.v_origin
        return values


def read_out(layer: Layer, numbers: NDArray[Any], precision: Precision) -> NDArray[np.float64]:
    """Return membrane potentials or messages (T, B, *shape) in the units of the graph."""
    return Units.of(layer, precision).read(numbers)
