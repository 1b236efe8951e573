"""Report: activity and cost of a network, against ANNs that do the same job."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ashneuro.config import dump_config
from ashneuro.cost.compare import compare as compare_costs
from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.comparison.contenders import Role
from ashneuro.cost.comparison.sides import OtherNetwork
from ashneuro.cost.cores import can_place
from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.measure import load_measurements, save_measurements
from ashneuro.cost.profile import DEFAULT_NODE, HardwareProfile, load_profile, load_profiles
from ashneuro.cost.validate import known_error
from ashneuro.cost.workload import ann_twin, count, count_steps
from ashneuro.errors import AshneuroError, GraphError, ProfileError, need
from ashneuro.evaluation import RetrievalExample
from ashneuro.exchange import METRICS, HostLayer, TrainingMetrics, read_metrics
from ashneuro.program.bundle import Bundle
from ashneuro.program.program import Program
from ashneuro.reporting.html import write_html
from ashneuro.reporting.summary import Report, write_json
from ashneuro.simulation.sanafe.environment import find_environment
from ashneuro.training.provenance import ORIGIN, origin_problem
from ashneuro.workflows.measure import host_flops, measure_runs
from ashneuro.workflows.networks import Network, Overrides, kind_of, open_bundle, open_network
from ashneuro.workflows.noise import REPORT_NOISE, Noise
from ashneuro.workflows.own_ann import Sample, count_own_ann, mean_sample
from ashneuro.workflows.places import HERE, Place, run_at
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.runs import list_left_out, open_run, skipping_broken, splits_of
from ashneuro.workflows.runs_beside import runs_beside
from ashneuro.workflows.sanafe import second_opinion as sanafe_opinion
from ashneuro.workflows.saved_results import SavedResults, read_or_name
from ashneuro.workflows.simulate import with_inputs
from ashneuro.workflows.verify import certified

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.cost.compare import Comparison
    from ashneuro.cost.measure import Measurement, NotMeasured
    from ashneuro.cost.own.network import OwnAnn
    from ashneuro.cost.workload import StepWorkload
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.simulation.run import Graph
    from ashneuro.training.checkpoint import Run

DEFAULT_PROFILES = ("loihi1", DEFAULT_NODE, "h100")
SECOND_OPINION = "second opinion"
OtherModel = Literal["sanafe"]
MEASURED = "measurement.json"
QUESTIONS = (
    "energy and operations are those of embedding one picture; the multimodal transformer, which answers a question "
    "about it on the host, is in no sum, on either side"
)


def report(
    source: str | Path | nir.NIRGraph | Network | Bundle | Run,
    *others: str | Path | Run,
    profiles: Sequence[str | Path | HardwareProfile] = DEFAULT_PROFILES,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    noise: Noise = REPORT_NOISE,
    measurements: Sequence[Measurement | NotMeasured] = (),
    measure_on: str = "",
    ann: Any = None,
    sample: Any = None,
    second_opinion: OtherModel | None = None,
    x86_cores: int | None = None,
    contract: Overrides | None = None,
    skip_broken: bool = False,
    place: Place = HERE,
    progress: Progress = silent,
) -> Report:
    """Return the report of a run, a bundle or anyone's network: activity, cost, and the comparison
    with ANNs.

    Args:
        source: a run that was exported, a bundle, a NIR graph or file, or a lava-dl file.
        others: runs to show beside a run: controls, other hybrids.
        profiles: hardware profiles; exactly one node (kind ``"asic"``) decides, cmos45 where none
            is named.
        inputs: samples (T, B, *shape) for a network that is not a run. Default: a bundle's
            reference, a module's sample, else ``noise``.
        noise: random inputs, where a network comes without any.
        measurements: what instruments read elsewhere.
        measure_on: device on which the runs' ANN branches are measured now; empty: they are not.
        ann: your own ANN that does the whole job, shown beside the twins: a torch module, a .onnx
            file or an ``onnx.ModelProto``.
        sample: (B, *shape): its inputs, one per inference, on which its zeros are measured.
            Default: the network's inputs, mean over time.
        second_opinion: ``"sanafe"``: the deployed part's energy and time by SANA-FE's model of
            Loihi as well, in the comparison's ``second_opinions``.
        x86_cores: x86 cores of the chip that the network uses, all chips together, for the costs
            besides events. Default: the profile's own range.
        contract: fields of `Contract` that win over the source's.
        skip_broken: leave out pictures of the runs' data that cannot be read.
        place: where the runs' data lie now.
        progress: called with (phase, done, total).

    Raises:
        ProfileError: a profile cannot be read, or two of them are nodes.
        AshneuroError: the source cannot be read; or other runs are named for a network that is no
            run.
        MissingDependency: SANA-FE is asked for and not installed.
    """
    chosen = choose_profiles(profiles)
    if second_opinion is not None:
        find_environment()  # before the work, not after it
    run = _as_run(source)
    if run is not None:
        run = run_at(skipping_broken(run) if skip_broken else run, place)
        beside = [run_at(open_run(other, skip_broken=skip_broken), place) for other in others]
        if measure_on:
            taken = measure_runs([run, *beside], measure_on, progress=progress)
            save_measurements(taken, run.path / MEASURED)
        own = None if ann is None else count_own_ann(ann, sample)
        result = report_run(run, beside, chosen, measurements, own=own, x86_cores=x86_cores, progress=progress)
        list_left_out(run)
        if second_opinion is None:
            return result
        bundle = open_bundle(run.path)
        return with_sanafe(result, bundle.program("integer"), bundle.reference.inputs, progress)
    if measure_on or others:
        what = kind_of(Path(source)) if isinstance(source, str | Path) else "network"
        raise AshneuroError(
            f"{source} is a {what}",
            "other runs, and measurements of ANNs, belong to a run: a network alone has no host and no task",
            "name a run",
        )
    return report_network(
        source,
        chosen,
        inputs,
        contract,
        noise,
        measurements,
        ann=ann,
        sample=sample,
        second_opinion=second_opinion,
        x86_cores=x86_cores,
        progress=progress,
    )


def _as_run(source: object) -> Run | None:
    """Return the run that is meant, loaded; ``None`` for anything else."""
    if isinstance(source, str | Path):
        return open_run(source) if kind_of(Path(source)) == "run" else None
    if isinstance(source, Network):
        return source.run
    # By its fields, not its type: importing `Run` would load torch for a bundle's report too.
    return source if hasattr(source, "config") and hasattr(source, "vocabulary") else None  # type: ignore[return-value]


def choose_profiles(names: Sequence[str | Path | HardwareProfile]) -> list[HardwareProfile]:
    """Return hardware profiles with exactly one node among them.

    Raises:
        ProfileError: a profile cannot be read, or two of them are nodes.
    """
    found = [item for item in names if isinstance(item, HardwareProfile)]
    found += load_profiles([str(item) for item in names if not isinstance(item, HardwareProfile)])
    nodes = [item.name for item in found if item.kind == "asic"]
    if len(nodes) > 1:
        raise ProfileError(
            f"{' and '.join(nodes)} are both nodes", "one node decides, with both sides on it", "name one of them"
        )
    if not nodes:
        # Both sides are priced alike on one node; without it there is no verdict.
        found.append(load_profile(DEFAULT_NODE))
    return found


def write_report(result: Report, folder: str | Path) -> list[Path]:
    """Write ``report.json`` and ``report.html`` into a folder, which is made; return both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [write_json(result, folder / "report.json"), write_html(result, folder / "report.html")]


