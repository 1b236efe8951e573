"""``ashneuro export``: the deployable bundle, and the proof that it computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.evaluate import open_run
from ashneuro.commands.lava_options import LavaOptions
from ashneuro.commands.targets import ContractOptions, Kind, input_names, load_graph, load_inputs, network_of
from ashneuro.commands.tasks import pictures_for
from ashneuro.errors import ConfigError, GraphError, ProofError, need
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    import nir

    from ashneuro.data.pairs import Pair
    from ashneuro.model.network import AshNet
    from ashneuro.program.bundle import Bundle
    from ashneuro.program.certificate import Certificate, Comparison
    from ashneuro.program.program import InputPort, Program
    from ashneuro.program.rules.finding import Finding
    from ashneuro.spiking.contract import Contract
    from ashneuro.spiking.integers import Integers

RANDOM_SAMPLES = 16
RANDOM_STEPS = 16
RANDOM_RATE = 0.2
CALIBRATION_IMAGES = 128

Accuracy = Callable[["Program"], Mapping[str, Mapping[str, float]]]


def export(
    path: Path,
    /,
    *,
    target: Literal["lava", "nir"] = "lava",
    out: Annotated[
        Path | None, Parameter(help="Where it goes. Default: RUN/bundle, or NAME.bundle beside the file.")
    ] = None,
    inputs: Annotated[
        Path | None, Parameter(help="Inputs (T, B, *shape), .npy or .npz, to calibrate on and to prove with.")
    ] = None,
    samples: Annotated[int, Parameter(help="How many samples the proof runs.")] = 16,
    lava: Annotated[bool, Parameter(help="Run Lava for the proof.")] = True,
    options: LavaOptions | None = None,
    contract: ContractOptions | None = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of tables.", negative=())] = False,
) -> int:
    """Write the deployable bundle and prove that it computes the same. Exit code 1 when the proof fails.

    Args:
        path: a run, a .nir file, or a lava-dl .net file.
        target: lava: a bundle with programs, reference spikes, certificate and a Lava script; nir: the graph alone.
    """
    from ashneuro.program.bundle import require_free

    kind, network = network_of(path)
    if target == "nir":
        return graph_alone(path, kind, out, contract or ContractOptions(), json)
    folder = out or (path / "bundle" if kind == "run" else path.with_suffix(".bundle"))
    if samples < 1:
        raise ConfigError(f"--samples {samples}", "the proof runs at least one sample", "--samples 16")
    require_free(folder)  # said before the work, not after it
    how, contract = (options or LavaOptions()) if lava else None, contract or ContractOptions()
    if kind == "netx":
        contract.require_none(path)
        exported = export_netx(network, inputs, folder, samples=samples, lava=how)
    else:
        exported = export_graph(path, kind, inputs, contract, folder, samples=samples, lava=how)
    bundle, certificate = exported.bundle, exported.certificate
    if json:
        terminal.json(
            {
                "bundle": bundle.folder,
                "inputs": exported.origin,
                "notes": [asdict(note) for note in exported.notes],
                "costs": [asdict(cost) for cost in bundle.costs],
                "certificate": certificate.to_json(),
            }
        )
        return 0
    terminal.line(exported.origin)
    terminal.findings(exported.notes)
    if bundle.costs:
        terminal.quantisation(bundle.costs)
    terminal.certificate(certificate)
    terminal.wrote(bundle.folder)
    subject = path if kind == "run" else bundle.folder
    terminal.next_steps(
        f"ashneuro verify {bundle.folder}",
        f"ashneuro simulate {bundle.folder} --on lava",
        f"ashneuro report {subject} --profile loihi1",
    )
    return 0


@dataclass(frozen=True, eq=False)
class Exported:
    """A bundle, what was proved of it, what there is to note, and what it was calibrated on."""

    bundle: Bundle
    certificate: Certificate
    notes: tuple[Finding, ...]
    origin: str = ""


def graph_alone(path: Path, kind: Kind, out: Path | None, options: ContractOptions, json: bool) -> int:
    """Write the NIR graph of a run, a bundle or a file, with its contract in its metadata."""
    from ashneuro.program.check import check
    from ashneuro.program.nir_file import write_graph
    from ashneuro.program.rules.finding import require

    if kind == "netx":
        raise GraphError(
            f"{path} has no NIR graph", "NIR holds floats, netx integers alone", f"ashneuro export {path} --target lava"
        )
    graph, read = load_graph(path, options)
    require(check(graph, read, "nir"), f"{path} cannot be exported")
    file = out or (path / "network.nir" if kind == "run" else path.with_suffix(".exported.nir"))
    write_graph(file, graph, read.contract)
    if json:
        terminal.json({"graph": file, "contract": asdict(read.contract)})
        return 0
    terminal.wrote(file)
    terminal.next_steps(f"ashneuro simulate {file} --on torch --inputs x.npy")
    return 0


def export_graph(
    path: Path,
    kind: Kind,
    inputs: Path | None,
    options: ContractOptions,
    folder: Path,
    *,
    samples: int,
    lava: LavaOptions | None,
) -> Exported:
    """Return the bundle of a run, a bundle or a NIR file.

    Raises:
        GraphError, BundleError: as `build`.
    """
    from ashneuro.program.rules.finding import require
    from ashneuro.program.rules.graph import graph_findings
    from ashneuro.program.wiring import wire
    from ashneuro.training.provenance import run_origin

    graph, read = load_graph(path, options)
    require(graph_findings(wire(graph), read.contract), f"{path} cannot be exported")
    more: dict[str, Any] = {}
    if kind == "run":
        more = {"extra": run_origin(path), "accuracy": partial(run_accuracy, path), "integers": learnt_integers(path)}
    if inputs:
        given, origin = load_inputs(inputs, input_names(graph)), "the given inputs"
    elif kind == "run":
        given, origin = run_currents(path), "currents of held-out validation images"
    else:
        given, origin = (
            random_inputs(graph, read.contract),
            "random inputs: give --inputs for samples like those that will come",
        )
    exported = build(graph, read.contract, given, folder, samples=samples, lava=lava, **more)
    how = "integer units as learnt, compared on" if more.get("integers") else "calibrated and compared on"
    return replace(exported, origin=f"{how} {origin}")


def build(
    graph: nir.NIRGraph,
    contract: Contract,
    inputs: dict[str, Any],
    folder: Path,
    *,
    samples: int,
    lava: LavaOptions | None,
    accuracy: Accuracy = lambda program: {},
    integers: Integers | None = None,
    extra: Mapping[str, str] | None = None,
) -> Exported:
    """Lower, quantise, prove and write.

    Args:
        inputs: (T, B, *shape) by input name: all of them choose the integer scales, the first ``samples`` are the reference.
        accuracy: task metrics of the integer program and of the network that it stands for, by name.
        integers: the units that the network learnt with, which are then not chosen again.
        extra: further files of the bundle.
        lava: how Lava runs for the proof; ``None``: it does not.

    Raises:
        GraphError: the graph cannot be deployed; every reason at once.
        ProofError: the proof failed; nothing is written.
    """
    from ashneuro.program.bundle import write_bundle
    from ashneuro.program.lower import lower
    from ashneuro.program.quantise import quantise
    from ashneuro.simulation.calibrate import calibrate
    from ashneuro.simulation.lava.script import SCRIPT, lava_script
    from ashneuro.simulation.proof.certify import certify

    program = lower(graph, contract)
    if integers is not None:
        peak = {port.name: integers.input_peak for port in program.inputs}
        quantisation = quantise(program, input_peak=peak, scales=integers.scales)
    else:
        with terminal.counting("choosing integer scales") as tick:
            quantisation = calibrate(program, inputs, progress=tick).quantisation
    few = {name: x[:, :samples] for name, x in inputs.items()}
    with terminal.counting("proving") as tick:
        proof = certify(
            graph, contract, {"float": program, "integer": quantisation.program}, few, **proof_of(lava), progress=tick
        )
    require_proof(proof.certificate, folder)
    certificate = replace(proof.certificate, accuracy=accuracy(quantisation.program))
    bundle = write_bundle(
        folder,
        graph,
        contract,
        program,
        quantisation.program,
        proof.reference,
        certificate,
        costs=quantisation.costs,
        extra={SCRIPT: lava_script(program), **(extra or {})},
    )
    return Exported(bundle, certificate, quantisation.findings)


def export_netx(path: Path, inputs: Path | None, folder: Path, *, samples: int, lava: LavaOptions | None) -> Exported:
    """Return the bundle of a lava-dl network, which is in integers already: the emulator's answers are its reference.

    Raises:
        GraphError: the file holds what a program cannot express.
        ProofError: the proof failed; nothing is written.
    """
    from ashneuro.program.bundle import write_bundle
    from ashneuro.program.netx.read import netx_findings, read_netx
    from ashneuro.program.rules.finding import require
    from ashneuro.program.rules.loihi import check_program
    from ashneuro.simulation.lava.script import SCRIPT, lava_script
    from ashneuro.simulation.proof.certify import certify

    program = read_netx(path)
    notes = (*netx_findings(path), *check_program(program))
    require(notes, f"{path} cannot be exported")
    given, origin = random_samples(program.inputs, program.timesteps or RANDOM_STEPS), "random inputs"
    if inputs:
        given, origin = load_inputs(inputs, [port.name for port in program.inputs]), "the given inputs"
    few = {name: x[:, :samples] for name, x in given.items()}
    with terminal.counting("proving") as tick:
        proof = certify(None, None, {"integer": program}, few, **proof_of(lava), progress=tick)
    require_proof(proof.certificate, folder)
    bundle = write_bundle(
        folder,
        path,
        None,
        None,
        program,
        proof.reference,
        proof.certificate,
        extra={SCRIPT: lava_script(program)},
    )
    return Exported(bundle, proof.certificate, notes, f"the file's own integers, compared on {origin}")


def proof_of(lava: LavaOptions | None) -> dict[str, Any]:
    """Return what `certify` is told of Lava."""
    from ashneuro.simulation.lava.stock import PROOF_STOCK

    return {"lava": False} if lava is None else {"worker": lava.opened, "stock": lava.stock_samples(PROOF_STOCK)}


def require_proof(certificate: Certificate, folder: Path) -> None:
    """Raise `ProofError` when a computation that must be equal is not."""
    if certificate.failed:
        broken = [c for c in certificate.comparisons if c.required and c.status == "different"]
        why = "; ".join(
            f"{c.left} and {c.right} differ in {c.mismatches} of {c.compared} values, first in {_first(c)}"
            for c in broken
        )
        remedy = "where v comes to lie on v_threshold, rounding decides: make v_threshold a little lower or higher"
        raise ProofError(f"{folder} was not written: the proof failed", why, remedy)


def _first(comparison: Comparison) -> str:
    """Return where a comparison that is not equal differs first."""
    assert comparison.first is not None
    layer, (sample, step, neuron) = comparison.first
    return f"{layer}, sample {sample}, step {step}, neuron {neuron}"


def run_accuracy(path: Path, integer: Program) -> dict[str, dict[str, float]]:
    """Return R@1 of a run on its test part, with the spikes of the model (float32, or learnt integers) and of its integer program.

    Nothing for a run that learned tasks alone.
    """
    from ashneuro.evaluation import SpikeSource
    from ashneuro.simulation.emulator.run_program import run_program

    run, pairs, split = open_run(path, "test", None)
    if run.config.schedule and all(stage.task != "retrieval" for stage in run.config.schedule):
        return {}  # it never learned to retrieve; `evaluate --task` says how it answers from either spikes
    scoring = need("ashneuro.training.evaluate", extra="train", purpose="evaluating a run")

    def encoder(parts: Iterable[Any]) -> Iterator[Any]:
        (output,) = integer.outputs
        return (run_program(integer, currents, rasters=[output]).layers[output].raster for currents in parts)

    result = {}
    learnt = "float32" if learnt_integers(path) is None else "learnt integers"
    for name, spikes, source in ((learnt, None, SpikeSource.TORCH), ("integer", encoder, SpikeSource.EMULATOR)):
        evaluation = scoring.evaluate(
            run.model, run.vocabulary, pairs, run.config.data, split=split, encoder=spikes, spikes_from=source
        )
        row = evaluation.rows[0]
        result[name] = {
            "image to text R@1": row.image_to_text["R@1"],
            "text to image R@1": row.text_to_image["R@1"],
            "images": len(pairs),
        }
    return result


def run_currents(path: Path) -> dict[str, Any]:
    """Return the first currents (T, B, *shape) of a run's validation images, or of training images where there are none."""
    run = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run").load_run(path)
    pictures = (pictures_for(run, "validation") or pictures_for(run, "train"))[:CALIBRATION_IMAGES]
    return first_currents(run.model, pictures, run.config.data.image_size)


