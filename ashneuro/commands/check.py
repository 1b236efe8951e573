"""``ashneuro check``: will this run on the target, and if not, why?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.targets import ContractOptions, input_names, load_graph, load_inputs, network_of
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    import nir

    from ashneuro.program.rules.finding import Finding
    from ashneuro.spiking.contract import Contract


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
        path: a run, a bundle, a .nir file, or a lava-dl .net file.
        target: what it is to run on.
    """
    from ashneuro.program.check import check as findings_of

    (kind, network), options = network_of(path), contract or ContractOptions()
    if kind == "netx":
        options.require_none(path)
        findings = netx(network)
    else:
        graph, read = load_graph(path, options)
        peak = peaks(inputs, graph, read.contract) if inputs and target == "lava" else None
        findings = findings_of(graph, read, target, input_peak=peak)
    if json:
        terminal.json([asdict(finding) | {"ok": finding.ok} for finding in findings])
    else:
        terminal.findings(findings)
        if all(finding.ok for finding in findings):
            terminal.next_steps(f"ashneuro export {path} --target {target}{options.words()}")
    return 0 if all(finding.ok for finding in findings) else 1


def peaks(inputs: Path, graph: nir.NIRGraph, contract: Contract) -> dict[str, float]:
    """Return the largest magnitude of each analog input in a file; nothing where the graph does not say what an Input takes.

    Raises:
        DataError: the file cannot be read, or an export could not use what it holds.
    """
    from ashneuro.program.wiring import wire
    from ashneuro.simulation.emulator.run_graph import graph_ports
    from ashneuro.simulation.inputs import check_inputs, input_peaks

    names, wiring = input_names(graph), wire(graph)
    given = load_inputs(inputs, names)
    if wiring.named("input") != names or any(wiring.in_shapes[name] is None for name in names):
        return {}
    ports = graph_ports(wiring, contract)
    return input_peaks(ports, check_inputs(ports, contract.timesteps, given))


def netx(path: Path) -> list[Finding]:
    """Return what there is to say about a lava-dl network, which is in integers already."""
    from ashneuro.program.netx.read import netx_findings, read_netx
    from ashneuro.program.rules.loihi import check_program

    findings = netx_findings(path)
    return findings + (check_program(read_netx(path)) if all(finding.ok for finding in findings) else [])
