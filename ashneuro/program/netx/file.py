"""Netx files as written: layers, their numeric fields, and the shapes that follow from them.

This module accepts every network that can be opened: `ashneuro.program.netx.rules` reports what is
wrong with one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ashneuro.errors import GraphError
from ashneuro.loihi import LARGEST_DELAY, LARGEST_THRESHOLD
from ashneuro.program.foreign import foreign_file
from ashneuro.program.hdf5 import DAMAGE, open_hdf5
from ashneuro.program.netx.matrices import padded, separate, stacked, stacked_shape, transposed, transposed_shape
from ashneuro.program.program import Shape, Synapse
from ashneuro.program.synapse import Window, conv_shape, matrix, sparse
from ashneuro.spiking.firing import Comparison

Numbers = NDArray[np.float64]

# Fields that each type of layer needs.
NEEDED = {
    "input": ("shape",),
    "flatten": (),
    "conv": ("weight", "stride", "padding", "dilation", "groups"),
    "pool": ("weight", "stride", "padding", "dilation"),
    "convT": ("weight", "stride", "padding", "dilation", "groups"),
    "unpool": ("weight", "stride", "padding", "dilation"),
    "dense": ("weight",),
    "dense_rec": ("weight", "weight_rec"),
    "average": ("shape",),
}
SPATIAL = ("conv", "pool", "convT", "unpool")
POOLS = ("pool", "unpool")  # they have one kernel for all channels
CONNECTED = (*SPATIAL, "dense", "dense_rec")
RESONATORS = ("RF_PHASE", "RF_IZHIKEVICH")
WORDS = ("type", "activation")
NUMBERS = frozenset({name for names in NEEDED.values() for name in names} | {"bias", "delay", "Ts", "tSample"})
EXPORT = "export the network from lava-dl again, every block with block.export_hdf5(handle)"


@dataclass(frozen=True)
class NetxReading:
    """Choices of reading that a netx file leaves open.

    Args:
        comparison: ``"strict"``: neurons spike at v > vThMant (Lava, and Slayer since lava-dl
            0.3.0). ``"inclusive"``: at v ≥ vThMant (Slayer up to lava-dl 0.2.0).
        input_shape: shape of one input, (C, H, W) or (neurons,); ``None``: the file says it.
        timesteps: steps per sample; ``None``: the file's, if it says.
        stated: True if the user said the comparison; False: it is assumed; ``None``: a bundle of an
            earlier version did not record which.
    """

    comparison: Comparison = "strict"
    input_shape: Shape | None = None
    timesteps: int | None = None
    stated: bool | None = field(default=False, compare=False)


AS_STATED = NetxReading()


@dataclass(frozen=True, eq=False)
class NetxLayer:
    """One layer of a netx file.

    Args:
        index: its number in the file.
        kind: its type.
        numbers: its numeric fields.
        neuron: numeric fields of its neurons, ``type`` and ``activation``; ``None`` without them.
        in_shape: output shape of the layer before; ``None`` where it is not known.
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
        """True if the type is known and no field is missing."""
        return self.kind in NEEDED and all(field in self.numbers for field in NEEDED[self.kind])

    @cached_property
    def weight(self) -> Numbers | None:
        """Weights (out, in) or (C_out, C_in / groups, kH, kW); ``None`` without that shape.

        Of a convT (C_in, C_out / groups, kH, kW), of pool and unpool (1, 1, kH, kW).
        """
        if self.kind not in CONNECTED or not self.complete:
            return None
        return self._shaped(self.numbers["weight"])

    def _shaped(self, weight: Numbers) -> Numbers | None:
        if self.kind in SPATIAL:
            if weight.ndim not in (4, 5) or weight.shape[4:] not in ((), (1,)):
                return None
            weight = weight.reshape(weight.shape[:4])
            return weight[:1, :1] if self.kind in POOLS else weight
        if weight.ndim == 1 and self.stated_shape is not None:
            rows = math.prod(self.stated_shape)
            return weight.reshape(rows, -1) if weight.size % rows == 0 else None
        return weight if weight.ndim == 2 else None

    @property
    def groups(self) -> int:
        """Convolution groups; 0 where the field is not a positive whole number."""
        if self.kind in POOLS:
            return 1
        groups = self.numbers["groups"]
        return int(groups.flat[0]) if whole(groups) and groups.min() >= 1 else 0

    @cached_property
    def window(self) -> Window | None:
        """Geometry of a convolution or pooling; ``None`` where its numbers are out of range."""
        if self.weight is None or not self.groups:
            return None
        fields = [self.numbers[field] for field in ("stride", "padding", "dilation")]
        least = (1, 0, 1)
        if not all(whole(values) and values.min() >= low for values, low in zip(fields, least, strict=True)):
            return None
        stride, padding, dilation = (_pair(values) for values in fields)
        pads = ((padding[0], padding[0]), (padding[1], padding[1]))
        return Window(self.weight.shape[2:], stride, pads, dilation)

    @cached_property
    def out_shape(self) -> Shape | None:
        """Output shape as it follows from the weights; ``None`` where it cannot be inferred."""
        if self.kind == "input":
            return self.stated_shape
        if self.kind == "flatten":
            return None if self.in_shape is None else (math.prod(self.in_shape),)
        if self.weight is None:
            return None
        if self.kind not in SPATIAL:
            return (len(self.weight),)
        if self.in_shape is None or len(self.in_shape) != 3 or self.window is None:
            return None
        slide = self.window
        if self.kind in POOLS:
            return stacked_shape(self.in_shape, slide, self.kind)
        if self.kind == "convT":
            return transposed_shape(self.in_shape, self.weight.shape[1] * self.groups, slide)
        return conv_shape(self.in_shape, slide.kernel, len(self.weight), slide.stride, slide.padding, slide.dilation)

    @property
    def outputs(self) -> int:
        """Number of output channels, or of neurons of a dense layer; 0 where it is not known."""
        if self.kind in SPATIAL:
            return (self.out_shape or (0,))[0]
        return 0 if self.weight is None else len(self.weight)

    @property
    def weight_shift(self) -> int:
        """Power of two by which the neurons multiply the weights: wgtExp − weight_exp.

        SLAYER's LOIHI neurons multiply them by 2^wgtExp. Slayer's ``WgtScaleBatchNorm`` divides u
        and the bias by 2^weight_exp.
        """
        return self.exponent("wgtExp") - self.exponent("weight_exp")

    def exponent(self, field: str) -> int:
        """Return the neurons' ``wgtExp`` or ``weight_exp``; 0 where the file has none."""
        value = (self.neuron or {}).get(field)
        return int(value.flat[0]) if value is not None and whole(value) else 0

    @property
    def stated_shape(self) -> Shape | None:
        """Output shape as the file states it; ``None`` without one, or where it is not a shape."""
        sizes = self.numbers.get("shape")
        if sizes is None or not whole(sizes) or sizes.min() < 1:
            return None
        return tuple(int(size) for size in sizes.ravel())

    @property
    def read_out(self) -> bool:
        """True if the result is the membrane potential of the layer, not its spikes."""
        if self.neuron is None:
            return self.kind in CONNECTED
        if self.sigma_delta:
            return self.sums
        threshold = self.neuron.get("vThMant")
        if self.resonates:
            return False
        return self.last and threshold is not None and bool((threshold >= LARGEST_THRESHOLD).all())

    @property
    def refractory_steps(self) -> int:
        """Steps that v stays at 0 after a spike: the next step may spike where refDelay is 1."""
        value = (self.neuron or {}).get("refDelay")
        return max(int(value.flat[0]) - 1, 0) if value is not None and whole(value) else 0

    @property
    def sigma_delta(self) -> bool:
        """True for neurons that send changes, or sum them."""
        return (self.neuron or {}).get("type") == "SDNN"

    @property
    def sums(self) -> bool:
        """True for neurons that sum changes and send none: netx's Sigma."""
        return self.sigma_delta and bool(np.any((self.neuron or {}).get("sigma_output", 0)))

    @property
    def resonates(self) -> bool:
        """True if its neurons are RF_PHASE or RF_IZHIKEVICH."""
        return (self.neuron or {}).get("type") in RESONATORS

    def imaginary(self) -> Synapse | None:
        """Return the imaginary synapses of a dense layer, int64; ``None`` if they do not fit."""
        real, imaginary = self.weight, self.numbers.get("weight/imag")
        if real is None or imaginary is None or self.in_shape is None or self.out_shape is None:
            return None
        shaped = self._shaped(imaginary)
        if shaped is None or shaped.shape != real.shape:
            return None
        return Synapse("dense", self.in_shape, self.out_shape, shifted(shaped, self.weight_shift))

    def synapses(self) -> Iterator[tuple[int, Synapse]]:
        """Iterate over (delay, synapses with that delay); weights as they act, int64.

        The shapes of the layer are known and fit its weights.
        """
        assert self.weight is not None and self.in_shape is not None and self.out_shape is not None
        delay = self.delays()
        whole_layer = self._synapse()
        values = whole_layer.weight
        if delay is None or not values.any():
            yield 0, whole_layer
            return
        if whole_layer.kind == "sparse":
            weights = matrix(whole_layer)
            lines = np.repeat(delay, math.prod(self.out_shape[1:]))[weights.tocoo().row]
            for steps in np.unique(lines):
                kept = weights.copy()  # `sparse` drops zeros in place
                kept.data[lines != steps] = 0
                yield int(steps), sparse(kept, self.in_shape, self.out_shape)
            return
        delay = delay.reshape(*delay.shape, *[1] * (values.ndim - delay.ndim))
        own = np.broadcast_to(delay, values.shape)
        for steps in np.unique(own[values != 0]):
            part = np.where(own == steps, values, 0)
            if self.kind in SPATIAL or (part != 0).sum() == (values != 0).sum():
                yield int(steps), replace(whole_layer, weight=part)
            else:
                yield int(steps), sparse(csr_matrix(part), self.in_shape, self.out_shape)

    def _synapse(self) -> Synapse:
        """Return the synapses without their delays."""
        assert self.weight is not None and self.in_shape is not None and self.out_shape is not None
        weight, ends = shifted(self.weight, self.weight_shift), (self.in_shape, self.out_shape)
        if self.kind not in SPATIAL:
            return Synapse("dense", *ends, weight)
        assert self.window is not None
        window, groups = self.window, self.groups
        if self.kind == "convT":
            return sparse(transposed(weight, *ends, window, groups), *ends)
        if self.kind == "unpool" or (self.kind == "pool" and not separate(self.in_shape, window)):
            return sparse(stacked(weight, *ends, window, self.kind), *ends)
        padding = window.padding
        if self.kind == "pool":
            groups = self.in_shape[0]
            weight = np.repeat(weight, groups, axis=0)
            after = np.subtract(padded(self.in_shape, window.kernel)[1:], self.in_shape[1:])
            padding = ((0, int(after[0])), (0, int(after[1])))
        return Synapse("conv", *ends, weight, window.stride, padding, window.dilation, groups)

    def delays(self) -> NDArray[np.int64] | None:
        """Return the delay of every synapse, (out, in), or of every channel, (C_out,), in steps.

        ``None`` without delays, or where they do not fit the weights.
        """
        delay = self.numbers.get("delay")
        if delay is None or self.weight is None or not whole(delay):
            return None
        delay = np.minimum(delay.astype(np.int64), LARGEST_DELAY)  # as netx reads it
        if self.kind in SPATIAL:
            return np.broadcast_to(delay.ravel(), self.outputs) if delay.size in (1, self.outputs) else None
        out, into = self.weight.shape[:2]
        if delay.size == 1:
            delay = delay.reshape(1, 1)
        elif delay.shape == (out,):
            # In a square layer (N,) could mean inputs or neurons; lava-dl reads it per neuron.
            delay = delay.reshape(-1, 1)
        elif delay.shape not in ((into,), (out, into)):
            return None
        return np.broadcast_to(delay, (out, into))


