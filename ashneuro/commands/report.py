"""``ashneuro report``: what it costs, against an ANN that does the same job."""

from __future__ import annotations

import io
import json as json_
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ashneuro.commands.simulate import with_inputs
from ashneuro.commands.targets import ContractOptions, kind_of, load_bundle
from ashneuro.errors import AshneuroError, need
from ashneuro.report import terminal

if TYPE_CHECKING:
    from ashneuro.cost.profile import HardwareProfile
    from ashneuro.program.program import Program
    from ashneuro.report.summary import Example, Hit, Report
    from ashneuro.simulate.record import SpikeRecord

DEFAULT_PROFILES = ("loihi1", "cmos45", "h100")


def report(
    path: Path,
    /,
    *,
    profile: Annotated[
        list[str] | None, Parameter(help="Hardware profiles, by name or .toml; repeatable. Default: loihi1, cmos45, h100.", negative=())
    ] = None,
    baseline: Annotated[list[Path] | None, Parameter(help="Runs of controls to show beside this one; repeatable.", negative=())] = None,
    inputs: Annotated[Path | None, Parameter(help="For a .nir file: inputs (T, B, *shape) as .npy or .npz.")] = None,
    out: Annotated[Path | None, Parameter(help="Folder of report.json and report.html. Default: the run, or NAME-report.")] = None,
    contract: ContractOptions | None = None,
    json: Annotated[bool, Parameter(help="Print the report as JSON instead of tables.", negative=())] = False,
) -> None:
    """What does it cost, against an ANN that does the same job?

    Args:
        path: a run that was exported, a bundle, a .nir file, or a lava-dl .net file.
    """
    from ashneuro.cost.profile import load_profile
    from ashneuro.report.html import write_html
    from ashneuro.report.summary import write_json

    profiles = [load_profile(name) for name in profile or DEFAULT_PROFILES]
    if not any(item.kind == "asic" for item in profiles):
        profiles.append(load_profile("cmos45"))  # both sides are priced alike on one node; without it there is no verdict
    kind = kind_of(path)
    if kind == "run":
        result = report_run(path, profiles, baseline or [])
    else:
        result = report_network(path, profiles, inputs, contract or ContractOptions())
    folder = out or (path if kind == "run" else path.with_name(f"{path.stem}-report"))
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_json(result, folder / "report.json"), write_html(result, folder / "report.html")]
    if json:
        terminal.json(result.to_json())
        return
    show(result)
    terminal.wrote(*files)
    terminal.next_steps(f"ashneuro profiles show {profiles[0].name}")


def show(result: Report) -> None:
    """Print the answer first, then the tables behind it."""
    if result.comparison:
        terminal.comparison(result.comparison)
    if result.evaluations:
        terminal.retrieval(result.evaluations)
    if result.workload:
        terminal.activity(result.workload)
    terminal.costs(result.estimates)
    for part, why in result.missing.items():
        terminal.line(f"{part}: not run, {why}")


def report_network(path: Path, profiles: Sequence[HardwareProfile], inputs: Path | None, options: ContractOptions) -> Report:
    """Return the report of a bundle or of a NIR file: what it spikes and costs; there is no host part and no task."""
    from ashneuro.program.lower import lower
    from ashneuro.program.program import Program
    from ashneuro.report.summary import Report
    from ashneuro.simulate.run import Graph, simulate

    target, given = with_inputs(path, inputs, options)
    certificate = None
    if isinstance(target, Graph):
        program = lower(target.graph, target.contract)
    elif isinstance(target, Program):
        program = target
    else:
        program, certificate = target.a_program, target.certificate
    record = simulate(target, given, on="torch" if program.precision == "float" else "loihi", rasters="all")
    basic = Report(
        title=path.stem,
        about={
            "network": str(path),
            "spikes": f"{record.source}, {record.precision}, {record.samples} samples of {record.timesteps} steps",
        },
        certificate=certificate,
        raster=one_raster(record),
        not_run={"training": "this network was not trained here", "evaluations": "a network without its task has no metric"},
    )
    return priced(basic, program, record, profiles, [], None)


