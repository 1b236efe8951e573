"""Notes about firing rates that differ between training and evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashneuro.training.loop import train
from ashneuro.training.rates import differing_rates, rates_note
from tests.training import tiny


def test_rates_part_by_a_factor_and_by_an_amount():
    training = {"silent": 0.15, "double": 0.1, "close": 0.1, "tiny": 0.001, "risen": 0.1, "unknown": 0.5}
    evaluation = {"silent": 0.0, "double": 0.05, "close": 0.11, "tiny": 0.02, "risen": 0.3, "other": 0.0}
    assert differing_rates(training, evaluation) == {"silent": (0.15, 0.0), "risen": (0.1, 0.3)}


@pytest.mark.parametrize("steps, share", [(8, "43 %"), (1, "90 %")])
def test_few_steps_are_the_reason(steps, share):
    note = rates_note({"encode": 0.152, "block1.lif3": 0.1}, {"encode": 0.0, "block1.lif3": 0.0}, steps)
    assert "encode 15.2 % / 0.0 % and 1 more" in note
    assert f"{share} of the batch norms' running statistics" in note and f"initial values after {steps} steps" in note
    assert len(note) <= 240
    assert rates_note({"encode": 0.1}, {"encode": 0.09}, steps) == ""


def test_settled_statistics_are_another_reason():
    note = rates_note({"encode": 0.1}, {"encode": 0.4}, 1200)
    assert "settled (1,200 steps)" in note and "initial" not in note and "more" not in note and len(note) <= 200


def test_training_says_so_at_its_end(tmp_path: Path):
    """After few steps the running statistics are far from those of batches."""
    notes: list[str] = []
    train(tiny.config(epochs=1), tmp_path / "run", on_note=notes.append)
    (note,) = [note for note in notes if note.startswith("firing rates")]
    assert "81 % of the batch norms' running statistics are still their initial values after 2 steps" in note
