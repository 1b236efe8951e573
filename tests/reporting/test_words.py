"""Renaming every shown word changes no number, no verdict, and no choice of rows."""

import re
from itertools import count

import pytest

from ashneuro.cost.comparison import contenders, conventions, verdict
from ashneuro.reporting import html, tables, terminal, words
from ashneuro.reporting.tables.table import Cell
from tests.reporting.example import whole_report

SHOWN = [
    words.BASES,
    words.STATUS,
    words.COMPUTATIONS,
    words.PREDICTIONS,
    words.LEVELS,
    words.NETWORKS,
    words.CONDITIONS,
    words.SOURCES,
    words.TASKS,
    words.MEASURES,
    words.METRICS,
    contenders.ROLE_WORDS,
    conventions.COUNTING_WORDS,
    verdict.REUSE,
]
NUMBER = re.compile(r"\d[\d,.]*")


def every_table(report):
    yield tables.network.activity(report.workload)
    yield tables.network.host(report.workload)
    yield from (tables.energy.contenders(group) for group in report.comparison.groups)
    yield tables.energy.break_even(report.comparison)
    yield tables.energy.conventions(report.comparison)
    yield from (tables.energy.terms(cost) for cost in report.estimates)
    yield tables.energy.measurements(report.measurements)
    yield tables.tasks.retrieval(report.evaluations)
    yield from tables.tasks.by_task(report.tasks)
    yield from (tables.tasks.answers(item) for item in report.tasks)
    yield from tables.proof.certificate(report.certificate)


def without_texts(value):
    """Return a JSON value with every text in the place of which only its kind is kept."""
    if isinstance(value, dict):
        return {key: without_texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_texts(item) for item in value]
    return str if isinstance(value, str) else value


def numbers_of(table):
    """Return the numbers in every cell, and its mark."""
    return [
        [(NUMBER.findall(cell), cell.mark if isinstance(cell, Cell) else None) for cell in row] for row in table.rows
    ]


def page_numbers(report):
    """Return the numbers in the text of the page, without figures, style and script."""
    page = re.sub(r"<(svg|style|script)\b.*?</\1>", "", html.render(report), flags=re.DOTALL)
    return NUMBER.findall(re.sub(r"<[^>]+>", " ", page))


def observed(report):
    found = report.to_json()
    own = {key: found[key] for key in ("evaluations", "tasks", "training", "winner")}  # words of files, not shown ones
    tiles = [NUMBER.findall(f"{tile.value} {tile.beside}") for tile in html._tiles(report)]
    return {
        "verdict": (report.comparison.case, report.comparison.winner, NUMBER.findall(report.verdict)),
        "json": without_texts(found),
        "files": own,
        "tables": [numbers_of(table) for table in every_table(report)],
        "tiles": tiles,
        "page": page_numbers(report),
    }


@pytest.fixture
def nonsense(monkeypatch):
    """Replace every shown word; digits, as in "float64", stay."""
    letters = ("".join("qwxyzvkj"[int(digit)] for digit in f"{number:03o}") for number in count())
    for shown in SHOWN:
        for key, word in shown.items():
            monkeypatch.setitem(shown, key, " ".join([next(letters), *re.findall(r"\{\}|\d+", word)]))


def test_renaming_words_changes_no_number(request):
    before = observed(whole_report())
    request.getfixturevalue("nonsense")
    report = whole_report()
    assert "hybrid" not in report.verdict and "hybrid" not in str(tables.tasks.retrieval(report.evaluations))
    after = observed(report)
    for part, value in before.items():
        assert after[part] == value, part


def test_every_dict_of_words_is_renamed():
    """A dict of words that is added to the module is added to the test."""
    dicts = [value for name, value in vars(words).items() if name.isupper() and isinstance(value, dict)]
    assert len(dicts) > 5 and all(any(value is shown for shown in SHOWN) for value in dicts)


def test_findings_keep_their_order_and_marks(request, capsys):
    from ashneuro.program.rules.finding import Finding

    items = [
        Finding("a", "LIF", "r1", "Fits.", "ok"),
        Finding("b", "LIF", "r2", "Assumed.", "note"),
        Finding("c", "LI", "r3", "Must spike.", "error"),
    ]
    before = tables.network.findings(items)
    request.getfixturevalue("nonsense")
    after = tables.network.findings(items)
    assert [row[0] for row in after.rows] == [row[0] for row in before.rows] == ["c", "b"]
    assert [row[2].mark for row in after.rows] == [row[2].mark for row in before.rows]
    assert [row[2] for row in after.rows] != [row[2] for row in before.rows]
    terminal.findings(items)
    assert "1 error(s)" in capsys.readouterr().out
