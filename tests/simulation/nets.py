"""Small random programs that cover all features of programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Precision, Program, Shape, Synapse
from ashneuro.program.synapse import conv_shape
from ashneuro.spiking.message import Message

Sign = Literal["mixed", "excitatory", "inhibitory"]


class Random:
    """Draws parts of programs of one precision."""

    def __init__(self, seed: int, precision: Precision) -> None:
        self.rng, self.precision = np.random.default_rng(seed), precision

    @property
    def integer(self) -> bool:
        return self.precision == "integer"

    def weights(self, shape: Shape, sign: Sign = "mixed", size: int = 128) -> NDArray[Any]:
        if not self.integer:
            # Sums in another order differ in their last bits, but never hit a threshold exactly.
            w = self.rng.normal(0.02, 0.35, shape)
            return {"mixed": w, "excitatory": np.abs(w), "inhibitory": -np.abs(w)}[sign]
        if sign == "mixed":
            w = 2 * self.rng.integers(-size // 2, size // 2 + 1, shape)
            w.flat[:2] = size & ~1, -size
        else:
            w = self.rng.integers(0, size + 1, shape)
        return np.asarray(-w if sign == "inhibitory" else w, np.int32)

    def neuron(self, shape: Shape, *, spiking: bool = True, per_neuron: bool = False, threshold: int = 100) -> Neuron:
        rng = self.rng
        if not self.integer:
            size = shape if per_neuron else ()
            du, dv = rng.uniform(0.4, 1.0, size), rng.uniform(0.05, 0.6, size)
            v_threshold = rng.uniform(0.3, 0.6, size) if spiking else np.inf
            return Neuron(
                np.asarray(du), np.asarray(dv), np.asarray(v_threshold), rng.normal(0, 0.05, shape), 0, spiking
            )
        du = np.int32(rng.choice([4095, 4095, 2000, 500]))
        bias = rng.integers(-300, 300, shape).astype(np.int32)
        limit = np.int32(rng.integers(threshold // 2, threshold * 2)) if spiking else np.int32((1 << 17) - 1)
        return Neuron(
            np.array(du),
            np.array(np.int32(rng.integers(0, 4096))),
            np.array(limit),
            bias,
            int(rng.integers(0, 5)),
            spiking,
        )

    def graded(self, shape: Shape, threshold: int, bits: int, biased: bool = False) -> Neuron:
        """Return neurons that send values; floats are a hundredth of the integers."""
        one = np.int32(1) if self.integer else np.float64(0.01)
        bias = self.rng.integers(-100, 300, shape) * biased * one
        limit = (1 << bits) - 1 if self.integer else 0.01 * (1 << bits)
        message = Message("graded", bits, limit)
        du = np.array(np.int32(4095) if self.integer else 1.0)
        return Neuron(du, du, np.array(threshold * one), bias, 2 * self.integer, message=message)

    def changes(self, shape: Shape, threshold: int, sums: bool = True, spiking: bool = True, **message: Any) -> Neuron:
        """Return neurons that send changes; floats are a hundredth of the integers."""
        keep, drop = (np.int32(-1), np.int32(4095)) if self.integer else (0.0, 1.0)
        one, exponent = (np.int32(1), 7) if self.integer else (np.float64(0.01), 0)
        bias = self.rng.integers(-40, 60, shape) * sums * one
        sent = Message("change", 16, **{"activation": "relu" if sums else "none", **message})
        return Neuron(
            np.array(keep if sums else drop),
            np.array(drop),
            np.array(threshold * one),
            bias,
            exponent if sums else 0,
            spiking,
            message=replace(sent, shift=(5 if sums else -3) * self.integer),
        )

    def dense(self, in_shape: Shape, out: int, **kwargs: Any) -> Synapse:
        return Synapse("dense", in_shape, (out,), self.weights((out, int(np.prod(in_shape))), **kwargs))

    def conv(
        self,
        in_shape: Shape,
        out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> Synapse:
        axes = len(in_shape) - 1
        pads = ((padding, padding + 1), (padding, padding))[:axes] if stride > 1 else ((padding, padding),) * axes
        steps, gaps, taps = (stride,) * axes, (dilation,) * axes, (kernel,) * axes
        weight = self.weights((out, in_shape[0] // groups, *taps))
        return Synapse(
            "conv", in_shape, conv_shape(in_shape, taps, out, steps, pads, gaps), weight, steps, pads, gaps, groups
        )

    def identity(self, shape: Shape, gain: float = 0.4) -> Synapse:
        weight = np.int32(64) if self.integer else np.float64(gain)
        return Synapse("scale", shape, shape, np.array(weight))

    def port(
        self, shape: Shape, coding: Literal["current", "graded", "spikes"] = "current", **kwargs: Any
    ) -> InputPort:
        scale = {"current": 120.0, "graded": 20.0, "spikes": 1.0}[coding] if self.integer else 1.0
        return InputPort("input", shape, coding, scale, 32767 if coding == "current" else 127, **kwargs)

    def inputs(self, port: InputPort, timesteps: int, samples: int) -> NDArray[Any]:
        if port.coding == "spikes":
            return (self.rng.random((timesteps, samples, *port.shape)) < 0.4).astype(np.uint8)
        return self.rng.normal(0.3, 0.8, (timesteps, samples, *port.shape))

    def program(self, port: InputPort, layers: list[Layer], *more: InputPort, timesteps: int | None = None) -> Program:
        return Program(self.precision, 1e-3, timesteps, (port, *more), tuple(layers), (layers[-1].name,))


def connect(source: str, synapse: Synapse | None, delay: int = 0, weight_exp: int = 0) -> Connection:
    return Connection(source, synapse, delay, weight_exp)


def dense_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """Analog current, dense synapses with exponents, weights of one and both signs, a read-out."""
    r = Random(seed, precision)
    port = r.port((7,))
    shift = (0, 2, -3) if r.integer else (0, 0, 0)
    layers = [
        Layer("a", (7,), r.neuron((7,)), (connect("input", None),), 0),
        Layer("b", (9,), r.neuron((9,), per_neuron=True), (connect("a", r.dense((7,), 9), weight_exp=shift[0]),), 1),
        Layer(
            "c",
            (6,),
            r.neuron((6,), threshold=300),
            (connect("b", r.dense((9,), 6, sign="excitatory"), weight_exp=shift[1]),),
            2,
        ),
        Layer(
            "out",
            (4,),
            r.neuron((4,), spiking=False),
            (connect("c", r.dense((6,), 4, sign="inhibitory"), weight_exp=shift[2]), connect("b", r.dense((9,), 4), 1)),
            3,
            scale=40.0 if r.integer else 1.0,
        ),
    ]
    return r, r.program(port, layers)


def conv_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """Convolutions (strided, grouped, dilated), a skip over two of them, a dense layer."""
    r = Random(seed, precision)
    port = r.port((4, 5, 5))
    down = r.conv((4, 5, 5), 6, stride=2)
    grouped = r.conv(down.out_shape, 6, groups=2)
    spread = r.conv(down.out_shape, 6, kernel=2, padding=1, dilation=2)
    skip = connect("b", r.identity(down.out_shape), 1)
    layers = [
        Layer("a", (4, 5, 5), r.neuron((4, 5, 5)), (connect("input", None),), 0),
        Layer("b", down.out_shape, r.neuron(down.out_shape, threshold=200), (connect("a", down),), 1),
        Layer("c", grouped.out_shape, r.neuron(grouped.out_shape), (connect("b", grouped),), 2),
        Layer("d", spread.out_shape, r.neuron(spread.out_shape, per_neuron=True), (connect("c", spread), skip), 3),
        Layer("e", (8,), r.neuron((8,), threshold=300), (connect("d", r.dense(spread.out_shape, 8)),), 4),
    ]
    return r, r.program(port, layers)


def spike_input_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """Spikes through a 1-D convolution, a sparse synapse, and a constant line."""
    r = Random(seed, precision)
    port = r.port((3, 6), "spikes")
    line = InputPort("bias", (1,), "spikes", constant=True)
    conv = r.conv((3, 6), 4)
    rows = r.rng.random((5, 24)) < 0.3
    rows[:, 0] = True
    sparse = Synapse(
        "sparse",
        conv.out_shape,
        (5,),
        r.weights((int(rows.sum()),)),
        indices=np.nonzero(rows)[1].astype(np.int32),
        indptr=np.concatenate([[0], rows.sum(1).cumsum()]).astype(np.int32),
    )
    on = Synapse("dense", (1,), conv.out_shape, r.weights((24, 1)))
    layers = [
        Layer("a", conv.out_shape, r.neuron(conv.out_shape), (connect("input", conv), connect("bias", on)), 1),
        Layer("b", (5,), r.neuron((5,)), (connect("a", sparse),), 2),
    ]
    return r, r.program(port, layers, line)


def graded_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """Analog values through a synapse, and delayed into the second layer."""
    r = Random(seed, precision)
    port = r.port((5,), "graded")
    layers = [
        Layer("a", (6,), r.neuron((6,), threshold=2000), (connect("input", r.dense((5,), 6)),), 1),
        Layer(
            "b",
            (4,),
            r.neuron((4,), threshold=2000),
            (connect("a", r.dense((6,), 4), weight_exp=3 * r.integer), connect("input", r.dense((5,), 4), 1)),
            2,
        ),
    ]
    return r, r.program(port, layers)


def recurrent_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """A layer that feeds itself, and one that feeds back over two layers."""
    r = Random(seed, precision)
    port = r.port((5,))
    layers = [
        Layer("a", (5,), r.neuron((5,)), (connect("input", None), connect("b", r.dense((6,), 5))), 0),
        Layer("b", (6,), r.neuron((6,)), (connect("a", r.dense((5,), 6)), connect("b", r.dense((6,), 6))), 1),
        Layer("c", (4,), r.neuron((4,)), (connect("b", r.dense((6,), 4), 2),), 2),
    ]
    return r, r.program(port, layers)


def direct_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """Input directly into two layers, one of them later; a population of 1; a synapse of zeros."""
    r = Random(seed, precision)
    port = r.port((4,))
    nothing = Synapse("dense", (4,), (4,), np.zeros((4, 4), np.int32 if r.integer else float))
    both = (connect("b", r.dense((1,), 4)), connect("input", None, 2), connect("a", nothing, 1))
    layers = [
        Layer("a", (4,), r.neuron((4,)), (connect("input", None),), 0),
        Layer("b", (1,), r.neuron((1,)), (connect("a", r.dense((4,), 1, sign="excitatory")),), 1),
        Layer("c", (4,), r.neuron((4,)), both, 2),
    ]
    return r, r.program(port, layers)


def overflow_net(seed: int) -> tuple[Random, Program]:
    """Currents that wrap at 24 bits, potentials that saturate on both sides."""
    r = Random(seed, "integer")
    port = InputPort("input", (6,), "current", 30000.0, 32767)
    slow = Neuron(
        np.array(np.int32(30)),
        np.array(np.int32(10)),
        np.array(np.int32(100_000)),
        np.full(6, -4096, np.int32),
        7,
        True,
    )
    fast = Neuron(
        np.array(np.int32(200)), np.array(np.int32(0)), np.array(np.int32(131_071)), np.full(8, 4095, np.int32), 7, True
    )
    layers = [
        Layer("a", (6,), slow, (connect("input", None),), 0),
        Layer("b", (8,), fast, (connect("a", r.dense((6,), 8, size=254), weight_exp=7),), 1),
    ]
    return r, r.program(port, layers)


def message_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """Graded messages through every kind of synapse: a jump, a ReLU with a bias, one that feeds
    itself, and spikes beside them.
    """
    r = Random(seed, precision)
    port = r.port((3, 5, 5), "spikes")
    jump, relu = r.conv((3, 5, 5), 4), r.conv((4, 5, 5), 4, stride=2)
    deep = (-3, -7, -5, -8) if r.integer else (0, 0, 0, 0)
    both = (connect("relu", r.dense(relu.out_shape, 6)), connect("jump", r.dense((4, 5, 5), 6), 1, deep[2]))
    loop = (
        connect("relu", r.dense(relu.out_shape, 6), weight_exp=deep[1]),
        connect("loop", r.identity((6,)), 0, deep[3]),
    )
    layers = [
        Layer("jump", (4, 5, 5), r.graded((4, 5, 5), 60, 6), (connect("input", jump, weight_exp=-1 * r.integer),), 1),
        Layer(
            "relu", relu.out_shape, r.graded(relu.out_shape, 0, 8, biased=True), (connect("jump", relu, 0, deep[0]),), 2
        ),
        Layer("lif", (6,), r.neuron((6,), threshold=9000), both, 3),
        Layer(
            "loop", (6,), r.graded((6,), 20, 5), loop if r.integer else (loop[0], connect("loop", loop[1].synapse)), 3
        ),
        Layer(
            "out",
            (4,),
            r.neuron((4,), spiking=False),
            (connect("loop", r.dense((6,), 4)), connect("lif", r.dense((6,), 4))),
            4,
            scale=40.0 if r.integer else 1.0,
        ),
    ]
    return r, r.program(port, layers)


def change_net(seed: int, precision: Precision) -> tuple[Random, Program]:
    """Sigma-delta neurons behind a delta encoder and behind spikes, a cumulative error, LIF behind
    changes, and sums of changes.
    """
    r = Random(seed, precision)
    port = r.port((3, 5, 5))
    first, down = r.conv((3, 5, 5), 4), r.conv((4, 5, 5), 4, stride=2)
    deep = (-7, -4) if r.integer else (0, 0)
    both = (connect("b", r.dense((4, 5, 5), 6), 1, deep[0]), connect("c", r.dense(down.out_shape, 6), 0, deep[0]))
    layers = [
        Layer("a", (3, 5, 5), r.changes((3, 5, 5), 40, sums=False), (connect("input", None),), 0),
        Layer("b", (4, 5, 5), r.changes((4, 5, 5), 200), (connect("a", first, weight_exp=-2 * r.integer),), 1),
        Layer(
            "c",
            down.out_shape,
            r.changes(down.out_shape, 300, activation="none", cumulative=True),
            (connect("b", down, weight_exp=deep[1]),),
            2,
        ),
        Layer("lif", (6,), r.neuron((6,), threshold=1500), both, 3),
        Layer("sum", (6,), r.changes((6,), 0, spiking=False, activation="none"), both, 3),
        Layer("d", (5,), r.changes((5,), 1), (connect("lif", r.dense((6,), 5)),), 4),
    ]
    return r, r.program(port, layers)


NETS = {
    "changes": change_net,
    "dense": dense_net,
    "conv": conv_net,
    "spikes": spike_input_net,
    "graded": graded_net,
    "direct": direct_net,
    "recurrent": recurrent_net,
    "messages": message_net,
}
