"""SANA-FE: write a network in its format, run it there, and compare the spikes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ashneuro.cost.cores import core_limits
from ashneuro.cost.profile import load_profile
from ashneuro.errors import BundleError, ConfigError, MissingDependency
from ashneuro.files import named
from ashneuro.program.assumption import Assumptions
from ashneuro.program.bundle import Bundle
from ashneuro.program.certificate import LayerComparison
from ashneuro.program.check import sanafe_findings
from ashneuro.program.placement.place import place
from ashneuro.program.placement.placement import CoreLimits, Placement
from ashneuro.program.program import Program
from ashneuro.program.rules.finding import Finding, require
from ashneuro.workflows.export import require_stated
from ashneuro.workflows.networks import Network, Overrides, has_bundle, open_network
from ashneuro.workflows.noise import PROOF_NOISE
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.simulate import with_inputs

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.cost.second_opinion import SecondOpinion
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.simulation.sanafe.run import SanafeRun

PROFILE = "loihi1-sanafe"  # SANA-FE's own numbers of Loihi
SAMPLES = 16


@dataclass(frozen=True, eq=False)
class SanafeExport:
    """A network that was written for SANA-FE, and its comparison with the integer program.

    Args:
        folder: what was written; ``python FOLDER/run_sanafe.py`` runs it.
        placement: cores of the layers.
        notes: findings that do not forbid the export.
        samples, timesteps: size of the inputs that it holds.
        samples_from: where the inputs came from, in words.
        proof: spikes of SANA-FE against those of the integer program, by layer; empty where
            SANA-FE is not installed.
        not_proved: why there is no proof, and the command for it.
        assumptions: what the network's source left open.
    """

    folder: Path
    placement: Placement
    notes: tuple[Finding, ...]
    samples: int
    timesteps: int
    samples_from: str
    proof: tuple[LayerComparison, ...] = ()
    not_proved: str = ""
    assumptions: Assumptions = ()


@dataclass(frozen=True, eq=False)
class SanafeNetwork:
    """An integer program with samples, as SANA-FE takes it.

    Args:
        program: the integer program.
        inputs: (T, B, *shape) by input name.
        placement: its cores.
        findings: notes; none of them forbids it.
        samples_from: where the samples came from, in words.
    """

    program: Program
    inputs: Mapping[str, NDArray[np.generic]]
    placement: Placement
    findings: tuple[Finding, ...]
    samples_from: str

    @property
    def size(self) -> tuple[int, int]:
        """Steps and samples of the inputs."""
        steps, samples = next(iter(self.inputs.values())).shape[:2]
        return steps, samples

    def record(self) -> SpikeRecord:
        """Return the spikes of the integer program, with every raster."""
        from ashneuro.simulation.emulator.run_program import run_program

        return run_program(self.program, self.inputs, rasters=[layer.name for layer in self.program.layers])

    def run(self, folder: Path) -> SanafeRun:
        """Write the network into ``folder`` and run it in SANA-FE."""
        from ashneuro.simulation.sanafe.netlist import write_network
        from ashneuro.simulation.sanafe.run import run

        write_network(folder, self.program, self.placement, self.inputs)
        return run(folder, self.program)


def sanafe_limits() -> CoreLimits:
    """Return the cores of SANA-FE's Loihi."""
    return core_limits(load_profile(PROFILE))


def export_sanafe(
    source: str | Path | nir.NIRGraph | Network | Bundle,
    out: str | Path | None = None,
    *,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    samples: int = SAMPLES,
    contract: Overrides | None = None,
    accept_assumptions: bool = False,
    progress: Progress = silent,
) -> SanafeExport:
    """Write a network for SANA-FE: weights, neurons, cores and samples; run it where SANA-FE is
    installed, and compare its spikes with those of the integer program.

    Args:
        source: an exported run, a bundle, a NIR graph or file, or a lava-dl file.
        out: folder, which is made. Default: NAME.sanafe beside the source.
        inputs: samples (T, B, *shape). Default: a bundle's reference, or seeded noise.
        samples: the most samples that are written.
        contract: fields of `Contract` that win over the source's.
        accept_assumptions: write a network although its spikes depend on what its source leaves
            open. A bundle was written with them stated or accepted.
        progress: called with (phase, done, total).

    Raises:
        GraphError: SANA-FE's model cannot compute the network; every reason at once. Or its spikes
            depend on what the source leaves open, and that was neither stated nor accepted.
        ConfigError: ``samples`` is below 1.
        AshneuroError: the folder is taken by something else, or SANA-FE failed.
    """
    from ashneuro.simulation.sanafe.environment import find_environment
    from ashneuro.simulation.sanafe.netlist import PLAN, SCRIPT, write_network
    from ashneuro.simulation.sanafe.run import compare_spikes, run

    folder = Path(out) if out is not None else _default_folder(source)
    _require_free(folder, PLAN)
    network = None if has_bundle(source) else open_network(source, contract)
    opened, open_fields = (source, contract) if network is None else (network, None)
    found = sanafe_network(opened, inputs, samples, open_fields, progress)
    if network is not None and not accept_assumptions:
        given = [("--out", out), ("--inputs", inputs if isinstance(inputs, str | Path) else None)]
        options = [f"{name} {quote(str(value))}" for name, value in given if value is not None]
        require_stated(network, ["--target sanafe", *options])
    write_network(folder, found.program, found.placement, found.inputs)
    steps, number = found.size
    written = partial(
        SanafeExport,
        folder,
        found.placement,
        found.findings,
        number,
        steps,
        found.samples_from,
        assumptions=found.program.assumptions,
    )
    try:
        environment = find_environment()
    except MissingDependency as error:
        command = f"{error.do}; then: {folder.name}/{SCRIPT}"
        return written(not_proved=f"{error.what}; {command}")
    progress(f"running SANA-FE {environment.version}", 0, 0)
    return written(proof=compare_spikes(found.record(), run(folder, found.program)))


