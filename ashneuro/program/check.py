"""Check a NIR graph against everything that a target demands of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import nir

from ashneuro.errors import GraphError
from ashneuro.program.lower import lower_wiring
from ashneuro.program.netx.rules import NETX_RULES
from ashneuro.program.placement.placement import CoreLimits
from ashneuro.program.primitives import nir_type
from ashneuro.program.program import Program
from ashneuro.program.quantise import quantise_unchecked
from ashneuro.program.rules.finding import Finding, Findings, apply_rules, sentence, some
from ashneuro.program.rules.graph import GRAPH_RULES, graph_findings
from ashneuro.program.rules.lava import LAVA_RULES
from ashneuro.program.rules.loihi import FLOAT_RULES, INTEGER_RULES, check_program
from ashneuro.program.rules.open_fields import SHOULD_STATE, assumptions_of, per_second_options
from ashneuro.program.rules.sanafe import SANAFE_RULES
from ashneuro.program.wiring import Wiring, wire
from ashneuro.spiking.contract import Contract, ReadContract, as_read

# Rules by subject: any graph, a float program that is to become integers, an integer program, a
# program that is to run in Lava, and one for SANA-FE.
RULES: Mapping[str, Mapping[str, Any]] = {
    "graph": GRAPH_RULES,
    "float program": FLOAT_RULES,
    "lava-dl network": NETX_RULES,
    "integer program": INTEGER_RULES,
    "Lava": LAVA_RULES,
    "SANA-FE": SANAFE_RULES,
}

TARGETS = ("nir", "lava", "sanafe")


def check(
    graph: nir.NIRGraph | Wiring,
    contract: Contract | ReadContract,
    target: str = "lava",
    *,
    input_peak: Mapping[str, float] | None = None,
    limits: CoreLimits | None = None,
) -> Findings:
    """Return the findings on running ``graph`` on ``target``, from all `RULES` at once.

    Errors come first, then notes, then the form that each sound node takes.

    Args:
        graph: what `nir.read` or `ashneuro.program.nir_file.load_graph` returns, or its wiring; it
            need not be valid.
        contract: time step, reset and coding; the assumptions of a `ReadContract` are noted.
        target: ``"lava"``; ``"nir"`` for a graph that is valid and runs in float; ``"sanafe"`` for
            one that SANA-FE's model of Loihi computes, on cores with these ``limits``.
        input_peak: largest magnitude per analog input; 1, with a note, for inputs without one.

    Raises:
        GraphError: the target is not known.
    """
    if target not in TARGETS:
        raise GraphError(f"target {target!r}", f"known targets: {', '.join(TARGETS)}", "--target lava, or --target nir")
    wiring, read = wire(graph), as_read(contract)
    findings = [*graph_findings(wiring, read.contract), *_assumed(wiring, read)]
    types = {name: nir_type(node) for name, node in wiring.nodes.items()}
    if all(finding.ok for finding in findings):
        try:
            program = lower_wiring(wiring, read.contract)
        except GraphError as error:  # loops are timed while lowering, behind the rules
            return Findings(
                [*findings, Finding("graph", "NIRGraph", "loop_delay", error.why, "error", remedy=error.do)]
            )
        if target != "nir":
            findings += _integer_findings(program, types, input_peak or {})
        if target == "lava":
            findings += machine_findings(program)
        if target == "sanafe" and limits is not None:
            findings += sanafe_findings(program, limits, types)
        # A node with an error has no form to show.
        broken = {finding.node for finding in findings if not finding.ok}
        findings += [finding for finding in _forms(wiring, program) if finding.node not in broken]
    order = {"error": 0, "note": 1, "ok": 2}
    return Findings(sorted(findings, key=lambda finding: order[finding.level]))


def machine_findings(program: Program) -> list[Finding]:
    """Return the limits of this machine that keep ``program`` from running in Lava.

    They are notes, because Lava may run on another machine.
    """
    return apply_rules(LAVA_RULES, program, nir_type=lambda name: "NIRGraph")


def sanafe_findings(program: Program, limits: CoreLimits, types: Mapping[str, str] | None = None) -> list[Finding]:
    """Return the findings of `SANAFE_RULES`: limits of SANA-FE's model, and its other rounding."""

    def type_of(name: str) -> str:
        return (types or {}).get(name, "NIRGraph" if name == "graph" else "layer")

    return apply_rules(SANAFE_RULES, program, limits, nir_type=type_of)


def rule_table() -> list[tuple[str, str, str]]:
    """Return (subject, rule, sentence) of every rule, in the order in which they are checked."""
    return [(subject, name, sentence(rule)) for subject, rules in RULES.items() for name, rule in rules.items()]


def _assumed(wiring: Wiring, read: ReadContract) -> Iterator[Finding]:
    """Iterate over the assumptions that the graph is read with, as notes."""
    found = assumptions_of(wiring, read)
    if found is None:
        text = "A graph should say which fields of its contract were stated, and which were assumed."
        actual = "it was written by a version of ashneuro that stated what it had assumed"
        yield Finding("graph", "NIRGraph", "recorded_assumptions", text, "note", actual, "check the original file")
    for item in found or ():
        actual = f"assumed {item.field} = {item.value!r} for {some(item.nodes)}"
        other = per_second_options(wiring, item)
        remedy = item.option + (f"; {other}" if other else "")
        yield Finding("graph", "NIRGraph", "assumed_contract", SHOULD_STATE[item.field], "note", actual, remedy)


def _integer_findings(program: Program, types: Mapping[str, str], peaks: Mapping[str, float]) -> list[Finding]:
    findings = check_program(program, types)
    unknown = [port.name for port in program.inputs if port.coding != "spikes" and port.name not in peaks]
    text, remedy = (
        "Integers need the largest magnitude of an analog input.",
        "give inputs to calibrate on when exporting",
    )
    findings += [Finding(name, "Input", "known_peak", text, "note", "assumed 1", remedy) for name in unknown]
    if all(finding.ok for finding in findings) and program.layers:
        integer = quantise_unchecked(program, {**dict.fromkeys(unknown, 1.0), **peaks}, {}).program
        # Some rules hold for both precisions: report each node once.
        known = {(finding.node, finding.rule) for finding in findings}
        findings += [finding for finding in check_program(integer, types) if (finding.node, finding.rule) not in known]
    return findings


def _forms(wiring: Wiring, program: Program) -> Iterator[Finding]:
    """Iterate over findings that tell the form of each lowered node."""
    forms: dict[str, str] = {}
    for layer in program.layers:
        forms[layer.name] = f"{layer.size} neurons, {layer.depth} synapses from the input"
        if layer.neuron.payload:
            forms[layer.name] += f", {layer.neuron.message.words} of {layer.neuron.message.bits} bits (Loihi 2)"
        for connection in layer.connections:
            kind = connection.synapse.kind if connection.synapse is not None else "direct"
            for name in connection.nir:
                forms.setdefault(name, f"{kind} synapse {connection.source} → {layer.name}")
        for name in layer.nir[1:]:
            forms.setdefault(name, f"bias of {layer.name}")
    for port in program.inputs:
        forms[port.name] = {
            "current": "analog, into the neurons",
            "graded": "analog, through synapses",
            "spikes": "spikes",
        }[port.coding]
    for name, node in wiring.nodes.items():
        if name in forms:
            yield Finding(name, nir_type(node), "lowered", "The node has a form on the target.", "ok", forms[name])
