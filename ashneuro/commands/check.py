"""``ashneuro check``: every finding about running a network on a target."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.options import AsJson, ContractOptions
from ashneuro.reporting import terminal


def check(
    path: Path,
    /,
    *,
    target: Literal["lava", "nir"] = "lava",
    inputs: Annotated[
        Path | None, Parameter(help="Inputs (T, B, *shape) as .npy: magnitudes that the integers have to hold.")
    ] = None,
    contract: ContractOptions | None = None,
    json: AsJson = False,
) -> int:
    """Check whether a network runs on the target: every finding at once, with its remedy.

    Exit code 1 when one forbids it.

    Args:
        path: a run, a bundle, a .nir file, or a lava-dl .net file.
        target: what it is to run on.
    """
    from ashneuro.workflows.check import check as run
    from ashneuro.workflows.networks import contract_options

    overrides = contract.overrides() if contract else {}
    findings = run(path, target, inputs=inputs, contract=overrides)
    sound = all(finding.ok for finding in findings)
    if json:
        terminal.json([asdict(finding) | {"ok": finding.ok} for finding in findings])
        return 0 if sound else 1
    terminal.findings(findings)
    if sound:
        terminal.next_steps(f"ashneuro export {path} --target {target}{contract_options(overrides)}")
    return 0 if sound else 1