def compare(
    source: str | Path | nir.NIRGraph | Network | Bundle | Run,
    *,
    ann: Any = None,
    sample: Any = None,
    profiles: Sequence[str | Path | HardwareProfile] = DEFAULT_PROFILES,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    second_opinion: OtherModel | None = None,
    contract: Overrides | None = None,
) -> Comparison:
    """Return the cost of a network against the ANN twins of its topology, and your own ANN;
    arguments and errors as `report`.

    Raises:
        GraphError: the model of ``second_opinion`` cannot compute the network.
    """
    whole = report(
        source,
        profiles=profiles,
        inputs=inputs,
        ann=ann,
        sample=sample,
        second_opinion=second_opinion,
        contract=contract,
    )
    found = whole.comparison
    assert found is not None, "every report of a network has a node, and so a comparison"
    if second_opinion is not None and not found.second_opinions:
        why = whole.not_run[SECOND_OPINION]
        raise GraphError(
            f"no second opinion by {second_opinion}", why, "ashneuro check --target sanafe names each node"
        )
    return found


def with_sanafe(result: Report, integer: Program, inputs: Mapping[str, Any], progress: Progress = silent) -> Report:
    """Return ``result`` with SANA-FE's energy and time of an integer program beside ours, or with
    the reason why it has none.
    """
    progress("running SANA-FE", 0, 0)
    try:
        opinion = sanafe_opinion(integer, inputs)
    except GraphError as error:
        return replace(result, not_run={**result.not_run, SECOND_OPINION: f"{error.what}: {error.why}"})
    assert result.comparison is not None
    return replace(result, comparison=replace(result.comparison, second_opinions=(opinion,)))


