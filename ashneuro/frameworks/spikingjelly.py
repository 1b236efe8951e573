"""SpikingJelly: nodes that spike at v ≥ v_threshold, stepped one by one or over whole samples.

::

    IFNode        v' = v + x
    LIFNode       v' = v + (x − (v − v_reset))/τ,  or v − (v − v_reset)/τ + x without decay_input
    CUBALIFNode   c = c_decay·c + x;  v' = v_decay·v + c

Samples start at v_reset; with v_reset=None they start at 0, and a spike subtracts v_threshold. Read
from SpikingJelly 2.0.0, ``spikingjelly/activation_based/neuron``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ashneuro.frameworks.form import Adapter, Membrane, Population, Shape, Spiking, array, population
from ashneuro.spiking.firing import Firing


def integrate_and_fire(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `IFNode`."""
    return _node(module, shape, dt_s, Membrane(0.0))


def lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIFNode`."""
    return _leaky(module, shape, dt_s, 1.0 / float(module.tau))


def parametric_lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `ParametricLIFNode`: 1/τ = sigmoid(w)."""
    return _leaky(module, shape, dt_s, 1.0 / (1.0 + np.exp(-array(module.w))))


def cuba_lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `CUBALIFNode`."""
    membrane = Membrane(1.0 - module.v_decay, syn_decay=1.0 - module.c_decay)
    return _node(module, shape, dt_s, membrane)


def _leaky(module: Any, shape: Shape, dt_s: float, decay: Any) -> Population:
    rest = 0.0 if module.v_reset is None else module.v_reset
    return _node(module, shape, dt_s, Membrane(decay, gain=decay if module.decay_input else 1.0, leak=rest))


def _node(module: Any, shape: Shape, dt_s: float, membrane: Membrane) -> Population:
    firing = Firing("inclusive", "subtract" if module.v_reset is None else "value", 0)
    spiking = Spiking(module.v_threshold, firing, 0.0 if module.v_reset is None else module.v_reset)
    return population(shape, dt_s, membrane, spiking, start="v_reset")


def _layout(module: Any) -> tuple[str, ...]:
    return ("T", "B") if getattr(module, "step_mode", "m") == "m" else ("B",)


def _reset(module: Any) -> None:
    if hasattr(module, "reset"):
        module.reset()


ADAPTER = Adapter(
    package="spikingjelly",
    name="SpikingJelly",
    distribution="spikingjelly",
    neurons={
        "IFNode": integrate_and_fire,
        "LIFNode": lif,
        "ParametricLIFNode": parametric_lif,
        "CUBALIFNode": cuba_lif,
    },
    marks=frozenset(
        {
            "BaseNode",
            "SimpleBaseNode",
            "NonSpikingBaseNode",
            "ILCBaseNode",
            "NoisyBaseNode",
            "GatedLIFNode",
            "PSN",
            "MaskedPSN",
            "SlidingPSN",
            "DSRIFNode",
            "DSRLIFNode",
            "FewSpikeNode",
            "STBIFNode",
            "ActivationAwareIFNode",
            "FlexSN",
        }
    ),
    layout=_layout,
    reset=_reset,
)
