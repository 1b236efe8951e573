"""Populations of integers as compiled kernels take them: a kind, and its parameters in order.

`ashneuro.simulation.emulator.backend_native` and `ashneuro.simulation.emulator.backend_triton`
compute the kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.loihi import LARGEST_MESSAGE
from ashneuro.program.program import Shape
from ashneuro.simulation.emulator.changes import ChangePopulation
from ashneuro.simulation.emulator.neurons import IntegerPopulation, OtherPopulation
from ashneuro.simulation.emulator.population import Population
from ashneuro.spiking.dynamics import DYNAMICS, Dynamics, DynamicsName
from ashneuro.spiking.message import SPIKE, Message

ChannelsLast = tuple[int, int]  # (channels, positions) of an array that is channels-last in memory
Kind = Literal[DynamicsName, "graded", "count", "change"]
# As in loihi.cpp.
KINDS: tuple[Kind, ...] = (
    "lif", "refractory", "adaptive", "resonate", "izhikevich", "ternary", "graded", "count", "change"
)  # fmt: skip
NUMBERS: tuple[Kind, ...] = ("ternary", "graded", "count", "change")  # they send numbers, the others spikes


PARAMETERS = 7  # the most that `CompiledNeurons.own` has


@dataclass(frozen=True, eq=False)
class CompiledNeurons:
    """A population as the kernel takes it.

    Args:
        kind: of `KINDS`.
        spiking: they send messages.
        bias: (*shape), shifted by its exponent.
        own: keep_u and keep_v, the factors of the decays in 1/4096, v_threshold and up to four
            more, of further dynamics those of `ashneuro.spiking.dynamics` in their order: numbers,
            or arrays (*shape) where neurons differ. For LIF, v_threshold is the largest v that does
            not spike.
        late: spikes reset v one step later; of changes: the error adds up.
        subtract: from v at a spike; 0: a spike sets v to 0.
        message: type that holds what they send, or v of a read-out. Nothing bounds changes: they
            are expected to fit the 16 bits of Loihi's messages.
    """

    kind: Kind
    spiking: bool
    bias: NDArray[np.int32]
    own: tuple[Any, ...]
    late: bool = False
    subtract: int = 0
    message: type[np.integer] = np.uint8

    @property
    def binary(self) -> bool:
        """True if they send 0 and 1 alone."""
        return self.spiking and self.kind not in NUMBERS

    @property
    def whole(self) -> bool:
        """True if messages are whole numbers, whatever the unit of the layer."""
        return self.spiking and self.kind in ("count", "ternary")

    @property
    def dynamics(self) -> Dynamics:
        """The kind as data: its parameters and state beyond LIF's."""
        return next((own for name, own in DYNAMICS.items() if name == self.kind), Dynamics())

    @property
    def further(self) -> int:
        """Number of state variables beside u and v. Of a complex state, u is the imaginary part."""
        if self.kind == "change":
            return 1 + self.late
        return len(self.dynamics.state) - self.dynamics.resonates

    @cached_property
    def alike(self) -> bool:
        """True if all neurons share all parameters."""
        return all(np.unique(np.asarray(value)).size == 1 for value in self.own)

    @classmethod
    def of(cls, population: Population[Any], bias: NDArray[np.int32]) -> CompiledNeurons | None:
        """Return the compiled form of a population of integers, if it has one."""
        message, spiking = getattr(population, "message", SPIKE), population.spiking
        held: type[np.integer]
        if isinstance(population, IntegerPopulation):
            own = (population.keep_u, population.keep_v, population.fires_above)
            late, subtract = bool(population.firing.reset_delay), population.v_subtract or 0
            if message.kind == "spike" or not spiking:
                return cls("lif", spiking, bias, own, late, subtract, np.uint8 if spiking else np.int32)
            limit = message.limit
            if message.kind not in ("graded", "count") or limit is None or limit > LARGEST_MESSAGE:
                return None
            held = np.uint8 if limit <= np.iinfo(np.uint8).max else np.int16
            return cls(message.kind, True, bias, (*own, int(limit)), False, subtract, held)
        if isinstance(population, ChangePopulation) and population.integer:
            own = (-population.keep_u, 0, population.v_threshold)
            held = np.int16 if spiking else np.int32
            return cls("change", spiking, bias, (*own, *_activation(message)), message.cumulative, message=held)
        if isinstance(population, OtherPopulation) and population.integer and population.kind in KINDS:
            given = population.neurons.parameters
            own = (population.keep_u, population.keep_v, population.neurons.v_threshold)
            own = (*own, *(given[name] for name in DYNAMICS[population.kind].kinds))
            return cls(population.kind, True, bias, own, message=np.uint8 if population.binary else np.int8)
        return None

    def empty(self, shape: Shape, layout: ChannelsLast | None) -> NDArray[Any]:
        """Return an array (T, B, ...) for what neurons send, with the axes of neurons as in memory.

        A sample is contiguous: steps a power of two apart would meet in the same lines of a cache.

        Args:
            shape: (T, B, *layer shape).
        """
        in_memory = (math.prod(shape[2:]),) if layout is None else layout[::-1]
        return np.empty((shape[1], shape[0], *in_memory), self.message).swapaxes(0, 1)


def _activation(message: Message) -> tuple[int, int, int, int]:
    """Return f of changes as numbers.

    They are the smallest x that is not 0 in f(x), the largest f(x), the bits that it is rounded by,
    and the bits that a change is shifted by, to the right.
    """
    limits = np.iinfo(np.int32)
    if message.levels:
        return int(message.jump) + 1, message.largest, message.shift, 0
    return 1 if message.activation == "relu" else int(limits.min), int(limits.max), 0, message.shift
