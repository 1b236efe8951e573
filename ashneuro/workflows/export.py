"""Export: lower, quantise, prove, and write the deployable bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ashneuro.display import Brief
from ashneuro.errors import ConfigError, GraphError, ProofError, need
from ashneuro.evaluation import SpikeSource
from ashneuro.files import named
from ashneuro.program.assumption import Assumption
from ashneuro.program.bundle import Bundle, is_bundle, read_bundle, require_free, write_bundle
from ashneuro.program.certificate import Certificate, Comparison
from ashneuro.program.check import check
from ashneuro.program.netx.read import netx_findings
from ashneuro.program.nir_file import write_graph
from ashneuro.program.quantise import quantise
from ashneuro.program.rules.finding import Finding, require, some
from ashneuro.program.rules.graph import graph_findings
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.rules.open_fields import per_second_options
from ashneuro.workflows.lava import LOCAL_LAVA, LavaSettings, require_settings
from ashneuro.workflows.networks import Network, Overrides, contract_options, named_inputs, open_network
from ashneuro.workflows.noise import PROOF_NOISE
from ashneuro.workflows.places import HERE, Place, run_at
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.runs import list_left_out, pairs_of, skipping_broken

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.program.program import Program
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.spiking.integers import Integers
    from ashneuro.training.checkpoint import Run

PROOF_SAMPLES = 16

Accuracy = Callable[["Program"], Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True, eq=False, repr=False)
class Exported(Brief):
    """A bundle that was written, and its proof.

    Args:
        bundle: the bundle as it was read back.
        certificate: the result of the proof.
        notes: findings that do not forbid the export.
        samples_from: where the samples came from that the proof ran, in words.
    """

    bundle: Bundle
    certificate: Certificate
    notes: tuple[Finding, ...]
    samples_from: str = ""

    def _repr_html_(self) -> str:
        """Return the certificate as HTML tables, for notebooks."""
        return self.certificate._repr_html_()

    def simulate(self, inputs: Any = None, **options: Any) -> SpikeRecord:
        """Return the bundle's spikes by `ashneuro.simulate`, with its ``options``."""
        from ashneuro.workflows.simulate import simulate

        return simulate(self.bundle, inputs, **options)


def export(
    source: str | Path | nir.NIRGraph | Network | Bundle | Run,
    out: str | Path | None = None,
    *,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    samples: int = PROOF_SAMPLES,
    lava: LavaSettings | None = LOCAL_LAVA,
    contract: Overrides | None = None,
    accept_assumptions: bool = False,
    skip_broken: bool = False,
    place: Place = HERE,
    progress: Progress = silent,
) -> Exported:
    """Write the deployable bundle of a network and prove that it computes the same.

    Args:
        source: a run, a bundle, a NIR graph or file, or a lava-dl file.
        out: folder of the bundle. Default: RUN/bundle, or NAME.bundle beside the file.
        inputs: samples (T, B, *shape) that choose the integer scales; the proof runs the first of
            them. Default: the sample of a module, a bundle's reference, a run's validation images,
            or seeded noise.
        samples: number of samples in the proof.
        lava: settings of Lava; ``None``: the proof runs without Lava.
        contract: fields of `Contract` that win over the source's.
        accept_assumptions: export although spikes depend on what the source leaves open; bundle and
            certificate name the assumptions.
        skip_broken: leave out pictures of a run's data that cannot be read; RUN/left-out.txt lists
            them.
        place: where a run's data lie now.
        progress: called with (phase, done, total).

    Raises:
        GraphError: the network cannot be deployed; every reason at once. Or its spikes depend on
            what the source leaves open, and that was neither stated nor accepted.
        ProofError: the proof failed; nothing is written.
        BundleError: the folder is taken by something else.
        DataError: the inputs cannot be read or do not fit.
        ConfigError: ``samples`` is below 1, or ``lava`` is something else.
    """
    require_settings(lava)
    network = open_network(source, contract)
    folder = Path(out) if out is not None else default_folder(network)
    if samples < 1:
        raise ConfigError(f"--samples {samples}", "the proof runs at least one sample", "--samples 16")
    require_free(folder)  # before the work, not after it
    options = [f"--out {quote(str(out))}"] if out is not None else []
    options += [f"--inputs {quote(str(inputs))}"] if isinstance(inputs, str | Path) else []
    options += [f"--samples {samples}"] if samples != PROOF_SAMPLES else []
    options += ["--no-lava"] if lava is None else []
    if network.run:
        run = run_at(network.run, place)
        network = replace(network, run=skipping_broken(run) if skip_broken else run)
    prove = _Prover(folder, samples, lava, progress, accept_assumptions, options)
    exported = _export_netx(network, inputs, prove) if network.is_netx else _export_graph(network, inputs, prove)
    if network.run:
        from ashneuro.training.provenance import record_export

        list_left_out(network.run)
        record_export(network.run.path, exported.bundle.folder, exported.bundle.digest)
    return exported


