"""Proves that a lowered network computes the same, and says what was compared, where it differs, and what was not compared.

Five computations of the same samples: the graph as it stands (float64), the float program (float64 and float32), the
integer program, and both programs in Lava. Each comparison is exact, spike for spike.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

import nir
from numpy.typing import NDArray

from ashneuro.errors import LavaError
from ashneuro.program.bundle import Bundle, Reference
from ashneuro.program.certificate import Certificate, Comparison, Computation
from ashneuro.program.program import Precision, Program
from ashneuro.program.wiring import Wiring, wire
from ashneuro.simulation.compare import compare_layer, compare_records
from ashneuro.simulation.emulator.run_graph import graph_ports, run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.stock import PROOF_STOCK
from ashneuro.simulation.record import SpikeRecord
from ashneuro.spiking.contract import Contract

# Computations that are compared, and whether the certificate requires them to be equal.
PAIRS = (
    (Computation.GRAPH, Computation.FLOAT, True),
    (Computation.GRAPH, Computation.LAVA_FLOAT, True),
    (Computation.INTEGER, Computation.LAVA_INTEGER, True),
    (Computation.FLOAT, Computation.FLOAT32, False),
    (Computation.GRAPH, Computation.INTEGER, False),
)


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
) -> Certificate:
    """Return what the computations of ``inputs`` have in common.

    Args:
        graph, contract: the exported network; ``None`` for one that was integers from the start.
        programs: what it was lowered to; ``"integer"`` may be missing, and ``"float"`` where there is no graph.
        inputs: (T, B, *shape): every one of these samples is run in every computation.
        recorded: what the graph and the integer program answered earlier: they have to answer the same again.
        lava: run Lava too. Where it cannot be started, its comparisons are "not run", with the reason.
        worker: makes the Lava that runs.
        stock: how many samples run through Lava's own processes, ``None`` for all; see `ashneuro.simulation.lava.session.Lava.run`.
        progress: called with (computations done, computations in all).

    Raises:
        DataError: the inputs do not fit.
        LavaError: Lava started, and failed.
    """
    names = [layer.name for layer in next(iter(programs.values())).layers]
    records: dict[Computation, SpikeRecord] = {}
    reasons: dict[Computation, str] = {}
    total = 6 if graph is not None else 2

    def done(name: Computation, record: SpikeRecord) -> None:
        records[name] = record
        if progress:
            progress(len(records), total)

    if graph is not None and contract is not None:
        done(Computation.GRAPH, run_graph(graph, contract, inputs, rasters=names))
        done(Computation.FLOAT, run_program(programs["float"], inputs, rasters=names))
        done(Computation.FLOAT32, run_program(programs["float"], inputs, rasters=names, float_type="float32"))
    if "integer" in programs:
        done(Computation.INTEGER, run_program(programs["integer"], inputs, rasters=names))
    else:
        reasons[Computation.INTEGER] = reasons[Computation.LAVA_INTEGER] = "the network has no integer program"
    versions = {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("ashneuro", "numpy", "nir")},
    }
    if not lava:
        reasons |= {Computation.LAVA_FLOAT: "it was not asked for", Computation.LAVA_INTEGER: "it was not asked for"}
    else:
        try:
            running = worker()
        except LavaError as error:
            reasons |= {
                Computation.LAVA_FLOAT: f"{error.what} ({error.do})",
                Computation.LAVA_INTEGER: f"{error.what} ({error.do})",
            }
        else:
            with running:
                versions |= {f"lava worker: {name}": version for name, version in running.versions.items()}
                if "float" in programs:
                    done(Computation.LAVA_FLOAT, running.run(programs["float"], inputs, rasters=names, stock=stock))
                if "integer" in programs:
                    done(Computation.LAVA_INTEGER, running.run(programs["integer"], inputs, rasters=names, stock=stock))
    chosen = [
        pair for pair in PAIRS if graph is not None or pair[:2] == (Computation.INTEGER, Computation.LAVA_INTEGER)
    ]
    comparisons = tuple(_compare(left, right, required, records, reasons) for left, right, required in chosen)
    source = Computation.INTEGER if graph is None else Computation.GRAPH
    if recorded is not None:
        answers = ((Computation.GRAPH, recorded.spikes), (Computation.INTEGER, recorded.integer))
        again = (
            _compare_recorded(spikes, name, records[name]) for name, spikes in answers if spikes and name in records
        )
        comparisons = (*again, *comparisons)
    return Certificate(records[source].samples, records[source].timesteps, comparisons, versions)


def verify(
    bundle: Bundle,
    *,
    lava: bool = True,
    worker: Callable[[], Lava] = Lava,
    stock: int | None = PROOF_STOCK,
    progress: Progress | None = None,
) -> Certificate:
    """Return the certificate of ``bundle`` computed again, from nothing but what is in it; arguments as `certify`."""
    both: dict[Precision, Program | None] = {"float": bundle.float_program, "integer": bundle.integer_program}
    programs = {precision: program for precision, program in both.items() if program is not None}
    given, recorded = bundle.reference.inputs, bundle.reference
    return certify(
        bundle.wiring,
        bundle.contract,
        programs,
        given,
        recorded=recorded,
        lava=lava,
        worker=worker,
        stock=stock,
        progress=progress,
    )


def reference(
    graph: nir.NIRGraph | Wiring, contract: Contract, inputs: Inputs, integer: Program | None = None
) -> Reference:
    """Return ``inputs`` by name, and what every neuron of ``graph`` and every layer of its integer program answers, for a bundle."""
    wiring = wire(graph)
    given = check_inputs(graph_ports(wiring, contract), contract.timesteps, inputs)
    record = run_graph(wiring, contract, given, rasters=list(wiring.nodes))
    records = [record] + (
        [run_program(integer, given, rasters=[layer.name for layer in integer.layers])] if integer else []
    )
    return Reference(given, *(record.rasters for record in records))


def _compare(
    left: Computation,
    right: Computation,
    required: bool,
    records: Mapping[Computation, SpikeRecord],
    reasons: Mapping[Computation, str],
) -> Comparison:
    reason = reasons.get(left) or reasons.get(right) or ""
    if reason:
        return Comparison(left, right, required, reason=reason)
    return Comparison(
        left,
        right,
        required,
        compare_records(records[left], records[right]),
        stock_samples=records[right].stock_samples,
    )


def _compare_recorded(answers: Mapping[str, NDArray[Any]], source: Computation, record: SpikeRecord) -> Comparison:
    rasters = record.rasters
    missing = [name for name in rasters if name not in answers or answers[name].shape != rasters[name].shape]
    if missing:
        reason = f"it has no answers of {', '.join(missing)} for these samples"
        return Comparison(Computation.RECORDED, source, True, reason=reason)
    layers = tuple(
        compare_layer(name, replace(activity, raster=answers[name]), activity, exact=False)
        for name, activity in record.layers.items()
    )
    return Comparison(Computation.RECORDED, source, True, layers)
