"""One entry to all simulators: a bundle, a program or a NIR graph, and inputs, become a `SpikeRecord`."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import nir
import numpy as np

from ashneuro.errors import ConfigError, DataError
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
    """A NIR graph, wired or not, and its contract."""

    graph: nir.NIRGraph | Wiring
    contract: Contract

    @cached_property
    def program(self) -> Program:
        """The float program, lowered once."""
        return lower(self.graph, self.contract)


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
    """Return what ``target`` spikes.

    Args:
        target: a bundle (its own graph and programs), a program, or a graph, which is lowered, and for integers
            calibrated on these inputs.
        inputs: (T, B, *shape) of the only input, or arrays by the inputs' names.
        on: ``"torch"``: float64, a graph as it stands; ``"loihi"``: bit-exact integers; ``"lava"``: Lava itself.
        precision: ``"float"`` or ``"integer"``; by default what ``on`` computes, and for Lava integers.
        rasters: layers whose spikes the record keeps step by step: names, the ``"outputs"``, or ``"all"``.
        device, backend: where torch and the emulator run, see `ashneuro.simulation.emulator.arrays.arrays`.
        worker: makes the Lava that runs; `ashneuro.simulation.lava.session.Lava` says with which settings.
        stock, resume: of Lava, see `ashneuro.simulation.lava.session.Lava.run`.
        progress: called with (samples done, samples in all).

    Raises:
        ConfigError: this simulator does not compute in this precision.
        DataError: the inputs do not fit, or a layer of ``rasters`` does not exist.
        GraphError: the graph cannot be computed, lowered or expressed in integers.
        LavaError: Lava is not there, or failed.
    """
    precision = _precision(on, precision)
    if on == "torch" and isinstance(target, Bundle | Graph):
        graph = target.graph if isinstance(target, Graph) else target.wiring
        if graph is not None and target.contract is not None:
            wiring = wire(graph)
            kept = _kept(rasters, *graph_layers(wiring))
            return run_graph(
                wiring, target.contract, inputs, rasters=kept, backend=backend, device=device, progress=progress
            )
    program = program_of(target, inputs, precision)
    kept = _kept(rasters, [layer.name for layer in program.layers], program.outputs)
    if on == "lava":
        with worker() as lava:
            return lava.run(program, inputs, rasters=kept, stock=stock, resume=resume, progress=progress)
    return run_program(program, inputs, rasters=kept, backend=backend, device=device, progress=progress)


def save_record(record: SpikeRecord, path: str | Path) -> None:
    """Write the rasters of ``record`` to an ``.npz``: per spiking node uint8 (T, B, *shape), per read-out float64.

    Raises:
        DataError: the record has no raster, or the file cannot be written.
    """
    rasters = {name: activity.raster for name, activity in record.layers.items() if activity.raster is not None}
    if not rasters:
        raise DataError(
            f"nothing to write to {path}", "this record counts spikes but keeps none", "simulate with rasters='all'"
        )
    try:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, raster in rasters.items():  # not numpy.savez: a node may have any name, "file" too
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(raster), allow_pickle=False)
    except OSError as error:
        raise DataError(
            f"cannot write {path}", error.strerror or str(error), "--save PATH in a folder that exists"
        ) from error


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
    """Return the program that ``target`` is in this precision; a graph is lowered, and for integers calibrated on ``inputs``.

    Raises:
        ConfigError: a program of the other precision was given.
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
