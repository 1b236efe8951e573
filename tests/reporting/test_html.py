import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from ashneuro.cost.profile import Source
from ashneuro.exchange import EpochMetrics
from ashneuro.reporting import figures, html
from ashneuro.reporting.summary import PARTS, SCHEMA, Report, write_json
from ashneuro.reporting.tables.table import number
from tests.reporting.example import whole_report

REPORT = whole_report()
PAGE = html.render(REPORT)


class Reader(HTMLParser):
    VOID = ("meta", "img", "br", "link", "input", "hr", "path", "rect", "use", "image", "circle", "line")

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if "id" in dict(attributes):
            self.ids.append(dict(attributes)["id"])

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_page_is_self_contained():
    for tag, attributes in read(PAGE).tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "srcset") and tag != "a":
                assert value.startswith(("data:image/png;base64,", "#")), (tag, value[:80])
            if name == "style" and "url(" in value:
                assert "url(#" in value
    assert "@import" not in PAGE and "fonts.googleapis" not in PAGE
    assert not re.search(r"url\((?!#)", PAGE)


def test_page_is_well_formed_with_unique_ids_that_resolve():
    reader = read(PAGE)
    assert len(reader.ids) == len(set(reader.ids))
    targets = set(re.findall(r'(?:href="#|url\(#)([^")]+)', PAGE))
    assert targets <= set(reader.ids), targets - set(reader.ids)


def test_verdict_comes_first():
    text = "".join(read(PAGE).text)
    headline = REPORT.verdict.partition(":")[0]
    assert text.index(headline) < text.index("How good is it?")
    assert REPORT.verdict.partition(": ")[2] in text


def test_every_picture_and_figure_has_a_text_alternative():
    tags = read(PAGE).tags
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(drawings) >= 6
    assert all(attributes["role"] == "img" and len(attributes["aria-label"]) > 20 for attributes in drawings)
    headings = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(headings))


def test_missing_picture_leaves_its_text():
    assert 'src="None"' not in PAGE and "absent" in PAGE


def test_user_text_is_escaped():
    assert "<b>car</b>" not in PAGE and "&lt;b&gt;car&lt;/b&gt;" in PAGE
    evil = html.render(whole_report(title="<script>alert(1)</script>", facts={"<i>": "</dd>"}))
    assert "<script>alert" not in evil and "<i>" not in evil


def test_figures_use_the_colours_of_the_page():
    drawing = "".join(re.findall(r"<svg.*?</svg>", PAGE, flags=re.DOTALL))
    for colour, variable in figures.svg.VARIABLES.items():
        assert colour not in drawing
        assert f"{variable}:" in PAGE
    assert "var(--spike)" in drawing and "var(--ink)" in drawing
    assert "DejaVu" not in drawing


def test_text_in_figures_stays_text():
    assert all(name in "".join(read(PAGE).text) for name in ("break", "lif1", "hybrid, int8"))


def test_page_is_deterministic():
    assert html.render(whole_report()) == PAGE


def test_sections_with_numbers_state_their_basis():
    for basis in (
        "counted over 6 samples of 4 steps",
        "estimated (cmos45)",
        "estimated (h100, loihi1)",
        "measured, emoji, style split, test, 128 texts",
    ):
        assert basis in PAGE


def test_every_used_source_is_listed():
    text = "".join(read(PAGE).text)
    for profile in REPORT.profiles:
        for source in profile.sources.values():
            assert source.title in text


def test_profiles_may_share_a_key_for_different_sources():
    def same_key(profile):
        numbers = {
            table: {key: replace(q, source="paper") for key, q in getattr(profile, table).items()}
            for table in ("energy", "peak")
        }
        return replace(profile, **numbers, sources={"paper": Source(f"About {profile.name}", "https://doi.org/")})

    text = "".join(read(html.render(replace(REPORT, profiles=[same_key(profile) for profile in REPORT.profiles]))).text)
    for profile in REPORT.profiles:
        assert f"About {profile.name}" in text and f"paper ({profile.name})" in text


def test_disclaimers():
    text = "".join(read(PAGE).text)
    assert "one explicit reading of the abstract" in text
    assert "Nothing here was run on a chip" in text
    assert not re.search(r"reproduc|measured on Loihi", text)


def test_synops_of_graded_messages_are_in_the_headline():
    work = REPORT.workload
    layers = [replace(row, effective_acs=0, effective_macs=4_000 * (row.kind == "snn")) for row in work.layers]
    report = replace(REPORT, workload=replace(work, samples=1, layers=tuple(layers)))
    (tile,) = (tile for tile in html._tiles(report) if tile.label == "Synops")
    assert tile.value == number(4_000 * sum(row.kind == "snn" for row in layers)) and "graded" in tile.beside
    (binary,) = (tile for tile in html._tiles(REPORT) if tile.label == "Synops")
    assert "graded" not in binary.beside and binary.value == number(work.per_inference("effective_acs"))


def test_missing_parts_are_named_with_reasons():
    report = Report("a NIR file", not_run={"certificate": "no Python 3.10 was found"})
    assert report.missing.keys() == PARTS.keys()
    page = html.render(report)
    read(page)
    assert "no Python 3.10 was found" in page
    assert "<svg" not in page and "µJ" not in page
    assert report.verdict == "No comparison: there is no ANN twin to compare with."
    assert report.to_json()["missing"]["certificate"] == "no Python 3.10 was found"