@dataclass(frozen=True, eq=False)
class NetxFile:
    """A netx file.

    Args:
        layers: in the file's order.
        dt_s: duration of one step, seconds.
        timesteps: steps per sample; ``None`` where neither the file nor the reading says it.
        reading: choices that the file leaves open.
    """

    layers: tuple[NetxLayer, ...]
    dt_s: float
    timesteps: int | None
    reading: NetxReading = AS_STATED

    @property
    def input_shape(self) -> Shape | None:
        """Shape of the input; ``None`` where neither the file nor the reading says it."""
        first = self.layers[0]
        return first.out_shape if first.kind == "input" else first.in_shape

    @property
    def undecided(self) -> list[str]:
        """Names of the layers whose neurons may compare in either way: CUBA neurons did both,
        depending on the version of lava-dl. Other types have one comparison.
        """
        spiking = (layer for layer in self.layers if not layer.read_out)
        return [layer.name for layer in spiking if layer.neuron and layer.neuron.get("type") == "CUBA"]

    def complete(self, *kinds: str) -> Iterator[NetxLayer]:
        """Iterate over the layers of these types that miss no field."""
        return (layer for layer in self.layers if layer.kind in kinds and layer.complete)


def open_netx(path: Path, reading: NetxReading = AS_STATED) -> NetxFile:
    """Return the content of a netx file.

    Raises:
        GraphError: it is no HDF5 file, or has no numbered layers.
    """
    if path.is_file() and not h5py.is_hdf5(path):
        raise foreign_file(path)
    try:
        with open_hdf5(path) as file:
            group = file.get("layer")
            if not isinstance(group, h5py.Group) or not len(group):
                raise GraphError(f"{path} is not a netx network", "it has no group `layer` with layers in it", EXPORT)
            if set(group) != {str(index) for index in range(len(group))}:
                raise GraphError(f"{path} cannot be read", f"its layers are not numbered 0 to {len(group) - 1}", EXPORT)
            entries = [_entry(group[str(index)]) for index in range(len(group))]
            simulation = _numbers(file["simulation"]) if isinstance(file.get("simulation"), h5py.Group) else {}
    except DAMAGE as error:
        why = getattr(error, "strerror", None) or f"it is not an HDF5 file that can be read ({error})"
        raise GraphError(f"cannot read {path}", why, "check the path, or copy the file again") from error
    last = max((index for index, (kind, _, _) in enumerate(entries) if kind in CONNECTED), default=-1)
    layers: list[NetxLayer] = []
    shape = reading.input_shape
    for index, (kind, numbers, neuron) in enumerate(entries):
        first_weight = numbers.get("weight")
        if index == 0 and kind == "input" and shape is not None:
            stated = numbers.get("shape", np.zeros(0)).ravel()
            if not stated.size or squeezed(stated) == squeezed(shape):  # else a rule reports it
                numbers["shape"] = np.array(shape, np.float64)
        if index == 0 and kind in ("dense", "dense_rec") and first_weight is not None and first_weight.ndim == 2:
            shape = shape or (first_weight.shape[1],)  # a network may begin without an input layer
        layer = NetxLayer(index, kind, numbers, neuron, shape, index >= last)
        layers.append(layer)
        shape = layer.out_shape
    step_ms, steps = (float(simulation[name].flat[0]) if name in simulation else 0.0 for name in ("Ts", "tSample"))
    return NetxFile(
        tuple(layers),
        step_ms * 1e-3 if math.isfinite(step_ms) and step_ms > 0 else 1e-3,
        reading.timesteps or (int(steps) if math.isfinite(steps) and steps >= 1 else None),
        reading,
    )


