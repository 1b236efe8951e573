"""``ashneuro export``: the deployable bundle, and the proof that it computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.options import (
    AsJson,
    ContractOptions,
    DataOptions,
    LavaOptions,
    SkipBroken,
    StreamOptions,
    Whole,
)
from ashneuro.errors import ConfigError
from ashneuro.reporting import tables, terminal

if TYPE_CHECKING:
    from ashneuro.workflows.export import Exported
    from ashneuro.workflows.lava import LavaSettings
    from ashneuro.workflows.networks import Network


def export(
    path: Path,
    /,
    *,
    target: Literal["lava", "nir", "sanafe"] = "lava",
    out: Annotated[
        Path | None, Parameter(help="Where it goes. Default: RUN/bundle, or NAME.bundle beside the file.")
    ] = None,
    inputs: Annotated[
        Path | None, Parameter(help="Inputs (T, B, *shape), .npy or .npz, for calibration and for the proof.")
    ] = None,
    samples: Annotated[Whole, Parameter(help="Number of samples in the proof.")] = 16,
    lava: Annotated[bool, Parameter(help="Run Lava for the proof.")] = True,
    stream: StreamOptions | None = None,
    options: LavaOptions | None = None,
    contract: ContractOptions | None = None,
    accept_assumptions: Annotated[
        bool,
        Parameter(help="Accept what the file leaves open and spikes depend on; the bundle lists it.", negative=()),
    ] = False,
    where: DataOptions | None = None,
    skip_broken: SkipBroken = False,
    json: AsJson = False,
) -> int:
    """Write the deployable bundle and prove that it computes the same.

    Exit code 1 if the proof fails.

    Args:
        path: a run, a bundle, a .nir file, or a lava-dl .net file.
        target: lava: a bundle with programs, reference spikes, certificate and a Lava script; nir:
            the graph alone; sanafe: the network with its cores for SANA-FE, and the comparison with
            its spikes where it is installed.
    """
    from ashneuro.workflows.export import export as run
    from ashneuro.workflows.networks import open_network

    clips = stream or StreamOptions()
    if clips.stream is not None:
        flags = {"accept-assumptions": accept_assumptions, "skip-broken": skip_broken}
        _require_of_a_stream(target, inputs, where, contract, flags)
        return _stream(path, clips, out, samples, (options or LavaOptions()).settings() if lava else None, json)
    clips.require_unused()
    network = open_network(path, contract.overrides() if contract else {})
    if target == "nir":
        return _graph_alone(network, out, accept_assumptions, json)
    if target == "sanafe":
        # A bundle and an exported run keep their integers and samples.
        return _for_sanafe(path, out, inputs, samples, contract, accept_assumptions, json)
    with terminal.progress() as progress:
        exported = run(
            network,
            out,
            inputs=inputs,
            samples=samples,
            lava=(options or LavaOptions()).settings() if lava else None,
            accept_assumptions=accept_assumptions,
            skip_broken=skip_broken,
            place=(where or DataOptions()).place(),
            progress=progress,
        )
    _show(
        exported,
        json,
        f"ashneuro report {quote(str(path if network.run else exported.bundle.folder))} --profile loihi1",
        network.run.path if network.run else None,
    )
    return 0


def _show(exported: Exported, json: bool, last_step: str, run: Path | None) -> None:
    from ashneuro.program.assumption import to_json

    bundle = exported.bundle
    if json:
        terminal.json(
            {
                "bundle": bundle.folder,
                "digest": bundle.digest,
                "inputs": exported.samples_from,
                "assumptions": to_json(bundle.assumptions),
                "notes": [asdict(note) for note in exported.notes],
                "costs": [asdict(cost) for cost in bundle.costs],
                "certificate": exported.certificate.to_json(),
            }
        )
        return
    terminal.line(exported.samples_from)
    terminal.findings(exported.notes)
    if bundle.costs:
        terminal.quantisation(bundle.costs)
    terminal.certificate(exported.certificate)
    if run is not None:
        terminal.left_out(run)
    terminal.wrote(bundle.folder)
    terminal.line(f"digest {bundle.digest}")
    folder = quote(str(bundle.folder))
    terminal.next_steps(
        f"ashneuro verify {folder} --digest {bundle.digest}", f"ashneuro simulate {folder} --on lava", last_step
    )


def _require_of_a_stream(
    target: str,
    inputs: Path | None,
    where: DataOptions | None,
    contract: ContractOptions | None,
    flags: Mapping[str, bool],
) -> None:
    """Raise `ConfigError` for options that an encoder by changes does not take.

    Args:
        flags: by name, whether it was given.
    """
    given = [f"--target {target}"] * (target != "lava") + ["--inputs"] * (inputs is not None)
    named = vars(where or DataOptions()) | vars(contract or ContractOptions())
    given += [f"--{name.replace('_', '-')}" for name, value in named.items() if value is not None]
    given += [f"--{name}" for name, there in flags.items() if there]
    if given:
        why = "the encoder by changes of a run is proved on clips, and goes to Lava"
        raise ConfigError(f"--stream with {', '.join(given)}", why, "leave it out")


def _stream(
    path: Path, clips: StreamOptions, out: Path | None, samples: int, lava: LavaSettings | None, json: bool
) -> int:
    from ashneuro.workflows.streams import export_stream

    assert clips.stream is not None
    with terminal.progress() as progress:
        exported = export_stream(
            path, clips.stream, out, settings=clips.settings(), samples=samples, lava=lava, progress=progress
        )
    _show(exported, json, f"ashneuro evaluate {quote(str(path))} --stream {quote(clips.stream)}", path)
    return 0


def _graph_alone(network: Network, out: Path | None, accept_assumptions: bool, json: bool) -> int:
    from ashneuro.program.assumption import to_json
    from ashneuro.workflows.export import export_nir

    file = export_nir(network, out, accept_assumptions=accept_assumptions)
    if json:
        found = to_json(network.assumptions)
        terminal.json({"graph": file, "contract": asdict(network.contract), "assumptions": found})
        return 0
    terminal.assumptions(network.assumptions)
    terminal.wrote(file)
    terminal.next_steps(f"ashneuro simulate {quote(str(file))} --on torch --inputs x.npy")
    return 0


def _for_sanafe(
    path: Path,
    out: Path | None,
    inputs: Path | None,
    samples: int,
    contract: ContractOptions | None,
    accept_assumptions: bool,
    json: bool,
) -> int:
    from ashneuro.program.assumption import to_json
    from ashneuro.workflows.networks import contract_options, kind_of
    from ashneuro.workflows.sanafe import export_sanafe

    with terminal.progress() as progress:
        written = export_sanafe(
            path,
            out,
            inputs=inputs,
            samples=samples,
            contract=contract.overrides() if contract else {},
            accept_assumptions=accept_assumptions,
            progress=progress,
        )
    if json:
        terminal.json(
            {
                "folder": written.folder,
                "assumptions": to_json(written.assumptions),
                "inputs": written.samples_from,
                "samples": written.samples,
                "timesteps": written.timesteps,
                "cores": written.placement.cores,
                "notes": [asdict(note) for note in written.notes],
                "proof": [asdict(layer) for layer in written.proof],
                "not_proved": written.not_proved,
            }
        )
        return 0
    terminal.assumptions(written.assumptions)
    terminal.line(f"{written.samples} samples of {written.timesteps} steps: {written.samples_from}")
    terminal.findings(written.notes)
    terminal.show(tables.network.placement(written.placement))
    if written.proof:
        terminal.show(tables.proof.sanafe(written.proof))
    else:
        terminal.line(f"spikes were not compared: {written.not_proved}")
    terminal.wrote(written.folder)
    words = ["ashneuro report", quote(str(path))]
    if kind_of(path) in ("nir", "netx"):  # a bundle and a run have samples and a contract
        words += [f"--inputs {quote(str(inputs))}"] if inputs is not None else []
    options = contract_options(contract.overrides() if contract else {})
    terminal.next_steps(f"{' '.join(words)} --profile loihi1 --second-opinion sanafe{options}")
    return 0
