"""``ashneuro simulate``: arrays in, spikes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.targets import ContractOptions, kind_of, load_bundle, load_graph, load_inputs
from ashneuro.report import terminal

if TYPE_CHECKING:
    from ashneuro.simulate.record import SpikeRecord


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
        path: a bundle, a run that was exported, or a .nir file.
    """
    from ashneuro.errors import DataError
    from ashneuro.program.bundle import Bundle
    from ashneuro.simulate.run import Graph, save_record
    from ashneuro.simulate.run import simulate as run

    target: Bundle | Graph
    if kind_of(path) == "nir":
        if inputs is None:
            raise DataError(f"{path} has no inputs of its own", "a NIR file is a network without samples", "--inputs x.npy, (T, B, *shape)")
        graph, read = load_graph(path, contract or ContractOptions())
        target = Graph(graph, read.contract)
    else:
        target = load_bundle(path)
    given = load_inputs(inputs, target.graph) if inputs else target.reference.inputs  # type: ignore[union-attr]
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
