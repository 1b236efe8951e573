"""``ashneuro evaluate --predictions``, and a test part without answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ashneuro.errors import DataError
from tests.commands.conftest import Command


def test_predictions_of_a_part(ashneuro: Command, task_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "made" / "said.jsonl"
    words = ("--task", "entailment", "--part", "train", "--samples", 5, "--predictions")
    result = ashneuro("evaluate", task_run, *words, file)
    assert result.code == 0 and "5 answers of the train part" in result.out, result.err
    assert len(file.read_text().splitlines()) == 5
    wrong = ashneuro("evaluate", task_run, *words, tmp_path / "said.csv")
    assert wrong.code == 2 and "said.jsonl" in wrong.err
    ranked = tmp_path / "ranked.json"
    assert ashneuro("evaluate", task_run, "--predictions", ranked).code == 0
    found = json.loads(ranked.read_text())
    pictures = set(found["image_to_text"])
    assert len(pictures) == 9
    assert all(set(ranking) == pictures for ranking in found["text_to_image"].values())


def test_a_test_part_without_answers(task_run: Path, tmp_path: Path) -> None:
    from ashneuro.workflows.evaluate import evaluate_task
    from ashneuro.workflows.predictions import predict
    from ashneuro.workflows.runs import open_run

    run = open_run(task_run)
    questions = run.questions("entailment")
    hidden = tuple(replace(question, answers=()) for question in questions.test)
    run._questions["entailment"] = replace(questions, test=hidden)
    with pytest.raises(DataError, match="no answered questions") as error:
        evaluate_task(run, "entailment")
    assert "--predictions" in error.value.do
    count = predict(run, tmp_path / "said.jsonl", "entailment")
    rows = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert count == len(hidden) == len(rows)
    assert [row["pairID"] for row in rows] == [question.key for question in hidden]
    assert {row["gold_label"] for row in rows} <= {"entailment", "neutral", "contradiction"}
