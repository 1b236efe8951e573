"""Entry to all simulators: a bundle, a program or a NIR graph with inputs gives a `SpikeRecord`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import nir

from ashneuro.errors import ConfigError, DataError
from ashneuro.program.assumption import Assumptions
from ashneuro.program.bundle import Bundle
from ashneuro.program.lower import lower
from ashneuro.program.program import Precision, Program
from ashneuro.program.wiring import Wiring, wire
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.arrays import Backend
from ashneuro.simulation.emulator.run_graph import graph_layers, run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Inputs, Progress
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.stock import RUN_STOCK
from ashneuro.simulation.record import SpikeRecord, Where
from ashneuro.spiking.contract import Contract

Keep = Collection[str] | Literal["outputs", "all"]


@dataclass(frozen=True, eq=False)
class Graph:
    """A NIR graph, wired or not, its contract, and which fields of that were assumed."""

    graph: nir.NIRGraph | Wiring
    contract: Contract
    assumptions: Assumptions = ()

    @cached_property
    def program(self) -> Program:
        """The float program, lowered once."""
        return replace(lower(self.graph, self.contract), assumptions=self.assumptions)


def simulate(
    target: Bundle | Program | Graph,
    inputs: Inputs,
    *,
    on: Where,
    precision: Precision | None = None,
    rasters: Keep = (),
    device: str = "cpu",
    backend: Backend = "auto",
    worker: Callable[[], Lava] = Lava,
    stock: int | None = RUN_STOCK,
    resume: Path | None = None,
    progress: Progress | None = None,
) -> SpikeRecord:
    """Return the spikes of ``target``.

    Args:
        target: a bundle with its graph and programs, a program, or a graph, which is lowered and,
            for integers, calibrated on ``inputs``.
        inputs: (T, B, *shape) of the only input, or arrays by input name.
        on: ``"torch"``: float64, graphs as they stand; ``"loihi"``: bit-exact integers;
            ``"lava"``: Lava.
        precision: default: integer if the simulator computes integers, else float.
        rasters: layers whose raster the record keeps: names, the ``"outputs"``, or ``"all"``.
        device, backend: of torch and the emulator, see `ashneuro.simulation.emulator.arrays`.
        worker: opens Lava, with the settings of `ashneuro.simulation.lava.session.Lava`.
        stock, resume: of Lava, see `Lava.run`.
        progress: called with (samples done, samples in all).

    Raises:
        ConfigError: the simulator does not compute in this precision.
        DataError: the inputs do not fit, or a layer of ``rasters`` does not exist.
        GraphError: the graph cannot be computed, lowered or expressed in integers.
        LavaError: Lava is not installed, or failed.
    """
    precision = _precision(on, precision)
    # In float64 a graph runs as it stands; its float program is what is compared with it.
    if on == "torch" and isinstance(target, Bundle | Graph):
        graph = target.graph if isinstance(target, Graph) else target.wiring
        if graph is not None and target.contract is not None:
            wiring = wire(graph)
            kept = _kept(rasters, *graph_layers(wiring))
            record = run_graph(
                wiring, target.contract, inputs, rasters=kept, backend=backend, device=device, progress=progress
            )
            return replace(record, assumptions=target.assumptions)
    program = program_of(target, inputs, precision)
    kept = _kept(rasters, [layer.name for layer in program.layers], program.outputs)
    if on == "lava":
        with worker() as lava:
            record = lava.run(program, inputs, rasters=kept, stock=stock, resume=resume, progress=progress)
    else:
        record = run_program(program, inputs, rasters=kept, backend=backend, device=device, progress=progress)
    return replace(record, assumptions=program.assumptions)


def _precision(on: Where, precision: Precision | None) -> Precision:
    computes: dict[Where, tuple[Precision, ...]] = {
        "torch": ("float",),
        "loihi": ("integer",),
        "lava": ("integer", "float"),
    }
    if on not in computes:
        raise ConfigError(f"--on {on}", f"simulators are {', '.join(computes)}", "--on loihi")
    if precision is None:
        return computes[on][0]
    if precision not in computes[on]:
        other = {"integer": "--on loihi, or --on lava", "float": "--on torch, or --on lava"}
        reason = {
            "torch": "torch computes the graph in float64",
            "loihi": "the emulator computes in Loihi's integers",
            "lava": "",
        }
        remedy = other.get(precision, "--precision float, or --precision integer")
        raise ConfigError(f"--on {on} --precision {precision}", reason[on] or "Lava computes float or integer", remedy)
    return precision


def program_of(target: Bundle | Program | Graph, inputs: Inputs, precision: Precision) -> Program:
    """Return the program of ``target``. A graph is lowered and, for integers, calibrated.

    Raises:
        ConfigError: ``target`` is a program of the other precision.
        GraphError: the graph cannot be lowered, or expressed in integers.
    """
    if isinstance(target, Bundle):
        return target.program(precision)
    if isinstance(target, Graph):
        return target.program if precision == "float" else calibrate(target.program, inputs).program
    if target.precision != precision:
        remedy = "calibrate it first" if precision == "integer" else "give the float program"
        raise ConfigError(f"--precision {precision}", f"this is {_article(target.precision)} program", remedy)
    return target


def _article(precision: str) -> str:
    return f"an {precision}" if precision == "integer" else f"a {precision}"


def _kept(rasters: Keep, names: Collection[str], outputs: Collection[str]) -> Collection[str]:
    if rasters == "all":
        return names
    if rasters == "outputs":
        return outputs
    unknown = [name for name in rasters if name not in names]
    if unknown:
        raise DataError(
            f"no layer is called {', '.join(unknown)}", f"the layers are {', '.join(names)}", "name some of them"
        )
    return rasters
