"""Neurons of programs, for numpy and torch alike: ``xp`` is either module.

`ashneuro.program.program` has the equations and units. One call computes any number of steps, from
the state before the first to the state after the last: a fused kernel computes `Population.run`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ashneuro.loihi import DECAY_ONE, LARGEST_STATE, STATE_RANGE, STATE_SHIFT, STATE_UNIT
from ashneuro.program.program import Layer, Precision
from ashneuro.simulation.emulator.changes import ChangePopulation
from ashneuro.simulation.emulator.dynamics import STEPS, Neurons, StepFunction
from ashneuro.simulation.emulator.population import Array, Kernel, Population, States, Steps
from ashneuro.spiking.dynamics import AMOUNTS, DYNAMICS, DynamicsName
from ashneuro.spiking.firing import LIF_FIRING, Firing
from ashneuro.spiking.message import SPIKE, Message, graded_values, rounded_potential, spike_counts


@dataclass(frozen=True, eq=False)
class FloatPopulation(Population[Array]):
    """Lava's ``floating_pt`` neuron, in its order of operations: float64 agrees to the last bit."""

    keep_u: Array
    keep_v: Array
    v_threshold: Array
    firing: Firing
    v_subtract: Array | None
    message: Message = SPIKE

    def _run(self, u: Any, v: Any, currents: Any, states: States | None, more: tuple[Any, ...]) -> Steps[Any]:
        """Run the steps: u ← u·(1 − du) + a, v ← v·(1 − dv) + u + bias, then reset."""
        if self.message.graded:
            return self._run_graded(u, v, currents, states)
        awake = (currents != 0) | (self.bias != 0)
        binary = self.spiking and not self.message.payload
        sent = self.xp.zeros_like(currents, dtype=self.xp.uint8) if binary else currents
        late = self.spiking and self.firing.reset_delay
        for t, a in enumerate(currents):
            awake[t] |= (u != 0) | (v != 0)
            before = self._fires(v) if late else None
            u = u * self.keep_u + a
            v = v * self.keep_v + u + self.bias
            if late:
                v = self._reset(v, before)
            if self.message.kind == "count":
                spikes = spike_counts(v, self.v_threshold, self.v_subtract, self.message.limit, self.xp)
                v = v - spikes * self.v_subtract
            elif self.message.potential:
                spikes = v
            elif self.spiking:
                spikes = self._fires(v)
                if not late:
                    v = self._reset(v, spikes)
            sent[t] = spikes if self.spiking else v
            if states is not None:
                states.append((u, v))
        return Steps(sent, u, v, int(self.xp.count_nonzero(awake)))

    def _run_graded(self, u: Any, v: Any, currents: Any, states: States | None) -> Steps[Any]:
        active = int(self.xp.count_nonzero((currents != 0) | (self.bias != 0)))
        x = currents + self.bias
        if states is not None:
            states.extend((a, v * 0) for a in currents)
        return Steps(graded_values(x, self._fires(x), self.message.limit, self.xp), u, v, active)

    def _fires(self, v: Any) -> Any:
        # Thresholds lie beyond ties, and > and ≥ differ in none but 0, whose ties have no width.
        return v >= self.v_threshold if self.firing.comparison == "inclusive" else v > self.v_threshold

    def _reset(self, v: Any, spikes: Any) -> Any:
        return self.xp.where(spikes, 0.0 if self.v_subtract is None else v - self.v_subtract, v)


