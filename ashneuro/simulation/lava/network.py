"""A program as a Lava network: its description, and samples as the machine steps of its sources.

Samples stream back to back through one running network. Every Lava synapse delivers one step late,
so a layer at depth d computes step t of round r in machine step r·T + t + d. Lava's ``LIFReset``
clears each layer there (interval T, offset d + 1), and its answers are read d steps later. A round
is one sample, or ``width`` of them side by side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.lava_worker.frames import Arrays
from ashneuro.program.program import Program
from ashneuro.simulation.lava.describe import Description, describe
from ashneuro.simulation.lava.layout import is_lagged

# Machine steps: enough to hide the cost of a request (1–3 ms), few enough for progress and limits.
REQUEST_STEPS = 32
FEWEST_REQUEST_STEPS = 4
REQUEST_BYTES = 1 << 26  # of a request in either direction


@dataclass(frozen=True, eq=False)
class LavaNetwork:
    """A program with the layout of its samples.

    Args:
        timesteps: steps per sample.
        width: number of samples side by side.
        batched: one synapse serves all of them; otherwise each has a copy of the network, made of
            Lava's own processes.
        traces: neurons whose u and v are recorded, by layer.
    """

    program: Program
    timesteps: int
    width: int = 1
    batched: bool = False
    traces: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @cached_property
    def description(self) -> Description:
        """The network as the worker builds it."""
        return describe(
            self.program,
            self.timesteps,
            width=self.width,
            batched=self.batched,
            request_steps=self.request_steps,
            traces=self.traces,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides the answers: the description, and the host's units around it."""
        program = self.program
        host = {
            "inputs": [
                (port.name, port.shape, port.coding, port.scale, port.limit, port.constant) for port in program.inputs
            ],
            "layers": [(layer.shape, layer.scale) for layer in program.layers],
        }
        digest = hashlib.sha256(json.dumps([self.description.header, host], sort_keys=True).encode())
        units = {
            f"host.{index}.{name}": np.asarray(getattr(layer.neuron, name), np.float64)
            for index, layer in enumerate(program.layers)
            for name in ("v_unit", "v_origin")
        }
        for name, array in sorted({**self.description.arrays, **units}.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def request_steps(self) -> int:
        """Largest number of machine steps per request."""
        if not self.batched:
            return REQUEST_STEPS
        sent = sum(8 * int(np.prod(port.shape)) for port in self.program.inputs)
        step_bytes = self.width * (sent + sum(layer.size for layer in self.program.layers))
        return max(FEWEST_REQUEST_STEPS, min(REQUEST_STEPS, REQUEST_BYTES // step_bytes))

    def for_chunk(self, timesteps: int, samples: int) -> LavaNetwork:
        """Return the network for a chunk: this one, unless T differs or each sample has a copy."""
        network = self if timesteps == self.timesteps else replace(self, timesteps=timesteps)
        if not network.batched and is_lagged(network.program):
            return replace(network, width=samples)
        return network

    def machine_steps(self, samples: int) -> int:
        """Return the number of machine steps until the last layer has answered all samples."""
        return self.timesteps * -(-samples // self.width) + self.program.depth

    def idle_steps(self, steps: int) -> int:
        """Return the number of steps after ``steps`` until the next reset of the first layer."""
        return -steps % self.timesteps

    def feed(self, sent: Mapping[str, NDArray[Any]], start: int, steps: int) -> Arrays:
        """Return the values (steps, size) that each source sends from machine step ``start`` on.

        Args:
            sent: encoded samples (T, B, *shape) by input port.
        """
        played: Arrays = {}
        for source in self.description.header["sources"]:
            name, size = source["name"], source["size"]
            hold = self.description.holds.get(name)
            if hold is not None:
                played[name] = np.zeros((steps, size), hold.dtype)
                played[name][: max(0, len(hold) - start)] = hold[start : start + steps]
            else:
                played[name] = self._play(sent[source["port"]], source["late"], size, range(start, start + steps))
        return played

    def _play(self, values: NDArray[Any], late: int, size: int, steps: range) -> NDArray[Any]:
        rows = np.zeros((len(steps), size // self.width, self.width), values.dtype)
        for row, step in zip(rows, steps, strict=True):
            number, t = divmod(step - late, self.timesteps)
            if number < 0:
                continue
            side = values[t, number * self.width : (number + 1) * self.width]
            if len(side):  # past the last sample, nothing is sent
                row[:, : len(side)] = side.reshape(len(side), -1).T
        return rows.reshape(len(steps), size)
