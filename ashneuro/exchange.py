"""Values that one room makes and another reads, where the two may not import each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HostLayer:
    """One ANN layer that stays on the host, counted for one inference.

    Args:
        name: name of the layer, e.g. ``"concrete.conv1"``.
        part: ``"image"``: once per image; ``"text"``: once per text.
        dense_macs: multiply–accumulates.
        parameters: weights and biases.
        inputs, outputs: numbers of elements read and written.
    """

    name: str
    dense_macs: int
    parameters: int
    outputs: int
    inputs: int = 0
    part: Literal["image", "text"] = "image"
