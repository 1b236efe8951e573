"""``ashneuro report``: activity and cost, against an ANN that does the same job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.options import ContractOptions, DataOptions, SkipBroken, Whole
from ashneuro.errors import ConfigError
from ashneuro.files import named
from ashneuro.reporting import tables, terminal

if TYPE_CHECKING:
    from ashneuro.reporting.summary import Report


def report(
    path: Path,
    /,
    *runs: Path,
    profile: Annotated[
        list[str] | None,
        Parameter(help="Hardware profiles, by name or .toml; repeatable. Default: loihi1, cmos45, h100.", negative=()),
    ] = None,
    baseline: Annotated[
        list[Path] | None, Parameter(help="Another run to compare with, as RUNS are; repeatable.", negative=())
    ] = None,
    inputs: Annotated[
        Path | None, Parameter(help="For a .nir or .net file: (T, B, *shape) as .npy or .npz. Default: noise.")
    ] = None,
    noise: Annotated[Whole, Parameter(help="Samples of noise, where a file has no inputs.")] = 8,
    rate: Annotated[float, Parameter(help="Share of input lines that spike in a step of noise.")] = 0.1,
    measure: Annotated[
        bool, Parameter(help="Read this machine's energy counters while the ANNs run; minutes.", negative=())
    ] = False,
    device: Annotated[str, Parameter(help="Measured device: cpu, cuda, cuda:1.")] = "cpu",
    measurements: Annotated[
        list[Path] | None, Parameter(help="Measurement files, from another machine; repeatable.", negative=())
    ] = None,
    ann: Annotated[
        Path | None, Parameter(help="Your own ANN, a .onnx file: priced beside the twins on the same node.")
    ] = None,
    ann_sample: Annotated[
        Path | None, Parameter(help="Inputs (B, *shape) of that ANN, .npy. Default: the network's, mean over time.")
    ] = None,
    second_opinion: Annotated[
        Literal["sanafe"] | None,
        Parameter(help="Another model's energy and time beside ours: sanafe (`ashneuro doctor --setup sanafe`)."),
    ] = None,
    x86_cores: Annotated[
        int | None,
        Parameter(help="x86 cores of the chips that the network uses, all together. Default: 1 to 3 per chip."),
    ] = None,
    html: Annotated[
        bool,
        Parameter(help="A page for each run named, and an index that compares and links them.", negative=()),
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="Folder of report.json and report.html. Default: the run, or NAME-report.")
    ] = None,
    contract: ContractOptions | None = None,
    where: DataOptions | None = None,
    skip_broken: SkipBroken = False,
    json: Annotated[bool, Parameter(help="Print the report as JSON instead of tables.", negative=())] = False,
) -> None:
    """Report activity and cost of a network, against an ANN that does the same job.

    Args:
        path: a run that was exported, a bundle, a .nir file, or a lava-dl .net file.
        runs: runs to show beside it: controls, other hybrids.
    """
    from dataclasses import replace

    from ashneuro.cost.measure import load_measurements
    from ashneuro.workflows import report as workflow
    from ashneuro.workflows.networks import kind_of
    from ashneuro.workflows.noise import REPORT_NOISE

    if ann_sample is not None and ann is None:
        raise ConfigError(f"--ann-sample {ann_sample} without --ann", "it is the input of that ANN", "--ann FILE.onnx")
    if x86_cores is not None and x86_cores < 1:
        raise ConfigError(f"--x86-cores {x86_cores}", "a chip is run by one of its x86 cores at least", "--x86-cores 1")
    profiles = workflow.choose_profiles(profile or workflow.DEFAULT_PROFILES)
    is_run = kind_of(path) == "run"
    beside = [*runs, *(baseline or [])]
    options: dict[str, Any] = {
        "profiles": profiles,
        "inputs": inputs,
        "noise": replace(REPORT_NOISE, samples=noise, rate=rate),
        "measurements": [item for file in measurements or [] for item in load_measurements(file)],
        "measure_on": device if measure else "",
        "ann": ann,
        "sample": ann_sample,
        "second_opinion": second_opinion,
        "contract": contract.overrides() if contract else {},
        "skip_broken": skip_broken,
        "place": (where or DataOptions()).place(),
    }
    if html:
        _write_pages([path, *beside], out, options, json)
        return
    with terminal.progress() as progress:
        result = workflow.report(path, *beside, progress=progress, **options)
    if measure and not json:
        terminal.wrote(path / workflow.MEASURED)
    files = workflow.write_report(
        result, out or (path if is_run else named(path).with_name(f"{named(path).stem}-report"))
    )
    if json:
        terminal.json(result.to_json())
        return
    _show(result)
    if is_run:
        terminal.left_out(path)
    terminal.wrote(*files)
    terminal.next_steps(f"ashneuro profiles explain {profiles[0].name}", "ashneuro profiles validate")


def _write_pages(paths: list[Path], out: Path | None, options: dict[str, Any], json: bool) -> None:
    """Write a page for each of ``paths``, and their index."""
    from ashneuro.workflows.pages import report_pages

    if len(paths) < 2:
        remedy = f"ashneuro report {paths[0]} OTHER --html"
        raise ConfigError(f"--html with {paths[0]} alone", "it links several runs", remedy)
    with terminal.progress() as progress:
        files = report_pages(paths, out or paths[0].resolve().parent / "comparison", progress=progress, **options)
    if json:
        terminal.json({"files": files})
        return
    terminal.wrote(files[0])


def _show(result: Report) -> None:
    """Print assumptions and the answer first, then the tables behind them."""
    terminal.assumptions(result.assumptions)
    if result.comparison:
        terminal.comparison(result.comparison)
        terminal.show(tables.energy.conventions(result.comparison))
    if result.evaluations:
        terminal.retrieval(result.evaluations)
    terminal.tasks(result.tasks)
    for found in result.streams:
        terminal.stream(found)
    if result.workload:
        terminal.activity(result.workload)
    if result.own_ann:
        terminal.show(tables.network.own_ann(result.own_ann))
    terminal.costs(result.estimates)
    for placed in result.placements:
        terminal.show(tables.network.placement(placed))
    if result.measurements:
        read = tables.energy.measurements(result.measurements)
        if read.rows:
            terminal.show(read)
        else:
            terminal.line(read.note)
    for label, text in result.facts.items():
        terminal.line(f"{label}: {text}")
    for part, why in result.missing.items():
        terminal.line(f"{part}: not run, {why}")
