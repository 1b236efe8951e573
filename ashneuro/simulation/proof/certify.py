"""Proof that a lowered network computes what its graph computes.

The same samples run as the graph (float64), as the float program (float64 and float32), as the
integer program, and as both programs in Lava. Pairs of these are compared spike for spike.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import nir
from numpy.typing import NDArray

from ashneuro.errors import LavaError
from ashneuro.program.bundle import CERTIFICATE, Bundle, Reference
from ashneuro.program.certificate import PAIRS, Certificate, Check, Comparison, Computation, LayerComparison
from ashneuro.program.program import Precision, Program
from ashneuro.program.wiring import Wiring, wire
from ashneuro.simulation.compare import compare_layer, compare_records
from ashneuro.simulation.emulator.run_graph import graph_layers, graph_ports, run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs
from ashneuro.simulation.lava.describe import own_process
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.stock import PROOF_STOCK
from ashneuro.simulation.proof.consistency import certificate_problems, check_bundle
from ashneuro.simulation.record import SpikeRecord
from ashneuro.spiking.contract import Contract

Run = tuple[Computation, SpikeRecord]


@dataclass(frozen=True, eq=False)
class Proof:
    """Result of `certify`.

    Args:
        certificate: all comparisons.
        reference: the samples, with the answers of the graph and of the integer program.
    """

    certificate: Certificate
    reference: Reference


def certify(
    graph: nir.NIRGraph | Wiring | None,
    contract: Contract | None,
    programs: Mapping[Precision, Program],
    inputs: Inputs,
    *,
    recorded: Reference | None = None,
    lava: bool = True,
    worker: Callable[[], Lava] = Lava,
    stock: int | None = PROOF_STOCK,
    progress: Progress | None = None,
) -> Proof:
    """Run ``inputs`` in every computation, each once, and compare them.

    Args:
        graph, contract: the exported network; ``None`` for one of integers only (lava-dl).
        programs: its programs; ``"integer"`` may be missing, and ``"float"`` if there is no graph.
        inputs: (T, B, *shape) of the only input, or arrays by input name.
        recorded: answers of every layer in an earlier proof, which have to be the same again.
        lava: run Lava too. If it is not installed, its comparisons are "not run", with the reason.
        worker: opens Lava.
        stock: number of samples for Lava's own processes, ``None`` for all; see `Lava.run`.
        progress: called with (computations done, computations in all).

    Raises:
        DataError: the inputs do not fit.
        LavaError: Lava started, and failed.
    """
    wiring = None if graph is None else wire(graph)
    records: dict[Computation, SpikeRecord] = {}
    total = 2 if wiring is None else 6

    def collect(runs: Iterator[Run]) -> None:
        for computation, record in runs:
            records[computation] = record
            if progress:
                progress(len(records), total)

    given = _named_inputs(wiring, contract, programs, inputs)
    collect(_run_here(wiring, contract, programs, given))
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in ("ashneuro", "numpy", "nir")}
    reasons: dict[Computation, str] = {}
    if "integer" not in programs:
        missing = (Computation.INTEGER, Computation.LAVA_INTEGER)
        reasons |= dict.fromkeys(missing, "the network has no integer program")
    session, why = _open_lava(worker) if lava else (None, "it was not asked for")
    if session is None:
        reasons |= dict.fromkeys((Computation.LAVA_FLOAT, Computation.LAVA_INTEGER), why)
    else:
        with session:
            versions |= {f"lava worker: {name}": version for name, version in session.versions.items()}
            collect(_run_in_lava(session, programs, given, stock))
    comparisons = [] if recorded is None else list(_compare_recorded(recorded, records))
    comparisons += _compare_pairs(records, reasons)
    first = next(iter(records.values()))
    own = _own_processes(programs) if session is not None else {}
    certificate = Certificate(
        first.samples,
        first.timesteps,
        tuple(comparisons),
        versions,
        own_processes=own,
        assumptions=next(iter(programs.values())).assumptions,
    )
    answers = {key: record.rasters for key, record in records.items()}
    reference = Reference(given, answers.get(Computation.GRAPH, {}), answers.get(Computation.INTEGER, {}))
    return Proof(certificate, reference)


def verify(
    bundle: Bundle,
    *,
    lava: bool = True,
    worker: Callable[[], Lava] = Lava,
    stock: int | None = PROOF_STOCK,
    progress: Progress | None = None,
) -> Certificate:
    """Prove ``bundle`` again, on its samples and against its answers; arguments as `certify`.

    First its files are compared with each other, see `check_bundle`. Where they do not belong
    together, nothing is simulated and no comparison is made.
    """
    checks = check_bundle(bundle)
    if any(check.status == "different" for check in checks):
        size = next((values.shape for values in bundle.reference.inputs.values() if values.ndim >= 2), (0, 0))
        versions = {name: metadata.version(name) for name in ("ashneuro", "numpy", "nir")}
        assumptions = bundle.preferred_program.assumptions
        return Certificate(size[1], size[0], (), versions, assumptions=assumptions, checks=checks)
    both: dict[Precision, Program | None] = {"float": bundle.float_program, "integer": bundle.integer_program}
    proof = certify(
        bundle.wiring,
        bundle.contract,
        {precision: program for precision, program in both.items() if program is not None},
        bundle.reference.inputs,
        recorded=bundle.reference,
        lava=lava,
        worker=worker,
        stock=stock,
        progress=progress,
    )
    return replace(proof.certificate, checks=(*checks, *_recorded_certificate(bundle, proof.certificate)))


def _recorded_certificate(bundle: Bundle, now: Certificate) -> Iterator[Check]:
    """Compare the numbers of a bundle's certificate with those that were found again."""
    recorded = bundle.certificate
    if recorded is None:
        return
    made = {(pair.left, pair.right): pair for pair in now.comparisons}
    wrong, compared = [], 0
    for pair in recorded.comparisons:
        again = made.get((pair.left, pair.right))
        # Spikes of float32 depend on the processor's order of additions.
        if again is None or "not run" in (pair.status, again.status) or pair.right is Computation.FLOAT32:
            continue
        compared += len(pair.layers)
        # Earlier versions listed layers in another order.
        if sorted(map(_counts, pair.layers)) != sorted(map(_counts, again.layers)):
            wrong.append(f"{pair.left} – {pair.right}")
    what = f"{CERTIFICATE} – the comparisons made again"
    wrong += certificate_problems(bundle, recorded)
    if wrong:
        yield Check(what, "different", compared, len(wrong), "; ".join(wrong), "export the network again")
    else:
        yield Check(what, "consistent", compared, 0, "counts of every layer")