def default_folder(network: Network) -> Path:
    """Return the default folder of a network's bundle."""
    if network.path is None:
        return Path(f"{network.name}.bundle")
    if (kept := _bundle_of(network)) is not None:
        return kept
    return network.path / "bundle" if network.run else named(network.path).with_suffix(".bundle")


def _bundle_of(network: Network) -> Path | None:
    """Return the bundle that a network was opened from; ``None``: from something else."""
    if network.path is None:
        return None
    folder = network.path.parent if network.is_netx else network.path
    return folder if is_bundle(folder) else None


def _kept_inputs(network: Network, timesteps: int | None) -> dict[str, NDArray[Any]] | None:
    """Return the samples that the bundle of a network carries; ``None``: none of that length."""
    folder = _bundle_of(network)
    kept = dict(read_bundle(folder).reference.inputs) if folder is not None else {}
    fit = kept and all(timesteps in (None, len(x)) for x in kept.values())
    return kept if fit else None


def export_nir(
    source: str | Path | nir.NIRGraph | Network | Bundle | Run,
    out: str | Path | None = None,
    *,
    contract: Overrides | None = None,
    accept_assumptions: bool = False,
) -> Path:
    """Write the NIR graph of a network, with its contract in the metadata; return the file.

    Assumed fields are kept apart from stated ones.

    Raises:
        GraphError: the graph is not valid, or the source is a lava-dl file, which has none. Or its
            spikes depend on what the source leaves open, and that was neither stated nor accepted.
    """
    network = open_network(source, contract)
    path = network.path
    if network.is_netx:
        raise GraphError(
            f"{source} has no NIR graph",
            "NIR holds floats, netx integers alone",
            f"ashneuro export {source} --target lava",
        )
    assert network.contract_read is not None
    require(check(network.wiring, network.contract_read, "nir"), f"{path or network.name} cannot be exported")
    if not accept_assumptions:
        require_stated(network, ["--target nir", *([f"--out {quote(str(out))}"] if out is not None else [])])
    if out is not None:
        file = Path(out)
    elif path is None:
        file = Path(f"{network.name}.nir")
    else:
        file = path / "network.nir" if network.run else named(path).with_suffix(".exported.nir")
    write_graph(file, network.wiring, network.contract_read)
    return file


def require_stated(network: Network, options: Sequence[str] = ()) -> None:
    """Raise `GraphError` if spikes depend on what the source of a network leaves open.

    Args:
        options: further options of the command that is to be repeated.
    """
    open_now = network.assumptions or ()
    decisive = [item for item in open_now if item.spikes]
    if not decisive:
        return
    name = network.path or network.name
    hints = {item: f"; {other}" for item in decisive if (other := _other_options(network, item))}
    why = "\n     ".join(f"{item}, assumed for {some(item.nodes)}{hints.get(item, '')}" for item in decisive)
    read = network.contract_read
    given = {} if read is None else {field: getattr(read.contract, field) for field in read.given}
    if read is None:
        own = {name: getattr(network.reading, name) for name in ("input_shape", "timesteps")}
        given |= {name: value for name, value in own.items() if value is not None}
    if network.path is None:
        fields = given | {item.field: item.value for item in open_now}
        stated = ", ".join(f"{field}={value!r}" for field, value in fields.items())
        do = f"ash.read(graph, {stated}), with the values that the network was made with; or accept_assumptions=True"
    else:
        words = [f"ashneuro export {quote(str(network.path))}", *options]
        stated = contract_options(given) + "".join(f" {item.option}" for item in open_now)
        do = (
            f"{' '.join(words)}{stated}\n     with the values that the network was made with;"
            " or --accept-assumptions (accept_assumptions=True), and every result names them"
        )
    raise GraphError(f"{name} does not say what its spikes depend on", why, do)


