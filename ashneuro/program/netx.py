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

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ashneuro.errors import GraphError
from ashneuro.program.finding import Finding, require
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Shape, Synapse
from ashneuro.program.rules import Trouble, sentence
from ashneuro.program.synapse import conv_shape, sparse

Numbers = NDArray[np.float64]

BIAS_EXP = 6
LARGEST_BIAS = 4095
LARGEST_THRESHOLD = (1 << 17) - 1
LARGEST_DELAY = 62
EXPONENTS: tuple[int, ...] = (0, -1, 1, 2, 3, 4, 5, 6, 7)  # −1: odd weights of both signs, doubled
INPUT = "input"

NEEDED = {
    "input": ("shape",),
    "flatten": (),
    "conv": ("weight", "stride", "padding", "dilation", "groups"),
    "pool": ("weight", "stride", "padding", "dilation"),
    "dense": ("weight",),
    "dense_rec": ("weight", "weight_rec"),
    "average": ("shape",),
}
SPATIAL, CONNECTED = ("conv", "pool"), ("conv", "pool", "dense", "dense_rec")
NEURON_TYPES = ("CUBA", "LOIHI")
NEURON_NUMBERS = ("iDecay", "vDecay", "vThMant")
EXPORT = "export the network from lava-dl again"


@dataclass(frozen=True)
class Window:
    """How a convolution slides, as in `Synapse`."""

    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    groups: int