@dataclass(frozen=True, eq=False)
class IntegerPopulation(Population[Array]):
    """Lava's ``fixed_pt`` neuron on int32.

    Bias, threshold and what a spike subtracts are in units of the state. The factors that decay u
    and v, in 1/4096, are one number, or arrays (*shape) where neurons differ.

    All operations are in place, and comparisons write to arrays of the type that they compare:
    numpy and torch are several times slower otherwise.
    """

    keep_u: int | Array
    keep_v: int | Array
    v_threshold: int
    firing: Firing = LIF_FIRING
    v_subtract: int | None = None
    message: Message = SPIKE

    @property
    def keeps_u(self) -> bool:
        """False where u is the input of the step alone."""
        return not isinstance(self.keep_u, int) or self.keep_u != 0

    @property
    def decays(self) -> tuple[Array, Array] | None:
        """keep_u and keep_v of each neuron (*shape), contiguous; ``None`` if all share them."""
        if isinstance(self.keep_u, int) and isinstance(self.keep_v, int):
            return None
        bias: Any = self.bias
        ones = bias * 0 + 1
        return ones * self.keep_u, ones * self.keep_v

    @property
    def fires_above(self) -> int:
        """Largest v that does not spike: v ≥ θ is v > θ − 1."""
        return self.v_threshold - (self.firing.comparison == "inclusive")

    def _run(self, u: Any, v: Any, currents: Any, states: States | None, more: tuple[Any, ...]) -> Steps[Any]:
        """Run the steps: u wraps at 24 bits, v saturates, then a spike resets v."""
        if self.message.graded:
            return self._run_graded(u, v, currents, states)
        counting, potential = self.message.kind == "count", self.spiking and self.message.potential
        binary = self.spiking and not (counting or potential)
        xp = self.xp
        exact, scratch = xp.zeros_like(v, dtype=xp.float64), xp.zeros_like(v)
        us = currents << STATE_SHIFT  # u of each step is accumulated here
        if not self.keeps_u:
            _wrap(us)
        # A neuron is active if any bit of its input, bias, u or v is set.
        awake = currents
        awake |= self.bias
        biased = bool(xp.any(self.bias != 0))
        late = self.spiking and self.firing.reset_delay
        sent = xp.zeros_like(currents, dtype=xp.uint8 if binary else xp.int32)
        for t, u_next in enumerate(us):
            awake[t] |= u
            awake[t] |= v
            before = xp.less_equal(v, self.fires_above) if late else None
            if self.keeps_u:
                _decay(u, self.keep_u, exact)
                u_next += u
                _wrap(u_next)
            u = u_next
            _decay(v, self.keep_v, exact)
            v += u
            if biased:
                v += self.bias
            xp.clip(v, -LARGEST_STATE, LARGEST_STATE, out=v)
            if late:
                scratch[...] = before
                self._reset(v, scratch)
            if counting:
                sent[t] = spike_counts(v, self.fires_above + 1, self.v_subtract, self._limit, xp)
                v -= sent[t] * self.v_subtract
            elif potential:
                sent[t] = rounded_potential(v, self._limit, xp)
            elif self.spiking:
                silent = xp.less_equal(v, self.fires_above, out=scratch)
                sent[t] = silent
                if not late:
                    self._reset(v, silent)
            else:
                sent[t] = v
            if states is not None:
                states.append((u + 0, v + 0))  # copies: both are overwritten in the next step
        if binary:
            sent ^= 1
        return Steps(sent, u, v, int(xp.count_nonzero(awake)))

    def _run_graded(self, u: Any, v: Any, currents: Any, states: States | None) -> Steps[Any]:
        """Run the steps of stateless neurons, all at once: the payload is v in units of a."""
        xp = self.xp
        active = int(xp.count_nonzero(currents | self.bias))
        us = currents << STATE_SHIFT
        _wrap(us)
        vs = xp.clip(us + self.bias, -LARGEST_STATE, LARGEST_STATE)
        if states is not None:
            states.extend((now, v * 0) for now in us)
        return Steps(graded_values(vs >> STATE_SHIFT, vs > self.fires_above, self._limit, xp), u, v, active)

    @property
    def _limit(self) -> int | None:
        return None if self.message.limit is None else int(self.message.limit)

    def _reset(self, v: Any, silent: Any) -> None:
        """Reset v in place where ``silent``, which is overwritten, is 0."""
        if self.v_subtract is None:
            v *= silent
            return
        silent -= 1  # −1 where it spiked
        silent *= self.v_subtract
        v += silent