def _entry(group: Any) -> tuple[str, dict[str, Numbers], dict[str, Any] | None]:
    """Return (type, numeric fields, fields of the neurons) of one layer."""
    if not isinstance(group, h5py.Group):
        return "", {}, None
    neuron = group.get("neuron")
    if isinstance(neuron, h5py.Group):
        words = {name: _string(neuron, name) for name in WORDS}
        return _string(group, "type"), _numbers(group), {**_numbers(neuron), **words}
    return _string(group, "type"), _numbers(group), None


def _numbers(group: Any) -> dict[str, Numbers]:
    """Return the non-empty numeric datasets of a group, by name.

    Complex weights are a group of their own: ``weight`` is its real, ``weight/imag`` its imaginary
    part.

    Raises:
        GraphError: a field of numbers is something else, which must not read as one that is absent.
    """
    found = {}
    for name in [*group, "weight/real", "weight/imag"]:
        item = group.get(name)
        if not isinstance(item, h5py.Dataset) or not item.size:
            continue
        if item.dtype.kind in "iufb":
            found["weight" if name == "weight/real" else name] = np.asarray(item[()], np.float64)
        elif name in NUMBERS or (group.name.endswith("/neuron") and name not in WORDS):
            raise GraphError(f"{item.file.filename} is damaged", f"{item.name} does not hold numbers", EXPORT)
    return found


def _string(group: Any, name: str) -> str:
    item = group.get(name)
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "SO" or item.size != 1:
        return ""
    value = np.asarray(item[()]).flat[0]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def shifted(weight: Numbers, shift: int) -> NDArray[np.int64]:
    """Return ``weight · 2^shift`` as integers; the fraction is dropped."""
    return np.asarray(np.trunc(np.ldexp(weight, shift)), np.int64)


def squeezed(shape: Iterable[float]) -> tuple[float, ...]:
    """Return a shape without its axes of size 1."""
    return tuple(size for size in shape if size != 1)


def whole(values: Numbers) -> bool:
    """Return True if all values are whole numbers of at most 32 bits."""
    return bool(whole_each(values).all())


def whole_each(values: Numbers) -> NDArray[np.bool_]:
    """Return a mask of the values that are whole numbers of at most 32 bits."""
    mask: NDArray[np.bool_] = (values == np.rint(values)) & (np.abs(values) < 1 << 31)
    return mask


def _pair(values: Numbers) -> tuple[int, int]:
    flat = values.astype(np.int64).ravel()
    return int(flat[0]), int(flat[-1])
