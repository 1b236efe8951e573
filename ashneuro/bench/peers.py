"""LIF neurons of ashneuro and of other libraries: currents (T, B, ...) in, spikes (T, B, ...) out.

Time constant 2 steps, threshold `THRESHOLD`, reset to 0; each with its own surrogate and its own
defaults otherwise. The work is alike, the spikes are not the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels.dispatch import choose_backend
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.spiking.lif import LIF

THRESHOLD = 0.3
TAU_S, DT_S = 2e-3, 1e-3
Neuron = Callable[[Tensor], Tensor]


def ours(kernels: Kernels, device: torch.device, *, bf16: bool = False) -> Neuron:
    """Return `ashneuro.spiking.lif.LIF`; ``bf16`` halves the memory that it keeps for the backward
    pass.
    """
    return LIF(TAU_S, THRESHOLD, dt=DT_S, kernels=kernels, saves="bf16" if bf16 else "full").to(device)


def available(kernels: Kernels, device: torch.device) -> str:
    """Return the reason why ``kernels`` cannot run on ``device``; empty if they can."""
    try:
        choose_backend(kernels, device)
    except ConfigError as error:
        return error.why
    return ""


def norse_cell(
    tau_mem_inv: float = 1 / TAU_S, v_leak: float = 0.0, v_th: float = THRESHOLD, v_reset: float = 0.0, dt: float = DT_S
) -> nn.Module:
    """Return Norse's LIFBoxCell."""
    with warnings.catch_warnings():
        # Norse 1.1.0 scripts functions at import, which torch 2.14 deprecates.
        warnings.simplefilter("ignore", FutureWarning)
        from norse.torch import LIFBoxCell
        from norse.torch.functional.lif_box import LIFBoxParameters
    parameters = LIFBoxParameters(*torch.tensor([tau_mem_inv, v_leak, v_th, v_reset]))
    return LIFBoxCell(parameters, dt=dt)  # type: ignore[no-any-return]


def norse_lift() -> Neuron:
    """Return Norse's cell in Norse's `Lift`, which indexes ``x[t]`` step by step."""
    from norse.torch import Lift

    lifted = Lift(norse_cell())
    return lambda x: lifted(x)[0]  # type: ignore[no-any-return]


def norse_unbound() -> Neuron:
    """Return Norse's cell over steps unbound once; its backward pass is faster than `Lift`'s."""
    cell = norse_cell()

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for current in x.unbind(0):
            z, state = cell(current, state)
            spikes.append(z)
        return torch.stack(spikes)

    return run


def norse_stepwise(synapse: nn.Module, device: torch.device) -> Neuron:
    """Return a synapse and Norse's cell, both applied step by step, as in Norse's sequences."""
    cell = norse_cell().to(device)

    def run(x: Tensor) -> Tensor:
        state, spikes = None, []
        for t in range(len(x)):
            z, state = cell(synapse(x[t]), state)
            spikes.append(z)
        return torch.stack(spikes)

    return run


def snntorch() -> Neuron:
    """Return snnTorch's Leaky in the loop of its tutorials."""
    from snntorch import Leaky  # type: ignore[import-untyped]

    leaky = Leaky(beta=0.5, threshold=THRESHOLD, reset_mechanism="zero")

    def run(x: Tensor) -> Tensor:
        v, spikes = leaky.init_leaky(), []
        for t in range(len(x)):
            z, v = leaky(x[t], v)
            spikes.append(z)
        return torch.stack(spikes)

    return run


def spikingjelly() -> Neuron:
    """Return SpikingJelly's LIFNode, multi-step."""
    from spikingjelly.activation_based import functional, neuron  # type: ignore[import-untyped]

    node = neuron.LIFNode(tau=2.0, v_threshold=THRESHOLD, step_mode="m")

    def run(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)  # type: ignore[no-any-return]

    return run


def sinabs() -> Neuron:
    """Return sinabs' LIF, which takes the batch first."""
    from sinabs.activation import MembraneReset, SingleSpike  # type: ignore[import-untyped]
    from sinabs.layers import LIF as SinabsLIF  # type: ignore[import-untyped]

    layer = SinabsLIF(
        tau_mem=2.0, spike_threshold=torch.tensor(THRESHOLD), spike_fn=SingleSpike, reset_fn=MembraneReset()
    )

    def run(x: Tensor) -> Tensor:
        layer.reset_states()
        return layer(x.movedim(0, 1)).movedim(1, 0)  # type: ignore[no-any-return]

    return run


PEERS: dict[str, tuple[str, Callable[[], Neuron]]] = {
    "Norse, Lift(LIFBoxCell)": ("norse", norse_lift),
    "Norse, steps unbound": ("norse", norse_unbound),
    "snnTorch, Leaky": ("snntorch", snntorch),
    "SpikingJelly, multi-step": ("spikingjelly", spikingjelly),
    "sinabs, LIF": ("sinabs", sinabs),
}


def missing(package: str) -> str:
    """Return the reason why a peer is not run; empty if it is installed."""
    return "" if find_spec(package) else f"{package} is not installed (pip install 'ashneuro[frameworks]')"