def report_network(
    source: str | Path | nir.NIRGraph | Network | Bundle,
    profiles: Sequence[HardwareProfile],
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    contract: Overrides | None = None,
    noise: Noise = REPORT_NOISE,
    measured: Sequence[Measurement | NotMeasured] = (),
    *,
    ann: Any = None,
    sample: Any = None,
    second_opinion: OtherModel | None = None,
    x86_cores: int | None = None,
    progress: Progress = silent,
) -> Report:
    """Return the report of a network without host part and task; arguments as `report`."""
    from ashneuro.simulation.run import program_of, simulate

    name = _name_of(source)
    own_sample = isinstance(source, Network) and source.sample is not None
    is_noise = inputs is None and not own_sample and not _is_bundle(source)
    target: Bundle | Program | Graph
    given: Mapping[str, Any]
    if is_noise:
        target, given = _with_noise(open_network(source, contract), noise)
        fed = f"noise, {noise.samples} samples: the counts are those of noise, not of a task"
    else:
        target, given = with_inputs(source, inputs, contract)
        fed = _words(inputs, "the sample that the module was read with" if own_sample else "the bundle's reference")
    certificate = certified(target) if isinstance(target, Bundle) else None
    if isinstance(target, Bundle):
        program = target.preferred_program
    else:
        program = target if isinstance(target, Program) else target.program
    record = simulate(target, given, on="torch" if program.precision == "float" else "loihi", rasters="all")
    basic = Report(
        title=Path(name).stem,
        about={
            "network": name,
            "inputs": fed,
            "spikes": f"{record.source}, {record.precision}, {record.samples} samples of {record.timesteps} steps",
        },
        assumptions=record.assumptions,
        certificate=certificate,
        raster=_one_raster(record),
        facts={
            "the ANN twin": "one pass over one sample; where an input changes from step to step, an ANN that does the "
            "same job would see every step"
        },
        steps=_by_step(program, record, given),
        step_samples=record.samples,
        measurements=measured,
        not_run={
            "training": "this network was not trained here",
            "evaluations": "a network without its task has no metric",
        },
    )
    own = None
    if ann is not None:
        own = count_own_ann(ann, sample, _mean(program, given, fed, is_noise))
    result = _priced(basic, program, record, profiles, (), (), {}, own, x86_cores=x86_cores)
    if second_opinion is None:
        return result
    return with_sanafe(result, program_of(target, given, "integer"), given, progress)


def _mean(program: Program, given: Mapping[str, Any], fed: str, is_noise: bool) -> Sample | None:
    """Return the inputs of a network as the default sample of an ANN in its place."""
    from ashneuro.simulation.inputs import check_inputs

    checked = check_inputs(program.fed_inputs, program.timesteps, given)
    return mean_sample(checked, fed, real=not is_noise)


def _is_bundle(source: object) -> bool:
    if isinstance(source, str | Path):
        return kind_of(Path(source)) == "bundle"
    return isinstance(source, Bundle)


def _name_of(source: object) -> str:
    if isinstance(source, Bundle):
        return str(source.folder)
    if isinstance(source, Network):
        return str(source.path or source.name)
    return str(source) if isinstance(source, str | Path) else "network"


def _words(inputs: object, otherwise: str) -> str:
    if inputs is None:
        return otherwise
    return str(inputs) if isinstance(inputs, str | Path) else "the given inputs"


def _with_noise(network: Network, noise: Noise) -> tuple[Program | Graph, Mapping[str, NDArray[np.generic]]]:
    """Return a network, lowered once, and noise for its inputs."""
    program = network.program
    given = noise.inputs(program.fed_inputs, program.timesteps)
    return (program if network.is_netx else network.simulable), given


def _by_step(program: Program, record: SpikeRecord, inputs: Mapping[str, Any]) -> tuple[StepWorkload, ...]:
    """Return the events of every step; none where a layer's spikes were not kept."""
    import numpy as np

    if any(own.raster is None for own in record.layers.values()) or not set(record.inputs) <= set(inputs):
        return ()
    return count_steps(program, record, {name: np.asarray(values) for name, values in inputs.items()})


