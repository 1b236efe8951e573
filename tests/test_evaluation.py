"""Evaluation files: names as in every earlier version, read back into enums."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ashneuro.errors import DataError
from ashneuro.evaluation import (
    AnsweredQuestion,
    Condition,
    Evaluation,
    FusionRatio,
    RetrievalExample,
    RetrievalHit,
    RetrievalRow,
    SpikeSource,
    TaskEvaluation,
    TaskRow,
    load_evaluation,
)

METRICS = {"R@1": 0.25, "R@5": 0.5, "R@10": 0.75, "median_rank": 4.0}
RETRIEVAL = Evaluation(
    kind="spiking",
    split="squares, test",
    images=12,
    texts=24,
    concepts=12,
    rows=tuple(
        RetrievalRow(condition, SpikeSource.LAVA_INTEGER, METRICS, METRICS)
        for condition in (Condition.WHOLE, Condition.A_ZEROED, Condition.C_ZEROED, Condition.A_ALONE)
    ),
    chance=RetrievalRow(Condition.CHANCE, SpikeSource.NONE, METRICS, METRICS),
    ratio=FusionRatio(0.5, 0.25, 0.75, (0.25, 0.75)),
    firing_rate={"semantic.lif": 0.125},
    examples=(RetrievalExample("text", "3", "a square", (RetrievalHit("3", "a square", 0.5, True),)),),
    weights_sha256="0123",
)
TASK = TaskEvaluation(
    task="entailment",
    kind="relu",
    split="squares, test",
    questions=8,
    pictures=4,
    rows=(
        TaskRow(Condition.WHOLE, SpikeSource.NONE, 0.5, {}, None),
        TaskRow(Condition.V_ZEROED, SpikeSource.NONE, 0.25, {}, None),
        TaskRow(Condition.MOST_FREQUENT, SpikeSource.NONE, 0.25, {}, None),
    ),
    answerable=1.0,
    firing_rate={},
    examples=(AnsweredQuestion(("3",), "it is red", "neutral", ("entailment",), 0.0),),
)


@pytest.mark.parametrize("evaluation", [RETRIEVAL, TASK, replace(RETRIEVAL, label="again"), replace(TASK, label="b")])
def test_file_round_trip(evaluation: Evaluation | TaskEvaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path / "evaluation.json")
    assert (
        load_evaluation(tmp_path / "evaluation.json")
        == evaluation
        == type(evaluation).load(tmp_path / "evaluation.json")
    )


def test_names_in_files() -> None:
    rows = RETRIEVAL.to_json()["rows"]
    assert [row["name"] for row in rows] == [
        *("hybrid", "hybrid, A zeroed", "hybrid, C zeroed", "hybrid, A alone, STUA head")
    ]
    assert {row["spikes_from"] for row in rows} == {"Lava, fixed"}
    labelled = replace(RETRIEVAL, label="again").to_json()["rows"]
    assert [row["name"] for row in labelled] == [
        *("again", "again, A zeroed", "again, C zeroed", "again, A alone, STUA head")
    ]
    task = TASK.to_json()
    assert task["measure"] == "accuracy"
    assert [row["name"] for row in task["rows"]] == ["ReLU twin", "ReLU twin, text alone", "most frequent answer"]
    assert list(RETRIEVAL.to_json()) == [
        *("schema", "kind", "split", "images", "texts", "concepts", "rows", "chance", "ratio"),
        *("firing_rate", "examples", "weights_sha256"),
    ]
    assert replace(RETRIEVAL, ratio=None).to_json()["ratio"] == {}


def test_file_without_hash() -> None:
    # Files of earlier versions have no hash of the weights.
    values = RETRIEVAL.to_json()
    del values["weights_sha256"]
    assert Evaluation.from_json(values) == replace(RETRIEVAL, weights_sha256="")


NO_METRICS: dict[str, dict[str, float]] = {"image_to_text": {}, "text_to_image": {}}


@pytest.mark.parametrize(
    "change, why",
    [
        ({"schema": "ashneuro.evaluation/0"}, "schema"),
        ({"images": "many"}, "images is 'many'"),
        ({"kind": "analog"}, "kind 'analog'"),
        ({"rows": [{"name": "hybrid", "spikes_from": "SpiNNaker", **NO_METRICS}]}, "source of spikes 'SpiNNaker'"),
        (
            {"rows": [{"name": name, "spikes_from": "torch", **NO_METRICS} for name in ("hybrid", "hybrid, B zeroed")]},
            "row 'hybrid, B zeroed'",
        ),
    ],
)
def test_unknown_names_are_errors(change: dict[str, object], why: str) -> None:
    with pytest.raises(DataError, match=why):
        Evaluation.from_json({**RETRIEVAL.to_json(), **change})


def test_broken_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(RETRIEVAL.to_json())[:-5])
    with pytest.raises(DataError, match=r"cannot read .*evaluation\.json"):
        Evaluation.load(path)
