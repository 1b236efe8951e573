"""``ashneuro report``: what it costs, against an ANN that does the same job."""

from __future__ import annotations

import io
import json as json_
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

from cyclopts import Parameter

from ashneuro.commands.evaluate import answer, result_name
from ashneuro.commands.simulate import with_inputs
from ashneuro.commands.targets import ContractOptions, kind_of, load_bundle, load_graph
from ashneuro.commands.tasks import result_file
from ashneuro.config import Task
from ashneuro.errors import AshneuroError, ConfigError, ProfileError, need
from ashneuro.reporting import tables, terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.cost.comparison.contenders import Role
    from ashneuro.cost.comparison.sides import OtherNetwork
    from ashneuro.cost.measure import Measurement, NotMeasured
    from ashneuro.cost.profile import HardwareProfile
    from ashneuro.cost.workload import StepWorkload, Workload
    from ashneuro.evaluation import Evaluation, RetrievalExample, TaskEvaluation
    from ashneuro.exchange import HostLayer
    from ashneuro.program.bundle import Bundle
    from ashneuro.program.program import InputPort, Program
    from ashneuro.reporting.summary import Report
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.simulation.run import Graph

DEFAULT_PROFILES = ("loihi1", "cmos45", "h100")
MEASURED = "measurement.json"
DEFAULT_STEPS = 16
AnyEvaluation = TypeVar("AnyEvaluation", "Evaluation", "TaskEvaluation")
QUESTIONS = (
    "energy and operations are those of embedding one picture; the multimodal transformer, which answers a question about it on the host, "
    "is in no sum, on either side"
)


def report(
    path: Path,
    /,
    *runs: Path,
    profile: Annotated[
        list[str] | None,
        Parameter(help="Hardware profiles, by name or .toml; repeatable. Default: loihi1, cmos45, h100.", negative=()),
    ] = None,
    baseline: Annotated[
        list[Path] | None, Parameter(help="The same as naming further runs; repeatable.", negative=())
    ] = None,
    inputs: Annotated[
        Path | None, Parameter(help="For a .nir or .net file: (T, B, *shape) as .npy or .npz. Default: noise.")
    ] = None,
    noise: Annotated[int, Parameter(help="Samples of noise, where a file has no inputs.")] = 8,
    rate: Annotated[float, Parameter(help="Share of input lines that spike in a step of noise.")] = 0.1,
    measure: Annotated[
        bool, Parameter(help="Read this machine's energy counters while the ANNs run; minutes.", negative=())
    ] = False,
    device: Annotated[str, Parameter(help="What is measured: cpu, cuda, cuda:1.")] = "cpu",
    measurements: Annotated[
        list[Path] | None, Parameter(help="Measurement files, from another machine; repeatable.", negative=())
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="Folder of report.json and report.html. Default: the run, or NAME-report.")
    ] = None,
    contract: ContractOptions | None = None,
    json: Annotated[bool, Parameter(help="Print the report as JSON instead of tables.", negative=())] = False,
) -> None:
    """What does it cost, against an ANN that does the same job?

    Args:
        path: a run that was exported, a bundle, a .nir file, or a lava-dl .net file.
        runs: runs to show beside it: controls, other hybrids.
    """
    from ashneuro.cost.measure import load_measurements, save_measurements
    from ashneuro.cost.profile import load_profile, load_profiles
    from ashneuro.reporting.html import write_html
    from ashneuro.reporting.summary import write_json

    profiles = load_profiles(profile or DEFAULT_PROFILES)
    nodes = [item.name for item in profiles if item.kind == "asic"]
    if len(nodes) > 1:
        raise ProfileError(
            f"{' and '.join(nodes)} are both nodes", "one node decides, with both sides on it", "name one of them"
        )
    if not nodes:
        profiles.append(
            load_profile("cmos45")
        )  # both sides are priced alike on one node; without it there is no verdict
    kind = kind_of(path)
    others = [*runs, *(baseline or [])]
    known = [item for file in measurements or [] for item in load_measurements(file)]
    if kind == "run":
        if measure:
            with terminal.status("reading energy counters"):
                taken = take_measurements([path, *others], device)
            saved = save_measurements(taken, path / MEASURED)
            if not json:
                terminal.wrote(saved)
        result = report_run(path, profiles, others, known)
    elif measure or others:
        raise AshneuroError(
            f"{path} is a {kind}",
            "other runs, and measurements of ANNs, belong to a run: a network alone has no host and no task",
            "name a run",
        )
    else:
        result = report_network(path, profiles, inputs, contract or ContractOptions(), Noise(noise, rate), known)
    folder = out or (path if kind == "run" else path.with_name(f"{path.stem}-report"))
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_json(result, folder / "report.json"), write_html(result, folder / "report.html")]
    if json:
        terminal.json(result.to_json())
        return
    show(result)
    terminal.wrote(*files)
    terminal.next_steps(f"ashneuro profiles explain {profiles[0].name}", "ashneuro profiles validate")


