"""``ashneuro check``: will this run on the target, and if not, why?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.targets import ContractOptions, load_graph, load_inputs
from ashneuro.report import terminal


def check(
    path: Path,
    /,
    *,
    target: Literal["lava", "nir"] = "lava",
    inputs: Annotated[Path | None, Parameter(help="Inputs (T, B, *shape) as .npy: what integers have to hold.")] = None,
    contract: ContractOptions | None = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False,
) -> int:
    """Will this run or NIR graph run on the target, and if not, why? Every finding at once; exit code 1 when one forbids it.

    Args:
        path: a run, a bundle, or a .nir file.
        target: what it is to run on.
    """
    import numpy as np

    from ashneuro.program.check import check as findings_of

    graph, read = load_graph(path, contract or ContractOptions())
    peaks = {name: float(np.abs(x).max()) for name, x in load_inputs(inputs, graph).items()} if inputs else None
    findings = findings_of(graph, read, target, input_peak=peaks)
    if json:
        terminal.json([asdict(finding) | {"ok": finding.ok} for finding in findings])
    else:
        terminal.findings(findings)
        if all(finding.ok for finding in findings):
            terminal.next_steps(f"ashneuro export {path} --target {target}")
    return 0 if all(finding.ok for finding in findings) else 1