@dataclass(frozen=True, eq=False)
class Node:
    """One layer of a netx file.

    Args:
        index: its number in the file.
        kind: its type.
        numbers: its numeric fields.
        neuron: its neurons' numeric fields, and ``type``; ``None`` when it has no neurons.
        in_shape: what the layer before gives; ``None`` when that is not known.
        last: no layer with weights follows.
    """

    index: int
    kind: str
    numbers: Mapping[str, Numbers]
    neuron: Mapping[str, Any] | None
    in_shape: Shape | None
    last: bool

    @property
    def name(self) -> str:
        """Name of the layer in the program: its type and its number in the file."""
        return f"{self.kind}{self.index}"

    @property
    def complete(self) -> bool:
        """Whether everything is there that its type needs."""
        return self.kind in NEEDED and all(field in self.numbers for field in NEEDED[self.kind])

    @cached_property
    def weight(self) -> Numbers | None:
        """The weights in their full shape, or ``None`` when they have no such shape."""
        if self.kind not in CONNECTED or not self.complete:
            return None
        weight = self.numbers["weight"]
        if self.kind in SPATIAL:
            if weight.ndim not in (4, 5) or weight.shape[4:] not in ((), (1,)):
                return None
            weight = weight.reshape(weight.shape[:4])
            if self.kind == "pool":
                return None if self.in_shape is None else np.repeat(weight[:1, :1], self.in_shape[0], axis=0)
            return weight
        if weight.ndim == 1 and self.said_shape is not None:
            rows = math.prod(self.said_shape)
            return weight.reshape(rows, -1) if weight.size % rows == 0 else None
        return weight if weight.ndim == 2 else None

    @cached_property
    def window(self) -> Window | None:
        """How a complete convolution or pooling slides; ``None`` when its numbers make no sense."""
        groups = self.numbers["groups"] if self.kind == "conv" else np.asarray((self.in_shape or (1,))[:1], np.float64)
        fields = [self.numbers[field] for field in ("stride", "padding", "dilation")]
        if not all(_whole(values) and values.min() >= least for values, least in zip([*fields, groups], (1, 0, 1, 1), strict=True)):
            return None
        stride, padding, dilation = (_pair(values) for values in fields)
        return Window(stride, ((padding[0], padding[0]), (padding[1], padding[1])), dilation, int(groups.flat[0]))

    @cached_property
    def out_shape(self) -> Shape | None:
        """What the layer gives, from its weights; ``None`` when it cannot be worked out."""
        if self.kind == "input":
            return self.said_shape
        if self.kind == "flatten":
            return None if self.in_shape is None else (math.prod(self.in_shape),)
        if self.weight is None:
            return None
        if self.kind not in SPATIAL:
            return (len(self.weight),)
        if self.in_shape is None or len(self.in_shape) != 3 or self.window is None:
            return None
        window = self.window
        return conv_shape(self.in_shape, self.weight.shape[2:], len(self.weight), window.stride, window.padding, window.dilation)

    @property
    def said_shape(self) -> Shape | None:
        """The shape that the file gives; ``None`` without one, or when it is not a shape."""
        sizes = self.numbers.get("shape")
        if sizes is None or not _whole(sizes) or sizes.min() < 1:
            return None
        return tuple(int(size) for size in sizes.ravel())

    @property
    def read_out(self) -> bool:
        """Whether its membrane potential is the result, not its spikes."""
        if self.neuron is None:
            return self.kind in CONNECTED
        threshold = self.neuron.get("vThMant")
        return self.last and threshold is not None and bool((threshold >= LARGEST_THRESHOLD).all())

    def parts(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield (delay, weights) of the synapses with that delay; weights elsewhere are 0."""
        assert self.weight is not None
        weight = self.weight.astype(np.int64)
        delay = _delays(self)
        if delay is None:
            yield 0, weight
            return
        for steps in np.unique(delay[weight != 0]) if weight.any() else (0,):
            yield int(steps), np.where(delay == steps, weight, 0)


@dataclass(frozen=True, eq=False)
class Network:
    """A netx file: its layers; seconds per step; steps per sample (``None`` when it does not say)."""

    nodes: tuple[Node, ...]
    dt_s: float
    timesteps: int | None

    def of(self, *kinds: str) -> Iterator[Node]:
        """Yield the complete layers of these types."""
        return (node for node in self.nodes if node.kind in kinds and node.complete)


Rule = Callable[[Network], Iterator[Trouble]]


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
    network = _read(Path(path))
    findings = _findings(network)
    require(findings, f"{path} cannot be run")
    return _program(network, tuple(f"{finding.node}: {finding.actual}" for finding in findings if finding.level == "note"))


def netx_findings(path: str | Path) -> list[Finding]:
    """Return everything that `NETX_RULES` have to say about a netx file, in the rules' order.

    Raises:
        GraphError: the file cannot be read.
    """
    return _findings(_read(Path(path)))


def known_layers(network: Network) -> Iterator[Trouble]:
    """Every layer is an input, flatten, conv, pool, dense, dense_rec or average."""
    for node in network.nodes:
        if node.kind not in NEEDED:
            yield Trouble(node.name, f"its type is {node.kind!r}", "rebuild that part from the layers named")


def layer_order(network: Network) -> Iterator[Trouble]:
    """An input is the first layer, layers with weights follow, and an average or a layer without neurons is the last."""
    for node in network.nodes:
        if node.kind == "input" and node.index:
            yield Trouble(node.name, f"it is layer {node.index}", "split the file, one network each")
        if node.kind == "average" and node.index != len(network.nodes) - 1:
            yield Trouble(node.name, "layers follow it", "end the network there, or put a dense layer in its place")
        if node.kind in CONNECTED and node.neuron is None and not (node.kind == "dense" and node.last):
            yield Trouble(node.name, "it has no neurons", EXPORT)
    if not any(node.kind in CONNECTED for node in network.nodes):
        yield Trouble("network", "no layer has weights", EXPORT)


def needed_fields(network: Network) -> Iterator[Trouble]:
    """A layer has the fields that its type needs, as numbers: weights, geometry, decays and threshold."""
    for node in network.nodes:
        missing = [field for field in NEEDED.get(node.kind, ()) if field not in node.numbers]
        if "weight" in missing and "weight/imag" in node.numbers:
            yield Trouble(node.name, "its weights are complex", "train the layer with CUBA neurons")
        elif missing:
            yield Trouble(node.name, f"missing: {', '.join(missing)}", EXPORT)
        if node.neuron is not None and node.neuron.get("type") in NEURON_TYPES:
            absent = [f"neuron/{field}" for field in NEURON_NUMBERS if field not in node.neuron]
            if absent:
                yield Trouble(node.name, f"missing: {', '.join(absent)}", EXPORT)


def neuron_type(network: Network) -> Iterator[Trouble]:
    """Neurons are leaky integrate-and-fire with a current: CUBA, or LOIHI."""
    for node in network.nodes:
        if node.neuron is not None and node.neuron.get("type") not in NEURON_TYPES:
            yield Trouble(node.name, f"its neurons are {node.neuron.get('type')!r}", "train the layer with CUBA neurons")


def binary_spikes(network: Network) -> Iterator[Trouble]:
    """Spikes are 0 or 1."""
    for node, neuron in _neurons(network):
        graded = [field for field in ("gradedSpike", "messageBits") if np.any(neuron.get(field, 0))]
        if graded:
            yield Trouble(node.name, f"neuron/{graded[0]} = {_range(neuron[graded[0]])}", "train the layer with graded_spike = False")


def plain_neuron(network: Network) -> Iterator[Trouble]:
    """A neuron may spike in every step, and its weights have no exponent of their own."""
    for node, neuron in _neurons(network):
        for field, most in (("refDelay", 1), ("wgtExp", 0), ("weight_exp", 0)):
            value = neuron.get(field, np.zeros(()))
            if not ((value >= 0) & (value <= most)).all():
                remedy = "train with a refractory delay of 1" if field == "refDelay" else "multiply the weights instead"
                yield Trouble(node.name, f"neuron/{field} = {_range(value)}", remedy)


def one_value(network: Network) -> Iterator[Trouble]:
    """All neurons of a layer share one iDecay, one vDecay and one vThMant."""
    for node, neuron in _neurons(network):
        for field in NEURON_NUMBERS:
            if np.unique(neuron.get(field, 0)).size != 1:
                yield Trouble(node.name, f"neuron/{field} = {_range(neuron[field])}", "train with shared_param = True")


def decay_range(network: Network) -> Iterator[Trouble]:
    """Decays have 12 bits: iDecay is 1 to 4096 (du = iDecay − 1), vDecay 0 to 4095."""
    for node, neuron in _neurons(network):
        for field, low, high in (("iDecay", 1, 4096), ("vDecay", 0, 4095)):
            value = neuron.get(field)
            if value is not None and not ((value >= low) & (value <= high) & (value == np.rint(value))).all():
                yield Trouble(node.name, f"neuron/{field} = {_range(value)}", "train with a decay in that range")


def threshold_range(network: Network) -> Iterator[Trouble]:
    """A threshold has 17 bits: vThMant is 0 to 131071; more only in a last layer, which then is a read-out."""
    for node, neuron in _neurons(network):
        value = neuron.get("vThMant")
        if value is not None and not node.read_out and not ((value >= 0) & (value <= LARGEST_THRESHOLD) & (value == np.rint(value))).all():
            yield Trouble(node.name, f"neuron/vThMant = {_range(value)}", "train with a lower threshold")


def analog_input(network: Network) -> Iterator[Trouble]:
    """Neurons that analog input enters have no current of their own: iDecay = 4096."""
    for node, neuron in _neurons(network):
        if node.kind == "input" and np.any(neuron.get("iDecay", 4096) != 4096):
            yield Trouble(node.name, f"neuron/iDecay = {_range(neuron['iDecay'])}", "train the input with current_decay = 1")


def whole_numbers(network: Network) -> Iterator[Trouble]:
    """Weights, biases and delays are whole numbers."""
    for node in network.nodes:
        for field in ("weight", "weight_rec", "bias", "delay"):
            values = node.numbers.get(field)
            if values is None or node.kind not in NEEDED:
                continue
            bad = ~_whole_each(values)
            if bad.any():
                actual = f"{int(bad.sum())} of {values.size} values of {field} are not, such as {values[bad].flat[0]:g}"
                yield Trouble(node.name, actual, "train with a quantisation hook (pre_hook_fx), so that they are exported as integers")


def weight_bits(network: Network) -> Iterator[Trouble]:
    """Weights have 8 bits and an exponent: even in [-256, 254] where both signs occur, else at most 255 in size, times a power of 2."""
    for node in network.of(*CONNECTED):
        if node.weight is None or not _whole(node.weight) or (node.kind in SPATIAL and "delay" in node.numbers):
            continue
        parts = [part for _, part in node.parts()]
        again = node.numbers.get("weight_rec")
        if node.kind == "dense_rec" and again is not None and _whole(again):
            parts.append(again.astype(np.int64))
        if any(_held(part) is None for part in parts):
            yield Trouble(node.name, f"they lie in {_range(node.weight)}", "train with 8-bit weights (quantize_8bit)")


def bias_bits(network: Network) -> Iterator[Trouble]:
    """A bias has 13 bits: -4096 to 4095."""
    for node in network.nodes:
        bias = node.numbers.get("bias")
        if bias is not None and node.kind in NEEDED and not ((bias >= -LARGEST_BIAS - 1) & (bias <= LARGEST_BIAS)).all():
            yield Trouble(node.name, f"it is {_range(bias)}", "train with a smaller bias")


def delays(network: Network) -> Iterator[Trouble]:
    """Delays are in a dense layer, 0 to 62 steps: one number, one per neuron, per input, or per synapse."""
    for node in network.nodes:
        delay = node.numbers.get("delay")
        if delay is None or node.kind not in NEEDED:
            continue
        if node.kind != "dense":
            yield Trouble(node.name, f"it is a {node.kind} layer", "train that layer without delays")
        elif not ((delay >= 0) & (delay <= LARGEST_DELAY)).all():
            yield Trouble(node.name, f"they are {_range(delay)}", "train with max_delay = 62")
        elif node.weight is not None and _whole(delay) and _delays(node) is None:
            yield Trouble(node.name, f"{_text(delay.shape)} delays for {_text(node.weight.shape)} weights", EXPORT)


def agreeing_shapes(network: Network) -> Iterator[Trouble]:
    """A layer takes what the layer before it gives, and gives what its shape says."""
    for node in network.nodes:
        if not node.complete:
            return  # what follows it cannot be known
        trouble = _misfit(node)
        if not trouble and node.kind in CONNECTED and "shape" in node.numbers and _squeezed(node.said_shape) != _squeezed(node.out_shape):
            trouble = f"its shape is {_values(node.numbers['shape'])}, its weights give {_text(node.out_shape)}"
        if trouble:
            yield Trouble(node.name, trouble, EXPORT)
            return


def read_outs(network: Network) -> Iterator[Trouble]:
    """A last layer without neurons, or with the highest threshold, is read as a membrane potential; without neurons it never leaks."""
    for node in network.nodes:
        if node.read_out and node.last:
            why = "it has no neurons" if node.neuron is None else f"its vThMant is {_range(node.neuron['vThMant'])}"
            yield Trouble(node.name, f"{why}: the result is its membrane potential, not its spikes", "", "note")


def host_average(network: Network) -> Iterator[Trouble]:
    """An average at the end is the host's: the network's result is what goes into it."""
    for node in network.of("average"):
        if node.said_shape is not None:
            yield Trouble(node.name, f"the host averages over {math.prod(node.said_shape)} groups of neurons", "", "note")


def undelayed_bias(network: Network) -> Iterator[Trouble]:
    """A delay acts on what comes in, as in lava-dl, and therefore not on a bias."""
    for node in network.of("dense"):
        if np.any(node.numbers.get("delay", 0)) and np.any(node.numbers.get("bias", 0)):
            yield Trouble(node.name, "its bias is not delayed, where a delay of its axons would delay it", "", "note")


NETX_RULES: Mapping[str, Rule] = {
    "known_layers": known_layers,
    "layer_order": layer_order,
    "needed_fields": needed_fields,
    "neuron_type": neuron_type,
    "binary_spikes": binary_spikes,
    "plain_neuron": plain_neuron,
    "one_value": one_value,
    "decay_range": decay_range,
    "threshold_range": threshold_range,
    "analog_input": analog_input,
    "whole_numbers": whole_numbers,
    "weight_bits": weight_bits,
    "bias_bits": bias_bits,
    "delays": delays,
    "agreeing_shapes": agreeing_shapes,
    "read_outs": read_outs,
    "host_average": host_average,
    "undelayed_bias": undelayed_bias,
}


def _findings(network: Network) -> list[Finding]:
    kinds = {node.name: f"netx {node.kind}" for node in network.nodes}
    return [
        Finding(trouble.node, kinds.get(trouble.node, "netx"), rule, sentence(function), trouble.level, trouble.actual, trouble.remedy)
        for rule, function in NETX_RULES.items()
        for trouble in function(network)
    ]


def _read(path: Path) -> Network:
    try:
        with h5py.File(path, "r") as file:
            group = file.get("layer")
            if not isinstance(group, h5py.Group) or not len(group):
                raise GraphError(f"{path} is not a netx network", "it has no group `layer` with layers in it", EXPORT)
            if set(group) != {str(index) for index in range(len(group))}:
                raise GraphError(f"{path} cannot be read", f"its layers are not numbered 0 to {len(group) - 1}", EXPORT)
            entries = [_entry(group[str(index)]) for index in range(len(group))]
            simulation = _numbers(file["simulation"]) if isinstance(file.get("simulation"), h5py.Group) else {}
    except (OSError, RuntimeError) as error:
        raise GraphError(f"cannot read {path}", f"it is not an HDF5 file that can be read ({error})", "check the path") from error
    last = max((index for index, (kind, _, _) in enumerate(entries) if kind in CONNECTED), default=-1)
    nodes: list[Node] = []
    shape: Shape | None = None
    for index, (kind, numbers, neuron) in enumerate(entries):
        first_weight = numbers.get("weight")
        if index == 0 and kind in ("dense", "dense_rec") and first_weight is not None and first_weight.ndim == 2:
            shape = (first_weight.shape[1],)  # a network may begin without an input layer
        node = Node(index, kind, numbers, neuron, shape, index >= last)
        nodes.append(node)
        shape = node.out_shape
    step_ms, samples = (float(simulation[name].flat[0]) if name in simulation else 0.0 for name in ("Ts", "tSample"))
    return Network(
        tuple(nodes),
        step_ms * 1e-3 if math.isfinite(step_ms) and step_ms > 0 else 1e-3,
        int(samples) if math.isfinite(samples) and samples >= 1 else None,
    )


def _entry(group: Any) -> tuple[str, dict[str, Numbers], dict[str, Any] | None]:
    """Return the type, the numeric fields and the neuron of one layer."""
    if not isinstance(group, h5py.Group):
        return "", {}, None
    neuron = group.get("neuron")
    if isinstance(neuron, h5py.Group):
        return _string(group, "type"), _numbers(group), {**_numbers(neuron), "type": _string(neuron, "type")}
    return _string(group, "type"), _numbers(group), None


def _numbers(group: Any) -> dict[str, Numbers]:
    """Return the numeric datasets of a group, non-empty, and those of complex weights as ``weight/imag``."""
    found = {}
    for name in [*group, "weight/imag"]:
        item = group.get(name)
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "iufb" and item.size:
            found[name] = np.asarray(item[()], np.float64)
    return found


def _string(group: Any, name: str) -> str:
    item = group.get(name)
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "SO" or item.size != 1:
        return ""
    value = np.asarray(item[()]).flat[0]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _program(network: Network, notes: tuple[str, ...]) -> Program:
    first = network.nodes[0]
    layers: list[Layer] = []
    source, shape, depth = INPUT, first.in_shape if first.kind != "input" else first.out_shape, 0
    assert shape is not None
    port = InputPort(INPUT, shape, "spikes")
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
    exponent = _held(weight)
    assert exponent is not None
    return (weight << 1 if exponent < 0 else weight >> exponent).astype(np.int32), exponent


def _held(weight: NDArray[np.int64]) -> int | None:
    """Return the smallest exponent with which the hardware holds ``weight`` exactly, ``None`` when there is none."""
    low, high = int(weight.min()), int(weight.max())
    mixed = low < 0 < high
    for exponent in EXPONENTS:
        unit: float = 2.0**exponent
        if mixed and -256 * unit <= low and high <= 254 * unit and not (weight % (2 * unit)).any():
            return exponent
        if not mixed and max(-low, high) <= 255 * unit and not (weight % unit).any():
            return exponent
    return None


def _delays(node: Node) -> NDArray[np.int64] | None:
    """Return one delay per synapse; ``None`` without delays, or when they do not fit the weights."""
    delay = node.numbers.get("delay")
    if delay is None or node.weight is None or not _whole(delay):
        return None
    out, into = node.weight.shape[:2]
    delay = delay.astype(np.int64)
    if delay.size == 1:
        delay = delay.reshape(1, 1)
    elif delay.shape == (out,):  # as lava-dl reads it, also where there are as many inputs
        delay = delay.reshape(-1, 1)
    elif delay.shape not in ((into,), (out, into)):
        return None
    return np.broadcast_to(delay, (out, into))


def _misfit(node: Node) -> str:
    """Return in which way the numbers of a complete node do not fit its input or each other; empty when they do."""
    if node.kind in ("input", "average"):
        if node.said_shape is None:
            return f"its shape is {_values(node.numbers['shape'])}"
        several = [field for field in ("weight", "bias") if node.kind == "input" and node.numbers.get(field, np.zeros(1)).size != 1]
        return f"its {several[0]} has {node.numbers[several[0]].size} values, not 1" if several else ""
    weight, shape = node.weight, node.in_shape
    if shape is None:
        return "the shape of its input is not known"
    if node.kind == "flatten":
        return ""
    if weight is None:
        return f"its weights have shape {_text(node.numbers['weight'].shape)}"
    bias = node.numbers.get("bias", np.zeros(1))
    if bias.size not in (1, len(weight)):
        return f"{bias.size} biases for {len(weight)} {'channels' if node.kind in SPATIAL else 'neurons'}"
    if node.kind in SPATIAL:
        return _spatial_misfit(node, weight, shape)
    if weight.shape[1] != math.prod(shape):
        return f"it takes {weight.shape[1]} inputs, {math.prod(shape)} come in"
    if node.kind == "dense_rec" and node.numbers["weight_rec"].size != len(weight) ** 2:
        return f"weight_rec has {node.numbers['weight_rec'].size} values for {len(weight)} neurons"
    return ""


def _spatial_misfit(node: Node, weight: Numbers, shape: Shape) -> str:
    if len(shape) != 3:
        return f"its input has shape {_text(shape)}, not (C, H, W)"
    window = node.window
    if window is None or len(weight) % window.groups:
        fields = [field for field in ("stride", "padding", "dilation", "groups") if field in node.numbers]
        return ", ".join(f"{field} {_values(node.numbers[field])}" for field in fields)
    if weight.shape[1] * window.groups != shape[0]:
        return f"it takes {weight.shape[1] * window.groups} channels, {shape[0]} come in"
    return "" if node.out_shape and min(node.out_shape) > 0 else "nothing is left of its input"


def _neurons(network: Network) -> Iterator[tuple[Node, Mapping[str, Any]]]:
    """Yield every layer with neurons of a known type, and their fields."""
    for node in network.nodes:
        if node.neuron is not None and node.neuron.get("type") in NEURON_TYPES:
            yield node, node.neuron


def _pair(values: Numbers) -> tuple[int, int]:
    flat = values.astype(np.int64).ravel()
    return int(flat[0]), int(flat[-1])


def _squeezed(shape: Shape | None) -> Shape | None:
    return None if shape is None else tuple(size for size in shape if size != 1)


def _whole(values: Numbers) -> bool:
    return bool(_whole_each(values).all())


def _whole_each(values: Numbers) -> NDArray[np.bool_]:
    """Return which values are whole numbers that 32 bits hold."""
    whole: NDArray[np.bool_] = (values == np.rint(values)) & (np.abs(values) < 1 << 31)
    return whole


def _range(values: Any) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g}" if low == high else f"{low:g} … {high:g}"


def _values(values: Numbers) -> str:
    return "×".join(f"{value:g}" for value in values.ravel())


def _text(shape: Shape | None) -> str:
    return "×".join(map(str, shape)) if shape else "()"