def show(result: Report) -> None:
    """Print the answer first, then the tables behind it."""
    if result.comparison:
        terminal.comparison(result.comparison)
        terminal.show(tables.energy.conventions(result.comparison))
    if result.evaluations:
        terminal.retrieval(result.evaluations)
    terminal.tasks(result.tasks)
    if result.workload:
        terminal.activity(result.workload)
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


@dataclass(frozen=True)
class Noise:
    """Inputs for a network that came without any."""

    samples: int = 8
    rate: float = 0.1
    seed: int = 0

    def inputs(self, ports: Sequence[InputPort], timesteps: int) -> dict[str, NDArray[np.generic]]:
        """Return (T, B, *shape) per port: spikes with this rate; values of a half-normal distribution, held for all steps."""
        import numpy as np

        if self.samples < 1 or not 0 < self.rate <= 1:
            raise AshneuroError(
                f"--noise {self.samples} --rate {self.rate}",
                "noise has 1 sample or more and a rate above 0, at most 1",
                "correct them",
            )
        random = np.random.default_rng(self.seed)
        found: dict[str, NDArray[np.generic]] = {}
        for port in ports:
            shape = (timesteps, self.samples, *port.shape)
            if port.coding == "spikes":
                found[port.name] = (random.random(shape) < self.rate).astype(np.uint8)
            else:
                found[port.name] = np.broadcast_to(np.abs(random.normal(size=shape[1:])), shape).copy()
        return found


def report_network(
    path: Path,
    profiles: Sequence[HardwareProfile],
    inputs: Path | None,
    options: ContractOptions,
    noise: Noise | None = None,
    measured: Sequence[Measurement | NotMeasured] = (),
) -> Report:
    """Return the report of a bundle or of anyone's network: what it spikes and costs; there is no host part and no task."""
    from ashneuro.program.lower import lower
    from ashneuro.program.program import Program
    from ashneuro.reporting.summary import Report
    from ashneuro.simulation.run import Graph, simulate

    fed = str(inputs) if inputs else "the bundle's reference"
    target: Bundle | Program | Graph
    given: Mapping[str, Any]
    if inputs is None and noise and kind_of(path) in ("nir", "netx"):
        target, given = with_noise(path, options, noise)
        fed = f"noise, {noise.samples} samples: the counts are those of noise, not of a task"
    else:
        target, given = with_inputs(path, inputs, options)
    certificate = None
    if isinstance(target, Graph):
        program = lower(target.graph, target.contract)
    elif isinstance(target, Program):
        program = target
    else:
        program, certificate = target.preferred_program, target.certificate
    record = simulate(target, given, on="torch" if program.precision == "float" else "loihi", rasters="all")
    basic = Report(
        title=path.stem,
        about={
            "network": str(path),
            "inputs": fed,
            "spikes": f"{record.source}, {record.precision}, {record.samples} samples of {record.timesteps} steps",
        },
        certificate=certificate,
        raster=one_raster(record),
        facts={
            "the ANN twin": "one pass over one sample; where an input changes from step to step, an ANN that does the same job "
            "would see every step"
        },
        steps=by_step(program, record, given),
        step_samples=record.samples,
        measurements=measured,
        not_run={
            "training": "this network was not trained here",
            "evaluations": "a network without its task has no metric",
        },
    )
    return priced(basic, program, record, profiles, (), (), {})


