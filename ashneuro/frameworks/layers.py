"""ashneuro's own layers: the equations of NIR with Euler steps, over whole samples."""

from __future__ import annotations

from typing import Any

from ashneuro.frameworks.form import (
    Adapter,
    Membrane,
    Population,
    Shape,
    Spiking,
    Untranslatable,
    array,
    linear_node,
    population,
    recurrent,
)
from ashneuro.spiking.firing import Firing


def lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIF`."""
    decay = dt_s / array(module.tau)
    return _spiking(module, shape, dt_s, Membrane(decay, gain=decay, leak=module.v_leak))


def cuba_lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `CubaLIF`."""
    decay, syn = dt_s / array(module.tau_mem), dt_s / array(module.tau_syn)
    membrane = Membrane(decay, gain=decay, leak=module.v_leak, syn_decay=syn, syn_gain=syn)
    return _spiking(module, shape, dt_s, membrane)


def integrate_and_fire(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `IF`."""
    return _spiking(module, shape, dt_s, Membrane(0.0))


def li(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LI`: a read-out."""
    decay = dt_s / array(module.tau)
    return population(shape, dt_s, Membrane(decay, gain=decay, leak=module.v_leak), None)


def recurrent_lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `RecurrentLIF`."""
    return recurrent(lif(module.neurons, shape, dt_s), linear_node(module.weight))


def _spiking(module: Any, shape: Shape, dt_s: float, membrane: Membrane) -> Population:
    if module.integers is not None:
        raise Untranslatable(
            "it computes with Loihi's integers", "export the run that it belongs to: ashneuro export RUN"
        )
    firing = Firing("strict", module.reset, 0)
    return population(shape, dt_s, membrane, Spiking(module.v_threshold, firing, module.v_reset), start="v_leak")


def _dt_s(module: Any) -> float | None:
    own = getattr(module, "neurons", module) if type(module).__name__ == "RecurrentLIF" else module
    return float(own.dt) if hasattr(own, "dt") else None


ADAPTER = Adapter(
    package="ashneuro",
    name="ashneuro",
    distribution="ashneuro",
    neurons={
        "LIF": lif,
        "CubaLIF": cuba_lif,
        "IF": integrate_and_fire,
        "LI": li,
        "RecurrentLIF": recurrent_lif,
    },
    marks=frozenset({"Population"}),
    layout=lambda module: ("T", "B"),
    dt_s=_dt_s,
)
