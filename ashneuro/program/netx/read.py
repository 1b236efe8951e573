"""lava-dl's network exchange files (netx: HDF5, usually ``.net``) as integer programs.

A netx file lists layers in order. Each brings the synapse that feeds it and its neurons, in the chip's own numbers::

    layer/N/type      input, flatten, conv, pool, dense, dense_rec, average
    layer/N/shape     what the layer gives: (C, H, W) or (neurons, 1, 1) or (neurons,)
    layer/N/weight    conv, pool: (C_out, C_in / groups, kH, kW); dense: (out, in); dense_rec: also weight_rec (out, out)
    layer/N/bias      per channel or neuron, in units of v / 64
    layer/N/delay     steps; per neuron (out,), per input (in,), or per synapse (out, in)
    layer/N/stride, padding, dilation (vertical, horizontal), groups
    layer/N/neuron/   type, iDecay (du + 1), vDecay (dv), vThMant (v_threshold)
    simulation/       Ts (a step, in ms), tSample (steps per sample)

An input with neurons turns a value x in each step into ``round(weight·x) + bias``, which enters its neurons directly; an
input without neurons takes spikes. As in lava-dl, a layer's delays act on what comes in; without a bias that is the same as
a delay on the neuron's axon, but for the time at which the last layer's spikes are read. Delays become one connection per
number of steps. A last layer without neurons, or with the highest threshold there is, is a read-out.

Source: ``lava.lib.dl.netx.hdf5`` and the blocks' ``export_hdf5`` of lava-dl 0.6.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ashneuro.program.netx.file import CONNECTED, LARGEST_THRESHOLD, SPATIAL, Network, Node, open_netx
from ashneuro.program.netx.rules import LARGEST_BIAS, NEURON_NUMBERS, exponent_of, network_findings
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.rules.finding import Finding, require
from ashneuro.program.synapse import sparse

INPUT = "input"
BIAS_EXP = 6


def is_netx(path: str | Path) -> bool:
    """Whether ``path`` is an HDF5 file with netx layers (a NIR file has a node instead)."""
    try:
        with h5py.File(path, "r") as file:
            return isinstance(file.get("layer"), h5py.Group)
    except OSError:
        return False


def read_netx(path: str | Path) -> Program:
    """Return the integer program of a netx file.

    Layers are called by type and number in the file: ``conv1``, ``dense7``. Shapes are (C, H, W).

    Raises:
        GraphError: the file cannot be read, or holds what the program cannot express; all of it at once, by layer.
    """
    network = open_netx(Path(path))
    findings = network_findings(network)
    require(findings, f"{path} cannot be run")
    return _program(
        network, tuple(f"{finding.node}: {finding.actual}" for finding in findings if finding.level == "note")
    )


def netx_findings(path: str | Path) -> list[Finding]:
    """Return everything that `NETX_RULES` have to say about a netx file, in the rules' order.

    Raises:
        GraphError: the file cannot be read.
    """
    return network_findings(open_netx(Path(path)))


def _program(network: Network, notes: tuple[str, ...]) -> Program:
    first = network.nodes[0]
    layers: list[Layer] = []
    source, shape, depth = INPUT, first.in_shape if first.kind != "input" else first.out_shape, 0
    assert shape is not None
    port = InputPort(INPUT, shape, "spikes", limit=1)
    through: tuple[str, ...] = ()
    for node in network.nodes:
        if node.kind == "flatten":
            through = (node.name,)
        elif node.kind == "input" and node.neuron is not None:
            bias = node.numbers.get("bias", np.zeros(1))
            scale = float(node.numbers.get("weight", np.full(1, 64.0)).flat[0])
            port = InputPort(INPUT, shape, "current", scale, LARGEST_BIAS - int(np.abs(bias).max()))
            layers.append(Layer(node.name, shape, _neuron(node), (Connection(INPUT, None),), 0, nir=(node.name,)))
            source = node.name
        elif node.kind in CONNECTED:
            assert node.out_shape is not None
            depth += 1
            connections = tuple(_connections(node, source, (*through, node.name)))
            layers.append(Layer(node.name, node.out_shape, _neuron(node), connections, depth, nir=(node.name,)))
            source, through = node.name, ()
    return Program("integer", network.dt_s, network.timesteps, (port,), tuple(layers), (source,), notes)


def _connections(node: Node, source: str, names: tuple[str, ...]) -> Iterator[Connection]:
    assert node.in_shape is not None and node.out_shape is not None
    for steps, part in node.parts():
        weight, exponent = _fit(part)
        if node.kind in SPATIAL:
            window = node.window
            assert window is not None
            synapse = Synapse("conv", node.in_shape, node.out_shape, weight, **vars(window))
        elif node.weight is not None and (part != 0).sum() == (node.weight != 0).sum():
            synapse = Synapse("dense", node.in_shape, node.out_shape, weight)
        else:
            synapse = sparse(csr_matrix(weight), node.in_shape, node.out_shape)
        yield Connection(source, synapse, steps, exponent, names)
    if node.kind == "dense_rec":
        weight, exponent = _fit(node.numbers["weight_rec"].reshape(node.out_shape[0], -1).astype(np.int64))
        yield Connection(node.name, Synapse("dense", node.out_shape, node.out_shape, weight), 0, exponent, (node.name,))


def _neuron(node: Node) -> Neuron:
    bias = node.numbers.get("bias", np.zeros(1)).astype(np.int32)
    if bias.size == 1:
        bias = bias.reshape(())
    elif node.kind in SPATIAL:
        bias = bias.reshape(-1, 1, 1)
    if node.neuron is None:  # what lava-dl puts there keeps the sum of all input: so does a v that never leaks
        du, dv, threshold = 4095, 0, LARGEST_THRESHOLD
    else:
        decay, dv, threshold = (int(min(node.neuron[field].flat[0], LARGEST_THRESHOLD)) for field in NEURON_NUMBERS)
        du = decay - 1
    one = [np.asarray(value, np.int32) for value in (du, dv, threshold)]
    return Neuron(one[0], one[1], one[2], bias, BIAS_EXP, spiking=not node.read_out)


def _fit(weight: NDArray[np.int64]) -> tuple[NDArray[np.int32], int]:
    """Return (weights as the hardware holds them, exponent), whose product is ``weight``."""
    exponent = exponent_of(weight)
    assert exponent is not None
    return (weight << 1 if exponent < 0 else weight >> exponent).astype(np.int32), exponent
