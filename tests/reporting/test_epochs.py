"""Lines of epochs, and the time left."""

from __future__ import annotations

import pytest

from ashneuro.exchange import EpochMetrics
from ashneuro.reporting.epochs import WIDTH, TimeLeft, duration, epoch_line

METRICS = EpochMetrics(
    epoch=7,
    loss=2.34567,
    losses={"itc": 2.1, "stua": 0.2},
    firing_rate=0.0812,
    firing_rates={"encode": 0.08},
    learning_rate=1e-3,
    seconds=12.3,
    pairs_per_s=1092.4,
    waited_share=0.02,
    validation={"R@1_image_to_text": 0.2083, "R@1_text_to_image": 0.1917},
)


def test_a_line_has_words_and_per_cent():
    line = epoch_line(7, 16, METRICS)
    assert line == "epoch  7/16  loss 2.346  R@1 20.8 % image→text, 19.2 % text→image  firing 8.1 %  1,092 pairs/s"


def test_a_line_fits_and_loses_the_least_important_first():
    long = EpochMetrics(
        **{**vars(METRICS), "stage": "spikes from a quantised network", "waited_share": 0.35},
    )
    line = epoch_line(7, 16, long, 754.0)
    assert len(line) <= WIDTH
    assert line.startswith("epoch  7/16  loss 2.346  R@1 20.8 %") and "waiting" not in line and "spikes" not in line
    short = EpochMetrics(7, 2.3, stage="warm", waited_share=0.35, validation={"nlvr2_accuracy": 0.5, "other": 1.0})
    assert epoch_line(7, 7, short, 0.0) == "epoch 7/7  warm  loss 2.300  NLVR2 50.0 %  35 % waiting for data"


def test_a_resumed_run_estimates_from_its_own_pace():
    times = iter([100.0, 130.0, 160.0])
    left = TimeLeft(lambda: next(times))
    assert left.after(0.5) is None
    assert left.after(0.6) == pytest.approx(120)  # 0.1 in 30 s, 0.4 to go
    assert left.after(1.0) == 0


@pytest.mark.parametrize(
    "seconds, words",
    [(0.2, "0 s"), (99.4, "99 s"), (754, "13 min"), (12_000, "3 h 20 min"), (200_000, "2 days 7 h")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