def with_noise(
    path: Path, options: ContractOptions, noise: Noise
) -> tuple[Program | Graph, Mapping[str, NDArray[np.generic]]]:
    """Return a NIR or netx network and noise for its inputs."""
    from ashneuro.program.lower import lower
    from ashneuro.program.netx.read import read_netx
    from ashneuro.simulation.run import Graph

    target: Program | Graph
    if kind_of(path) == "netx":
        target = program = read_netx(path)
    else:
        graph, read = load_graph(path, options)
        target, program = Graph(graph, read.contract), lower(graph, read.contract)
    ports = [port for port in program.inputs if not port.constant]
    return target, noise.inputs(ports, program.timesteps or DEFAULT_STEPS)


def by_step(program: Program, record: SpikeRecord, inputs: Mapping[str, Any]) -> tuple[StepWorkload, ...]:
    """Return the events of every step; none where a layer's spikes were not kept."""
    import numpy as np

    from ashneuro.cost.workload import count_steps

    if any(own.raster is None for own in record.layers.values()) or not set(record.inputs) <= set(inputs):
        return ()
    return count_steps(program, record, {name: np.asarray(values) for name, values in inputs.items()})


def report_run(
    path: Path,
    profiles: Sequence[HardwareProfile],
    others: Sequence[Path],
    measured: Sequence[Measurement | NotMeasured] = (),
) -> Report:
    """Return the report of a run: the task, what it spikes and costs with its host part, and the runs beside it."""
    from ashneuro.config import dump_config, trained_tasks
    from ashneuro.cost.comparison.contenders import Role
    from ashneuro.cost.comparison.sides import OtherNetwork
    from ashneuro.cost.measure import load_measurements
    from ashneuro.exchange import METRICS, read_metrics
    from ashneuro.reporting.summary import Report
    from ashneuro.simulation.run import simulate

    checkpoint = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run")
    deploy = need("ashneuro.model.deploy", extra="train", purpose="reading a run")
    run = checkpoint.load_run(path)
    bundle = load_bundle(path)
    program = bundle.program("integer")
    rasters = simulate(bundle, bundle.reference.inputs, on="loihi", rasters="all")
    record = counted(path) or rasters
    evaluations = saved_evaluations(path)
    tasks, not_run = answered(path, trained_tasks(run.config))
    beside: list[OtherNetwork] = []
    metrics = {Role.HYBRID: metric_of(evaluations, tasks)}
    taken, twins = {"hybrid"}, {"relu": Role.ANN_TWIN, "quantised-relu": Role.LOW_BIT_TWIN}
    for other in others:
        settings = checkpoint.load_run(other)
        name, work = beside_run(other, settings, deploy)
        if work is not None:
            name = untaken(name, other, {*taken, *twins})
        elif name in taken:
            raise ConfigError(
                f"{other} is the second {name} twin", "one twin's metric stands beside its energy", "name one of them"
            )
        theirs = labelled(saved_evaluations(other), name)
        questions, why = answered(other, trained_tasks(settings.config))
        questions = labelled(questions, name)
        evaluations += theirs
        tasks += questions
        not_run |= why
        taken.add(name)
        metric = metric_of(theirs, questions)
        if work is not None:
            beside.append(OtherNetwork(name, work, metric))
        else:
            metrics[twins[name]] = metric
    saved = [item for file in (path / MEASURED,) if file.exists() for item in load_measurements(file)]
    basic = Report(
        title=path.name,
        about={
            "run": str(path),
            "spikes": f"{record.source}, {record.precision}, {record.samples} images of {record.timesteps} steps",
            "weights, SHA-256": str(json_.loads((bundle.folder / "origin.json").read_text())["weights_sha256"])[:16],
        },
        config=dump_config(run.config),
        training=read_metrics(path / METRICS).epochs,
        evaluations=evaluations,
        tasks=tasks,
        not_run=not_run,
        facts={"host, by torch's flop counter": host_flops(run.model), **({"questions": QUESTIONS} if tasks else {})},
        certificate=bundle.certificate,
        raster=one_raster(rasters),
        steps=by_step(program, rasters, bundle.reference.inputs),
        step_samples=rasters.samples,
        measurements=[*saved, *measured],
        examples=evaluations[0].examples if evaluations else (),
        pictures=pictures(run.config.data, evaluations[0].examples) if evaluations else {},
    )
    return priced(basic, program, record, profiles, deploy.host_layers(run.model), beside, metrics)


