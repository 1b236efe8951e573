"""Read lava-dl's network exchange files (netx: HDF5, usually ``.net``) as integer programs.

A netx file lists layers in order, each with the synapse that feeds it and its neurons, in the
chip's own numbers::

    layer/N/type      input, flatten, conv, pool, convT, unpool, dense, dense_rec, average
    layer/N/shape     output shape: (C, H, W), (neurons, 1, 1) or (neurons,)
    layer/N/weight    of neurons that resonate, a group with real and imag;
                      conv: (C_out, C_in / groups, kH, kW); convT: (C_in, C_out / groups, kH, kW);
                      pool, unpool: (1, 1, kH, kW); dense: (out, in);
                      dense_rec: also weight_rec (out, out)
    layer/N/bias      per channel or neuron, in units of v / 64
    layer/N/delay     steps; per channel (C_out,), per neuron (out,), per input (in,), or per
                      synapse (out, in)
    layer/N/stride, padding, dilation (vertical, horizontal), groups
    layer/N/neuron/   type, iDecay (du + 1), vDecay (dv), vThMant (v_threshold); a decay may differ
                      per channel or neuron; wgtExp, weight_exp; refDelay (steps from a spike to the
                      first in which v integrates again); of ALIF neurons also thDecay, refDecay and
                      vThStep, see "adaptive" in `ashneuro.spiking.dynamics`; of RF_PHASE and
                      RF_IZHIKEVICH neurons sinDecay, cosDecay (may differ, too) and vThMant alone
    simulation/       Ts (a step, in ms), tSample (steps per sample)

An input with neurons turns a value x in each step into ``round(weight·x) + bias``, which enters its
neurons directly. An input without neurons takes spikes.

As in lava-dl, the delays of a layer act on its input. Without a bias that equals a delay of the
neuron's axon, but for the time at which the spikes of the last layer are read. Every delay becomes
a connection of its own.

A last layer without neurons, with the highest threshold, or that sums changes (sigma_output) is a
read-out.

Sigma-delta neurons (SDNN) are netx's Delta behind the input, and SigmaDelta with a ReLU elsewhere.
Their values have 6 bits of a message (spike_exp) and 6 more (state_exp) behind the point: bias and
vThMant act as bias · 2^12 and vThMant · 2^12, a message is the change shifted right by 6, and the
weights are 64 times those of training. Records are in units of training.

A file does not say whether its neurons were trained to spike at v > vThMant or at v ≥ vThMant, and
one that begins with a convolution need not say the shape of its input: `NetxReading` does.

Source: ``lava.lib.dl.netx.hdf5`` and the blocks' ``export_hdf5`` of lava-dl 0.6.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ashneuro.files import require_regular
from ashneuro.loihi import (
    BIAS_MANTISSA,
    DECAY_ONE,
    LARGEST_DECAY,
    LARGEST_MESSAGE,
    LARGEST_THRESHOLD,
    STATE_SHIFT,
    STATE_UNIT,
)
from ashneuro.program.assumption import Assumption, Assumptions
from ashneuro.program.hdf5 import DAMAGE
from ashneuro.program.netx.file import AS_STATED, CONNECTED, NetxFile, NetxLayer, NetxReading, open_netx, shifted
from ashneuro.program.netx.rules import NEURON_NUMBERS, TURN, check_netx, exponent_of
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.rules.finding import Finding, require
from ashneuro.spiking.dynamics import DynamicsName
from ashneuro.spiking.firing import LIF_FIRING, Comparison, Firing
from ashneuro.spiking.message import BITS, Activation, Message

INPUT = "input"
SPIKE_EXP = STATE_EXP = 6  # of netx: bits behind the point of a message, and the bits beyond


def is_netx(path: str | Path) -> bool:
    """Return True for an HDF5 file with netx layers; a NIR file has a group ``node`` instead."""
    try:
        require_regular(path)
        with h5py.File(path, "r") as file:
            return isinstance(file.get("layer"), h5py.Group)
    except DAMAGE:
        return False


def read_netx(path: str | Path, reading: NetxReading = AS_STATED) -> Program:
    """Return the integer program of a netx file.

    Layers are called by type and number in the file: ``conv1``, ``dense7``. Shapes are (C, H, W).

    Args:
        path: the file.
        reading: choices that the file leaves open.

    Raises:
        GraphError: the file cannot be read, or breaks rules; all of them at once.
    """
    netx = open_netx(Path(path), reading)
    findings = check_netx(netx)
    require(findings, f"{path} cannot be run")
    named = {layer.name for layer in netx.layers}  # the comparison is a field of every neuron
    notes = tuple(
        f"{finding.node}: {finding.actual}" for finding in findings if finding.level == "note" and finding.node in named
    )
    return _program(netx, notes)


def netx_findings(path: str | Path, reading: NetxReading = AS_STATED) -> list[Finding]:
    """Return everything that `NETX_RULES` find in a netx file, in the rules' order.

    Raises:
        GraphError: the file cannot be read.
    """
    return check_netx(open_netx(Path(path), reading))


def reading_of(program: Program) -> NetxReading:
    """Return the reading that made the program of a netx file; its shape is always given, its
    timesteps where they are known.
    """
    (port,) = program.inputs
    neurons = [layer.neuron for layer in program.layers]
    compared = [neuron for neuron in neurons if neuron.scale_free and neuron.dynamics == "lif"]
    spiking = (neuron.firing.comparison for neuron in compared)
    stated = None if program.assumptions is None else not program.assumptions
    return NetxReading(next(spiking, AS_STATED.comparison), port.shape, program.timesteps, stated)


def _assumptions(netx: NetxFile) -> Assumptions:
    reading, undecided = netx.reading, tuple(netx.undecided)
    if reading.stated or not undecided:
        return ()
    return None if reading.stated is None else (Assumption("comparison", reading.comparison, undecided),)


def _program(netx: NetxFile, notes: tuple[str, ...]) -> Program:
    layers: list[Layer] = []
    comparison = netx.reading.comparison
    source, shape, depth = INPUT, netx.input_shape, 0
    assert shape is not None
    port = InputPort(INPUT, shape, "spikes", limit=1)
    through: tuple[str, ...] = ()
    for entry in netx.layers:
        if entry.kind == "flatten":
            through = (entry.name,)
        elif entry.kind == "input" and entry.neuron is not None:
            # The neurons add their bias to the host's value: together they have 13 bits.
            bias = entry.numbers.get("bias", np.zeros(1))
            scale = float(entry.numbers.get("weight", np.full(1, float(STATE_UNIT))).flat[0])
            room = LARGEST_MESSAGE >> SPIKE_EXP if entry.sigma_delta else BIAS_MANTISSA[1]
            port = InputPort(INPUT, shape, "current", scale, room - int(np.abs(bias).max()))
            neuron = _neuron(entry, comparison)
            direct = (Connection(INPUT, None),)
            layers.append(Layer(entry.name, shape, neuron, direct, 0, _scale(entry), (entry.name,)))
            source = entry.name
        elif entry.kind in CONNECTED:
            assert entry.out_shape is not None
            depth += 1
            connections = tuple(_connections(entry, source, (*through, entry.name)))
            neuron = _neuron(entry, comparison)
            scale = _scale(entry)
            layers.append(Layer(entry.name, entry.out_shape, neuron, connections, depth, scale, (entry.name,)))
            source, through = entry.name, ()
    found = _assumptions(netx)
    return Program("integer", netx.dt_s, netx.timesteps, (port,), tuple(layers), (source,), notes, found)


def _connections(entry: NetxLayer, source: str, nir: tuple[str, ...]) -> Iterator[Connection]:
    assert entry.out_shape is not None
    for steps, synapse in entry.synapses():
        mantissa, exponent = _fit(synapse.weight)
        yield Connection(source, replace(synapse, weight=mantissa), steps, exponent, nir)
    if entry.resonates:
        imaginary = entry.imaginary()
        assert imaginary is not None
        mantissa, exponent = _fit(imaginary.weight)
        yield Connection(source, replace(imaginary, weight=mantissa), 0, exponent, nir, imaginary=True)
    if entry.kind == "dense_rec":
        again = shifted(entry.numbers["weight_rec"].reshape(entry.out_shape[0], -1), entry.weight_shift)
        mantissa, exponent = _fit(again)
        yield Connection(
            entry.name, Synapse("dense", entry.out_shape, entry.out_shape, mantissa), 0, exponent, (entry.name,)
        )


def _scale(entry: NetxLayer) -> float:
    """Return the units of a per unit of training: of changes; 1 elsewhere."""
    if not entry.sigma_delta:
        return 1.0
    return float(STATE_UNIT if entry.kind == "input" else STATE_UNIT << (SPIKE_EXP + STATE_EXP))


def _sigma_delta(entry: NetxLayer) -> Neuron:
    """Return netx's Delta (the input's), Sigma or SigmaDelta."""
    assert entry.neuron is not None
    bits = int(np.ravel(entry.neuron.get("messageBits", BITS["change"][0]))[0])
    entering, bias = entry.kind == "input", entry.numbers.get("bias", np.zeros(1))
    activation: Activation = "none" if entering or entry.sums else "relu"
    return Neuron(
        du=np.asarray(LARGEST_DECAY if entering else -1, np.int32),
        dv=np.asarray(LARGEST_DECAY, np.int32),
        v_threshold=_per_neuron(entry, np.ravel(entry.neuron["vThMant"])[:1]),
        bias=_per_neuron(entry, bias),
        bias_exp=0 if entering else SPIKE_EXP + STATE_EXP,
        spiking=not entry.sums,
        firing=LIF_FIRING if entry.sums else Firing("inclusive"),
        message=Message("change", bits, activation=activation, shift=-SPIKE_EXP if entering else STATE_EXP),
    )


def _neuron(entry: NetxLayer, comparison: Comparison) -> Neuron:
    if entry.sigma_delta:
        return _sigma_delta(entry)
    # A norm divides u and the bias by 2^weight_exp; SLAYER's wgtExp leaves the bias alone.
    bias = np.ldexp(entry.numbers.get("bias", np.zeros(1)), -entry.exponent("weight_exp"))
    # lava-dl sums all input of a layer without neurons: so does a v that never leaks.
    decay, dv, threshold = [np.full(1, value) for value in (LARGEST_DECAY + 1, 0, LARGEST_THRESHOLD)]
    if entry.resonates and entry.neuron is not None:
        radius = np.hypot(*(np.ravel(entry.neuron[field]) for field in TURN))
        dv = np.clip(np.rint(DECAY_ONE - radius), 0, LARGEST_DECAY)
        threshold = entry.neuron["vThMant"]
    elif entry.neuron is not None:
        # A read-out's threshold may exceed the 17 bits; it never spikes either way.
        decay, dv, threshold = (np.minimum(entry.neuron[field], LARGEST_THRESHOLD) for field in NEURON_NUMBERS)
    dynamics, parameters = ("lif", {}) if entry.read_out else _dynamics(entry)
    return Neuron(
        du=_per_neuron(entry, decay - 1),
        dv=_per_neuron(entry, dv),
        v_threshold=_per_neuron(entry, np.ravel(threshold)[:1]),
        bias=_per_neuron(entry, bias),
        bias_exp=STATE_SHIFT,
        spiking=not entry.read_out,
        firing=LIF_FIRING if entry.read_out or dynamics != "lif" else Firing(comparison),
        dynamics=dynamics,
        parameters=parameters,
    )


def _dynamics(entry: NetxLayer) -> tuple[DynamicsName, dict[str, NDArray[np.int32]]]:
    """Return dynamics and their parameters of a layer with neurons."""
    neuron = entry.neuron
    assert neuron is not None
    if neuron["type"] == "ALIF":
        fields = {"d_threshold": "thDecay", "d_refractory": "refDecay", "threshold_step": "vThStep"}
        return "adaptive", {name: _per_neuron(entry, neuron[field]) for name, field in fields.items()}
    if entry.resonates:
        fields = {"sin": "sinDecay", "cos": "cosDecay"}
        kind: DynamicsName = "resonate" if neuron["type"] == "RF_PHASE" else "izhikevich"
        return kind, {name: _per_neuron(entry, neuron[field]) for name, field in fields.items()}
    if entry.refractory_steps:
        return "refractory", {"refractory_steps": np.asarray(entry.refractory_steps, np.int32)}
    return "lif", {}


def _per_neuron(entry: NetxLayer, values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return values of all neurons, of each channel or of each neuron, as they broadcast."""
    flat = np.ravel(values).astype(np.int32)
    if (flat == flat[0]).all():
        return np.asarray(flat[0])
    assert entry.out_shape is not None
    if flat.size == math.prod(entry.out_shape):
        return flat.reshape(entry.out_shape)
    return flat.reshape(-1, *[1] * (len(entry.out_shape) - 1))


def _fit(weight: NDArray[np.int64]) -> tuple[NDArray[np.int32], int]:
    """Return (mantissa, exponent) as the hardware holds ``weight``; their product is ``weight``."""
    exponent = exponent_of(weight)
    assert exponent is not None
    return (weight << 1 if exponent < 0 else weight >> exponent).astype(np.int32), exponent
