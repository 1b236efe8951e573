"""``ashneuro bench lava``: what a sample costs in Lava."""

from __future__ import annotations

import json as _json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ashneuro.commands.options import LavaWorkers
from ashneuro.errors import DataError
from ashneuro.reporting import terminal


def lava(
    *,
    bundle: Annotated[
        Path | None, Parameter(help="A bundle, or a run that was exported: its network, on its own samples.")
    ] = None,
    samples: Annotated[int, Parameter(help="Samples side by side.")] = 256,
    rounds: Annotated[int, Parameter(help="How often each way runs, in turn.")] = 3,
    options: LavaWorkers | None = None,
    json: Annotated[Path | None, Parameter(help="Write all figures to this file.")] = None,
) -> int:
    """What a sample costs in Lava: a network built for each, streamed, and side by side. Exit code 1 when their spikes differ."""
    from ashneuro.bench.emulator import bundle_network, dense_network
    from ashneuro.bench.lava import bench_lava
    from ashneuro.workflows.networks import open_bundle

    network = bundle_network(open_bundle(bundle), samples) if bundle else dense_network(samples)
    with terminal.counting("timing") as tick:
        result = bench_lava(network, rounds=rounds, lava=(options or LavaWorkers()).settings().open, progress=tick)
    rows = []
    for way in result.ways:
        gain = f"{way.gain.median:.3g} ({way.gain.low:.3g}–{way.gain.high:.3g})"
        rows.append(
            (way.name, way.samples, *(f"{1e3 * seconds:.3g}" for seconds in vars(way.per_sample_s).values()), gain)
        )
    columns = ("samples run", ">in a round", ">ms per sample", ">least", ">most", ">times less than a network each")
    where = f"{result.machine.cpu}, {result.machine.cores} cores, load {', '.join(f'{one:.1f}' for one in result.machine.load)}"
    same = (
        "all ways counted the same spikes" if not result.mismatches else f"{result.mismatches} neurons' counts differ"
    )
    terminal.table(
        f"{result.title}, {result.timesteps} steps, {result.rounds} rounds", columns, rows, f"{where}; {same}."
    )
    if json:
        try:
            json.write_text(
                _json.dumps(terminal.plain(result.to_json()), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise DataError(
                f"cannot write {json}", error.strerror or str(error), "--json FILE in a folder that exists"
            ) from error
        terminal.wrote(json)
    return 1 if result.mismatches else 0