def _other_options(network: Network, item: Assumption) -> str:
    return "" if network.is_netx else per_second_options(network.wiring, item)


@dataclass(frozen=True)
class _Prover:
    """One export: where it goes, how many samples are proved, with which Lava.

    ``options`` are those of the command that an error is to repeat.
    """

    folder: Path
    samples: int
    lava: LavaSettings | None
    progress: Progress
    accept_assumptions: bool
    options: Sequence[str]

    def require_stated(self, network: Network) -> None:
        """Raise `GraphError` unless assumptions are accepted, or spikes depend on none."""
        if not self.accept_assumptions:
            require_stated(network, self.options)

    def few(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the samples that the proof runs."""
        return {name: x[:, : self.samples] for name, x in inputs.items()}


def _export_graph(network: Network, inputs: Any, prove: _Prover) -> Exported:
    """Return the bundle of a NIR graph; of a run with its accuracy, its learnt integers and its
    weights' hash.
    """
    from ashneuro.simulation.emulator.run_graph import graph_ports
    from ashneuro.training.provenance import run_origin

    contract, run = network.contract, network.run
    findings = graph_findings(network.wiring, contract)
    require(findings, f"{network.path or network.name} cannot be exported")
    prove.require_stated(network)
    # An imported network has no task, no learnt units and no weights file to be tied to.
    accuracy, integers, extra = None, None, {}
    if run is not None:
        accuracy, integers, extra = partial(run_accuracy, run), learnt_integers(run), run_origin(run.path)
    if inputs is not None:
        given, source = named_inputs(inputs, network.input_names), "the given inputs"
    elif network.sample is not None:
        given, source = named_inputs(network.sample, network.input_names), "the sample that the module was read with"
    elif (kept := _kept_inputs(network, contract.timesteps)) is not None:
        given, source = kept, "the bundle's reference"
    elif run is not None:
        from ashneuro.workflows.calibration import calibration_currents

        given, source = calibration_currents(run), "currents of held-out validation images"
    else:
        ports = graph_ports(network.wiring, contract)
        constant = contract.input_coding == "constant-current"
        given = PROOF_NOISE.inputs(ports, contract.timesteps, constant=constant)
        source = "random inputs: give --inputs for samples like those that will come"
    how = "integer units as learnt, compared on" if integers else "calibrated and compared on"
    exported = _build(network, given, prove, accuracy=accuracy, integers=integers, extra=extra)
    # What was mended, and which read-outs are no layer of the program.
    told = [finding for finding in findings if finding.rule in ("follows_from_graph", "read_outs_end")]
    said = [finding for finding in told if finding.level == "note"]
    return replace(exported, notes=(*said, *exported.notes), samples_from=f"{how} {source}")


def _build(
    network: Network,
    inputs: Mapping[str, NDArray[Any]],
    prove: _Prover,
    *,
    accuracy: Accuracy | None,
    integers: Integers | None,
    extra: Mapping[str, str],
) -> Exported:
    """Lower, quantise, prove and write.

    Args:
        inputs: (T, B, *shape) by input name: all of them choose the integer scales, the first are
            proved.
        accuracy: task metrics of the integer program and of the network that it stands for, by
            name.
        integers: the units that the network learnt with, which are then not chosen again.
        extra: further files of the bundle.
    """
    from ashneuro.simulation.calibrate import calibrate
    from ashneuro.simulation.lava.script import SCRIPT, lava_script, template_sha256
    from ashneuro.simulation.proof.certify import certify

    program = network.program
    if integers is not None:
        # Trained with these units: choosing others would deploy another network.
        peak = {port.name: integers.input_peak for port in program.inputs}
        quantisation = quantise(program, input_peak=peak, scales=integers.scales)
    else:
        tick = partial(prove.progress, "choosing integer scales")
        quantisation = calibrate(program, inputs, progress=tick).quantisation
    proof = certify(
        network.wiring,
        network.contract,
        {"float": program, "integer": quantisation.program},
        prove.few(inputs),
        **proof_options(prove.lava),
        progress=partial(prove.progress, "proving"),
    )
    # A failed proof writes nothing, so that no folder looks like a bundle and is none.
    require_proof(proof.certificate, prove.folder)
    certificate = replace(proof.certificate, source=network.source)
    if accuracy is not None:
        certificate = replace(certificate, accuracy=accuracy(quantisation.program))
    bundle = write_bundle(
        prove.folder,
        network.wiring,
        network.contract_read,
        program,
        quantisation.program,
        proof.reference,
        certificate,
        costs=quantisation.costs,
        extra={SCRIPT: lava_script(program), **extra},
        script_template=template_sha256(),
    )
    return Exported(bundle, certificate, quantisation.findings)


def _export_netx(network: Network, inputs: Any, prove: _Prover) -> Exported:
    """Return the bundle of a lava-dl network, integers from the start; the emulator's answers are
    its reference.
    """
    from ashneuro.simulation.lava.script import SCRIPT, lava_script, template_sha256
    from ashneuro.simulation.proof.certify import certify

    path, program = network.path, network.program
    assert path is not None
    notes = (*netx_findings(path, network.reading), *check_program(program))
    require(notes, f"{path} cannot be exported")
    prove.require_stated(network)
    if inputs is not None:
        given, source = named_inputs(inputs, [port.name for port in program.inputs]), "the given inputs"
    elif (kept := _kept_inputs(network, program.timesteps)) is not None:
        given, source = kept, "the bundle's reference"
    else:
        given, source = PROOF_NOISE.inputs(program.inputs, program.timesteps), "random inputs"
    proof = certify(
        None,
        None,
        {"integer": program},
        prove.few(given),
        **proof_options(prove.lava),
        progress=partial(prove.progress, "proving"),
    )
    require_proof(proof.certificate, prove.folder)
    bundle = write_bundle(
        prove.folder,
        path,
        None,
        None,
        program,
        proof.reference,
        proof.certificate,
        extra={SCRIPT: lava_script(program)},
        script_template=template_sha256(),
    )
    return Exported(bundle, proof.certificate, notes, f"the file's own integers, compared on {source}")


def proof_options(lava: LavaSettings | None) -> dict[str, Any]:
    """Return the arguments of `certify` that concern Lava; ``None``: Lava does not run."""
    from ashneuro.simulation.lava.stock import PROOF_STOCK

    return {"lava": False} if lava is None else {"worker": lava.open, "stock": lava.stock_samples(PROOF_STOCK)}


def require_proof(certificate: Certificate, folder: Path) -> None:
    """Raise `ProofError` when two computations that must be equal differ."""
    if certificate.failed:
        broken = [c for c in certificate.comparisons if c.required and c.status == "different"]
        why = "; ".join(
            f"{c.left} and {c.right} differ in {c.mismatches} of {c.compared} values, first in {_first(c)}"
            for c in broken
        )
        remedy = "where v comes to lie on v_threshold, rounding decides: make v_threshold a little lower or higher"
        raise ProofError(f"{folder} was not written: the proof failed", why, remedy)


def _first(comparison: Comparison) -> str:
    """Return the first difference of a comparison, in words."""
    assert comparison.first is not None
    layer, (sample, step, neuron) = comparison.first
    return f"{layer}, sample {sample}, step {step}, neuron {neuron}"


def run_accuracy(run: Run, integer: Program) -> dict[str, dict[str, float]]:
    """Return R@1 of a run on its test part, by the arithmetic of the spikes.

    The model's own (float32, or learnt integers) and the integer program's; nothing for a run that
    learned tasks alone.
    """
    from ashneuro.simulation.emulator.run_program import run_program

    if run.config.schedule and all(stage.task != "retrieval" for stage in run.config.schedule):
        return {}  # it never learned to retrieve; `evaluate --task` says how it answers from either spikes
    pairs, split = pairs_of(run, "test")
    scoring = need("ashneuro.training.evaluate", extra="train", purpose="evaluating a run")

    def encoder(parts: Iterable[Any]) -> Iterator[Any]:
        (output,) = integer.outputs
        return (run_program(integer, currents, rasters=[output]).layers[output].raster for currents in parts)

    result = {}
    learnt = "float32" if learnt_integers(run) is None else "learnt integers"
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


def learnt_integers(run: Run) -> Integers | None:
    """Return the integer units that a run learnt with; ``None`` for floating point."""
    encoder = run.model.abstract
    return None if encoder is None else encoder.integers
