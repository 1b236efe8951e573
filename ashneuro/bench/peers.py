"""Neurons of ashneuro and of other libraries: currents (T, B, ...) in, spikes (T, B, ...) out.

LIF with a time constant of 2 steps and threshold `THRESHOLD`, reset to 0 or by subtraction; each
with its own surrogate and its own defaults otherwise. The work is alike, the spikes are not the
same. Graded neurons, a jump at the same threshold, stand beside torch's ReLU and a jump in torch's
operations; sigma-delta neurons beside their equations in torch, step by step.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from ashneuro.errors import ConfigError, install_command
from ashneuro.spiking.firing import Reset
from ashneuro.spiking.kernels.dispatch import choose_backend
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.spiking.lif import LIF, Graded, Population, SigmaDelta

THRESHOLD = 0.3
TAU_S, DT_S = 2e-3, 1e-3
Neuron = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Benched:
    """A neuron that is timed.

    Args:
        title: its name in tables.
        layer: function of a `Population`'s options to our layer.
        peers: neurons of other libraries, by name: the package, and a function to the neuron.
        stepwise: function of a synapse to Norse's neuron behind it, both applied step by step;
            ``None``: Norse has no such neuron.
    """

    title: str
    layer: Callable[..., Population]
    peers: Mapping[str, tuple[str, Callable[[], Neuron]]]
    stepwise: Callable[[nn.Module], Neuron] | None

    def ours(self, kernels: Kernels, device: torch.device, *, bf16: bool = False) -> Neuron:
        """Return our layer; ``bf16`` halves the memory that it keeps for the backward pass."""
        return self.layer(kernels=kernels, saves="bf16" if bf16 else "full").to(device)


def benched(name: str) -> Benched:
    """Return the neuron called ``name`` in `NEURONS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in NEURONS:
        near = difflib.get_close_matches(name, NEURONS, n=1)
        remedy = f"--neuron {near[0] if near else 'lif'}"
        raise ConfigError(f"neuron {name!r}", f"it must be one of {', '.join(NEURONS)}", remedy)
    return NEURONS[name]


def available(kernels: Kernels, device: torch.device) -> str:
    """Return the reason why ``kernels`` cannot run on ``device``; empty if they can."""
    try:
        choose_backend(kernels, device)
    except ConfigError as error:
        return error.why
    return ""


def norse_cell(
    tau_mem_inv: float = 1 / TAU_S,
    v_leak: float = 0.0,
    v_th: float = THRESHOLD,
    v_reset: float = 0.0,
    dt: float = DT_S,
    *,
    reset: Reset = "value",
) -> nn.Module:
    """Return Norse's LIFBoxCell."""
    with warnings.catch_warnings():
        # Norse 1.1.0 scripts functions at import, which torch 2.14 deprecates.
        warnings.simplefilter("ignore", FutureWarning)
        from norse.torch import LIFBoxCell
        from norse.torch.functional.lif_box import LIFBoxParameters
        from norse.torch.functional.reset import reset_subtract, reset_value
    method = reset_subtract if reset == "subtract" else reset_value
    parameters = LIFBoxParameters(*torch.tensor([tau_mem_inv, v_leak, v_th, v_reset]), reset_method=method)
    return LIFBoxCell(parameters, dt=dt)  # type: ignore[no-any-return]


def norse_lift(reset: Reset = "value") -> Neuron:
    """Return Norse's cell in Norse's `Lift`, which indexes ``x[t]`` step by step."""
    from norse.torch import Lift

    lifted = Lift(norse_cell(reset=reset))
    return lambda x: lifted(x)[0]  # type: ignore[no-any-return]


def norse_unbound(reset: Reset = "value") -> Neuron:
    """Return Norse's cell over steps unbound once; its backward pass is faster than `Lift`'s."""
    cell = norse_cell(reset=reset)

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for current in x.unbind(0):
            z, state = cell(current, state)
            spikes.append(z)
        return torch.stack(spikes)

    return run


def norse_stepwise(synapse: nn.Module, reset: Reset = "value") -> Neuron:
    """Return a synapse and Norse's cell, both applied step by step, as in Norse's sequences."""
    cell = norse_cell(reset=reset)

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for t in range(len(x)):
            z, state = cell(synapse(x[t]), state)
            spikes.append(z)
        return torch.stack(spikes)

    return run


def snntorch(reset: Reset = "value") -> Neuron:
    """Return snnTorch's Leaky, whose reset comes a step late, in the loop of its tutorials."""
    from snntorch import Leaky  # type: ignore[import-untyped]

    leaky = Leaky(beta=0.5, threshold=THRESHOLD, reset_mechanism="zero" if reset == "value" else "subtract")

    def run(x: Tensor) -> Tensor:
        v, spikes = leaky.init_leaky(), []
        for t in range(len(x)):
            z, v = leaky(x[t], v)
            spikes.append(z)
        return torch.stack(spikes)

    return run


def spikingjelly(reset: Reset = "value") -> Neuron:
    """Return SpikingJelly's LIFNode, multi-step."""
    from spikingjelly.activation_based import functional, neuron  # type: ignore[import-untyped]

    v_reset = 0.0 if reset == "value" else None
    node = neuron.LIFNode(tau=2.0, v_threshold=THRESHOLD, v_reset=v_reset, step_mode="m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)  # type: ignore[no-any-return]

    return run


def sinabs(reset: Reset = "value") -> Neuron:
    """Return sinabs' LIF, which takes the batch first."""
    from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike  # type: ignore[import-untyped]
    from sinabs.layers import LIF as SinabsLIF  # type: ignore[import-untyped]

    reset_fn = MembraneReset() if reset == "value" else MembraneSubtract()
    layer = SinabsLIF(tau_mem=2.0, spike_threshold=torch.tensor(THRESHOLD), spike_fn=SingleSpike, reset_fn=reset_fn)

    def run(x: Tensor) -> Tensor:
        layer.reset_states()
        return layer(x.movedim(0, 1)).movedim(1, 0)  # type: ignore[no-any-return]

    return run


PEERS: dict[str, tuple[str, Callable[[Reset], Neuron]]] = {
    "Norse, Lift(LIFBoxCell)": ("norse", norse_lift),
    "Norse, steps unbound": ("norse", norse_unbound),
    "snnTorch, Leaky": ("snntorch", snntorch),
    "SpikingJelly, multi-step": ("spikingjelly", spikingjelly),
    "sinabs, LIF": ("sinabs", sinabs),
}


def _lif(title: str, reset: Reset) -> Benched:
    peers = {name: (package, partial(make, reset)) for name, (package, make) in PEERS.items()}
    layer = partial(LIF, TAU_S, THRESHOLD, dt=DT_S, reset=reset)
    return Benched(title, layer, peers, partial(norse_stepwise, reset=reset))


def torch_jump(x: Tensor) -> Tensor:
    """Return x where it exceeds `THRESHOLD`, else 0, without a gradient of the step."""
    return x * (x > THRESHOLD)


def torch_changes(x: Tensor) -> Tensor:
    """Return the changes of sigma-delta neurons by torch's operations, straight through."""
    values, sent = torch.relu(x.cumsum(0)), []
    total = torch.zeros_like(x[0])
    for value in values.unbind(0):
        after = torch.where((value - total).abs() >= THRESHOLD, value, total)
        after = value + (after - value).detach()
        sent.append(after - total)
        total = after
    return torch.stack(sent)


_GRADED_PEERS = {
    "torch, ReLU": ("torch", lambda: torch.relu),
    "torch, x · (x > θ)": ("torch", lambda: torch_jump),
}
NEURONS = {
    "lif": _lif("LIF", "value"),
    "lif-subtract": _lif("LIF by subtraction", "subtract"),
    "graded": Benched("graded", partial(Graded, THRESHOLD), _GRADED_PEERS, None),
    "sigma-delta": Benched(
        "sigma-delta",
        partial(SigmaDelta, THRESHOLD),
        {"torch, step by step": ("torch", lambda: torch_changes)},
        None,
    ),
}


def missing(package: str) -> str:
    """Return the reason why a peer is not run; empty if it is installed."""
    return "" if find_spec(package) else f"{package} is not installed ({install_command('frameworks')})"
