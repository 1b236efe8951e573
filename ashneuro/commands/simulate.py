"""``ashneuro simulate``: arrays in, spikes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.lava_options import LavaOptions
from ashneuro.commands.targets import ContractOptions, input_names, kind_of, load_bundle, load_graph, load_inputs
from ashneuro.config import cache_dir
from ashneuro.errors import ConfigError, DataError, LavaError
from ashneuro.reporting import terminal
from ashneuro.spiking.contract import read_contract

if TYPE_CHECKING:
    from ashneuro.program.bundle import Bundle
    from ashneuro.program.program import Precision, Program
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.simulation.run import Graph


def simulate(
    path: Path,
    /,
    *,
    on: Annotated[
        Literal["torch", "loihi", "lava"], Parameter(help="float64 reference, bit-exact integers, or Lava itself.")
    ] = "torch",
    precision: Annotated[
        Literal["float", "integer", "fixed"] | None,
        Parameter(help="Default: float on torch, integer on loihi and lava. fixed: an older word for integer."),
    ] = None,
    inputs: Annotated[
        Path | None,
        Parameter(help="(T, B, *shape) as .npy, or a .npz with one array per input. Default: the bundle's reference."),
    ] = None,
    save: Annotated[Path | None, Parameter(help="Write every node's spikes (T, B, *shape) to this .npz.")] = None,
    trace: Annotated[
        tuple[str, ...],
        Parameter(help="LAYER:NEURON, flat index: its u and v in the emulator and in Lava, as a picture.", negative=()),
    ] = (),
    trace_sample: Annotated[int, Parameter(help="Which sample is traced, from 0.")] = 0,
    figure: Annotated[Path, Parameter(help="Where the picture goes: .svg, .png or .pdf.")] = Path("traces.svg"),
    device: Annotated[str, Parameter(help="Where torch and the emulator run: cpu, cuda.")] = "cpu",
    lava: LavaOptions | None = None,
    contract: ContractOptions | None = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False,
) -> None:
    """What does it spike: float, bit-exact integer, or Lava itself.

    Args:
        path: a bundle, a run that was exported, a .nir file, or a lava-dl .net file.
    """
    from ashneuro.simulation.run import save_record
    from ashneuro.simulation.run import simulate as run

    if trace and save:
        raise ConfigError(
            "--trace with --save",
            "a trace keeps single neurons, and --save writes every spike",
            "run simulate once for each",
        )
    target, given = with_inputs(path, inputs, contract or ContractOptions())
    options = lava or LavaOptions()
    computed: Precision | None = "integer" if precision == "fixed" else precision
    if trace:
        draw_traces(
            target,
            given,
            computed or ("float" if on == "torch" else "integer"),
            trace,
            trace_sample,
            figure,
            options,
            json,
        )
        return
    with terminal.counting(f"simulating on {on}") as tick:
        record = run(
            target,
            given,
            on=on,
            precision=computed,
            rasters="all" if save else (),
            device=device,
            worker=options.opened,
            stock=options.stock_samples(),
            resume=cache_dir() / "finished-chunks",
            progress=tick,
        )
    if save:
        save_record(record, save)
    if json:
        terminal.json(summary(record))
    else:
        terminal.spikes(record)
        if save:
            terminal.wrote(save)


def draw_traces(
    target: Bundle | Program | Graph,
    inputs: Mapping[str, Any],
    precision: Precision,
    texts: Sequence[str],
    sample: int,
    file: Path,
    options: LavaOptions,
    json: bool,
) -> None:
    """Draw u and v of neurons from the emulator and, where it is installed, from Lava; say where they differ."""
    from ashneuro.reporting import figures
    from ashneuro.simulation.run import program_of
    from ashneuro.simulation.traces import parse_neurons, trace_neurons

    program = program_of(target, inputs, precision)
    neurons, missing = parse_neurons(program, texts), ""
    try:
        worker = options.opened()
    except LavaError as error:
        worker, missing = None, f"{error.what}: {error.do}"
    with terminal.status("tracing"), worker or nullcontext() as lava:
        traces = trace_neurons(program, inputs, neurons, sample=sample, lava=lava)
    figures.svg.save(figures.traces.traces(traces), file, f"u and v of {', '.join(texts)}")
    word = "float" if precision == "float" else "fixed"
    if json:
        states = {
            f"{one.layer}:{one.neuron}": {name: vars(found) for name, found in one.states.items()} for one in traces
        }
        terminal.json({"precision": word, "sample": sample, "traces": states, "lava": missing or "run", "figure": file})
        return
    rows = [
        (
            f"{one.layer}:{one.neuron}",
            int(found.spikes.sum()),
            " and ".join(one.states),
            one.differing if len(one.states) > 1 else "–",
        )
        for one in traces
        for found in [next(iter(one.states.values()))]
    ]
    terminal.table(
        f"traces of sample {sample}, {word}", ("neuron", ">spikes", "computed by", ">steps that differ"), rows
    )
    if missing:
        terminal.line(f"Lava was not run: {missing}")
    terminal.wrote(file)


def with_inputs(
    path: Path, inputs: Path | None, options: ContractOptions
) -> tuple[Bundle | Program | Graph, Mapping[str, Any]]:
    """Return what there is to simulate at ``path``, and its inputs: from a file, or the bundle's own reference.

    Raises:
        DataError: a NIR or netx file was given without inputs, or they cannot be read.
        ConfigError: the options say something else than a bundle's contract, or anything of a netx file.
    """
    from ashneuro.program.bundle import NETWORK
    from ashneuro.program.netx.read import read_netx
    from ashneuro.simulation.run import Graph

    kind = kind_of(path)
    if kind in ("nir", "netx") and inputs is None:
        raise DataError(
            f"{path} has no inputs of its own",
            "the file is a network without samples",
            "--inputs x.npy, (T, B, *shape)",
        )
    if kind == "nir":
        graph, read = load_graph(path, options)
        return Graph(graph, read.contract), load_inputs(inputs, input_names(graph)) if inputs else {}
    if kind == "netx":
        options.require_none(path)
        program = read_netx(path)
        return program, load_inputs(
            inputs, [port.name for port in program.inputs if not port.constant]
        ) if inputs else {}
    bundle = load_bundle(path)
    said = bundle.contract
    if said is None:  # the bundle of a netx file
        options.require_none(path)
    elif read_contract(said.to_metadata(), **options.overrides()).contract != said:
        why = "its programs were lowered, and its samples recorded, with the contract that it carries"
        remedy = f"ashneuro simulate {bundle.folder / NETWORK} --inputs x.npy{options.words()}, or export it with them"
        raise ConfigError(f"{path} with{options.words()}", why, remedy)
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
        "inputs": {
            name: {"lines": activity.neurons, "events": activity.events} for name, activity in record.inputs.items()
        },
    }