def first_currents(model: AshNet, pairs: Sequence[Pair], image_size: int) -> dict[str, Any]:
    """Return the currents (T, B, *shape) that the host sends for the images of ``pairs``, by input name."""
    import numpy as np

    batches = need("ashneuro.data.batches", extra="train", purpose="reading a run")
    torch = need("torch", extra="train", purpose="reading a run")
    images = batches.normalise(batches.load_images(pairs, image_size)).to(model.log_scale.device)
    training = model.training
    with torch.no_grad():
        currents = model.eval().currents(images).cpu().numpy()
    model.train(training)
    steps = model.config.abstract.timesteps
    return {"input": np.broadcast_to(currents, (steps, *currents.shape)).copy()}


def learnt_integers(path: Path) -> Integers | None:
    """Return the integer units that the run at ``path`` learnt with; ``None`` where it learnt in floating point."""
    encoder = open_run(path, "train", None)[0].model.abstract
    return None if encoder is None else encoder.integers


def random_inputs(graph: nir.NIRGraph, contract: Contract) -> dict[str, Any]:
    """Return seeded random samples for every input of a sound graph: spikes, or currents of unit variance."""
    from ashneuro.program.wiring import wire
    from ashneuro.simulation.emulator.run_graph import graph_ports

    ports = graph_ports(wire(graph), contract)
    return random_samples(
        ports, contract.timesteps or RANDOM_STEPS, constant=contract.input_coding == "constant-current"
    )


def random_samples(ports: Sequence[InputPort], timesteps: int, *, constant: bool = False) -> dict[str, Any]:
    """Return 16 seeded random samples per port: spikes at 20 %, or analog values of unit variance, at most what integers can send.

    Args:
        constant: analog values are the same in every step.
    """
    import numpy as np

    random = np.random.default_rng(0)
    result: dict[str, Any] = {}
    for port in ports:
        shape = (timesteps, RANDOM_SAMPLES, *port.shape)
        if port.coding == "spikes":
            result[port.name] = (random.random(shape) < RANDOM_RATE).astype(np.uint8)
            continue
        values = np.broadcast_to(random.normal(size=shape[1:]), shape).copy() if constant else random.normal(size=shape)
        result[port.name] = values * (port.limit / port.scale / 4) if port.limit else values
    return result
