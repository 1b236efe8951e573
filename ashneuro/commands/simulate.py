"""``ashneuro simulate``: arrays in, spikes out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.targets import ContractOptions, input_names, kind_of, load_bundle, load_graph, load_inputs
from ashneuro.errors import DataError
from ashneuro.report import terminal

if TYPE_CHECKING:
    from ashneuro.program.bundle import Bundle
    from ashneuro.program.program import Program
    from ashneuro.simulate.record import SpikeRecord
    from ashneuro.simulate.run import Graph


def simulate(
    path: Path,
    /,
    *,
    on: Annotated[Literal["torch", "loihi", "lava"], Parameter(help="float64 reference, bit-exact integers, or Lava itself.")] = "torch",
    precision: Annotated[Literal["float", "fixed"] | None, Parameter(help="Default: float on torch, fixed on loihi and lava.")] = None,
    inputs: Annotated[
        Path | None, Parameter(help="(T, B, *shape) as .npy, or a .npz with one array per input. Default: the bundle's reference.")
    ] = None,
    save: Annotated[Path | None, Parameter(help="Write every node's spikes (T, B, *shape) to this .npz.")] = None,
    device: Annotated[str, Parameter(help="Where torch and the emulator run: cpu, cuda.")] = "cpu",
    contract: ContractOptions | None = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False,
) -> None:
    """What does it spike: float, bit-exact integer, or Lava itself.

    Args:
        path: a bundle, a run that was exported, a .nir file, or a lava-dl .net file.
    """
    from ashneuro.simulate.run import save_record
    from ashneuro.simulate.run import simulate as run

    target, given = with_inputs(path, inputs, contract or ContractOptions())
    with terminal.counting(f"simulating on {on}") as tick:
        record = run(target, given, on=on, precision=precision, rasters="all" if save else (), device=device, progress=tick)
    if save:
        save_record(record, save)
    if json:
        terminal.json(summary(record))
    else:
        terminal.spikes(record)
        if save:
            terminal.wrote(save)


def with_inputs(path: Path, inputs: Path | None, options: ContractOptions) -> tuple[Bundle | Program | Graph, Mapping[str, Any]]:
    """Return what there is to simulate at ``path``, and its inputs: from a file, or the bundle's own reference.

    Raises:
        DataError: a NIR or netx file was given without inputs, or they cannot be read.
    """
    from ashneuro.program.netx import read_netx
    from ashneuro.simulate.run import Graph

    kind = kind_of(path)
    if kind in ("nir", "netx") and inputs is None:
        raise DataError(f"{path} has no inputs of its own", "the file is a network without samples", "--inputs x.npy, (T, B, *shape)")
    if kind == "nir":
        graph, read = load_graph(path, options)
        return Graph(graph, read.contract), load_inputs(inputs, input_names(graph)) if inputs else {}
    if kind == "netx":
        program = read_netx(path)
        return program, load_inputs(inputs, [port.name for port in program.inputs if not port.constant]) if inputs else {}
    bundle = load_bundle(path)
    return bundle, load_inputs(inputs, list(bundle.reference.inputs)) if inputs else bundle.reference.inputs


def summary(record: SpikeRecord) -> dict[str, object]:
    """Return the counts of a record as plain values."""
    return {
        "source": record.source,
        "precision": record.precision,
        "timesteps": record.timesteps,
        "samples": record.samples,
        "layers": {
            name: {
                "neurons": activity.neurons,
                "spikes": activity.events if activity.binary else None,
                "firing_rate": record.firing_rate(name) if activity.binary else None,
                "active_updates": activity.active_updates,
            }
            for name, activity in record.layers.items()
        },
        "inputs": {name: {"lines": activity.neurons, "events": activity.events} for name, activity in record.inputs.items()},
    }
