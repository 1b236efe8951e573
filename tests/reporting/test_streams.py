"""The table of a stream, at the terminal and in a report."""

from dataclasses import replace

import pytest

from ashneuro.exchange import Joules, StreamCoding, StreamEvaluation, StreamRate
from ashneuro.reporting import html, tables
from tests.reporting.example import whole_report


def joules(typical):
    return Joules(typical / 2, typical, 2 * typical)


CODINGS = (
    StreamCoding("changes", 1200.4, 200_000.0, 800.0, 4, joules(4e-6)),
    StreamCoding("dense", None, 1_800_000.0, 9000.0, 3, joules(1e-5)),
)
RATE = StreamRate(7.9, 400, 0.532, {"R@1": 0.27}, {"R@1": 0.28}, 1e6, joules(1e-6), 5e5, joules(5e-7), CODINGS)
FOUND = StreamEvaluation("levels", "clips", 25, 3, 1.0, "loihi", "cmos45", (RATE,))


def test_table_has_energy_with_both_hosts():
    table = tables.streams.stream(FOUND)
    first, second = table.rows
    assert first[:5] == ("7.9/s, 53.2 % of pixels change", "27", "by changes", "1,200", "200,000")
    assert first[5:] == ("4", "5", "2.5 – 10", "4.5", "2.25 – 9")
    assert second[:5] == ("", "", "ANN, dense", "–", "1,800,000") and second[6] == "11"
    assert "25 clips of clips, integer emulator" in table.basis_text and "28.0 %" in table.note
    assert "same values" in table.note
    assert "below 2 levels are not sent" in tables.streams.stream(replace(FOUND, threshold=2.0)).note


def test_unknown_energy_is_no_number():
    rate = replace(RATE, host_j=None, codings=(replace(CODINGS[0], energy=None),))
    (row,) = tables.streams.stream(replace(FOUND, rates=(rate,))).rows
    assert row[5:7] == ("not estimable", "not estimable")


def test_reports_show_streams():
    page = html.render(whole_report(streams=[FOUND]))
    assert "Pictures that follow one another" in page and "ANN, dense" in page
    assert "Pictures that follow one another" not in html.render(whole_report())
    assert whole_report(streams=[FOUND]).to_json()["streams"][0]["rates"][0]["codings"][1]["messages"] is None


def test_rate_needs_the_metric_that_is_shown() -> None:
    with pytest.raises(ValueError, match="no R@1"):
        replace(RATE, own_metrics={})