def counted(path: Path) -> SpikeRecord | None:
    """Return the counts of the emulator over the whole test part, where a run was evaluated so: at retrieval, or else at a task."""
    from ashneuro.simulation.record import load_counts

    names = ("evaluation", *get_args(Task))
    true = still_true(path)
    file = next(
        (file for name in names if (file := path / f"{name}-loihi.npz").exists() and true(file.with_suffix(".json"))),
        None,
    )
    return load_counts(file) if file else None


def beside_run(path: Path, run: Any, deploy: Any) -> tuple[str, Workload | None]:
    """Return what a run beside the first is called, and its work; ``None`` where it is the twin that is compared with anyway."""
    from ashneuro.cost.workload import count, host_workload
    from ashneuro.simulation.run import simulate

    kind = run.config.model.abstract.kind
    if kind == "none":
        return "no abstract encoder", host_workload(deploy.host_layers(run.model))
    if kind != "spiking":
        return kind, None
    bundle = load_bundle(path)
    record = counted(path) or simulate(bundle, bundle.reference.inputs, on="loihi")
    return path.name, count(bundle.program("integer"), record, deploy.host_layers(run.model))


def untaken(name: str, path: Path, taken: Collection[str]) -> str:
    """Return ``name``, or with as many of the run's folders before it as tell it from networks that have that name already."""
    places = path.resolve().parts
    longer = (f"{'/'.join(places[start:-1])}/{name}" for start in range(len(places) - 2, -1, -1))
    return next((each for each in (name, *longer) if each not in taken), f"{name}, {len(taken) + 1}")


def metric_of(evaluations: Sequence[Evaluation], tasks: Sequence[TaskEvaluation] = ()) -> str:
    """Return the first evaluation's R@1, and the metric of the first evaluation of each task, in words; empty where there is none."""
    said = []
    if evaluations:
        recalls = " / ".join(f"{100 * way['R@1']:.1f}" for way in evaluations[0].rows[0].directions)
        said.append(f"R@1 {recalls} %")
    first = {item.task: item for item in reversed(tasks)}
    return ", ".join([*said, *(tables.tasks.metric(item) for item in reversed(first.values()))])


def answered(path: Path, tasks: Sequence[Task]) -> tuple[list[TaskEvaluation], dict[str, str]]:
    """Return every evaluation of the tasks that a run was trained on, and why one could not be made.

    What `ashneuro evaluate --task` left in the folder is taken. Where the whole test part was not answered yet with the spikes from
    torch, it is now; the validation part where the test part has no answers.
    """
    found: list[TaskEvaluation] = []
    not_run: dict[str, str] = {}
    true = still_true(path)
    for task in tasks:
        for part in ("test", "validation"):
            file = result_file(path, task, result_name("torch", "fixed", part, None))
            if file.exists() and true(file):
                break
            try:
                with terminal.status(f"{path.name} answers questions of {task}, {part} part"):
                    answer(path, task, "torch", "fixed", part=part, samples=None, device="cpu", lava=None)
                break
            except AshneuroError as error:
                not_run.setdefault(f"{task} of {path.name}", f"{error.what}: {error.why}")
        else:
            continue
        not_run.pop(f"{task} of {path.name}", None)
    if old := [file.name for task in ("retrieval", *tasks) for file in result_files(path, task) if not true(file)]:
        not_run[f"earlier results of {path.name}"] = (
            f"{', '.join(old)}: the run was trained on since; `ashneuro evaluate` makes them anew"
        )
    for task in tasks:
        found += saved_answers(path, task)
    return found, not_run


