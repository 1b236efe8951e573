"""Integer programs for SANA-FE: dense, convolution, a late skip, and a read-out."""

from __future__ import annotations

import numpy as np

from ashneuro.cost.cores import core_limits
from ashneuro.cost.profile import load_profile
from ashneuro.program.placement.placement import CoreLimits
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import conv_shape
from ashneuro.spiking.firing import LIF_FIRING, Firing

LIMITS: CoreLimits = core_limits(load_profile("loihi1-sanafe"))


def neuron(rng, shape, threshold, *, du=4095, dv=1024, firing=LIF_FIRING, spiking=True, bias=True):
    """Return neurons with a bias of their own each, and an exponent."""
    subtract = np.array(threshold) if firing.reset == "subtract" else None
    values = rng.integers(-40, 60, shape).astype(np.int32) if bias else np.zeros((), np.int32)
    return Neuron(
        np.array(du, np.int32),
        np.array(dv, np.int32),
        np.array(threshold, np.int32),
        values,
        bias_exp=2,
        spiking=spiking,
        firing=firing,
        v_subtract=subtract,
    )


def even(rng, *shape):
    return 2 * rng.integers(-40, 60, shape).astype(np.int32) * (rng.random(shape) > 0.3)


def dense(rng, inputs, outputs):
    return Synapse("dense", inputs, outputs, even(rng, int(np.prod(outputs)), int(np.prod(inputs))))


def conv(rng, shape, channels, stride=1):
    ones, pads = (1, 1), ((1, 1), (1, 1))
    out = conv_shape(shape, (3, 3), channels, (stride,) * 2, pads, ones)
    return Synapse("conv", shape, out, even(rng, channels, shape[0], 3, 3), (stride,) * 2, pads, ones)


def program(seed=0, coding="spikes", du=4095, firing=LIF_FIRING, dv=1024, weight_exp=1):
    """Return conv → conv → conv with a skip around one of them → dense → read-out.

    Of spikes through a convolution, or of currents into the first neurons.
    """
    rng = np.random.default_rng(seed)
    shape = (2, 6, 6)
    options = {"du": du, "dv": dv, "firing": firing}
    port = InputPort("in", shape, coding, *((1.0, 0) if coding == "spikes" else (50.0, 400)))
    enter = Connection("in", conv(rng, shape, 2) if coding == "spikes" else None)
    depth = int(coding == "spikes")
    down, same = conv(rng, shape, 3, 2), conv(rng, (3, 3, 3), 3)
    skip = Synapse("scale", (3, 3, 3), (3, 3, 3), np.array(60, np.int32))
    joined = (Connection("b", same, weight_exp=weight_exp), Connection("a", skip, delay=1))
    layers = (
        Layer("first layer", shape, neuron(rng, shape, 150, **options), (enter,), depth),
        Layer("a", (3, 3, 3), neuron(rng, (3, 3, 3), 120, **options), (Connection("first layer", down),), depth + 1),
        Layer("b", (3, 3, 3), neuron(rng, (3, 3, 3), 110, **options), (Connection("a", same),), depth + 2),
        Layer("join", (3, 3, 3), neuron(rng, (3, 3, 3), 200, bias=False, **options), joined, depth + 3),
        Layer(
            "out",
            (5,),
            neuron(rng, (5,), 1 << 16, du=du, dv=300, spiking=False),
            (Connection("join", dense(rng, (3, 3, 3), (5,))),),
            depth + 4,
        ),
    )
    return Program("integer", 1e-3, 7, (port,), layers, ("out",))


def inputs(seed=1, coding="spikes", samples=3):
    rng = np.random.default_rng(seed)
    shape = (7, samples, 2, 6, 6)
    return (rng.random(shape) < 0.4).astype(np.uint8) if coding == "spikes" else 3 * rng.normal(size=shape)


SUBTRACT = Firing(reset="subtract")
INCLUSIVE = Firing(comparison="inclusive")
