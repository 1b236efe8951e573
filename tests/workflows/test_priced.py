"""The metric beside an energy is that of the arithmetic that is priced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ashneuro.evaluation import Condition, Evaluation, RetrievalRow, SpikeSource
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.workflows.saved_results import SavedResults
from tests.cost.networks import frames, tiny_program


def evaluation(source: SpikeSource, recall: float, images: int = 12) -> Evaluation:
    found = {"R@1": recall, "R@5": recall, "R@10": recall, "median_rank": 1.0}
    chance = RetrievalRow(Condition.CHANCE, SpikeSource.NONE, found, found)
    row = RetrievalRow(Condition.WHOLE, source, found, found)
    return Evaluation("spiking", "squares, test", images, images, images, (row,), chance, None, {}, ())


def results(*evaluations: Evaluation) -> SavedResults:
    return SavedResults(evaluations, (), {}, None)


def test_integers_are_shown_and_compared_where_they_were_evaluated():
    found = results(
        evaluation(SpikeSource.TORCH, 0.5),
        evaluation(SpikeSource.EMULATOR, 0.1, images=4),
        evaluation(SpikeSource.LAVA_FLOAT, 0.5),
        evaluation(SpikeSource.EMULATOR, 0.25),
    )
    assert found.metric() == "R@1 25.0 / 25.0 %"
    measured = {(on.queries, on.integers): one.value for on, one in found.accuracies().items()}
    assert list(measured) == [(12, True), (12, False), (4, True)], "what is priced first"
    assert measured[12, True] == pytest.approx(0.25)


def test_floats_are_marked_where_there_is_nothing_else():
    found = results(evaluation(SpikeSource.TORCH, 0.5), evaluation(SpikeSource.EMULATOR, 0.1, images=4))
    assert found.metric() == "R@1 50.0 / 50.0 % (in float)"
    ann, host = (replace(evaluation(SpikeSource.NONE, 0.5), kind=kind) for kind in ("relu", "none"))
    assert results(ann).metric() == "R@1 50.0 / 50.0 % (in float)"
    rounded = replace(evaluation(SpikeSource.ANN_INTEGERS, 0.4), kind="relu")
    assert results(ann, rounded).metric() == "R@1 40.0 / 40.0 %"
    assert results(host).metric() == "R@1 50.0 / 50.0 %", "a host is in floats on every side"


def test_accuracy_is_compared_in_the_same_arithmetic():
    hybrid = results(evaluation(SpikeSource.TORCH, 0.5), evaluation(SpikeSource.EMULATOR, 0.4))
    on, accuracy = next(iter(hybrid.accuracies().items()))
    assert on.integers and accuracy.value == pytest.approx(0.4)
    ann = replace(evaluation(SpikeSource.NONE, 0.6), kind="relu")
    rounded = replace(evaluation(SpikeSource.ANN_INTEGERS, 0.3), kind="relu")
    host = replace(ann, kind="none")
    assert on not in results(ann).accuracies(), "floats are not compared with integers"
    assert results(ann, rounded).accuracies()[on].value == pytest.approx(0.3)
    assert results(host).accuracies()[on].value == pytest.approx(0.6), "a host is in floats on every side"


def test_counts_of_another_network_are_named_not_priced():
    program, other = tiny_program(), tiny_program(channels=5)
    record = run_program(other, frames(other))
    found = replace(results(), counts=record).fitting(program, Path("runs/mine"))
    assert found.counts is None and "in the record and" in found.not_run["spike counts of mine"]
    assert replace(results(), counts=record).fitting(other, Path("runs/mine")).counts is record
