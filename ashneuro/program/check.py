"""Everything there is to say about running a NIR graph on a target, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import nir

from ashneuro.errors import GraphError
from ashneuro.program.lower import lower_wiring
from ashneuro.program.program import Program
from ashneuro.program.quantise import attempt
from ashneuro.program.rules.finding import Finding, apply_rules, sentence
from ashneuro.program.rules.graph import GRAPH_RULES, graph_findings
from ashneuro.program.rules.lava import LAVA_RULES
from ashneuro.program.rules.loihi import FLOAT_RULES, INTEGER_RULES, check_program
from ashneuro.program.wiring import Wiring, nir_type, wire
from ashneuro.spiking.contract import Contract, ReadContract

# Where a rule applies: in every graph, in what a float program needs for integers, in an integer program.
RULES: Mapping[str, Mapping[str, Any]] = {
    "graph": GRAPH_RULES,
    "float program": FLOAT_RULES,
    "integer program": INTEGER_RULES,
    "Lava": LAVA_RULES,
}

TARGETS = ("nir", "lava")

LEAKY = (nir.LIF, nir.CubaLIF, nir.LI, nir.CubaLI)

# What a file may leave open: the sentence, the option that says it, and the primitives whose spikes depend on it. (Where v
# starts matters only where v_reset ≠ v_leak, and there the rule `start_value` asks for it.)
ASSUMPTIONS: Mapping[str, tuple[str, str, tuple[type, ...]]] = {
    "dt_s": ("A file should say how long a step is.", "--dt SECONDS", (*LEAKY, nir.Delay)),
    "reset": ("A file should say what a spike does to v.", "--reset value", (nir.LIF, nir.CubaLIF, nir.IF)),
    "reset_delay": ("A file should say when a reset takes effect.", "--reset-delay 0", (nir.LIF, nir.CubaLIF, nir.IF)),
    "start": ("A file should say where v starts.", "--start v_leak", ()),
    "integration": ("A file should say how a step follows from the equation.", "--integration euler", LEAKY),
    "if_convention": (
        "A file should say whether IF integrates per step or per second.",
        "--if-convention per-step",
        (nir.IF, nir.I),
    ),
    "input_coding": (
        "A file should say whether its inputs are spikes or analog values.",
        "--input-coding spikes",
        (nir.Input,),
    ),
}


def check(
    graph: nir.NIRGraph | Wiring,
    contract: Contract | ReadContract,
    target: str = "lava",
    *,
    input_peak: Mapping[str, float] | None = None,
) -> list[Finding]:
    """Return what `RULES` say of running ``graph`` on ``target``: errors, then notes, then what each sound node becomes.

    Args:
        graph: what `nir.read` or `ashneuro.program.reading.load_graph` returns, or its wiring; it need not be valid.
        contract: how it is to be read; as a `ReadContract`, what was assumed is noted.
        target: ``"lava"``, or ``"nir"`` for a graph that is only to be valid and runnable in float.
        input_peak: largest magnitude of each analog input; 1, with a note, where it is not given.

    Raises:
        GraphError: the target is not known.
    """
    if target not in TARGETS:
        raise GraphError(f"target {target!r}", f"known targets: {', '.join(TARGETS)}", "--target lava")
    read = contract if isinstance(contract, ReadContract) else ReadContract(contract, ())
    wiring = wire(graph)
    findings = [*graph_findings(wiring, read.contract), *_assumed(wiring, read)]
    types = {name: nir_type(node) for name, node in wiring.nodes.items()}
    if all(finding.ok for finding in findings):
        try:
            program = lower_wiring(wiring, read.contract)
        except GraphError as error:
            return [*findings, Finding("graph", "NIRGraph", "loop_delay", error.why, "error", remedy=error.do)]
        if target == "lava":
            findings += _integer_findings(program, types, input_peak or {})
            findings += machine_findings(program)
        broken = {finding.node for finding in findings if not finding.ok}
        findings += [finding for finding in _forms(wiring, program) if finding.node not in broken]
    order = {"error": 0, "note": 1, "ok": 2}
    return sorted(findings, key=lambda finding: order[finding.level])


def machine_findings(program: Program) -> list[Finding]:
    """Return what this machine lacks for Lava itself to run ``program``: notes, because Lava may run elsewhere."""
    return apply_rules(LAVA_RULES, program, nir_type=lambda name: "NIRGraph")


def rule_table() -> list[tuple[str, str, str]]:
    """Return (where it applies, rule, sentence) of every rule, in the order in which they are checked."""
    return [(where, name, sentence(rule)) for where, rules in RULES.items() for name, rule in rules.items()]


def _assumed(wiring: Wiring, read: ReadContract) -> Iterator[Finding]:
    for field in read.assumed:
        text, option, concerned = ASSUMPTIONS[field]
        nodes = [name for name, node in wiring.nodes.items() if isinstance(node, concerned)]
        if nodes:
            value = getattr(read.contract, field)
            actual = f"assumed {field} = {value!r} for {_some(nodes)}"
            yield Finding("graph", "NIRGraph", "assumed_contract", text, "note", actual, option)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _integer_findings(program: Program, types: Mapping[str, str], peaks: Mapping[str, float]) -> list[Finding]:
    findings = check_program(program, types)
    unknown = [port.name for port in program.inputs if port.coding != "spikes" and port.name not in peaks]
    findings += [
        Finding(
            name,
            "Input",
            "known_peak",
            "Integers need the largest magnitude that an analog input takes.",
            "note",
            "assumed 1",
            "give inputs to calibrate on when exporting",
        )
        for name in unknown
    ]
    if all(finding.ok for finding in findings) and program.layers:
        integer = attempt(program, {**dict.fromkeys(unknown, 1.0), **peaks}, {}).program
        said = {(finding.node, finding.rule) for finding in findings}
        findings += [finding for finding in check_program(integer, types) if (finding.node, finding.rule) not in said]
    return findings


def _forms(wiring: Wiring, program: Program) -> Iterator[Finding]:
    """Yield what each node has become."""
    forms: dict[str, str] = {}
    for layer in program.layers:
        forms[layer.name] = f"{layer.size} neurons, {layer.depth} synapses from the input"
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
