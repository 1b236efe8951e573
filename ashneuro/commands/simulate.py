"""``ashneuro simulate``: arrays in, spikes out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.options import AsJson, ContractOptions, LavaOptions, PrecisionWord, Whole, precision_of
from ashneuro.cost.profile import DEFAULT_NODE
from ashneuro.errors import ConfigError
from ashneuro.exchange import Shard
from ashneuro.reporting import tables, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ashneuro.exchange import StreamCoding
    from ashneuro.program.program import Precision
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.simulation.traces import NeuronTrace
    from ashneuro.workflows.networks import Overrides


def simulate(
    path: Path,
    /,
    *,
    on: Annotated[
        Literal["torch", "loihi", "lava"], Parameter(help="float64 reference, bit-exact integers, or Lava itself.")
    ] = "torch",
    precision: Annotated[
        PrecisionWord | None,
        Parameter(help="Default: float on torch, integer on loihi and lava; fixed is an older name of integer."),
    ] = None,
    inputs: Annotated[
        Path | None,
        Parameter(help="(T, B, *shape) as .npy, or a .npz with one array per input. Default: the bundle's reference."),
    ] = None,
    save: Annotated[Path | None, Parameter(help="Write every node's spikes (T, B, *shape) to this .npz.")] = None,
    trace: Annotated[
        tuple[str, ...],
        Parameter(help="LAYER:NEURON (flat index): draw its u and v in the emulator and in Lava.", negative=()),
    ] = (),
    trace_sample: Annotated[Whole, Parameter(help="Index of the traced sample, from 0.")] = 0,
    figure: Annotated[Path, Parameter(help="File of the picture: .svg, .png or .pdf.")] = Path("traces.svg"),
    stream: Annotated[
        bool,
        Parameter(
            help="Take the steps as frames: work and energy per frame coded by changes, computed afresh, and of ANNs.",
            negative=(),
        ),
    ] = False,
    device: Annotated[str, Parameter(help="Device of torch and the emulator: cpu, cuda.")] = "cpu",
    shard: Annotated[
        str | None, Parameter(help="i/n: simulate only this part of the samples, as task i of a job array of n.")
    ] = None,
    counts: Annotated[Path | None, Parameter(help="Write the counts to this .npz.")] = None,
    merge: Annotated[
        tuple[Path, ...],
        Parameter(help="--counts files of all shards: add them up.", negative=(), consume_multiple=True),
    ] = (),
    lava: LavaOptions | None = None,
    contract: ContractOptions | None = None,
    json: AsJson = False,
) -> None:
    """Simulate a network: float64, bit-exact integers, or Lava itself.

    --shard i/n with --counts simulates a part of the samples; --merge adds the counts of all parts.

    Args:
        path: a bundle, a run that was exported, a .nir file, or a lava-dl .net file.
    """
    from ashneuro.simulation.record import save_counts, save_rasters
    from ashneuro.workflows import simulate as workflow

    if trace and save:
        raise ConfigError(
            "--trace with --save",
            "a trace keeps single neurons, and --save writes every spike",
            "run simulate once for each",
        )
    if trace and counts:
        raise ConfigError("--trace with --counts", "a trace keeps single neurons", "run simulate once for each")
    if shard and (trace or stream):
        raise ConfigError(
            f"--shard with {'--trace' if trace else '--stream'}", "it needs all samples", "leave --shard out"
        )
    if merge:
        _merge(path, merge, counts, json)
        return
    part = Shard.parse(shard) if shard else None
    if trace and stream:
        raise ConfigError("--trace with --stream", "a trace keeps single neurons", "run simulate once for each")
    options, overrides = (lava or LavaOptions()).settings(), contract.overrides() if contract else {}
    chosen = precision_of(precision) if precision else None
    with terminal.progress() as progress:
        if trace:
            kept = chosen or ("float" if on == "torch" else "integer")
            traces, missing = workflow.trace(
                path,
                trace,
                inputs,
                precision=kept,
                sample=trace_sample,
                lava=options,
                contract=overrides,
                progress=progress,
            )
        else:
            record = workflow.simulate(
                path,
                inputs,
                on=on,
                precision=chosen,
                rasters="all" if save or stream else (),
                device=device,
                shard=part,
                lava=options,
                contract=overrides,
                progress=progress,
            )
    if trace:
        _show_traces(traces, missing, kept, trace_sample, figure, json)
        return
    if save:
        save_rasters(record, save)
    if counts:
        save_counts(record, counts, part)
    work = _per_frame(path, record, inputs, overrides) if stream else ()
    if json:
        terminal.json(record.to_json() | ({"stream": [asdict(one) for one in work]} if stream else {}))
        return
    terminal.spikes(record)
    if stream:
        terminal.show(tables.streams.codings(work, DEFAULT_NODE))
    terminal.wrote(*(file for file in (save, counts) if file))


def _merge(path: Path, files: Sequence[Path], counts: Path | None, json: bool) -> None:
    """Print the sum of the counts of all shards of a network, and write it to ``counts``."""
    from ashneuro.simulation.record import merge_counts, save_counts
    from ashneuro.workflows.networks import kind_of

    kind_of(path)  # the network of the shards, which must be there
    record = merge_counts(files)
    if counts:
        save_counts(record, counts)
    if json:
        terminal.json(record.to_json())
        return
    terminal.spikes(record)
    terminal.wrote(*([counts] if counts else []))


def _per_frame(path: Path, record: SpikeRecord, inputs: Path | None, overrides: Overrides) -> tuple[StreamCoding, ...]:
    """Return the work per frame of a simulation whose steps are frames."""
    from ashneuro.simulation.run import program_of
    from ashneuro.workflows.simulate import with_inputs
    from ashneuro.workflows.streams import code_stream

    target, given = with_inputs(path, inputs, overrides)
    return code_stream(program_of(target, given, record.precision), given, record)


def _show_traces(
    traces: Sequence[NeuronTrace], missing: str, precision: Precision, sample: int, figure: Path, json: bool
) -> None:
    """Draw u and v of neurons, and print what is assumed and where the simulators differ."""
    from ashneuro.program.assumption import to_json
    from ashneuro.reporting.figures import svg
    from ashneuro.reporting.figures.traces import traces as draw

    names = ", ".join(f"{one.layer}:{one.neuron}" for one in traces)
    svg.save(draw(traces), figure, f"u and v of {names}")
    if json:
        states = {
            f"{one.layer}:{one.neuron}": {name: vars(found) for name, found in one.states.items()} for one in traces
        }
        terminal.json(
            {
                "precision": precision,
                "sample": sample,
                "assumptions": to_json(traces[0].assumptions),
                "traces": states,
                "lava": missing or "run",
                "figure": figure,
            }
        )
        return
    terminal.assumptions(traces[0].assumptions)
    rows = [
        (
            f"{one.layer}:{one.neuron}",
            int(next(iter(one.states.values())).spikes.sum()),
            " and ".join(one.states),
            one.differing if len(one.states) > 1 else "–",
        )
        for one in traces
    ]
    terminal.table(
        f"traces of sample {sample}, {precision}",
        ("neuron", ">spikes", "computed by", ">steps that differ"),
        rows,
    )
    if missing:
        terminal.line(f"Lava was not run: {missing}")
    terminal.wrote(figure)
