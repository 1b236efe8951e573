"""Energy against quality: who is beaten by nobody, and that the drawing says so."""

import re
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.cost.profile import Range
from ashneuro.reporting.figures.energy import brief
from ashneuro.reporting.figures.network import raster
from ashneuro.reporting.figures.style import INK
from ashneuro.reporting.figures.svg import alone, inline
from ashneuro.reporting.figures.sweep import Point, pareto, pareto_front
from tests.reporting.example import whole_report

REPORT = whole_report()


def point(label, energy, metric, series="hybrid", **more):
    return Point(label, series, Range(0.5 * energy, energy, 2 * energy), metric, **more)


POINTS = (
    point("T = 2", 1e-6, 0.20),
    point("T = 4", 2e-6, 0.30, metric_low=0.28, metric_high=0.33),
    point("T = 8", 8e-6, 0.30),
    point("3-bit", 3e-6, 0.36, "twin"),
)


def test_pareto_front_has_undominated_points():
    assert pareto_front(POINTS) == (0, 1, 3)
    assert pareto_front(POINTS[:1]) == (0,)
    assert pareto_front((POINTS[0], POINTS[0])) == (0, 1)  # equal points do not beat each other


@pytest.mark.parametrize("worse", [point("dear", 2e-6, 0.2), point("poor", 1e-6, 0.1)])
def test_point_worse_in_one_and_equal_in_the_other_is_dominated(worse):
    assert pareto_front((POINTS[0], worse)) == (0,)


def test_every_case_has_its_own_front():
    spiking = Point("spiking", "hybrid", Range(1e-6, 5e-6, 6e-6), 0.4)
    dense = Point("dense", "ANN", Range(3e-6, 3e-6, 9e-6), 0.4)
    fronts = {case: pareto_front((spiking, dense), case) for case in ("low", "typical", "high")}
    assert fronts == {"low": (0,), "typical": (1,), "high": (0,)}


def test_energy_without_typical_value_is_drawn_at_its_middle():
    assert Point("a", "s", Range(1.0, None, 3.0), 0.5).energy_in("typical") == 2.0


def test_drawing_labels_points_series_unit_and_metric():
    drawing = inline(pareto(POINTS, "R@1, fraction"), "pareto", "Energy against R@1.")
    text = re.sub(r"<[^>]+>", "", drawing)
    assert all(
        word in text
        for word in (
            "low",
            "typical",
            "high",
            "T = 2",
            "T = 8",
            "3-bit",
            "twin",
            "hybrid",
            "µJ per inference",
            "R@1, fraction",
        )
    )
    assert drawing.startswith("<svg") and 'aria-label="Energy against R@1."' in drawing
    assert "#1d7a8c" not in drawing


def test_overlapping_labels_are_dropped_front_first():
    beaten = [point(f"beaten {number}", 2.01e-6, 0.2999 - 1e-4 * number) for number in range(3)]
    text = re.sub(r"<[^>]+>", "", alone(pareto([*beaten, *POINTS], "R@1, fraction"), "pareto", ""))
    assert "T = 4" in text and "T = 8" in text
    assert "beaten" not in text.replace("beaten by none", "").replace("crosses: beaten", "")


def test_dollar_in_a_name_is_not_math():
    drawing = alone(raster({r"a$\foo$": np.eye(4), "$_{$": np.eye(4)}), "raster", "Spikes.")
    assert r"a$\foo$" in drawing and "$_{$" in drawing


def test_style_holds_outside_of_drawing():
    """Axes make their ticks when these are first shown, which may be anywhere."""
    figure = pareto(POINTS, "R@1, fraction")
    figure.draw_without_rendering()
    labels = [label for axes in figure.axes for label in axes.get_yticklabels()]
    assert labels and {label.get_color() for label in labels} == {INK}


def test_standalone_svg_is_white_with_fixed_colours():
    first, again, shown = (raster({"lif": np.eye(4)}) for _ in range(3))
    drawing = alone(first, "raster", "Spikes.")
    assert "var(--" not in drawing and "#ffffff" in drawing and drawing == alone(again, "raster", "Spikes.")
    assert "#ffffff" not in inline(shown, "raster", "Spikes.")


def test_brief_figure_shows_parts_ranges_and_the_break_even_rate():
    found = REPORT.comparison.brief
    figure = brief(found)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found.names())
    # A bar for the host part and one for what stands behind it, as long as their typical energies.
    lengths = [bar.get_width() for bar in axes.patches]
    expected = [part.typical for _, who in found.rows for part in (who.host_j, who.deployed_j)]
    assert lengths == pytest.approx([joules * lengths[0] / expected[0] for joules in expected])
    assert found.sentence() in axes.get_xlabel()
    assert all(any(who.name in text for text in found.names()) for _, who in found.rows)


def test_long_range_of_a_brief_figure_ends_in_an_arrow():
    found = REPORT.comparison.brief
    part, who = found.rows[0]
    memory = replace(who.deployed.terms[0], energy_j=Range(1e-12, 1e-9, 1.0), events=1.0)
    long = replace(who, deployed=replace(who.deployed, terms=(memory,)))
    axes = brief(replace(found, rows=((part, long), *found.rows[1:]))).axes[0]
    assert ">" in {drawn.get_marker() for drawn in axes.lines}
    assert ">" not in {drawn.get_marker() for drawn in brief(found).axes[0].lines}