@pytest.mark.parametrize("part", ["evaluations", "estimates", "comparison", "certificate"])
def test_any_part_may_be_missing(part):
    report = whole_report(**{part: None if part in ("comparison", "certificate") else ()})
    page = html.render(report)
    read(page)
    assert PARTS[part] in page
    assert part in report.to_json()["missing"]


def test_json_has_the_same_data(tmp_path):
    data = json.loads(write_json(REPORT, tmp_path / "report.json").read_text())
    assert data["schema"] == SCHEMA == "ashneuro.report/1"
    assert data["verdict"] == REPORT.verdict and data["winner"] == REPORT.comparison.winner
    assert data["workload"]["basis"] == "counted"
    assert [layer["name"] for layer in data["workload"]["layers"]] == [layer.name for layer in REPORT.workload.layers]
    loihi1, loihi2 = data["estimates"]
    assert loihi1["basis"] == "estimated (loihi1)"
    assert loihi1["dynamic_j"]["typical"] == REPORT.estimates[0].dynamic_j.typical
    assert loihi2["dynamic_j"] is None and "published" in loihi2["because"]
    first = data["comparison"]["groups"][0]["contenders"][0]
    assert first["name"] == "hybrid, int8" and first["total_j"]["low"] > 0
    assert data["profiles"]["loihi1"]["energy"]["synop"]["locator"].startswith("Table 2")
    assert data["missing"] == {}


def test_json_has_no_nan_and_no_pictures(tmp_path):
    path = write_json(whole_report(facts={"r": float("nan")}), tmp_path / "report.json")
    text = path.read_text()
    assert "NaN" not in text and "base64" not in text
    assert json.loads(text)["facts"]["r"] is None


def test_raster_of_many_neurons_keeps_its_mean():
    rng = np.random.default_rng(0)
    spikes = (rng.random((4, 3000)) < 0.3).astype(np.uint8)
    drawing = figures.svg.inline(figures.network.raster({"lif": spikes}), "raster", "spikes")
    assert "3,000 neurons" in drawing and f"{100 * spikes.mean():.1f} %" in drawing
    assert "share a column" in drawing
    assert len(drawing) < 60_000


def test_curves_skip_metrics_that_were_not_recorded():
    epochs = [EpochMetrics(epoch=epoch, loss=1.0) for epoch in range(3)]
    figure = figures.training.curves(epochs)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss"]
    assert "rate" not in figures.svg.inline(figure, "training", "curves of training")


def test_tasks_follow_retrieval():
    text = "".join(read(PAGE).text)
    assert (
        text.index("Retrieval among 160 images")
        < text.index("Questions about pictures")
        < text.index("What does it spike?\n", text.index("Questions"))
    )
    assert "hybrid, spikes from Lava, integer" in text and "most frequent answer" in text
    assert "A zeroed 51.0 %, text alone 41.0 %, most frequent answer 31.0 %; measured, squares, test" in text
    assert "what &lt;i&gt;colour" in PAGE, "a question is escaped"
    assert "Questions about pictures" not in html.render(whole_report(tasks=())), (
        "a run without tasks has no such heading"
    )


def test_optional_part_is_named_when_missing():
    lost = whole_report(not_run={"vqa of control": "its files are gone"})
    assert lost.missing == {"vqa of control": "its files are gone"}
    assert "vqa of control (its files are gone)" in html.render(lost)


def test_each_retrieval_pool_has_its_own_figure():
    """R@1 among 160 and among 64 images cannot be compared, so they share no axis."""
    drawn = re.findall(r"<svg.*?</svg>", PAGE, flags=re.DOTALL)
    large, small = (svg for svg in drawn if "R@1 image to text" in svg)
    assert ">chance among 160 images<" in large and ">chance among 160 images<" not in small
    assert ">chance among 64 images<" in small and ">chance among 64 images<" not in large
    text = "".join(read(PAGE).text)
    assert "first place, among 160 images" in text and "first place, among 64 images" in text


def test_energy_tables_except_the_verdicts_are_folded():
    cost = PAGE[PAGE.index('<section id="cost">') : PAGE.index('<section id="method">')]
    assert PAGE.index('<section id="training">') < PAGE.index('<section id="cost">')
    unfolded = re.sub(r"<details>.*?</details>", "", cost, flags=re.DOTALL)
    titles = re.findall(r'aria-label="([^"]+)"><|<span class="name">([^<]+)', unfolded)
    shown = [title for pair in titles for title in pair if title]
    assert shown[0] == REPORT.comparison.groups[0].title and "The same in numbers" in shown
    folded = re.findall(r"<details><summary>([^<]+)", cost)
    assert [title for title in folded if title.startswith("Different boundaries")]
    assert any(title.startswith("Three conventions") for title in folded)
    assert not [title for title in shown if title.startswith(("Energy on", "Energy by layer", "Three conventions"))]


def test_brief_figure_stands_in_the_head_with_its_numbers_in_words():
    page = html.render(REPORT)
    head = page[: page.index("</header>")]
    brief = REPORT.comparison.brief
    assert "Energy per inference, in brief" in head
    assert all(name in head for name in brief.names()) and brief.sentence()[1:] in head
    assert "Energy per inference, in brief" not in html.render(replace(REPORT, comparison=None))