def report_run(
    run: Run,
    others: Sequence[Run],
    profiles: Sequence[HardwareProfile],
    measured: Sequence[Measurement | NotMeasured] = (),
    *,
    own: OwnAnn | None = None,
    x86_cores: int | None = None,
    progress: Progress = silent,
) -> Report:
    """Return the report of a run: task metrics, activity and cost with its host part, and the runs
    beside it.
    """
    from ashneuro.simulation.run import simulate

    deployed = need("ashneuro.model.deploy", extra="train", purpose="reading a run")
    path = run.path
    bundle = open_bundle(path)
    certificate = certified(bundle, path)
    program = bundle.program("integer")
    # Rasters of the few reference samples are drawn; energy is priced from counts over the whole
    # test part, where `evaluate` left them.
    rasters = simulate(bundle, bundle.reference.inputs, on="loihi", rasters="all")
    results = SavedResults.of(run, progress).fitting(program, path)
    record = results.counts or rasters
    # Accuracy decides which ANNs do the same job: on the same data, in the same arithmetic.
    measured_on, accuracy = next(iter(results.accuracies().items()), (None, None))
    beside = runs_beside(run, program, others, measured_on, progress)
    every = (results, *beside.results)
    evaluations = [item for one in every for item in one.evaluations]
    tasks = [item for one in every for item in one.tasks]
    not_run = {**results.not_run, **results.without_integers(path), **beside.not_run}
    lost: dict[str, str] = {}
    nothing: tuple[Measurement | NotMeasured, ...] = ()
    saved = read_or_name(lost, path / MEASURED, load_measurements, nothing)
    epochs = read_or_name(lost, path / METRICS, read_metrics, TrainingMetrics()).epochs
    facts = {"host, by torch's flop counter": host_flops(run.model), **({"questions": QUESTIONS} if tasks else {})}
    if problem := origin_problem(bundle.folder):
        not_run["comparison of the bundle's weights"] = f"{bundle.folder / ORIGIN} cannot be read: {problem}"
    not_run |= lost
    basic = Report(
        title=path.name,
        about={
            "run": str(path),
            "spikes": f"{record.source}, {record.precision}, {record.samples} images of {record.timesteps} steps",
            "weights, SHA-256": run.weights_sha256[:16],
        },
        config=dump_config(run.config),
        training=epochs,
        evaluations=evaluations,
        tasks=tasks,
        streams=[item for one in every for item in one.streams],
        not_run=not_run,
        facts=facts,
        certificate=certificate,
        raster=_one_raster(rasters),
        steps=_by_step(program, rasters, bundle.reference.inputs),
        step_samples=rasters.samples,
        measurements=[*saved, *measured],
        examples=evaluations[0].examples if evaluations else (),
        pictures=_pictures(run, evaluations[0].examples) if evaluations else {},
    )
    host = deployed.host_layers(run.model)
    metrics = {Role.HYBRID: results.metric(), **beside.metrics}
    accuracies = {**({} if accuracy is None else {Role.HYBRID: accuracy}), **beside.accuracies}
    return _priced(basic, program, record, profiles, host, beside.networks, metrics, own, accuracies, x86_cores)


def _priced(
    basic: Report,
    program: Program,
    record: SpikeRecord,
    profiles: Sequence[HardwareProfile],
    host: Sequence[HostLayer],
    others: Sequence[OtherNetwork],
    metrics: Mapping[Role, str],
    own: OwnAnn | None = None,
    accuracies: Mapping[Role, Accuracy] | None = None,
    x86_cores: int | None = None,
) -> Report:
    """Return ``basic`` with counts, estimates, placements on cores, and the comparison with ANN
    twins.
    """
    workload = count(program, record, host)
    chips = [item for item in profiles if item.kind == "neuromorphic"]
    # A network too large for one chip still has a price per event: the reason stands in the facts.
    deployments, facts = {}, dict(basic.facts)
    for chip in filter(can_place, chips):
        try:
            deployments[chip.name] = deploy(program, record, chip)
        except GraphError as error:
            facts[f"does not fit {chip.name}"] = error.why
    part = workload.part("deployed")
    estimates = {
        chip.name: replace(
            estimate(part, chip, deployment=deployments.get(chip.name), x86_cores=x86_cores),
            error=known_error(chip.name),
        )
        for chip in chips
    }
    comparison = compare_costs(
        workload,
        ann_twin(program, host_layers=host, timesteps=record.timesteps),
        node=next(item for item in profiles if item.kind == "asic"),
        chips=chips,
        machines=[item for item in profiles if item.kind in ("gpu", "cpu")],
        others=others,
        estimates=estimates,
        own=own,
        metrics=metrics,
        accuracies=accuracies,
    )
    if own is not None:
        facts[f"{own.name} (your ANN)"] = own.sentence()
    return replace(
        basic,
        own_ann=own,
        workload=workload,
        estimates=list(estimates.values()),
        comparison=replace(comparison, assumptions=basic.assumptions),
        placements=[one.placement for one in deployments.values()],
        profiles=list(profiles),
        facts=facts,
    )


def _one_raster(record: SpikeRecord) -> dict[str, NDArray[np.generic]]:
    """Return the spikes (T, neurons) of the first sample, per layer."""
    return {
        name: activity.raster[:, 0].reshape(record.timesteps, -1)
        for name, activity in record.layers.items()
        if activity.raster is not None and activity.binary
    }


def _pictures(run: Run, examples: Sequence[RetrievalExample]) -> dict[str, bytes]:
    """Return the pictures of retrieval examples as PNG files, by key of the pair; without those
    that are gone.
    """
    from PIL import Image

    splits = splits_of(run)
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