def report_run(path: Path, profiles: Sequence[HardwareProfile], baselines: Sequence[Path]) -> Report:
    """Return the report of a run: the task, what it spikes and costs with its host part, and its controls."""
    from ashneuro.config import dump_config
    from ashneuro.program.origin import same_weights
    from ashneuro.report.summary import Report, read_metrics
    from ashneuro.simulate.counts import load_counts
    from ashneuro.simulate.run import simulate

    checkpoint = need("ashneuro.train.checkpoint", extra="train", purpose="reading a run")
    deploy = need("ashneuro.model.deploy", extra="train", purpose="reading a run")
    run = checkpoint.load_run(path)
    bundle = load_bundle(path)
    if same_weights(bundle.folder, path) is False:
        raise AshneuroError(f"{bundle.folder} is stale", "the run was trained on since it was exported", f"ashneuro export {path}")
    counted = path / "evaluation-loihi.npz"
    program = bundle.program("integer")
    rasters = simulate(bundle, bundle.reference.inputs, on="loihi", rasters="all")
    record = load_counts(counted) if counted.exists() else rasters
    control = None
    evaluations = list(saved_evaluations(path))
    for other in baselines:
        evaluations += saved_evaluations(other)
        settings = checkpoint.load_run(other)
        if settings.config.model.abstract.kind == "none":
            control = deploy.host_layers(settings.model)
    basic = Report(
        title=path.name,
        about={
            "run": str(path),
            "spikes": f"{record.source}, {record.precision}, {record.samples} images of {record.timesteps} steps",
            "weights, SHA-256": str(json_.loads((bundle.folder / "origin.json").read_text())["weights_sha256"])[:16],
        },
        config=dump_config(run.config),
        training=[row for row in read_metrics(path / "metrics.jsonl") if "epoch" in row],
        evaluations=evaluations,
        certificate=bundle.certificate,
        raster=one_raster(rasters),
        examples=pictures(run.config.data, evaluations[0]) if evaluations else (),
    )
    return priced(basic, program, record, profiles, deploy.host_layers(run.model), control)


def priced(
    basic: Report,
    program: Program,
    record: SpikeRecord,
    profiles: Sequence[HardwareProfile],
    host: Sequence[Mapping[str, Any]],
    control: Sequence[Mapping[str, Any]] | None,
) -> Report:
    """Return ``basic`` with its counts, their prices, and the comparison with ANN twins."""
    from ashneuro.cost.compare import compare
    from ashneuro.cost.estimate import estimate
    from ashneuro.cost.workload import ann_twin, count, host_workload

    workload = count(program, record, host)
    by_kind = {kind: next((item for item in profiles if item.kind == kind), None) for kind in ("asic", "neuromorphic", "gpu")}
    comparison = compare(
        workload,
        ann_twin(program, host_layers=host),
        node=by_kind["asic"],  # type: ignore[arg-type]
        chip=by_kind["neuromorphic"],
        gpu=by_kind["gpu"],
        control=host_workload(control) if control else None,
    )
    chips = [item for item in profiles if item.kind == "neuromorphic"]
    estimates = [estimate(workload.part("deployed"), item) for item in chips]
    return replace(basic, workload=workload, estimates=estimates, comparison=comparison, profiles=list(profiles))


def saved_evaluations(path: Path) -> list[dict[str, Any]]:
    """Return every evaluation in a run's folder: the whole test part in torch first, then the others."""
    files = sorted(path.glob("evaluation*.json"), key=lambda file: (len(file.stem.split("-")), file.stem))
    return [json_.loads(file.read_text(encoding="utf-8")) for file in files]


def one_raster(record: SpikeRecord) -> dict[str, Any]:
    """Return the spikes (T, neurons) of the first sample, per layer."""
    return {
        name: activity.raster[:, 0].reshape(record.timesteps, -1)
        for name, activity in record.layers.items()
        if activity.raster is not None and activity.binary
    }


def pictures(data: Any, evaluation: Mapping[str, Any]) -> tuple[Example, ...]:
    """Return an evaluation's retrieval examples with the pictures they speak of."""
    from PIL import Image

    from ashneuro.data.sources import load_splits
    from ashneuro.report.summary import Example, Hit

    splits = load_splits(data)
    pairs = {pair.key: pair for pair in (*splits.train, *splits.validation, *splits.test)}

    def png(key: str) -> bytes | None:
        if key not in pairs:
            return None
        buffer = io.BytesIO()
        Image.fromarray(pairs[key].load()).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def hit(values: Mapping[str, Any], drawn: bool) -> Hit:
        return Hit(values["text"], values["correct"], values["score"], png(values["key"]) if drawn else None)

    return tuple(
        Example(
            query=item["text"],
            png=png(item["key"]) if item["kind"] == "image" else None,
            hits=tuple(hit(values, item["kind"] == "text") for values in item["hits"]),
        )
        for item in evaluation["examples"]
    )