def labelled(evaluations: Sequence[AnyEvaluation], name: str) -> list[AnyEvaluation]:
    """Return the evaluations of a further run; a hybrid's under its name, to tell it from the first hybrid."""
    return [replace(item, label=name) if item.kind == "spiking" else item for item in evaluations]


def host_flops(model: Any) -> str:
    """Return what torch's flop counter makes of one picture on the host, the spikes given, and what it leaves out."""
    from ashneuro.cost.flops import count_flops

    torch = need("torch", extra="train", purpose="counting the host's operations")
    model.eval()
    return count_flops(ann_branch(model, torch.zeros(1, 3, model.image_size, model.image_size))).sentence()


def ann_branch(model: Any, images: Any) -> Callable[[], Any]:
    """Return what computes a model's host part on ``images``: all of it, with spikes from elsewhere in place of spiking neurons."""
    spiking = model.abstract is not None and model.config.abstract.kind == "spiking"
    spikes = images.new_zeros(model.abstract.timesteps, len(images), model.config.abstract.units) if spiking else None
    return lambda: model.embed_images(images, spikes=spikes)


def take_measurements(paths: Sequence[Path], device: str) -> list[Measurement | NotMeasured]:
    """Return energy and time of the first run's ANN branch and of each other run, at batch 1 and at the fastest batch."""
    from ashneuro.cost.measure import NotMeasured, Unreadable, best_batch, counter_for, measure, parse_device

    parse_device(device)
    checkpoint = need("ashneuro.training.checkpoint", extra="train", purpose="measuring a run")
    torch = need("torch", extra="train", purpose="measuring a run")
    found: list[Measurement | NotMeasured] = []
    for path in paths:
        kind = json_.loads((path / "config.json").read_text(encoding="utf-8"))["model"]["abstract"]["kind"]
        name = f"{path.name}, {'ANN branch' if kind == 'spiking' else 'whole network'}"
        try:
            counter = counter_for(device, gpu_uuid(torch.cuda, device))
        except Unreadable as error:
            found.append(NotMeasured(name, device, str(error)))
            continue
        model = checkpoint.load_run(path, device).model.eval()
        for precision in ("fp32", "fp16") if device.startswith("cuda") else ("fp32",):

            def make(batch: int, model: Any = model, precision: str = precision) -> Callable[[], None]:
                images = torch.rand(batch, 3, model.image_size, model.image_size, device=device)
                branch = ann_branch(model, images)

                def run() -> None:
                    with (
                        torch.inference_mode(),
                        torch.autocast(device.partition(":")[0], torch.float16, enabled=precision == "fp16"),
                    ):
                        branch()
                    if device.startswith("cuda"):
                        torch.cuda.synchronize()

                return run

            for batch in dict.fromkeys((1, best_batch(make))):
                found.append(measure(make(batch), counter, network=name, batch=batch, precision=precision))
        found.append(NotMeasured(f"{name}, int8", device, "torch runs these convolutions in floating point alone"))
    return found


def gpu_uuid(cuda: Any, device: str) -> str:
    """Return which GPU of the machine torch means by ``device``; empty for a processor.

    Raises:
        Unreadable: torch does not see it.
    """
    from ashneuro.cost.measure import Unreadable, parse_device

    kind, index = parse_device(device)
    if kind != "cuda":
        return ""
    count = cuda.device_count() if cuda.is_available() else 0
    if index >= count:
        raise Unreadable(f"torch sees {count} CUDA devices, numbered from 0" if count else "torch sees no CUDA device")
    return str(cuda.get_device_properties(index).uuid)


