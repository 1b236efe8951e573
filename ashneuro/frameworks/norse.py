"""Norse: neurons with inverse time constants, and states that the caller hands on.

`LIFBoxCell` is NIR's LIF with Euler steps; the synaptic current of `LIFCell` is a sum, so w_in is
τ_syn/dt. Read from Norse 1.1.0, ``norse/torch/functional``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ashneuro.frameworks.form import (
    Adapter,
    Membrane,
    Population,
    Shape,
    Spiking,
    Untranslatable,
    array,
    behind,
    linear_node,
    population,
    recurrent,
)
from ashneuro.spiking.firing import Firing


def lif_box(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `norse.torch.LIFBoxCell`."""
    decay = _decay(module, "tau_mem_inv")
    return _spiking(module, shape, dt_s, Membrane(decay, gain=decay, leak=module.p.v_leak))


def lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIFCell` and `LIF`: ``i_t = (1 − dt/τ_syn)·i_{t−1} + x_t`` drives v."""
    return _spiking(module, shape, dt_s, _filtered(module))


def lif_recurrent(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIFRecurrentCell` and `LIFRecurrent`, with their weights."""
    shape = (*shape[:-1], len(module.input_weights))
    own = recurrent(_spiking(module, shape, dt_s, _filtered(module)), linear_node(module.recurrent_weights))
    return behind(linear_node(module.input_weights), own, shape)


def iaf(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `IAFCell` and `IAF`: no leak, and a start at v_reset."""
    return replace(_spiking(module, shape, dt_s, Membrane(0.0)), start="v_reset")


def li_box(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIBoxCell`: a read-out."""
    decay = _decay(module, "tau_mem_inv")
    return population(shape, dt_s, Membrane(decay, gain=decay, leak=module.p.v_leak), None)


def li(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LICell` and `LI`: a read-out with a synaptic current."""
    return population(shape, dt_s, _filtered(module), None)


def li_linear(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LILinearCell`: `li` behind its own weights."""
    shape = (*shape[:-1], len(module.input_weights))
    return behind(linear_node(module.input_weights), li(module, shape, dt_s), shape)


def _decay(module: Any, name: str) -> Any:
    return module.dt * array(getattr(module.p, name))


def _filtered(module: Any) -> Membrane:
    decay = _decay(module, "tau_mem_inv")
    return Membrane(decay, gain=decay, leak=module.p.v_leak, syn_decay=_decay(module, "tau_syn_inv"))


def _spiking(module: Any, shape: Shape, dt_s: float, membrane: Membrane) -> Population:
    method = getattr(getattr(module.p, "reset_method", None), "__name__", "reset_value")
    if method not in ("reset_value", "reset_subtract"):
        raise Untranslatable(f"reset_method = {method}", "use norse's reset_value or reset_subtract")
    subtracts = method == "reset_subtract"
    firing = Firing("strict", "subtract" if subtracts else "value", 0)
    # A reset by subtraction never reads v_reset.
    spiking = Spiking(module.p.v_th, firing, 0.0 if subtracts else module.p.v_reset)
    return population(shape, dt_s, membrane, spiking, start="v_leak")


def _layout(module: Any) -> tuple[str, ...]:
    return ("B",) if type(module).__name__.endswith("Cell") else ("T", "B")


def _double(module: Any) -> None:
    import torch

    # Its parameters are no module state, so that .double() misses them.
    module.p = type(module.p)(*(value.double() if isinstance(value, torch.Tensor) else value for value in module.p))
    module.double()


ADAPTER = Adapter(
    package="norse",
    name="Norse",
    distribution="norse",
    neurons={
        "LIFBoxCell": lif_box,
        "LIFCell": lif,
        "LIF": lif,
        "LIFRecurrentCell": lif_recurrent,
        "LIFRecurrent": lif_recurrent,
        "IAFCell": iaf,
        "IAF": iaf,
        "LIBoxCell": li_box,
        "LICell": li,
        "LI": li,
        "LILinearCell": li_linear,
    },
    marks=frozenset({"SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"}),
    layout=_layout,
    dt_s=lambda module: float(module.dt),
    double=_double,
    state_argument=True,
)
