"""Rockpool's torch modules: layers over (batch, time, neurons), with a synaptic current each.

`LIFTorch` computes, with α = e^(−dt/τ_mem), β = e^(−dt/τ_syn)::

    i_t = β·(i_{t−1} + x_t + W_rec·z_{t−1}),    v_t = α·v_{t−1} + i_t + bias

spikes at v ≥ threshold, up to max_spikes_per_dt times in a step, and subtracts the threshold each
time. Read from Rockpool 3.1.0, ``rockpool/nn/modules/torch``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
    spread,
)
from ashneuro.spiking.firing import Firing

UNLIMITED = 2**15  # spikes in one step; the default is 2^16, which no neuron reaches


def lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIFTorch`, with its recurrent weights."""
    if module.n_synapses != 1:
        raise Untranslatable(f"its neurons have {module.n_synapses} synaptic currents", "use shape=(N,), or N synapses")
    alpha, beta = _decays(module)
    syn = beta.reshape(-1) if beta.size > 1 else beta.reshape(())
    own = _spiking(module, shape, dt_s, 1.0 - alpha, syn_decay=1.0 - syn, syn_gain=syn)
    return recurrent(own, linear_node(module.w_rec.T)) if module._has_rec else own


def lif_neuron(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIFNeuronTorch`: no synaptic current."""
    return _spiking(module, shape, dt_s, -np.expm1(-dt_s / array(module.tau_mem)))


def exp_syn(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `ExpSynTorch`: a current that other modules receive."""
    _no_noise(module)
    factor = np.exp(-dt_s / array(module.tau))
    return population(shape, dt_s, Membrane(1.0 - factor, gain=factor), None)


def _decays(module: Any) -> tuple[Any, Any]:
    if module.leak_mode == "decays":
        return array(module.alpha), array(module.beta)
    if module.leak_mode == "bitshifts":
        return 1.0 - 0.5 ** array(module.dash_mem), 1.0 - 0.5 ** array(module.dash_syn)
    dt_s = float(module.dt)
    return np.exp(-dt_s / array(module.tau_mem)), np.exp(-dt_s / array(module.tau_syn))


def _spiking(module: Any, shape: Shape, dt_s: float, decay: Any, **current: Any) -> Population:
    _no_noise(module)
    most = float(module.max_spikes_per_dt)
    decay, bias = spread(decay, shape), spread(module.bias, shape)
    # A constant current is a resting potential; samples start at 0 all the same.
    membrane = Membrane(decay, leak=bias / decay, **current)
    limit = int(most) if most < UNLIMITED else None
    spiking = Spiking(module.threshold, Firing("inclusive", "subtract", 0), most=limit)
    return population(shape, dt_s, membrane, spiking, start="v_reset" if bias.any() else None)


def _no_noise(module: Any) -> None:
    if float(module.noise_std):
        raise Untranslatable(f"noise_std = {float(module.noise_std):g} adds noise", "set noise_std=0")


def _reset(module: Any) -> None:
    module.reset_state()


ADAPTER = Adapter(
    package="rockpool",
    name="Rockpool",
    distribution="rockpool",
    neurons={"LIFTorch": lif, "LIFNeuronTorch": lif_neuron, "ExpSynTorch": exp_syn},
    marks=frozenset({"LIFBaseTorch", "RateTorch", "LowPass", "UpDownTorch"}),
    layout=lambda module: ("B", "T"),
    reset=_reset,
    dt_s=lambda module: float(module.dt),
    refused={
        "aLIFTorch": ("its threshold adapts", "use LIFTorch"),
        "LIFBitshiftTorch": ("its decays are rounded in the units of Xylo", "use LIFTorch(leak_mode='bitshifts')"),
    },
)