def priced(
    basic: Report,
    program: Program,
    record: SpikeRecord,
    profiles: Sequence[HardwareProfile],
    host: Sequence[HostLayer],
    others: Sequence[OtherNetwork],
    metrics: Mapping[Role, str],
) -> Report:
    """Return ``basic`` with its counts, their prices, where the network lies, and the comparison with ANN twins."""
    from ashneuro.cost.compare import compare
    from ashneuro.cost.cores import can_place
    from ashneuro.cost.deployment import deploy
    from ashneuro.cost.estimate import estimate
    from ashneuro.cost.workload import ann_twin, count
    from ashneuro.errors import GraphError

    workload = count(program, record, host)
    chips = [item for item in profiles if item.kind == "neuromorphic"]
    deployments, facts = {}, dict(basic.facts)
    for chip in chips:
        if not can_place(chip):
            continue
        try:
            deployments[chip.name] = deploy(program, record, chip)
        except GraphError as error:
            facts[f"does not fit {chip.name}"] = error.why
    estimates = {
        item.name: estimate(workload.part("deployed"), item, deployment=deployments.get(item.name)) for item in chips
    }
    comparison = compare(
        workload,
        ann_twin(program, host_layers=host),
        node=next(item for item in profiles if item.kind == "asic"),
        chips=chips,
        machines=[item for item in profiles if item.kind in ("gpu", "cpu")],
        others=others,
        estimates=estimates,
        metrics=metrics,
    )
    placements = [one.placement for one in deployments.values()]
    return replace(
        basic,
        workload=workload,
        estimates=list(estimates.values()),
        comparison=comparison,
        placements=placements,
        profiles=list(profiles),
        facts=facts,
    )


def saved_evaluations(path: Path) -> list[Evaluation]:
    """Return every retrieval evaluation of a run's present weights: the whole test part in torch first, then the others."""
    from ashneuro.evaluation import Evaluation

    true = still_true(path)
    return [Evaluation.load(file) for file in result_files(path, "retrieval") if true(file)]


def saved_answers(path: Path, task: Task) -> list[TaskEvaluation]:
    """Return every evaluation of a task with a run's present weights, in the order of `saved_evaluations`."""
    from ashneuro.evaluation import TaskEvaluation

    true = still_true(path)
    return [TaskEvaluation.load(file) for file in result_files(path, task) if true(file)]


def result_files(path: Path, task: Task) -> list[Path]:
    """Return the files of a task's evaluations in a run's folder, in the order of `saved_evaluations`."""
    stem = "evaluation" if task == "retrieval" else task
    return sorted(
        [*path.glob(f"{stem}.json"), *path.glob(f"{stem}-*.json")],
        key=lambda file: (len(file.stem.split("-")), file.stem),
    )


def still_true(path: Path) -> Callable[[Path], bool]:
    """Return what says whether an evaluation is of the weights that a run has now; one that does not say is believed."""
    from ashneuro.evaluation import load_evaluation
    from ashneuro.training.provenance import weights_sha256

    now = weights_sha256(path)
    return lambda file: load_evaluation(file).weights_sha256 in ("", now)


def one_raster(record: SpikeRecord) -> dict[str, Any]:
    """Return the spikes (T, neurons) of the first sample, per layer."""
    return {
        name: activity.raster[:, 0].reshape(record.timesteps, -1)
        for name, activity in record.layers.items()
        if activity.raster is not None and activity.binary
    }


def pictures(data: Any, examples: Sequence[RetrievalExample]) -> dict[str, bytes]:
    """Return the pictures of retrieval examples as PNG files, by key of the pair; without those that are gone."""
    from PIL import Image

    from ashneuro.data.sources import load_splits

    splits = load_splits(data)
    pairs = {pair.key: pair for pair in (*splits.train, *splits.validation, *splits.test)}
    keys = [example.key for example in examples if example.kind == "image"]
    keys += [hit.key for example in examples if example.kind == "text" for hit in example.hits]
    found = {}
    for key in dict.fromkeys(keys):
        if key in pairs:
            buffer = io.BytesIO()
            Image.fromarray(pairs[key].load()).save(buffer, "PNG", optimize=True)
            found[key] = buffer.getvalue()
    return found
