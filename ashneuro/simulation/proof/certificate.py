"""Proves that a lowered network computes the same, and says what was compared, where it differs, and what was not compared.

Five computations of the same samples: the graph as it stands (float64), the float program (float64 and float32), the
integer program, and both programs in Lava. Each comparison is exact, spike for spike.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import BundleError, LavaError
from ashneuro.program.bundle import Bundle, Reference
from ashneuro.program.program import Precision, Program
from ashneuro.program.wiring import Wiring, wire
from ashneuro.simulation.emulator.run_graph import graph_ports, run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.inputs import Inputs, Progress, check_inputs
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.record import Activity, SpikeRecord
from ashneuro.spiking.contract import Contract

SCHEMA = "ashneuro-certificate/1"
STOCK = 32  # samples that a proof runs through Lava's own processes
READ_OUT_TOLERANCE = 1e-9  # float read-outs: sums in another order differ in their last bits

Status = Literal["equal", "different", "not run"]

RECORDED = "reference.npz"
GRAPH, FLOAT, FLOAT32, INTEGER = "graph, float64", "float program", "float program, float32", "integer program"
LAVA_FLOAT, LAVA_FIXED = "Lava, floating_pt", "Lava, fixed_pt"
# Which computations are compared, and whether the certificate needs them to be equal.
PAIRS = (
    (GRAPH, FLOAT, True),
    (GRAPH, LAVA_FLOAT, True),
    (INTEGER, LAVA_FIXED, True),
    (FLOAT, FLOAT32, False),
    (GRAPH, INTEGER, False),
)


@dataclass(frozen=True)
class LayerComparison:
    """One layer in two computations.

    Args:
        layer: its name.
        compared: values compared: neurons · steps · samples.
        spikes: how many of them are spikes, in the first of the two.
        mismatches: how many differ.
        first: (sample, step, neuron) of the first one that differs, in the order of samples, then steps.
        largest: read-outs: the largest difference; ``None`` for spikes.
    """

    layer: str
    compared: int
    spikes: int
    mismatches: int
    first: tuple[int, int, int] | None = None
    largest: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Two computations of the same samples, layer by layer.

    Args:
        left, right: which computations.
        required: the certificate passes only when they are equal.
        layers: empty when it was not run.
        reason: why it was not run.
        stock_samples: of Lava: how many samples ran through its own processes alone; ``None`` for other computations.
    """

    left: str
    right: str
    required: bool
    layers: tuple[LayerComparison, ...] = ()
    reason: str = ""
    stock_samples: int | None = None

    @property
    def status(self) -> Status:
        """Equal in every value, different, or not run."""
        if self.reason:
            return "not run"
        return "equal" if not self.mismatches else "different"

    @property
    def mismatches(self) -> int:
        """Values that differ, over all layers."""
        return sum(layer.mismatches for layer in self.layers)

    @property
    def compared(self) -> int:
        """Values compared, over all layers."""
        return sum(layer.compared for layer in self.layers)


