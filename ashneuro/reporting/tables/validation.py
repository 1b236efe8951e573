"""The cost model validated: predictions beside values measured on chips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ashneuro.cost.validate import score
from ashneuro.reporting import words
from ashneuro.reporting.tables.table import NOTHING, Cell, Mark, Table, common_unit, number
from ashneuro.reporting.words import Basis

if TYPE_CHECKING:
    from ashneuro.cost.profile import Range
    from ashneuro.cost.validate import EnergyRow, PartitionRow, Validation


def energies(validation: Validation) -> Table:
    """Return predicted and measured energies, their ratio, and terms that the prediction lacks."""
    rows = [
        (
            row.case,
            f"{row.quantity}; {row.boundary}",
            row.grade,
            row.profile,
            _spread(row.predicted_j, row),
            _spread(row.measured_j, row),
            " – ".join(dict.fromkeys(number(_rounded(value)) for value in row.ratio)),
            words.PREDICTIONS[row.verdict],
            ". ".join(part for part in (row.lacks, row.note, _fitted(row)) if part) or NOTHING,
        )
        for row in validation.energies
        if not row.is_ann
    ]
    columns = (
        "workload",
        "measured quantity; boundary",
        "grade",
        "profile",
        ">predicted",
        ">measured",
        ">ratio",
        "measured value is",
        "what the prediction lacks; notes",
    )
    note = f"{_scored([row for row in validation.energies if not row.is_ann])}\n"
    return Table(
        "Energy: predicted beside measured, per inference",
        columns,
        tuple(rows),
        basis=Basis.ESTIMATED,
        how="beside measured",
        note=note + "\n".join(f"{note}." for note in dict.fromkeys(validation.notes)),
    )


def anns(validation: Validation) -> Table:
    """Return predicted and measured energies of ANNs on devices of other kinds."""
    found = [row for row in validation.energies if row.is_ann]
    rows = tuple(
        (
            row.case,
            f"{row.quantity}; {row.boundary}",
            row.profile,
            _spread(row.predicted_j, row),
            _spread(row.measured_j, row),
            " – ".join(dict.fromkeys(number(_rounded(value)) for value in row.ratio)),
            words.PREDICTIONS[row.verdict],
            ". ".join(part for part in (row.note, _fitted(row)) if part) or NOTHING,
        )
        for row in found
    )
    inside = sum(row.verdict == "inside" for row in found)
    columns = (
        "network",
        "measured device; boundary",
        "profile",
        ">predicted",
        ">measured",
        ">ratio",
        "measured value is",
        "notes",
    )
    return Table(
        "ANNs: predicted beside measured, per inference",
        columns,
        rows,
        basis=Basis.ESTIMATED,
        how="beside measured",
        note=f"{inside} of {len(found)} measured values lie inside the predicted range." if found else "",
    )


def left_out(validation: Validation) -> Table:
    """Return predictions by prices that were fitted on all other workloads."""
    rows = tuple(
        (
            row.case,
            row.quantity,
            row.profile,
            "; ".join(f"{path}: {', '.join(fit.cases)}" for path, fit in row.fits.items()),
            _spread(row.predicted_j, row),
            _spread(row.measured_j, row),
            " – ".join(dict.fromkeys(number(_rounded(value)) for value in row.ratio)),
            f"{number(_rounded(row.width))} ×",
            words.PREDICTIONS[row.verdict],
        )
        for row in validation.energies
    )
    columns = (
        "left out: tested on",
        "measured quantity",
        "profile",
        "fitted on",
        ">predicted",
        ">measured",
        ">ratio",
        ">width",
        "measured value is",
    )
    return Table(
        "Leave one workload out: prices fitted on the others",
        columns,
        rows,
        basis=Basis.ESTIMATED,
        how="beside measured",
        note=_scored(validation.energies),
    )


def _scored(rows: Sequence[EnergyRow]) -> str:
    """Return the sentences about values inside their range, those without every term apart."""
    found, parts = score(rows), [row for row in rows if not row.whole]
    if found.median_width is None or found.share is None:
        return "Nothing was predicted."
    text = (
        f"{found.inside} of {found.values} predictions with every term hold the measured value, "
        f"{100 * found.inside / found.values:.0f} %; {100 * found.share:.0f} % where each of the "
        f"{found.workloads} workloads weighs the same. Their median width is {found.median_width:.2g} ×."
    )
    if parts:
        text += f" {len(parts)} further rows leave terms out, or test nothing, as they say; they do not count."
    return text


def _fitted(row: EnergyRow) -> str:
    """Return the workloads that the prices of a row were fitted on."""
    names = dict.fromkeys(name for fit in row.fits.values() for name in fit.cases)
    return f"prices fitted on {', '.join(names)}" if names else ""


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _spread(energy: Range, row: EnergyRow) -> str:
    factor, unit = common_unit([row.measured_j])
    low, high = (number(float(f"{value * factor:.3g}")) for value in (energy.low, energy.high))
    return f"{low} {unit}" if low == high else f"{low} – {high} {unit}"


def step_times(validation: Validation) -> Table:
    """Return the predicted and measured time of a timestep."""
    rows = []
    for row in validation.steps:
        ends = dict.fromkeys(number(_rounded(1e6 * value)) for value in (row.predicted_s.low, row.predicted_s.high))
        ratio = " – ".join(dict.fromkeys(number(_rounded(value)) for value in row.ratio))
        rows.append(
            (row.case, row.profile, f"{' – '.join(ends)} µs", f"{number(1e6 * row.measured_s)} µs", ratio, row.note)
        )
    columns = ("workload", "times of", ">predicted", ">measured", ">ratio", "note")
    note = "Predicted: synops and updates of the busiest core, one after the other, and the barrier; "
    note += "without contention and without the host."
    return Table(
        "Time of a step: predicted beside measured",
        columns,
        tuple(rows),
        basis=Basis.ESTIMATED,
        how="beside measured",
        note=note,
    )


def partition_totals(validation: Validation) -> Table:
    """Return the cores of whole networks, predicted beside published."""
    rows = tuple(
        (
            row.case,
            row.chip,
            number(row.cores),
            number(row.printed_cores),
            _agreement(row),
        )
        for row in validation.partitions
        if row.is_total
    )
    return Table(
        "Cores: predicted beside printed",
        ("network", "chip", ">predicted", ">printed", "cores"),
        rows,
        basis=Basis.COMPUTED,
    )


def partitions(validation: Validation) -> Table:
    """Return the partition of every layer, predicted beside published."""
    rows = tuple(_partition(row) for row in validation.partitions if not row.is_total)
    columns = (
        "network",
        "layer",
        ">neurons",
        ">cores",
        ">printed",
        ">neurons a core",
        ">printed",
        ">words a core",
        ">printed",
        "cores",
    )
    return Table("Partition of every layer: predicted beside printed", columns, rows, basis=Basis.COMPUTED)


def _agreement(row: PartitionRow) -> Cell:
    equal = row.cores == row.printed_cores
    return Cell(words.STATUS["equal" if equal else "different"], Mark.GOOD if equal else Mark.BAD)


def _partition(row: PartitionRow) -> tuple[str, ...]:
    pairs = ((row.cores, row.printed_cores), (row.neurons, row.printed_neurons), (row.words, row.printed_words))
    cells = [NOTHING if value is None else number(value) for pair in pairs for value in pair]
    return row.case, row.layer, row.shape, *cells, _agreement(row)


def skipped(validation: Validation) -> Table:
    """Return the measured workloads without a prediction, and the reason."""
    rows = tuple((item.name, item.reason) for item in validation.skipped)
    return Table("Measured, and not predicted", ("workload", "why"), rows)
