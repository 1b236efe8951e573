"""Metrics of a training run, to and from ``metrics.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashneuro.errors import DataError
from ashneuro.exchange import EpochMetrics, TrainingMetrics, TrainingTotals, read_metrics

EPOCH = (
    '{"epoch": 1, "stage": "pretrain", "loss": 5.707, "loss_itc": 4.75, "loss_stua": 0.957, "firing_rate": 0.1745, '
    '"firing_rate.entry.lif": 0.209, "firing_rate.semantic.lif": 0.14, "learning_rate": 0.001, "seconds": 3.2, '
    '"pairs_per_s": 919.4, "waited_share": 0.0451, "validation_R@1_image_to_text": 0.04, '
    '"validation_R@1_text_to_image": 0.05}\n'
)
BEFORE_SCHEDULES = '{"epoch": 1, "loss": 2.5, "loss_itc": 2.5, "learning_rate": 0.001, "seconds": 3.2}\n'
QUESTIONS = '{"epoch": 2, "stage": "finetune", "loss": 2.5, "loss_vqa": 2.5, "validation_vqa_accuracy": 0.5}\n'
FINAL = '{"final": true, "epochs": 2, "seconds": 6.3, "kernels": "native, compiled for this CPU"}\n'
FINAL_CONTROL = '{"final": true, "epochs": 2, "seconds": 6.3}\n'


@pytest.mark.parametrize(
    "text",
    [EPOCH, EPOCH + QUESTIONS + FINAL, BEFORE_SCHEDULES + FINAL_CONTROL],
    ids=["training", "finished", "before schedules"],
)
def test_metrics_file_round_trip(text: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    assert read_metrics(path).to_jsonl() == text.replace("{", '{"schema": "ashneuro-metrics/1", ')
    path.write_text(read_metrics(path).to_jsonl())
    assert read_metrics(path).to_jsonl() == path.read_text()


def test_metrics_have_names_without_prefixes() -> None:
    metrics = EpochMetrics.from_json(json.loads(EPOCH))
    assert metrics.losses == {"itc": 4.75, "stua": 0.957}
    assert metrics.firing_rates == {"entry.lif": 0.209, "semantic.lif": 0.14}
    assert metrics.validation == {"R@1_image_to_text": 0.04, "R@1_text_to_image": 0.05}
    assert metrics.recall_at_1 == {"image_to_text": 0.04, "text_to_image": 0.05}
    assert EpochMetrics.from_json(json.loads(QUESTIONS)).recall_at_1 == {}


def test_read_metrics_skips_an_unfinished_last_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == TrainingMetrics()
    path.write_text('{"epoch": 1, "loss": 2}\n{"epoch": 2, "lo')
    assert read_metrics(path) == TrainingMetrics((EpochMetrics(1, 2),))
    path.write_text('{"epoch": 1, "loss": 2}\n{"final": true, "epochs": 1, "seconds": 3.0}')
    assert read_metrics(path).totals == TrainingTotals(1, 3.0)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"epoch": 1\n{"epoch": 2}\n', "Expecting ','"),
        ('{"epoch": 1}\n', "it has no 'loss'"),
        ("3\n", "it holds int, not an object"),
    ],
)
def test_read_metrics_reports_a_damaged_line(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="line 1") as error:
        read_metrics(path)
    assert why in error.value.why and error.value.do