@dataclass(frozen=True, eq=False)
class OtherPopulation(Population[Array]):
    """Neurons of another kind than LIF: u and v are integrated alike, `StepFunction` does the rest.

    A resonator has its imaginary part in place of u.
    The array library computes step by step, in floats and in integers.
    """

    kind: DynamicsName
    integer: bool
    keep_u: Array | int
    keep_v: Array | int
    neurons: Neurons
    function: StepFunction
    binary: bool = True

    def _run(self, u: Any, v: Any, currents: Any, states: States | None, more: tuple[Any, ...]) -> Steps[Any]:
        """Run the steps: integrate u and v, then the step function of the kind."""
        more = more or self.function.start(self.neurons, self.xp.zeros_like(v))
        rest = self.function.start(self.neurons, self.xp.zeros_like(v))
        complex_input = currents.ndim > v.ndim + 1
        parts = (currents[:, :, 0], currents[:, :, 1]) if complex_input else (currents, currents)
        awake = (parts[0] != 0) | (parts[1] != 0) | (self.bias != 0)
        sent = self.xp.zeros_like(parts[0], dtype=self.xp.uint8 if self.binary else parts[0].dtype)
        for t, (a, imaginary) in enumerate(zip(*parts, strict=True)):
            awake[t] |= (u != 0) | (v != 0)
            for value, start in zip(more, rest, strict=True):
                awake[t] |= value != start
            before = v
            if self.function.integrates:
                u, v = self._integrate(u, v, a)
            else:
                x, y = (a << STATE_SHIFT, imaginary << STATE_SHIFT) if self.integer else (a, imaginary)
                v = (x, y) if complex_input else x
            v, more, spikes = self.function.step(self.neurons, before, v, more)
            u = u if self.function.integrates else more[0]
            sent[t] = spikes
            if states is not None:
                states.append((u, v))
        return Steps(sent, u, v, int(self.xp.count_nonzero(awake)), more)

    def _integrate(self, u: Any, v: Any, a: Any) -> tuple[Any, Any]:
        if not self.integer:
            u = u * self.keep_u + a
            if self.function.bias_joins_current:
                return u, v * self.keep_v + (u + self.bias)
            return u, v * self.keep_v + u + self.bias
        u = decayed(self.xp, u, self.keep_u) + (a << STATE_SHIFT)
        _wrap(u)
        v = decayed(self.xp, v, self.keep_v) + u + self.bias
        return u, self.xp.clip(v, -LARGEST_STATE, LARGEST_STATE)


def decayed(xp: Any, x: Any, keep: Any) -> Any:
    """Return x·keep / 4096 of int32 values, rounded toward zero."""
    result = xp.zeros_like(x)
    result[...] = x
    _decay(result, keep, xp.zeros_like(x, dtype=xp.float64))
    return result


def _decay(x: Any, keep: Any, exact: Any) -> None:
    """Set ``x`` to x·keep / 4096, rounded toward zero, through float64, which holds its 35 bits."""
    if isinstance(keep, int) and keep == DECAY_ONE:
        return
    exact[...] = x
    exact *= keep / DECAY_ONE
    x[...] = exact  # into int32: drops the fraction


def _wrap(u: Any) -> None:
    """Wrap at 24 bits like Lava: 2^23 stays, and −2^23 becomes 2^23."""
    u += LARGEST_STATE
    u &= 2 * STATE_RANGE - 1
    u -= LARGEST_STATE


