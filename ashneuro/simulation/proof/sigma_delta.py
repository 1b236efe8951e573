"""Replay of recorded sigma-delta networks of lava-dl: PilotNet-SDNN, and blocks of a small network.

lava-dl does not say what made these recordings. Its tests require them of Lava's fixed-point model
(input and output of PilotNet-SDNN, the blocks) and of Loihi 2 (the sums of its layers). They are
interpreted so:

- All layers start together, in step 0, and are never reset: a layer sends the change from 0 to
  its bias before the first picture reaches it.
- ``sigma`` is the sum of what has arrived, u of a program; the rest are messages. They are in
  units of the chip.
- The blocks take the messages of other blocks as spikes of 1 where they are not 0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ashneuro.loihi import LARGEST_DECAY, LARGEST_MESSAGE
from ashneuro.program.netx.read import SPIKE_EXP, STATE_EXP, read_netx
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Shape, Synapse
from ashneuro.simulation.proof.recordings import PILOTNET_SDNN, TINY_SDNN, load_recording
from ashneuro.simulation.proof.replay import Emulator, Replay, Traces, compare, time_first
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.message import Message

BLOCK_THRESHOLD = 20  # vThMant of the blocks, in lava-dl's test of them


def pilotnet_sdnn(folder: Path, emulator: Emulator) -> Replay:
    """Replay PilotNet-SDNN from one picture that stays."""
    program = _together(read_netx(folder / PILOTNET_SDNN / "network.net"))
    recorded: dict[str, Traces] = {"input0": {"s": time_first(folder, f"{PILOTNET_SDNN}/act0")}}
    recorded |= {f"conv{n}": {"u": time_first(folder, f"{PILOTNET_SDNN}/sigma{n}")} for n in (1, 2)}
    recorded["dense9"] = {"s": time_first(folder, f"{PILOTNET_SDNN}/output")}
    steps = len(recorded["input0"]["s"])
    image = time_first(folder, f"{PILOTNET_SDNN}/input") / program.inputs[0].scale
    x = np.broadcast_to(image, (steps, 1, *image.shape[1:]))
    layers = []
    for name, traces in recorded.items():
        length = len(next(iter(traces.values())))
        emulated = emulator.run(program, x, {name: [(0, length)]}, length)
        layers.append(compare(name, emulated, traces))
    return Replay(
        "PilotNet-SDNN, chained",
        "reference output",
        "the image, nothing else",
        tuple(layers),
        ("conv3 to dense8: not recorded in this network",),
    )


def pilotnet_square(folder: Path, emulator: Emulator) -> Replay:
    """Replay the convolutions on a square part of the picture, from the recorded messages."""
    whole = _together(read_netx(folder / PILOTNET_SDNN / "square_network.net"))
    first = whole.layers[0]
    names = [layer.name for layer in whole.layers[1:]]
    sent = time_first(folder, f"{PILOTNET_SDNN}/act0")[..., : first.shape[1], : first.shape[2]]
    port = InputPort(first.name, first.shape, "graded", 1.0, LARGEST_MESSAGE)
    program = replace(whole, inputs=(port,), layers=whole.layers[1:], outputs=(names[-1],))
    recorded = {
        name: {"u": time_first(folder, f"{PILOTNET_SDNN}/sigma{n}_square")} for n, name in enumerate(names, start=1)
    }
    emulated = emulator.run(program, sent[:, None], {name: [(0, len(sent))] for name in names}, len(sent))
    return Replay(
        "PilotNet-SDNN, square",
        "reference output",
        "the recorded messages of the input, cut to 33 × 33",
        tuple(compare(name, emulated, recorded[name]) for name in names),
        ("messages of these layers: not recorded, their sums are",),
    )


def tinynet_sdnn(folder: Path, emulator: Emulator) -> Replay:
    """Replay the delta encoder, one step of a convolution, and a sum of a small network."""

    def recording(name: str) -> NDArray[np.int32]:
        """Return a recording as (steps, x, y, channels) or (steps, neurons)."""
        return np.moveaxis(load_recording(folder, f"{TINY_SDNN}/{name}"), -1, 0)

    sent, hidden, sums = recording("input"), recording("layer1"), recording("layer2")
    steps, size = len(sent), load_recording(folder, f"{TINY_SDNN}/input_bias")
    wave = np.sin(2 * np.pi * np.arange(steps) / steps)
    x = np.trunc(size * wave[:, None, None, None])
    entry = _block("delta", size.shape, None, Message("change", 16, shift=-SPIKE_EXP), exponent=0)
    kernel = np.moveaxis(load_recording(folder, f"{TINY_SDNN}/layer1_kernel"), -1, 1)  # (out, in, x, y)
    bias = load_recording(folder, f"{TINY_SDNN}/layer1_bias").reshape(-1, 1, 1)
    pads = ((0, 0), (0, 0))
    shape = (len(kernel), *hidden.shape[1:3])
    conv = Synapse("conv", (kernel.shape[1], *size.shape[:2]), shape, kernel, (2, 2), pads, (1, 1))
    relu = Message("change", 16, activation="relu", shift=STATE_EXP)
    second = _block("conv", shape, conv, relu, bias=bias)
    dense = Synapse("dense", hidden.shape[1:], sums.shape[1:], load_recording(folder, f"{TINY_SDNN}/layer2_weight"))
    third = _block("sum", sums.shape[1:], dense, Message("change", 16), spiking=False)

    def run(program: Program, inputs: NDArray[np.generic], name: str, length: int) -> Traces:
        return emulator.run(program, inputs[:, None], {name: [(0, length)]}, length)[name]

    found = {
        "delta": run(entry, x, "delta", steps),
        "conv": run(second, np.moveaxis(sent[:1], -1, 1), "conv", 1),
        "sum": run(third, (hidden != 0).astype(float), "sum", len(sums)),
    }
    wanted = {"delta": sent, "conv": np.moveaxis(hidden[:1], -1, 1), "sum": sums}
    return Replay(
        "TinyNet-SDNN, blocks",
        "reference output",
        "each block with the recorded messages of the one before",
        tuple(compare(name, found, {"s": values}) for name, values in wanted.items()),
        ("the convolution after step 0: lava-dl's test runs it for one step",),
    )


def _together(program: Program) -> Program:
    """Return the network as it starts without resets: every layer in step 0, messages in units of
    the chip.
    """
    layers = tuple(replace(layer, depth=0, scale=_unit(layer.neuron)) for layer in program.layers)
    return replace(program, timesteps=None, layers=layers)


def _unit(neuron: Neuron) -> float:
    """Return the scale at which records are in units of the chip."""
    return 2.0**neuron.message.shift if neuron.spiking else 1.0


def _block(
    name: str,
    shape: Shape,
    synapse: Synapse | None,
    message: Message,
    *,
    bias: NDArray[np.int32] | None = None,
    exponent: int = SPIKE_EXP + STATE_EXP,
    spiking: bool = True,
) -> Program:
    """Return a program of one block, whose input enters directly or as messages."""
    number = np.asarray(0, np.int32)
    neuron = Neuron(
        du=np.asarray(LARGEST_DECAY if synapse is None else -1, np.int32),
        dv=np.asarray(LARGEST_DECAY, np.int32),
        v_threshold=number + BLOCK_THRESHOLD,
        bias=number if bias is None else bias,
        bias_exp=exponent,
        spiking=spiking,
        firing=Firing("inclusive"),
        message=message,
    )
    port = InputPort("input", shape, "current", 1.0, LARGEST_MESSAGE)
    if synapse is not None:
        port = InputPort("input", synapse.in_shape, "graded", 1.0, LARGEST_MESSAGE)
    layer = Layer(name, shape, neuron, (Connection("input", synapse),), 0, _unit(neuron))
    return Program("integer", 1e-3, None, (port,), (layer,), (name,))
