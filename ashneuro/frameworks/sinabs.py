"""sinabs: layers over (batch, time, …), with decays e^(−1/τ), τ in steps.

`LIF` computes, with α = e^(−1/τ_mem)::

    i_t = α_syn·(i_{t−1} + x_t)  if it has a tau_syn, else x_t
    v_t = α·v_{t−1} + (1 − α)·i_t       norm_input; else + i_t

spikes as often as spike_threshold fits into v (``MultiSpike``, the default), and subtracts it for
each spike in the same step. Read from sinabs 2.0.3,
``sinabs/layers``.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    module_node,
    population,
    recurrent,
)
from ashneuro.spiking.firing import Firing, Reset


def lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIF`, `IAF` and their ``Squeeze`` forms."""
    return population(shape, dt_s, _membrane(module), _spiking(module))


def exp_leak(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `ExpLeak`: a read-out."""
    return population(shape, dt_s, _membrane(module), None)


def lif_recurrent(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `LIFRecurrent` and `IAFRecurrent`."""
    weights = module_node(module.rec_connect, shape)
    if hasattr(weights, "bias") and np.any(weights.bias):
        why = "the bias of rec_connect is missing in the first step, where there are no spikes yet"
        raise Untranslatable(why, "use torch.nn.Linear(n, n, bias=False) there")
    return recurrent(lif(module, shape, dt_s), weights)


def _membrane(module: Any) -> Membrane:
    if module.min_v_mem is not None:
        why = f"min_v_mem = {array(module.min_v_mem)} clips its potential"
        raise Untranslatable(why, "train with min_v_mem=None")
    alpha = _alpha(module, "mem")
    decay = 1.0 - (np.ones(()) if alpha is None else alpha)
    gain = decay if module.norm_input else 1.0
    syn = _alpha(module, "syn")
    if syn is None:
        return Membrane(decay, gain=gain)
    return Membrane(decay, gain=gain, syn_decay=1.0 - syn, syn_gain=syn)


def _alpha(module: Any, state: str) -> Any:
    """Return a decay factor per step; ``None``: there is no such state, or it does not decay."""
    if module.train_alphas:
        alpha = getattr(module, f"alpha_{state}")
        return None if alpha is None else array(alpha)
    tau = getattr(module, f"tau_{state}", None)
    return None if tau is None else np.exp(-1.0 / array(tau))


def _spiking(module: Any) -> Spiking:
    kind = getattr(module.spike_fn, "__name__", type(module.spike_fn).__name__)
    # MultiSpike and SingleSpike are classes, MaxSpike is an object of one.
    limit = getattr(module.spike_fn, "max_num_spikes_per_bin", None)
    numbers = {"SingleSpike": 1, "MultiSpike": None, "MaxSpike": None if limit is None else int(limit)}
    if kind not in numbers:
        raise Untranslatable(f"spike_fn = {kind}", f"use one of sinabs' {', '.join(numbers)}")
    most, reset = numbers[kind], _reset_of(module)
    if most != 1 and reset != "subtract":
        why = f"spike_fn = {kind} with a reset to a value: several spikes subtract a threshold each"
        raise Untranslatable(why, "use MembraneSubtract(), or spike_fn=SingleSpike")
    return Spiking(module.spike_threshold, Firing("inclusive", reset, 0), most=most)


def _reset_of(module: Any) -> Reset:
    reset, name = module.reset_fn, type(module.reset_fn).__name__
    if name == "MembraneSubtract":
        amount = reset.subtract_value
        if amount is not None and np.any(array(amount) != array(module.spike_threshold)):
            raise Untranslatable(f"a spike subtracts {amount}", "subtract the threshold: MembraneSubtract()")
        return "subtract"
    if name == "MembraneReset":
        if reset.reset_value:
            why = f"MembraneReset adds {reset.reset_value} to all neurons in every step"
            raise Untranslatable(why, "use MembraneReset(reset_value=0.0)")
        return "value"
    raise Untranslatable(f"reset_fn = {name}", "use MembraneSubtract() or MembraneReset()")


def _layout(module: Any) -> tuple[str, ...]:
    return ("BT",) if hasattr(module, "squeeze_forward") else ("B", "T")


def _fits(module: Any, sizes: Mapping[str, int]) -> str:
    """Return why a layer that flattens time and batch takes samples of other sizes."""
    own = {"batch_size": sizes["B"], "num_timesteps": sizes["T"]}
    stated = {name: getattr(module, name, -1) for name in own}
    wrong = [f"{name} = {value}" for name, value in stated.items() if value not in (-1, own[name])]
    return f"{' and '.join(wrong)}, the sample has {own}" if wrong else ""


def _reset(module: Any) -> None:
    module.reset_states()


ADAPTER = Adapter(
    package="sinabs",
    name="sinabs",
    distribution="sinabs",
    neurons={
        "LIF": lif,
        "LIFSqueeze": lif,
        "IAF": lif,
        "IAFSqueeze": lif,
        "ExpLeak": exp_leak,
        "ExpLeakSqueeze": exp_leak,
        "LIFRecurrent": lif_recurrent,
        "IAFRecurrent": lif_recurrent,
    },
    marks=frozenset({"StatefulLayer", "SpikingMaxPooling2dLayer"}),
    layout=_layout,
    fits=_fits,
    reset=_reset,
    refused={
        "ALIF": ("its threshold adapts in a way that no dynamics of ashneuro computes", "use sinabs.layers.LIF"),
        "ALIFRecurrent": ("its threshold adapts in a way that no dynamics of ashneuro computes", "use LIFRecurrent"),
        "SpikingMaxPooling2dLayer": ("a maximum of spikes is no sum", "use sinabs.layers.SumPool2d"),
    },
)
