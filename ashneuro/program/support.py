"""Support of NIR primitives, measured by lowering and quantising an example of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from ashneuro.program.check import check
from ashneuro.program.primitives import PRIMITIVES
from ashneuro.program.wiring import wire
from ashneuro.spiking.contract import Contract


@dataclass(frozen=True)
class Support:
    """Support of one NIR primitive: per stage "" if it works, or the sentence why not."""

    primitive: str
    read: str
    float_program: str
    integer_program: str

    @property
    def lava(self) -> str:
        """ "" if Lava runs it in both arithmetics, or the sentence why not."""
        if self.float_program or not self.integer_program:
            return self.float_program
        return f"floating point only: {self.integer_program}"


def support_table() -> list[Support]:
    """Return a row for every primitive of NIR 1.0.8."""
    rows = []
    # NIR lists its primitives in a private name only.
    for name in sorted(nir.ir.__dict__["__all_ir"]):
        if name not in PRIMITIVES:
            rows.append(Support(name, "it is not read", "it is not read", "it is not read"))
            continue
        wiring = wire(_specimen(name))
        stages = [
            next((finding.sentence for finding in check(wiring, Contract(timesteps=4), target) if not finding.ok), "")
            for target in ("nir", "lava")
        ]
        rows.append(Support(name, "", *stages))
    return rows


def _specimen(name: str) -> nir.NIRGraph:
    """Return a small graph that contains the primitive ``name``."""
    ones, image = np.ones(4), (1, 4, 4)
    neuron = {"r": ones, "v_leak": 0 * ones}
    spiking = neuron | {"v_threshold": ones, "v_reset": 0 * ones}
    slow = 1e-2 * ones
    two, none = np.array([2, 2]), np.array([0, 0])
    lif = nir.LIF(tau=slow, **spiking)

    def pooled(shape: tuple[int, ...]) -> nir.LIF:
        return nir.LIF(**{key: np.broadcast_to(value[0], shape) for key, value in (spiking | {"tau": slow}).items()})

    inner = nir.NIRGraph(
        {"in": nir.Input(ones.shape), "lif": lif, "out": nir.Output(ones.shape)}, [("in", "lif"), ("lif", "out")]
    )
    specimens: Mapping[str, tuple[tuple[int, ...], list[Any]]] = {
        "Affine": ((4,), [nir.Affine(np.eye(4), ones), lif]),
        "AvgPool2d": (image, [nir.AvgPool2d(two, two, none), pooled((1, 2, 2))]),
        "Conv1d": ((1, 4), [nir.Conv1d(4, np.ones((1, 1, 3)), 1, 1, 1, 1, np.ones(1)), pooled((1, 4))]),
        "Conv2d": (image, [nir.Conv2d((4, 4), np.ones((1, 1, 3, 3)), 1, 1, 1, 1, np.ones(1)), pooled(image)]),
        "CubaLI": ((4,), [nir.Linear(np.eye(4)), nir.CubaLI(tau_syn=slow, tau_mem=slow, **neuron)]),
        "CubaLIF": ((4,), [nir.Linear(np.eye(4)), nir.CubaLIF(tau_syn=slow, tau_mem=slow, **spiking)]),
        "Delay": ((4,), [lif, nir.Delay(1e-3 * ones), nir.Linear(np.eye(4)), lif]),
        "Flatten": (
            image,
            [pooled(image), nir.Flatten({"input": np.array(image)}, 0, -1), nir.Linear(np.ones((4, 16))), lif],
        ),
        "I": ((4,), [nir.Linear(np.eye(4)), nir.I(ones)]),
        "IF": ((4,), [nir.Linear(np.eye(4)), nir.IF(ones, ones, 0 * ones)]),
        "Input": ((4,), [lif]),
        "LI": ((4,), [nir.Linear(np.eye(4)), nir.LI(slow, ones, 0 * ones)]),
        "LIF": ((4,), [lif]),
        "Linear": ((4,), [nir.Linear(np.eye(4)), lif]),
        "NIRGraph": ((4,), [inner]),
        "Output": ((4,), [lif]),
        "Scale": ((4,), [nir.Scale(2 * ones), lif]),
        "SumPool2d": (image, [nir.SumPool2d(two, two, none), pooled((1, 2, 2))]),
        "Threshold": ((4,), [nir.Linear(np.eye(4)), nir.Threshold(0.5 * ones)]),
    }
    shape, nodes = specimens[name]
    names = ["input", *(f"node{i}" for i in range(len(nodes))), "output"]
    made = dict(zip(names, [nir.Input(np.array(shape)), *nodes, nir.Output(None)], strict=True))
    return nir.NIRGraph(made, [(names[i], names[i + 1]) for i in range(len(names) - 1)], type_check=False)