def population(layer: Layer, precision: Precision, xp: Any, put: Any, kernel: Kernel | None = None) -> Population[Any]:
    """Return the neurons of ``layer``.

    Args:
        put: makes an array of ``xp`` from one of numpy.
        kernel: for integers, see `Population`.
    """
    neuron = layer.neuron
    if neuron.dynamics != "lif":
        return _other_population(layer, precision, xp, put, kernel)
    if neuron.message.changes:
        return _change_population(layer, precision, xp, put, kernel)
    subtract = neuron.v_subtract
    if precision == "float":
        keep_u, keep_v, bias = (
            np.broadcast_to(np.float64(value), layer.shape) for value in (1 - neuron.du, 1 - neuron.dv, neuron.bias)
        )
        threshold = np.broadcast_to(np.float64(neuron.v_threshold), layer.shape)
        if subtract is not None:
            subtract = put(np.broadcast_to(np.float64(subtract), layer.shape))
        return FloatPopulation(
            xp,
            neuron.spiking,
            put(bias),
            put(keep_u),
            put(keep_v),
            put(threshold),
            neuron.firing,
            subtract,
            neuron.message,
        )
    bias = np.broadcast_to(np.int32(neuron.bias) << neuron.bias_exp, layer.shape).astype(np.int32)
    return IntegerPopulation(
        xp,
        neuron.spiking,
        put(bias),
        _kept(neuron.du + 1, layer, put),
        _kept(neuron.dv, layer, put),
        one(neuron.v_threshold) << STATE_SHIFT,
        neuron.firing,
        None if subtract is None else one(subtract) << STATE_SHIFT,
        neuron.message,
        kernel=kernel,
    )


def _change_population(layer: Layer, precision: Precision, xp: Any, put: Any, kernel: Kernel | None) -> Population[Any]:
    neuron, unit = layer.neuron, 1 << layer.neuron.bias_exp
    scale = 1 if neuron.message.levels else unit  # of the threshold
    keep = 1 - np.asarray(neuron.du) if precision == "float" else np.asarray(neuron.du) < 0
    keep, threshold, bias = (
        put(np.broadcast_to(values, layer.shape).copy())
        for values in (keep, np.asarray(neuron.v_threshold) * scale, np.asarray(neuron.bias) * unit)
    )
    return ChangePopulation(
        xp, neuron.spiking, bias, keep, threshold, neuron.message, precision == "integer", kernel=kernel
    )


def _kept(decay: NDArray[Any], layer: Layer, put: Any) -> Any:
    """Return 4096 − ``decay``, as a number if all neurons share it."""
    kept = DECAY_ONE - np.asarray(decay, np.int32)
    alike = kept.min() == kept.max()
    return int(kept.flat[0]) if alike else put(np.broadcast_to(kept, layer.shape).astype(np.int32))


def _other_population(layer: Layer, precision: Precision, xp: Any, put: Any, kernel: Kernel | None) -> Population[Any]:
    neuron, integer = layer.neuron, precision == "integer"
    kinds = DYNAMICS[neuron.dynamics].kinds
    unit = STATE_UNIT if integer else 1

    def array(values: ArrayLike) -> Any:
        return put(np.broadcast_to(values, layer.shape).copy())

    def keep(decay: NDArray[Any]) -> Any:
        return _kept(decay, layer, put) if integer else array(1 - np.float64(decay))

    parameters = {
        name: keep(values) if kinds[name] == "tau" else array(values * (unit if kinds[name] in AMOUNTS else 1))
        for name, values in neuron.parameters.items()
    }
    neurons = Neurons(
        xp,
        (lambda x, name: decayed(xp, x, parameters[name])) if integer else (lambda x, name: parameters[name] * x),
        array(np.asarray(neuron.v_threshold) * unit),
        array(np.zeros(())),
        parameters,
    )
    if integer:
        neurons = replace(neurons, smallest=1, saturate=lambda v: xp.clip(v, -LARGEST_STATE, LARGEST_STATE))
    bias = np.asarray(neuron.bias) * (1 << neuron.bias_exp)
    keep_u = keep(neuron.du + 1 if integer else neuron.du)
    return OtherPopulation(
        xp,
        True,
        array(bias),
        neuron.dynamics,
        integer,
        keep_u,
        keep(neuron.dv),
        neurons,
        STEPS[neuron.dynamics],
        neuron.binary,
        kernel=kernel,
    )


def one(value: NDArray[np.generic]) -> int:
    """Return the number that all neurons of a layer share."""
    numbers = np.unique(np.asarray(value))
    if numbers.size != 1:
        raise ValueError("an integer layer has one v_threshold")
    return int(numbers[0])
