"""snnTorch: neurons with decays β and α per step, reset one step late by default.

`Leaky` and its kin compute, with S_{t−1} the spikes of the step before::

    mem_t = β·mem_{t−1} + x_t − θ·S_{t−1}            reset_mechanism "subtract"
    mem_t = β·(1 − S_{t−1})·mem_{t−1} + x_t          "zero" of Leaky: in the step of the spike
    mem_t = (1 − S_{t−1})·(β·mem_{t−1} + x_t)        "zero" of the others: one step late
    mem_t = β·mem_{t−1} + x_t                        "none"

and spike at mem > θ. Read from snnTorch 1.0.0, ``snntorch/_neurons``.
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
    module_node,
    population,
    recurrent,
    spread,
    without_reset,
)
from ashneuro.spiking.firing import Firing


def leaky(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `snntorch.Leaky`."""
    at_once = module.reset_mechanism == "zero"
    return _neurons(module, shape, dt_s, Membrane(_decay(module.beta)), late=not at_once and module.reset_delay)


def synaptic(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `snntorch.Synaptic`: ``syn_t = α·syn_{t−1} + x_t`` drives mem."""
    membrane = Membrane(_decay(module.beta), syn_decay=_decay(module.alpha))
    return _neurons(module, shape, dt_s, membrane, late=module.reset_delay)


def lapicque(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `snntorch.Lapicque`: ``mem_t = (1 − Δ/RC)·mem_{t−1} + Δ/C·x_t``."""
    step, r, c = (array(value) for value in (module.time_step, module.R, module.C))
    return _neurons(module, shape, dt_s, Membrane(step / (r * c), gain=step / c), late=True)


def r_leaky(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `snntorch.RLeaky`: `Leaky` with its spikes fed back."""
    own = _neurons(module, shape, dt_s, Membrane(_decay(module.beta)), late=module.reset_delay)
    return recurrent(own, _back(module, shape))


def r_synaptic(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `snntorch.RSynaptic`: `Synaptic` with its spikes fed back."""
    membrane = Membrane(_decay(module.beta), syn_decay=_decay(module.alpha))
    own = _neurons(module, shape, dt_s, membrane, late=module.reset_delay)
    return recurrent(own, _back(module, shape))


def _back(module: Any, shape: Shape) -> Any:
    import nir

    if type(module.recurrent).__name__ == "RecurrentOneToOne":
        return nir.Scale(spread(module.recurrent.V, shape))
    return module_node(module.recurrent, shape)


def _decay(beta: Any) -> Any:
    return 1.0 - array(beta).clip(0.0, 1.0)


AT_ONCE = (
    "with reset_delay=False a potential above two thresholds keeps one of its two resets, as no contract describes",
    "train with reset_delay=True or reset_mechanism='zero', or keep potentials below two thresholds",
)


def _neurons(module: Any, shape: Shape, dt_s: float, membrane: Membrane, *, late: bool) -> Population:
    if module.inhibition:
        raise Untranslatable("inhibition=True lets only one neuron spike", "train with inhibition=False")
    if module.state_quant:
        raise Untranslatable("state_quant rounds its potentials", "train without state_quant")
    if not (array(module.graded_spikes_factor) == 1).all():
        why = f"graded_spikes_factor = {array(module.graded_spikes_factor)} scales its spikes"
        raise Untranslatable(why, "multiply the weights behind it instead")
    if module.reset_mechanism == "none":
        readout = population(shape, dt_s, membrane, None)
        return without_reset(readout, module.threshold, 1 if membrane.syn_decay is None else 2, shape)
    firing = Firing("strict", "subtract" if module.reset_mechanism == "subtract" else "value", int(late))
    own = population(shape, dt_s, membrane, Spiking(module.threshold, firing))
    return own if late or firing.reset == "value" else replace(own, caveat=AT_ONCE)


def _reset(module: Any) -> None:
    module.reset_mem()


ADAPTER = Adapter(
    package="snntorch",
    name="snnTorch",
    distribution="snntorch",
    neurons={
        "Leaky": leaky,
        "Synaptic": synaptic,
        "Lapicque": lapicque,
        "RLeaky": r_leaky,
        "RSynaptic": r_synaptic,
    },
    marks=frozenset({"SpikingNeuron", "LeakyParallel"}),
    layout=lambda module: ("B",),
    reset=_reset,
    refused={
        "Alpha": (
            "a spike resets its two synaptic currents, which no neuron of NIR or Lava does",
            "use snntorch.Synaptic, which has one current",
        ),
        "LeakyParallel": ("its potential is a ReLU's, and never falls below 0", "use snntorch.Leaky"),
        "DeltaLeaky": ("it spikes at changes of its potential", "use snntorch.Leaky"),
        "SLSTM": ("an LSTM's gates are products of signals", "use snntorch.RLeaky or RSynaptic"),
        "SConv2dLSTM": ("an LSTM's gates are products of signals", "use snntorch.RLeaky or RSynaptic"),
        "StateLeaky": ("its potential is a convolution over the whole sample", "use snntorch.Leaky"),
        "LinearLeaky": ("its potential is a convolution over the whole sample", "use snntorch.Leaky"),
        "AssociativeLeaky": ("its state is a matrix of products", "use snntorch.RLeaky"),
    },
)
