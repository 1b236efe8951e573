"""Spiking layers over whole samples: currents (T, B, ...) in, spikes or values (T, B, ...) out.

The arithmetic is `ashneuro.spiking.kernels.multi_step.multi_step`. Norse's own modules keep their
parameters outside ``state_dict`` and do not move them in ``.to()``; here they are registered
buffers, held in float64 so that a time constant of 2 ms is 2 ms in an export. There is no
resistance and no input gain: both are factors of the weights in front.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from dataclasses import replace
from typing import Unpack, final, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ashneuro.errors import ConfigError
from ashneuro.spiking.firing import Reset
from ashneuro.spiking.integers import IntegerLayer
from ashneuro.spiking.kernels.events import events
from ashneuro.spiking.kernels.interface import Neurons, Options, State
from ashneuro.spiking.kernels.multi_step import multi_step, whole_sample
from ashneuro.spiking.kernels.surrogate import surrogate
from ashneuro.spiking.kernels.tracing import is_traced
from ashneuro.spiking.message import BITS, SPIKE, Activation, Message, MessageKind
from ashneuro.spiking.straight_through import integer_graded, integer_multi_step

Parameter = float | Tensor
"""One number for a whole population, or a tensor that broadcasts to its shape (...)."""


class Population(nn.Module):
    """Neurons of one kind with their parameters as buffers; abstract: a subclass defines `neurons`.

    Args:
        learn: names of buffers to train instead: a time constant (stays above dt),
            ``"v_threshold"`` (stays above 0), ``"v_leak"``, ``"v_reset"``. A tensor that
            broadcasts gives each channel or neuron its own value.
        options: surrogate, slope, detached, saves, kernels; see
            `ashneuro.spiking.kernels.interface.Neurons`.
        reset: effect of a spike on v, see below.
        values: the buffers, by name.

    Attributes:
        reset: ``"value"``: a spike sets v to v_reset. ``"subtract"``: it takes v_threshold from v.
        message: what a neuron sends: a spike, or its value.
        integers: if set, currents and potentials are those of Loihi's arithmetic
            (`integer_multi_step`, `integer_graded`); for `LIF`, `IF` and `Graded` only.
        weights: of the messages of each neuron, broadcast to their shape (...), for `with_rates`;
            for example, the number of synapses that they reach.
    """

    integers: IntegerLayer | None = None
    weights: Tensor | None = None
    reset: Reset = "value"
    message: Message = SPIKE

    def __init__(
        self, learn: Collection[str], options: Options, *, reset: Reset = "value", **values: Parameter
    ) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64).clone())
        _check_reset(reset, values.get("v_reset", 0.0), learn)
        self.reset = reset
        _make_trainable(self, learn)
        self.options = options
        self._learned = bool(learn)
        self._cached: tuple[object, list[object], Neurons] | None = None

    def forward(self, currents: Tensor, *, hold: int = 1) -> Tensor:
        """Return spikes (T, B, ...) of currents (T, B, ...).

        Args:
            hold: T, if currents (1, B, ...) last for T steps.
        """
        return self.with_rate(currents, hold=hold)[0]

    @final
    def with_rate(self, currents: Tensor, *, hold: int = 1) -> tuple[Tensor, Tensor | None]:
        """Return the output of `forward`, and the mean of `events` if it is free, else ``None``.

        See `ashneuro.spiking.kernels.multi_step.whole_sample`.
        """
        return self.with_rates(currents, hold=hold)[:2]

    @final
    def with_rates(self, currents: Tensor, *, hold: int = 1) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return `with_rate`, and the mean of `events` times ``weights`` if it is free.

        See `ashneuro.spiking.kernels.multi_step.whole_sample`.
        """
        if self.integers is not None:
            return self.steps(currents, hold=hold)[0], None, None
        return whole_sample(currents, self._current(), self.weights, hold=hold)

    @final
    def steps(self, currents: Tensor, state: State | None = None, *, hold: int = 1) -> tuple[Tensor, State]:
        """Return spikes (T, B, ...), and the state that continues the sample.

        With ``integers`` set, v holds integers.
        """
        if self.integers is None:
            return multi_step(currents, self._current(), state, hold=hold)
        held = currents.expand(max(hold, len(currents)), *currents.shape[1:])
        return self._integer_steps(held, self.integers, state)

    def _integer_steps(self, currents: Tensor, layer: IntegerLayer, state: State | None) -> tuple[Tensor, State]:
        spikes, v = integer_multi_step(currents, layer, None if state is None else state.v, reset=self.reset)
        return spikes, State(v)

    def events(self, sent: Tensor) -> Tensor:
        """Return 1 where a neuron sent something, else 0, as `forward` returned ``sent``.

        Spikes are that already. The mean is the firing rate, its gradient included.
        """
        return sent

    def neurons(self) -> Neurons:
        """Return the neurons that the parameters make."""
        raise NotImplementedError

    def _current(self) -> Neurons:
        """Return `neurons`, from a cache if the parameters are plain numbers that have not changed.

        The cached object also keeps the parameters fitted to each memory layout.
        """
        buffers = [values for values in self._buffers.values() if values is not None]
        # Comparing tensors, or numbers on a GPU, takes longer than fitting them again; and a
        # parameter that wants a gradient belongs to the graph of this call.
        uncacheable = any(values.ndim or values.device.type != "cpu" or values.requires_grad for values in buffers)
        if uncacheable or self._learned or is_traced():
            return self.neurons()
        # By value, because autograd's version counter misses changes made through ``.data``.
        numbers: list[object] = [self.reset, self.message, *((float(values), values.dtype) for values in buffers)]
        cached = self._cached
        if cached is None or cached[0] != self.options or cached[1] != numbers:
            # Tensors made in inference mode could not take part in training later.
            with torch.inference_mode(False):
                cached = self._cached = {**self.options}, numbers, replace(self.neurons(), blocks={})
        return cached[2]