def _counts(layer: LayerComparison) -> tuple[str, int, int, int]:
    return layer.layer, layer.compared, layer.spikes, layer.mismatches


def _own_processes(programs: Mapping[Precision, Program]) -> dict[str, str]:
    """Return our own process of each layer that Lava has none for, in one precision or in both."""
    layers = ((program, layer) for program in programs.values() for layer in program.layers)
    return {layer.name: process for program, layer in layers if (process := own_process(program, layer))}


def _named_inputs(
    wiring: Wiring | None, contract: Contract | None, programs: Mapping[Precision, Program], inputs: Inputs
) -> dict[str, NDArray[Any]]:
    """Return the checked inputs by name, without those of constant ports."""
    if wiring is not None and contract is not None:
        return check_inputs(graph_ports(wiring, contract), contract.timesteps, inputs)
    program = programs["integer"]
    return check_inputs(program.fed_inputs, program.timesteps, inputs)


def _run_here(
    wiring: Wiring | None,
    contract: Contract | None,
    programs: Mapping[Precision, Program],
    given: Mapping[str, NDArray[Any]],
) -> Iterator[Run]:
    if wiring is not None and contract is not None:
        program = programs["float"]
        record = run_graph(wiring, contract, given, rasters=graph_layers(wiring)[0])
        # A read-out that became a synaptic current is no layer, and sends nothing.
        layers = {name: record.layers[name] for name in _names(program)}
        yield Computation.GRAPH, replace(record, layers=layers)
        yield Computation.FLOAT, run_program(program, given, rasters=_names(program))
        yield Computation.FLOAT32, run_program(program, given, rasters=_names(program), float_type="float32")
    if "integer" in programs:
        program = programs["integer"]
        yield Computation.INTEGER, run_program(program, given, rasters=_names(program))


def _run_in_lava(
    session: Lava, programs: Mapping[Precision, Program], given: Mapping[str, NDArray[Any]], stock: int | None
) -> Iterator[Run]:
    computations: dict[Precision, Computation] = {
        "float": Computation.LAVA_FLOAT,
        "integer": Computation.LAVA_INTEGER,
    }
    for precision, computation in computations.items():
        if precision in programs:
            program = programs[precision]
            yield computation, session.run(program, given, rasters=_names(program), stock=stock)


def _open_lava(worker: Callable[[], Lava]) -> tuple[Lava | None, str]:
    """Return Lava, or the reason why it cannot be used."""
    try:
        return worker(), ""
    except LavaError as error:
        return None, f"{error.what} ({error.do})"


def _names(program: Program) -> list[str]:
    return [layer.name for layer in program.layers]


def _compare_pairs(
    records: Mapping[Computation, SpikeRecord], reasons: Mapping[Computation, str]
) -> Iterator[Comparison]:
    for left, right, required in PAIRS:
        if Computation.GRAPH not in records and left is not Computation.INTEGER:
            continue  # a network of integers only: one pair is all there is
        if reason := reasons.get(left) or reasons.get(right):
            yield Comparison(left, right, required, reason=reason)
        else:
            layers = compare_records(records[left], records[right])
            yield Comparison(left, right, required, layers, stock_samples=records[right].stock_samples)


def _compare_recorded(recorded: Reference, records: Mapping[Computation, SpikeRecord]) -> Iterator[Comparison]:
    # The answers come from the same code, possibly of an older version: they have to be reproduced.
    # `check_bundle` has seen that every layer has some, in its shape.
    for computation, answers in ((Computation.GRAPH, recorded.spikes), (Computation.INTEGER, recorded.integer)):
        if not answers or computation not in records:
            continue
        record = records[computation]
        layers = tuple(
            compare_layer(name, activity.with_raster(answers[name]), activity, exact=False)
            for name, activity in record.layers.items()
        )
        yield Comparison(Computation.RECORDED, computation, True, layers)