def sanafe_network(
    source: str | Path | nir.NIRGraph | Network | Bundle,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    samples: int = SAMPLES,
    contract: Overrides | None = None,
    progress: Progress = silent,
) -> SanafeNetwork:
    """Return the integer program of a network with samples and cores; arguments as `export_sanafe`.

    Raises:
        GraphError: SANA-FE's model cannot compute it; every reason at once.
        ConfigError: ``samples`` is below 1.
    """
    if samples < 1:
        raise ConfigError(f"--samples {samples}", "SANA-FE runs at least one sample", f"--samples {SAMPLES}")
    program, given, where = _integers(source, inputs, contract, progress)
    return _prepared(program, given, samples, where)


def second_opinion(program: Program, inputs: Mapping[str, Any], samples: int = SAMPLES) -> SecondOpinion:
    """Return SANA-FE's energy and time of an integer program beside ours, on the first samples.

    Args:
        inputs: (T, B, *shape) by input name.
        samples: the most samples that SANA-FE runs.

    Raises:
        GraphError: SANA-FE's model cannot compute it; every reason at once.
        MissingDependency: SANA-FE is not installed.
        AshneuroError: SANA-FE failed.
    """
    from ashneuro.cost.second_opinion import sanafe_opinion

    network = _prepared(program, inputs, samples, "")
    with TemporaryDirectory(prefix="ashneuro-sanafe-") as folder:
        return sanafe_opinion(program, network.record(), network.run(Path(folder)))


def _prepared(program: Program, inputs: Mapping[str, Any], samples: int, where: str) -> SanafeNetwork:
    limits = sanafe_limits()
    findings = sanafe_findings(program, limits)
    require(findings, "SANA-FE cannot compute this network")
    few = {port.name: inputs[port.name][:, :samples] for port in program.fed_inputs}
    return SanafeNetwork(program, few, place(program, limits), tuple(findings), where)


def _integers(
    source: Any, inputs: Any, contract: Overrides | None, progress: Progress
) -> tuple[Program, Mapping[str, Any], str]:
    """Return an integer program, samples (T, B, *shape), and where these came from."""
    from ashneuro.simulation.run import program_of

    if inputs is None and not has_bundle(source):
        network = open_network(source, contract)
        constant = not network.is_netx and network.contract.input_coding == "constant-current"
        program = network.program
        given: Mapping[str, Any] = PROOF_NOISE.inputs(program.fed_inputs, program.timesteps, constant=constant)
        progress("choosing integer scales", 0, 0)
        own = program if network.is_netx else network.simulable
        return program_of(own, given, "integer"), given, "noise: give --inputs for samples like those that will come"
    target, given = with_inputs(source, inputs, contract)
    program = program_of(target, given, "integer")
    return program, given, "the bundle's reference" if inputs is None else "the given inputs"


def _require_free(folder: Path, plan: str) -> None:
    """Raise a `BundleError` if ``folder`` holds something that an export must not replace."""
    if folder.exists() and not (folder.is_dir() and ((folder / plan).exists() or not any(folder.iterdir()))):
        why = "it holds something else, which is never overwritten"
        raise BundleError(f"{folder} is not a network for SANA-FE", why, "choose another folder with --out")


def _default_folder(source: object) -> Path:
    if isinstance(source, Bundle):
        return named(source.folder).with_suffix(".sanafe")
    if isinstance(source, Network):
        return named(source.path or Path(source.name)).with_suffix(".sanafe")
    return named(Path(source)).with_suffix(".sanafe") if isinstance(source, str | Path) else Path("network.sanafe")