@final
class LIF(Population):
    """Leaky integrate-and-fire: `norse.torch.LIFBoxCell` over the time axis.

    ::

        v'_t = v_{t-1} + dt/τ · (v_leak + x_t − v_{t-1})
        z_t  = 1 if v'_t > v_threshold else 0
        v_t  = v_reset where z_t = 1, else v'_t      reset = "value"
        v_t  = v'_t − v_threshold · z_t              reset = "subtract"

    Buffers: ``tau`` and ``dt`` (s), ``v_threshold``, ``v_leak``, ``v_reset``. Lava's LIF runs it if
    it resets to v_reset = v_leak.

    Args:
        reset: effect of a spike on v; with ``"subtract"``, v_reset is unused and has to be 0.
        learn, options: see `Population`.
    """

    tau: Tensor
    v_threshold: Tensor
    v_leak: Tensor
    v_reset: Tensor
    dt: Tensor

    def __init__(
        self,
        tau: Parameter,
        v_threshold: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        v_reset: Parameter = 0.0,
        *,
        dt: float,
        reset: Reset = "value",
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        values = {"tau": tau, "v_threshold": v_threshold, "v_leak": v_leak, "v_reset": v_reset, "dt": dt}
        super().__init__(learn, options, reset=reset, **values)

    def neurons(self) -> Neurons:
        """Return the neurons that the parameters make."""
        decay = self.dt * (1 / self.tau)
        potentials = self.v_threshold, self.v_leak, self.v_reset
        return Neurons("lif", decay, 1.0, *potentials, self.reset, **self.options)


@final
class LI(Population):
    """Leaky integrator: ``v_t = v_{t-1} + dt/τ · (v_leak − v_{t-1} + x_t)``, v_0 = v_leak.

    The output is v, (T, B, ...).

    Buffers: ``tau`` and ``dt`` (s), ``v_leak``; arguments as `LIF`.
    """

    tau: Tensor
    v_leak: Tensor
    dt: Tensor

    def __init__(
        self,
        tau: Parameter,
        v_leak: Parameter = 0.0,
        *,
        dt: float,
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learn, options, tau=tau, v_leak=v_leak, dt=dt)

    def neurons(self) -> Neurons:
        """Return the integrators that the parameters make."""
        return Neurons("li", self.dt * (1 / self.tau), leak=self.v_leak, **self.options)


@final
class CubaLIF(Population):
    """Current-based LIF: a leaky integrator I of the input drives a `LIF` in the same step.

    ::

        I_t = I_{t-1} + dt/τ_syn · (x_t − I_{t-1})

    Buffers: those of `LIF`, with ``tau_mem`` and ``tau_syn`` for ``tau``; arguments as `LIF`.
    """

    tau_mem: Tensor
    tau_syn: Tensor
    v_threshold: Tensor
    v_leak: Tensor
    v_reset: Tensor
    dt: Tensor

    def __init__(
        self,
        tau_mem: Parameter,
        tau_syn: Parameter,
        v_threshold: Parameter = 1.0,
        v_leak: Parameter = 0.0,
        v_reset: Parameter = 0.0,
        *,
        dt: float,
        reset: Reset = "value",
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            learn,
            options,
            reset=reset,
            tau_mem=tau_mem,
            tau_syn=tau_syn,
            v_threshold=v_threshold,
            v_leak=v_leak,
            v_reset=v_reset,
            dt=dt,
        )

    def neurons(self) -> Neurons:
        """Return the neurons that the parameters make."""
        decays = self.dt * (1 / self.tau_mem), self.dt * (1 / self.tau_syn)
        potentials = self.v_threshold, self.v_leak, self.v_reset
        return Neurons("cuba-lif", *decays, *potentials, self.reset, **self.options)


@final
class IF(Population):
    """Integrate-and-fire: ``v'_t = v_{t-1} + x_t`` (the ``per-step`` convention), v_0 = 0.

    Spike and reset are those of `LIF`. Buffers: ``v_threshold``, ``v_reset``; arguments as `LIF`.
    """

    v_threshold: Tensor
    v_reset: Tensor

    def __init__(
        self,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter = 0.0,
        *,
        reset: Reset = "value",
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learn, options, reset=reset, v_threshold=v_threshold, v_reset=v_reset)

    def neurons(self) -> Neurons:
        """Return the neurons that the parameters make."""
        return Neurons("if", threshold=self.v_threshold, reset=self.v_reset, reset_kind=self.reset, **self.options)


# α of the surrogate "super" 1/(1 + α|u|)², whose integral then is 1: the step has its true height.
JUMP_SLOPE = 2.0


@final
class Graded(Population):
    """Stateless neurons that send their input where it exceeds a threshold θ, else nothing::

        s_t = min(x_t, limit) if x_t > θ else 0         θ = 0: a ReLU;  θ > 0: a jump

    The step at θ has the derivative σ'(x/θ − 1), by default ``1/(1 + 2|x/θ − 1|)²``, at x and,
    negative, at θ. A ReLU has none. Samples of one timestep are usual.

    Buffer: ``v_threshold`` (θ).

    Args:
        bits: payload bits of a message on the machine.
        limit: largest value that is sent; ``None``: there is none.
        learn: ``("v_threshold",)``, or nothing.
        options: see `Population`; ``surrogate`` and ``slope`` give σ'.

    Raises:
        ConfigError: a threshold is negative, or the payload is out of range.
    """

    v_threshold: Tensor

    def __init__(
        self,
        v_threshold: Parameter = 0.0,
        *,
        bits: int = BITS["graded"][0],
        limit: float | None = None,
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learn, options, v_threshold=v_threshold)
        if not bool((self.v_threshold >= 0).all()):
            lowest = float(self.v_threshold.min())
            raise ConfigError(
                f"v_threshold = {lowest:g} of graded neurons", "nothing negative is sent", "a threshold of 0 or more"
            )
        self.message = _message("graded", bits, limit)

    def neurons(self) -> Neurons:
        """Return the neurons that the parameters make."""
        limit = math.inf if self.message.limit is None else self.message.limit
        return Neurons("graded", threshold=self.v_threshold, limit=limit, **self._options())

    def events(self, sent: Tensor) -> Tensor:
        """Return 1 where a neuron sent a message, else 0; see `Population.events`."""
        neurons, layer = self.neurons(), self.integers
        if layer is not None:
            neurons = replace(neurons, threshold=layer.v_threshold / layer.scale, limit=layer.limit / layer.scale)
        return events(sent, neurons)

    def _integer_steps(self, currents: Tensor, layer: IntegerLayer, state: State | None) -> tuple[Tensor, State]:
        options = self._options()
        table, slope = surrogate(options.get("surrogate", "super")), options.get("slope")
        sent = integer_graded(currents, layer, lambda u: table.derivative(u, table.slope if slope is None else slope))
        return sent, State(currents.new_zeros(currents.shape[1:])) if state is None else state

    def _options(self) -> Options:
        """Return the options, with the default slope of the step for that of spikes."""
        plain = self.options.get("surrogate", "super") == "super" and self.options.get("slope") is None
        return {**self.options, "slope": JUMP_SLOPE} if plain else self.options


@final
class SigmaDelta(Population):
    """Neurons that sum changes, and send the changes of their own value: Lava's SigmaDelta.

    ::

        u_t = u_{t-1} + x_t;   y_t = max(u_t + bias, 0)
        d_t = y_t − y_{t-1} + r_{t-1};   s_t = d_t if |d_t| ≥ θ else 0;   r_t = d_t − s_t

    So what has been sent adds up to y_t within θ. x are changes behind weights without bias, since
    a bias in every step would be summed. The timesteps are the frames of a stream. The gradient is
    that of θ = 0, straight through: s_t = y_t − y_{t-1}.

    Buffers: ``v_threshold`` (θ), ``bias``.

    Args:
        bits: payload bits of a change on the machine, with its sign.
        limit: largest y that integers have room for; nothing is clipped. ``None``: what samples
            show.
        learn: ``("bias",)``, or nothing.
        options: ``saves`` and ``kernels``; see `Population`.

    Raises:
        ConfigError: a threshold is negative or is to be learned, or the payload is out of range.
    """

    v_threshold: Tensor
    bias: Tensor

    def __init__(
        self,
        v_threshold: Parameter = 0.0,
        bias: Parameter = 0.0,
        *,
        bits: int = BITS["change"][0],
        limit: float | None = None,
        learn: Collection[str] = (),
        **options: Unpack[Options],
    ) -> None:
        _check_changes(v_threshold, learn)
        super().__init__(learn, options, v_threshold=v_threshold, bias=bias)
        self.message = _message("change", bits, limit, "relu")

    def neurons(self) -> Neurons:
        """Return the neurons that the parameters make."""
        return Neurons("sigma-delta", threshold=self.v_threshold, leak=self.bias, **self.options)

    def events(self, sent: Tensor) -> Tensor:
        """Return 1 where a neuron sent a change, else 0; without a gradient."""
        return (sent != 0).to(sent.dtype)


@final
class Delta(Population):
    """Neurons that send the changes of their input, which is Lava's Delta.

    `SigmaDelta` without sum and ReLU, at the input of a network or behind an ANN's own activation.
    Buffer: ``v_threshold`` (θ); arguments as `SigmaDelta`.
    """

    v_threshold: Tensor

    def __init__(
        self,
        v_threshold: Parameter = 0.0,
        *,
        bits: int = BITS["change"][0],
        limit: float | None = None,
        **options: Unpack[Options],
    ) -> None:
        _check_changes(v_threshold, ())
        super().__init__((), options, v_threshold=v_threshold)
        self.message = _message("change", bits, limit)

    def neurons(self) -> Neurons:
        """Return the neurons that the parameters make."""
        return Neurons("delta", threshold=self.v_threshold, **self.options)

    def events(self, sent: Tensor) -> Tensor:
        """Return 1 where a neuron sent a change, else 0; without a gradient."""
        return (sent != 0).to(sent.dtype)


def _message(kind: MessageKind, bits: int, limit: float | None, activation: Activation = "none") -> Message:
    """Return the message of a layer; raise `ConfigError` if its payload is out of range."""
    usual, fewest, most = BITS[kind]
    if not fewest <= bits <= most:
        raise ConfigError(f"bits = {bits}", f"a payload has {fewest} to {most} bits", f"bits = {usual}")
    if limit is not None and not 0 < limit < math.inf:
        raise ConfigError(f"limit = {limit}", "the largest value that is sent is above 0", "limit = None: none")
    return Message(kind, bits, limit, activation)


def _check_changes(v_threshold: Parameter, learn: Collection[str]) -> None:
    if not bool((torch.as_tensor(v_threshold) >= 0).all()):
        lowest = float(torch.as_tensor(v_threshold).min())
        raise ConfigError(
            f"v_threshold = {lowest:g} of neurons that send changes",
            "a change is compared with it by its magnitude",
            "a threshold of 0 or more",
        )
    if "v_threshold" in learn:
        raise ConfigError(
            "learn = 'v_threshold'", "a straight-through gradient does not depend on it", "learn = ('bias',)"
        )


def _check_reset(reset: Reset, v_reset: Parameter, learn: Collection[str]) -> None:
    """Raise if the reset is of no known kind, or is by subtraction although v_reset is given."""
    name, known = f"reset = {reset!r}", get_args(Reset)
    if reset not in known:
        raise ConfigError(name, f"it must be one of {', '.join(known)}", "reset = 'value' or reset = 'subtract'")
    given = bool(v_reset.any()) if isinstance(v_reset, Tensor) else bool(v_reset)
    if reset == "subtract" and (given or "v_reset" in learn):
        raise ConfigError(name, "a spike takes v_threshold from v, so v_reset has no effect", "leave v_reset out")


def _make_trainable(module: nn.Module, names: Collection[str]) -> None:
    """Turn buffers into parameters; a parametrisation keeps τ > dt and v_threshold > 0."""
    known = [name for name, _ in module.named_buffers() if name != "dt"]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"learn one of {', '.join(known)}"
            raise ConfigError(
                f"learn = {name!r}", f"{type(module).__name__} has the parameters {', '.join(known)}", remedy
            )
        value = module.get_buffer(name)
        time = name.startswith("tau")
        least = float(module.get_buffer("dt")) if time else 0.0 if name == "v_threshold" else -torch.inf
        if not bool((value > least).all()):
            raise ConfigError(
                f"{name} = {value.tolist()}", f"a learned {name} starts above {least}", f"give a larger {name}"
            )
        delattr(module, name)
        module.register_parameter(name, nn.Parameter(value))
        if time:
            parametrize.register_parametrization(module, name, _LongerThan(least))
        elif name == "v_threshold":
            parametrize.register_parametrization(module, name, _Positive())


class _LongerThan(nn.Module):
    """A time constant as ``dt · (1 + e^w)``: longer than a step for every w."""

    def __init__(self, dt: float) -> None:
        super().__init__()
        self.dt = dt

    def forward(self, w: Tensor) -> Tensor:
        """Return the time constant."""
        return self.dt * (1 + w.exp())

    def right_inverse(self, tau: Tensor) -> Tensor:
        """Return w."""
        return (tau / self.dt - 1).log()


class _Positive(nn.Module):
    """A threshold as ``e^w``."""

    def forward(self, w: Tensor) -> Tensor:
        """Return the threshold."""
        return w.exp()

    def right_inverse(self, threshold: Tensor) -> Tensor:
        """Return w."""
        return threshold.log()
