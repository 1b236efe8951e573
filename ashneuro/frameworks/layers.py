"""ashneuro's own layers: the equations of NIR with Euler steps, over whole samples."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

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
from ashneuro.spiking.contract import message_metadata
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


def graded(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `Graded` and `Delta`: a Threshold that sends its input, or its changes."""
    _check_floats(module)
    metadata = message_metadata(module.message)
    return Population({"": nir.Threshold(spread(module.v_threshold, shape), metadata=metadata)})


def sigma_delta(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `SigmaDelta`: a sum, the bias, and a Threshold that sends changes."""
    node = graded(module, shape, dt_s).nodes[""]
    bias, summed = spread(module.bias, shape), nir.I(r=np.ones(shape))
    if not bias.any():
        return Population({"sum": summed, "": node}, (("sum", ""),), enter="sum")
    nodes = {"sum": summed, "bias": _bias(bias), "": node}
    return Population(nodes, (("sum", "bias"), ("bias", "")), enter="sum")


def _bias(bias: NDArray[np.float64]) -> nir.Affine | nir.Conv2d:
    """Return a layer that adds a bias, (n,) or one per channel of (C, H, W).

    Raises:
        Untranslatable: it has another shape.
    """
    if bias.ndim == 1:
        return nir.Affine(np.eye(len(bias)), bias)
    if bias.ndim == 3 and (bias == bias[:, :1, :1]).all():
        channels = len(bias)
        weight = np.ones((channels, 1, 1, 1))
        node = nir.Conv2d(bias.shape[1:], weight, 1, 0, 1, channels, bias[:, 0, 0])
        node.input_type = {"input": np.array(bias.shape)}  # nir infers one channel from the groups
        return node
    raise Untranslatable(f"a bias of shape {bias.shape}", "give one per channel, or flatten the layer")


def recurrent_lif(module: Any, shape: Shape, dt_s: float) -> Population:
    """Return the form of `RecurrentLIF`."""
    return recurrent(lif(module.neurons, shape, dt_s), linear_node(module.weight))


def _check_floats(module: Any) -> None:
    if module.integers is not None:
        raise Untranslatable(
            "it computes with Loihi's integers", "export the run that it belongs to: ashneuro export RUN"
        )


def _spiking(module: Any, shape: Shape, dt_s: float, membrane: Membrane) -> Population:
    _check_floats(module)
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
        "Graded": graded,
        "Delta": graded,
        "SigmaDelta": sigma_delta,
        "RecurrentLIF": recurrent_lif,
    },
    marks=frozenset({"Population"}),
    layout=lambda module: ("T", "B"),
    dt_s=_dt_s,
)