@dataclass(frozen=True)
class Certificate:
    """What was proved about one exported network.

    Args:
        samples, timesteps: how much was run.
        comparisons: every pair of computations, also those that were not run.
        versions: of everything that computed.
        accuracy: task metrics by computation, where somebody measured them, e.g. ``{"float": {"R@1": 0.31}}``.
    """

    samples: int
    timesteps: int
    comparisons: tuple[Comparison, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every required comparison was run and is equal."""
        return all(comparison.status == "equal" for comparison in self.comparisons if comparison.required)

    @property
    def failed(self) -> bool:
        """Whether a required comparison was run and is different; a certificate may neither pass nor fail."""
        return any(comparison.status == "different" for comparison in self.comparisons if comparison.required)

    @property
    def not_compared(self) -> tuple[str, ...]:
        """What this certificate says nothing about, in sentences."""
        skipped = [f"{c.left} with {c.right}: {c.reason}" for c in self.comparisons if c.status == "not run"]
        skipped += [
            f"{c.right}: {self.samples - c.stock_samples} of {self.samples} samples through Lava's own synapses; they ran through"
            f" batched ones, which had answered the other {c.stock_samples} alike"
            for c in self.comparisons
            if c.stock_samples is not None and c.stock_samples < self.samples
        ]
        if silent := self._silent():
            skipped.append(f"what spikes of {', '.join(silent)} would do: on these samples not one neuron there spiked")
        return (
            *skipped,
            "membrane potentials and currents: only what a layer sends was compared",
            "silicon: nothing here ran on a chip",
        )

    def _silent(self) -> list[str]:
        """Return the layers that could have spiked and never did: of what is behind them, zeros were compared."""
        spikes: dict[str, int] = {}
        for layer in (layer for comparison in self.comparisons for layer in comparison.layers if layer.largest is None):
            spikes[layer.layer] = spikes.get(layer.layer, 0) + layer.spikes
        return [name for name, count in spikes.items() if not count]

    def comparison(self, left: str, right: str) -> Comparison:
        """Return one pair of computations."""
        return next(pair for pair in self.comparisons if (pair.left, pair.right) == (left, right))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``certificate.json``."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "failed": self.failed,
            **asdict(self),
            "comparisons": [
                asdict(c) | {"status": c.status, "mismatches": c.mismatches, "compared": c.compared}
                for c in self.comparisons
            ],
            "not_compared": list(self.not_compared),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Certificate:
        """Return the certificate that `to_json` wrote.

        Raises:
            BundleError: it is damaged or of another schema.
        """
        try:
            if values["schema"] != SCHEMA:
                raise BundleError(
                    "this certificate is of another version",
                    f"{values['schema']!r}, not {SCHEMA!r}",
                    "ashneuro verify BUNDLE",
                )
            comparisons = tuple(
                Comparison(
                    item["left"],
                    item["right"],
                    item["required"],
                    tuple(
                        LayerComparison(**{**layer, "first": layer["first"] and tuple(layer["first"])})
                        for layer in item["layers"]
                    ),
                    item["reason"],
                    item.get("stock_samples"),
                )
                for item in values["comparisons"]
            )
            return cls(values["samples"], values["timesteps"], comparisons, values["versions"], values["accuracy"])
        except (KeyError, TypeError) as error:
            raise BundleError(
                "certificate.json is damaged", f"{type(error).__name__}: {error}", "ashneuro verify BUNDLE"
            ) from error


def certify(
    graph: nir.NIRGraph | Wiring | None,
    contract: Contract | None,
    programs: Mapping[Precision, Program],
    inputs: Inputs,
    *,
    recorded: Reference | None = None,
    lava: bool = True,
    worker: Callable[[], Lava] = Lava,
    stock: int | None = STOCK,
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
    records: dict[str, SpikeRecord] = {}
    reasons: dict[str, str] = {}
    total = 6 if graph is not None else 2

    def done(name: str, record: SpikeRecord) -> None:
        records[name] = record
        if progress:
            progress(len(records), total)

    if graph is not None and contract is not None:
        done(GRAPH, run_graph(graph, contract, inputs, rasters=names))
        done(FLOAT, run_program(programs["float"], inputs, rasters=names))
        done(FLOAT32, run_program(programs["float"], inputs, rasters=names, float_type="float32"))
    if "integer" in programs:
        done(INTEGER, run_program(programs["integer"], inputs, rasters=names))
    else:
        reasons[INTEGER] = reasons[LAVA_FIXED] = "the network has no integer program"
    versions = {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("ashneuro", "numpy", "nir")},
    }
    if not lava:
        reasons |= {LAVA_FLOAT: "it was not asked for", LAVA_FIXED: "it was not asked for"}
    else:
        try:
            running = worker()
        except LavaError as error:
            reasons |= {LAVA_FLOAT: f"{error.what} ({error.do})", LAVA_FIXED: f"{error.what} ({error.do})"}
        else:
            with running:
                versions |= {f"lava worker: {name}": version for name, version in running.versions.items()}
                if "float" in programs:
                    done(LAVA_FLOAT, running.run(programs["float"], inputs, rasters=names, stock=stock))
                if "integer" in programs:
                    done(LAVA_FIXED, running.run(programs["integer"], inputs, rasters=names, stock=stock))
    chosen = [pair for pair in PAIRS if graph is not None or pair[:2] == (INTEGER, LAVA_FIXED)]
    comparisons = tuple(_compare(left, right, required, records, reasons) for left, right, required in chosen)
    source = INTEGER if graph is None else GRAPH
    if recorded is not None:
        answers = ((GRAPH, recorded.spikes), (INTEGER, recorded.integer))
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
    stock: int | None = STOCK,
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
    return Reference(
        given, *({name: _raster(activity) for name, activity in record.layers.items()} for record in records)
    )


def compare(left: SpikeRecord, right: SpikeRecord) -> tuple[LayerComparison, ...]:
    """Return, layer by layer, how two records with rasters differ.

    Read-outs of two float computations are equal up to rounding; everything else is equal or not.
    """
    exact = "integer" in (left.precision, right.precision)
    return tuple(_compare_layer(name, activity, right.layers[name], exact) for name, activity in left.layers.items())


def _compare(
    left: str, right: str, required: bool, records: Mapping[str, SpikeRecord], reasons: Mapping[str, str]
) -> Comparison:
    reason = reasons.get(left) or reasons.get(right) or ""
    if reason:
        return Comparison(left, right, required, reason=reason)
    return Comparison(
        left, right, required, compare(records[left], records[right]), stock_samples=records[right].stock_samples
    )


def _compare_recorded(recorded: Mapping[str, NDArray[Any]], source: str, record: SpikeRecord) -> Comparison:
    fits = {
        name: name in recorded and recorded[name].shape == _raster(activity).shape
        for name, activity in record.layers.items()
    }
    missing = [name for name, fit in fits.items() if not fit]
    if missing:
        return Comparison(RECORDED, source, True, reason=f"it has no answers of {', '.join(missing)} for these samples")
    layers = [
        _compare_layer(name, replace(activity, raster=recorded[name]), activity, exact=False)
        for name, activity in record.layers.items()
    ]
    return Comparison(RECORDED, source, True, tuple(layers))


def _compare_layer(name: str, left: Activity, right: Activity, exact: bool) -> LayerComparison:
    a, b = (_flat(activity) for activity in (left, right))
    if left.binary and right.binary:
        differ, largest = a != b, None
    else:
        gap = np.abs(np.asarray(a, np.float64) - b)
        # What is not a number is equal to nothing.
        differ = ~(gap <= (0.0 if exact else READ_OUT_TOLERANCE * np.maximum(1.0, np.abs(a))))
        largest = float(np.nan_to_num(gap, nan=np.finfo(np.float64).max).max(initial=0.0))
    # Samples first: (B, T, neurons).
    places = np.argwhere(differ.swapaxes(0, 1))
    first = (int(places[0][0]), int(places[0][1]), int(places[0][2])) if len(places) else None
    return LayerComparison(name, int(a.size), int(a.sum()) if left.binary else 0, len(places), first, largest)


def _flat(activity: Activity) -> NDArray[Any]:
    raster = _raster(activity)
    return raster.reshape(*raster.shape[:2], -1)


def _raster(activity: Activity) -> NDArray[Any]:
    assert activity.raster is not None, "every layer of these records keeps its raster"
    return np.asarray(activity.raster)
