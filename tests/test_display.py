"""Results in a notebook: HTML tables, DataFrames, figures and short reprs."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from ashneuro.display import Plotted, Shown
from ashneuro.errors import AshneuroError, MissingDependency, install_command
from ashneuro.program.check import check
from ashneuro.program.rules.finding import Finding, Findings
from ashneuro.reporting.notebook import VIEWS
from ashneuro.reporting.summary import Report
from ashneuro.spiking.contract import Contract
from ashneuro.workflows.networks import read as read_network
from tests.cost import networks
from tests.program import networks as graphs
from tests.reporting.example import whole_report

REPORT: Report = whole_report()
PROGRAM = networks.tiny_program()
RECORD = networks.run(PROGRAM, networks.images(PROGRAM))
FINDINGS = Findings(
    [
        *(Finding(f"li{number}", "LI", "spikes", "An output <b>must</b> spike.", "error", "LI") for number in range(9)),
        Finding("conv", "Conv2d", "fits", "It fits.", "ok"),
    ]
)
RESULTS: dict[str, Any] = {
    "report": REPORT,
    "comparison": REPORT.comparison,
    "workload": REPORT.workload,
    "estimate": REPORT.estimates[0],
    "estimate without a price": REPORT.estimates[1],
    "certificate": REPORT.certificate,
    "evaluation": REPORT.evaluations[0],
    "task evaluation": REPORT.tasks[0],
    "record": RECORD,
    "findings": FINDINGS,
}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_every_result_type_is_tested() -> None:
    assert {type(result) for result in RESULTS.values()} == set(VIEWS)
    assert all(issubclass(kind, Plotted if view.figure else Shown) for kind, view in VIEWS.items())


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_html_has_the_tables(result: Shown) -> None:
    reader = read(result._repr_html_())
    tables = VIEWS[type(result)].tables(result)
    text = "".join(reader.text)
    assert "table" in reader.seen
    for table in tables:
        assert table.title in text
        assert all(cell in text for row in table.rows for cell in row)


def test_html_escapes_names() -> None:
    assert "<b>" not in FINDINGS._repr_html_() and "&lt;b&gt;must" in FINDINGS._repr_html_()
    layers = tuple(replace(layer, name=f"<script>{layer.name}") for layer in REPORT.workload.layers)
    assert "<script>" not in replace(REPORT.workload, layers=layers)._repr_html_()


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_repr_fits_a_screen(result: Shown) -> None:
    assert len(repr(result)) <= 800 and repr(result).count("\n") < 10
    assert repr(result).startswith(type(result).__name__)


def test_repr_of_a_network_has_no_arrays() -> None:
    """A notebook shows the last value of a cell, whatever the size of its weights."""
    rng = np.random.default_rng(0)
    network = read_network(graphs.chain((6,), graphs.lif((6,), rng), graphs.affine(6, 400, rng)))
    shown = repr(network)
    assert shown.startswith("Network(name=") and "graph=<NIRGraph>" in shown
    assert "array" not in shown and len(shown) <= 800


def test_repr_of_findings() -> None:
    assert repr(FINDINGS).splitlines()[:2] == [
        "Findings: 9 error, 1 ok",
        "  error: li0 (LI): An output <b>must</b> spike.",
    ]
    assert repr(FINDINGS).endswith("and 3 more") and repr(Findings()) == "Findings: none"


def test_check_returns_findings() -> None:
    rng = np.random.default_rng(0)
    found = check(graphs.chain((6,), graphs.lif((6,), rng), graphs.affine(6, 4, rng)), Contract(), "lava")
    assert isinstance(found, Findings) and found.ok == all(finding.ok for finding in found)
    assert not FINDINGS.ok and Findings().ok


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_dataframe_columns_have_units(result: Shown) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install -e '.[notebook]'")
    frame = result.to_dataframe()
    assert isinstance(frame, pandas.DataFrame) and len(frame) and frame.columns.is_unique
    assert not [name for name in frame.columns if name.endswith(("energy", "low", "typical", "high"))], (
        "names of columns end in units"
    )


def test_dataframe_values() -> None:
    pytest.importorskip("pandas", reason="pandas is not installed: pip install -e '.[notebook]'")
    terms = REPORT.estimates[0].to_dataframe()
    assert terms["energy_typical_j"].sum() == pytest.approx(REPORT.estimates[0].dynamic_j.typical)
    layers = REPORT.workload.to_dataframe().set_index("name")
    assert layers.loc["lif2", "effective_acs"] == next(
        layer.effective_acs for layer in REPORT.workload.layers if layer.name == "lif2"
    )
    spikes = RECORD.to_dataframe().set_index("name")
    assert spikes.loc["lif1", "events"] == RECORD.layers["lif1"].events
    rows = REPORT.evaluations[0].to_dataframe()
    assert list(rows["condition"].unique()) == ["whole", "a_zeroed", "c_zeroed", "chance"]
    pairs = REPORT.certificate.to_dataframe()
    assert (pairs["status"] == "not run").sum() == 1 and pairs["mismatches"].sum() == 84


def test_dataframe_without_pandas_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency, match=r"to_dataframe\(\) needs the package 'pandas'") as error:
        RECORD.to_dataframe()
    assert error.value.do == install_command("notebook")


@pytest.mark.parametrize(
    "result", [each for each in RESULTS.values() if isinstance(each, Plotted)], ids=lambda r: type(r)
)
def test_plot_returns_a_figure(result: Plotted) -> None:
    figure = result.plot()
    assert isinstance(figure, Figure) and figure.axes
    figure.draw_without_rendering()


def test_plot_of_record_with_and_without_rasters() -> None:
    bare = {name: activity.with_raster(None) for name, activity in RECORD.layers.items()}
    assert len(RECORD.plot().axes) == len(RECORD.layers) and RECORD.plot().axes[0].images
    (bars,) = replace(RECORD, layers=bare).plot().axes
    assert not bars.images and len(bars.patches) == len(RECORD.layers)


def test_results_without_rows_are_errors() -> None:
    bare = replace(REPORT, comparison=None)
    for shown in (bare.plot, bare.to_dataframe):
        with pytest.raises(AshneuroError, match="no comparison"):
            shown()
    host = replace(REPORT.workload, layers=REPORT.workload.part("host").layers)
    with pytest.raises(AshneuroError, match="no layer sends spikes"):
        host.plot()
