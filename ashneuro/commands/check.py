"""``ashneuro check``: every finding about running a network on a target."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.options import AsJson, ContractOptions
from ashneuro.errors import ConfigError
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.program.source import ContractMatch


def check(
    path: Path,
    /,
    *,
    target: Literal["lava", "nir", "sanafe"] = "lava",
    inputs: Annotated[
        Path | None, Parameter(help="Inputs (T, B, *shape), .npy: the values that the integers have to hold.")
    ] = None,
    source: Annotated[
        str | None,
        Parameter(
            help="FILE.py:NAME: the torch module that a .nir file was exported from, or a function that makes it."
            " It is run on --inputs; the contract that reproduces its spikes is printed."
        ),
    ] = None,
    contract: ContractOptions | None = None,
    json: AsJson = False,
) -> int:
    """Check whether a network runs on the target: every finding at once, with its remedy.

    Exit code 1 if a finding forbids it.

    Args:
        path: a run, a bundle, a .nir file, or a lava-dl .net file.
        target: where the network is to run.
    """
    from ashneuro.workflows.check import check as run
    from ashneuro.workflows.match import SEARCHED
    from ashneuro.workflows.networks import contract_options, open_network

    overrides = contract.overrides() if contract else {}
    match = None
    if source is not None:
        match = _match(path, source, inputs, overrides, json)
        # The findings are those of the network that spikes as the module does.
        names = list(SEARCHED)
        if any(item.field == "input_coding" for item in open_network(path, overrides).assumptions or ()):
            names.append("input_coding")  # that of the sample, as in from_torch
        overrides = overrides | {name: getattr(match.contract, name) for name in names}
    network = open_network(path, overrides)
    findings = run(network, target, inputs=inputs)
    sound = all(finding.ok for finding in findings) and (match is None or match.found)
    if json:
        listed = [asdict(finding) | {"ok": finding.ok} for finding in findings]
        terminal.json(listed if match is None else {"source": match.to_json(), "findings": listed})
        return 0 if sound else 1
    terminal.findings(findings)
    if sound:
        # Export asks for what is left open to be stated.
        left_open = "".join(f" {item.option}" for item in network.assumptions or ())
        terminal.next_steps(
            f"ashneuro export {quote(str(path))} --target {target}{contract_options(overrides)}{left_open}"
        )
    return 0 if sound else 1


def _match(path: Path, source: str, inputs: Path | None, overrides: dict[str, Any], json: bool) -> ContractMatch:
    """Compare a file with its module, print the result, and return it."""
    from ashneuro.workflows.match import match_contract, module_at, sample_at

    if inputs is None:
        why = "the module and the file are compared on samples"
        raise ConfigError("--source without --inputs", why, f"--source {source} --inputs x.npy, (T, B, *shape)")
    module, sample = module_at(source), sample_at(inputs)
    with terminal.progress() as progress:
        found = match_contract(path, module, sample, contract=overrides, progress=progress)
    if not json:
        terminal.match(found)
    return found
