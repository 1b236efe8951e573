"""Words that a reader is shown for networks, conditions, sources of spikes and tasks.

Identity is an enum or a field everywhere else; nothing is decided by these words.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from ashneuro.evaluation import Condition, Evaluation, RetrievalRow, SpikeSource, TaskEvaluation, TaskRow
from ashneuro.program.certificate import Computation

if TYPE_CHECKING:
    from ashneuro.config import AbstractKind, Task
    from ashneuro.program.certificate import Status
    from ashneuro.program.rules.finding import Level


class Basis(Enum):
    """Origin of a number."""

    COUNTED = auto()
    COMPUTED = auto()
    MEASURED = auto()
    ESTIMATED = auto()


BASES: dict[Basis, str] = {
    Basis.COUNTED: "counted",
    Basis.COMPUTED: "computed",
    Basis.MEASURED: "measured",
    Basis.ESTIMATED: "estimated",
}
STATUS: dict[Status, str] = {"equal": "equal", "different": "different", "not run": "not run"}
COMPUTATIONS: dict[Computation, str] = {
    Computation.GRAPH: "graph, float64",
    Computation.FLOAT: "float program",
    Computation.FLOAT32: "float program, float32",
    Computation.INTEGER: "integer program",
    Computation.LAVA_FLOAT: "Lava, floating_pt",
    Computation.LAVA_INTEGER: "Lava, fixed_pt",
    Computation.RECORDED: "reference.npz",
}
PREDICTIONS: dict[str, str] = {
    "inside": "inside the range",
    "too low": "above: predicted too low",
    "too high": "below: predicted too high",
}
"""Position of a measured value, by the verdict on its prediction."""
LEVELS: dict[Level, str] = {"error": "error", "note": "note", "ok": "ok"}
NETWORKS: dict[AbstractKind, str] = {
    "spiking": "hybrid",
    "none": "no abstract encoder",
    "relu": "ReLU twin",
    "quantised-relu": "quantised-ReLU twin",
}
CONDITIONS: dict[Condition, str] = {
    Condition.WHOLE: "",
    Condition.A_ZEROED: "A zeroed",
    Condition.C_ZEROED: "C zeroed",
    Condition.A_ALONE: "A alone (STUA head)",
    Condition.V_ZEROED: "text alone",
    Condition.MOST_FREQUENT: "most frequent answer",
    Condition.CHANCE: "chance",
}
SOURCES: dict[SpikeSource, str] = {
    SpikeSource.TORCH: "torch",
    SpikeSource.EMULATOR: "integer emulator",
    SpikeSource.LAVA_FLOAT: "Lava, float",
    SpikeSource.LAVA_INTEGER: "Lava, integer",
    SpikeSource.NONE: "none",
    SpikeSource.ANN_INTEGERS: "none, in integers",
}
TASKS: dict[Task, str] = {
    "retrieval": "retrieval",
    "vqa": "VQA",
    "entailment": "visual entailment",
    "nlvr2": "NLVR2",
}
MEASURES: dict[Task, str] = {"vqa": "VQA accuracy", "entailment": "accuracy", "nlvr2": "accuracy"}
"""Heading of a task's metric in a table of that task."""
METRICS: dict[Task, str] = {
    "vqa": "VQA accuracy",
    "entailment": "visual entailment accuracy",
    "nlvr2": "NLVR2 accuracy",
}
"""A task's metric where the task is not named beside it."""


def basis_text(basis: Basis | None, how: str) -> str:
    """Return a basis and the words that follow it, e.g. ``"counted over 6 samples"``."""
    word = BASES[basis] if basis else ""
    return f"{word}{how}" if how.startswith((",", ";")) else f"{word} {how}".strip()


def network(evaluation: Evaluation | TaskEvaluation) -> str:
    """Return the name of the evaluated network: the run's label, or the word for its kind."""
    return evaluation.label or NETWORKS[evaluation.kind]


def row(evaluation: Evaluation | TaskEvaluation, row: RetrievalRow | TaskRow) -> str:
    """Return the name of one row, e.g. ``"hybrid, A zeroed, spikes from Lava, float"``.

    Spikes from torch are the usual case and are not mentioned.
    """
    if row.condition is Condition.MOST_FREQUENT:
        return CONDITIONS[row.condition]
    name = ", ".join(part for part in (network(evaluation), CONDITIONS[row.condition]) if part)
    if row.spikes_from in (SpikeSource.TORCH, SpikeSource.NONE):
        return name
    if row.spikes_from is SpikeSource.ANN_INTEGERS:
        return f"{name}, in integers"
    return f"{name}, spikes from {SOURCES[row.spikes_from]}"
