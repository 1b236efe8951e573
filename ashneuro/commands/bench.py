"""``ashneuro bench``: how fast is it here, in ratios within one run."""

from __future__ import annotations

import json as _json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ashneuro.commands.targets import load_bundle
from ashneuro.errors import DataError
from ashneuro.report import terminal

bench = App(name="bench", help="How fast is it here? Ratios within one run.")


@bench.command
def emulator(
    *,
    bundle: Annotated[Path | None, Parameter(help="A bundle, or a run that was exported: its network too, on its own samples.")] = None,
    samples: Annotated[int, Parameter(help="Samples that the emulator computes in a round.")] = 256,
    lava_samples: Annotated[int, Parameter(help="The first so many of them run in Lava.")] = 16,
    rounds: Annotated[int, Parameter(help="How often everything runs, in turn.")] = 5,
    threads: Annotated[int | None, Parameter(help="Threads at most. Default: one per core.")] = None,
    lava: Annotated[bool, Parameter(help="Run Lava too.")] = True,
    json: Annotated[Path | None, Parameter(help="Write all figures to this file.")] = None,
) -> int:
    """The bit-exact emulator against Lava's own execution of the same integer program: 256-512-256, dense, LIF, 32 steps.

    Exit code 1 when their spikes differ.
    """
    from ashneuro.bench.emulator import bench_emulator, bundle_network, dense_network

    networks = [dense_network(samples)]
    if bundle:
        networks.append(bundle_network(load_bundle(bundle), samples))
    with terminal.counting("timing") as tick:
        result = bench_emulator(networks, rounds=rounds, threads=threads, lava=lava, lava_samples=lava_samples, progress=tick)
    content = result.to_json()
    terminal.bench_emulator(content)
    if json:
        try:
            json.write_text(_json.dumps(terminal.plain(content), indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DataError(f"cannot write {json}", error.strerror or str(error), "--json FILE in a folder that exists") from error
        terminal.wrote(json)
    return 0 if result.passed else 1
