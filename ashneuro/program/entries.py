"""Models of the entries of ``program.json``, where arrays are named by their keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ashneuro.program.assumption import Assumptions
from ashneuro.program.program import InputPort, Shape

Value = bool | float | int | str | None


@dataclass(frozen=True)
class NeuronEntry:
    """Keys of a layer's arrays, and how it fires."""

    du: str
    dv: str
    v_threshold: str
    bias: str
    v_unit: str
    v_origin: str
    bias_exp: int = 0
    spiking: bool = True
    v_subtract: str | None = None
    firing: dict[str, str | int] = field(default_factory=dict)
    message: dict[str, Value] = field(default_factory=dict)
    dynamics: str = "lif"
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SynapseEntry:
    """Geometry of synapses, and keys of their arrays."""

    kind: str
    in_shape: Shape
    out_shape: Shape
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    weight: str
    indices: str | None
    indptr: str | None


@dataclass(frozen=True)
class ConnectionEntry:
    """Synapses from one source."""

    source: str
    delay: int
    weight_exp: int
    nir: tuple[str, ...]
    synapse: SynapseEntry | None
    imaginary: bool = False


@dataclass(frozen=True)
class LayerEntry:
    """A layer of a program."""

    name: str
    shape: Shape
    depth: int
    scale: float
    nir: tuple[str, ...]
    neuron: NeuronEntry
    connections: tuple[ConnectionEntry, ...]


@dataclass(frozen=True)
class ProgramEntry:
    """A program."""

    precision: Literal["float", "integer"]
    dt_s: float
    timesteps: int | None
    inputs: tuple[InputPort, ...]
    layers: tuple[LayerEntry, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...]
    assumptions: Assumptions = None


@dataclass(frozen=True)
class ProgramFile:
    """``program.json`` of a bundle."""

    programs: dict[str, ProgramEntry]
