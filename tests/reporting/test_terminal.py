import json
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pytest

from ashneuro.errors import ProfileError
from ashneuro.exchange import EpochMetrics
from ashneuro.reporting import terminal
from ashneuro.reporting.tables.table import Table
from ashneuro.reporting.words import Basis
from tests.reporting.example import whole_report

REPORT = whole_report()


def test_plain_tables_are_aligned_and_not_truncated(capsys):
    long = "a sentence that is much longer than eighty characters " * 4
    terminal.show(
        Table(
            "Title", ("name", ">count", "text"), (("a", "1", long), ("bbbb", "1,000", "x")), Basis.COUNTED, note="note"
        )
    )
    out = capsys.readouterr().out
    assert out.splitlines()[:4] == [
        "Title  [counted]",
        "  name  count  text",
        "  a         1  " + long.strip(),
        "  bbbb  1,000  x",
    ]
    assert "  note" in out and "\x1b" not in out


@pytest.mark.parametrize(
    "show",
    [
        lambda: terminal.activity(REPORT.workload),
        lambda: terminal.costs(REPORT.estimates),
        lambda: terminal.comparison(REPORT.comparison),
        lambda: terminal.retrieval(REPORT.evaluations),
        lambda: terminal.facts(REPORT.evaluations),
        lambda: terminal.certificate(REPORT.certificate),
        lambda: terminal.profile_list(REPORT.profiles),
        lambda: terminal.profile_show(REPORT.profiles[0]),
    ],
)
def test_every_result_prints(show, capsys):
    show()
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_verdict_is_the_first_line(capsys):
    terminal.comparison(REPORT.comparison)
    assert capsys.readouterr().out.splitlines()[0] == REPORT.comparison.verdict


def test_no_findings_print_one_line(capsys):
    terminal.findings([])
    assert capsys.readouterr().out == "nothing stands in the way: 0 error(s), 0 note(s), 0 check(s) passed\n"


def test_errors_print_three_parts_to_stderr(capsys):
    terminal.print_error(ProfileError("what failed", "the rule", "a command"))
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err == "error: what failed\nwhy: the rule\ndo:  a command\n"


def test_json_output_is_valid_json(capsys):
    terminal.json({"a": np.array([[1, 2]]), "b": np.float32(0.5), "c": float("nan"), "d": (1,), 3: None})
    assert json.loads(capsys.readouterr().out) == {"a": [[1, 2]], "b": 0.5, "c": None, "d": [1], "3": None}


def test_training_without_terminal_prints_a_line_per_epoch(capsys):
    with terminal.epochs("training tiny") as show:
        for epoch in (1, 2):
            show(epoch, 2, 1, 2, 0.7, None)
            metrics = EpochMetrics(epoch, 0.5, firing_rate=0.125, firing_rates={"lif1": 0.2}, learning_rate=1e-3)
            show(epoch, 2, 2, 2, 0.5, metrics)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("epoch 1/2  loss 0.500  firing 12.5 %  ") and first.endswith(" s left")
    assert last == "epoch 2/2  loss 0.500  firing 12.5 %"


def test_status_prints_its_steps(capsys):
    with terminal.status("building") as say:
        say("half way")
    assert capsys.readouterr().err.splitlines() == ["building …", "  half way"]


def at_terminal(code: str) -> str:
    """Return the output of ``code`` at a terminal of 100 columns, control sequences included."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    done = subprocess.Popen([sys.executable, "-c", code], stdout=child, stderr=child, env=environment)
    done.wait(30)
    os.close(child)
    out = b""
    while True:
        try:
            block = os.read(parent, 65536)
        except OSError:
            break
        if not block:
            break
        out += block
    os.close(parent)
    return out.decode()


def test_terminal_output_has_colours_and_keeps_brackets():
    """Names with [brackets] are rich's markup; they must be shown as they are."""
    code = (
        "from ashneuro.reporting import terminal\n"
        "terminal.table('t', ('node', '>n'), [('conv[0]', 1), ('[bold]x', 2)])\n"
        "terminal.line('wrote [a]/b')\n"
    )
    text = at_terminal(code)
    assert "conv[0]" in text and "[bold]x" in text and "wrote [a]/b" in text
    assert "\x1b[" in text


def test_lines_beside_a_bar_stand_on_lines_of_their_own():
    text = at_terminal(
        "from ashneuro.reporting import terminal\n"
        "with terminal.epochs('training tiny') as show:\n"
        "    show(1, 2, 1, 2, 0.5, None)\n"
        "    terminal.line('a note', 'yellow')\n"
        "terminal.line('done')\n"
    )
    shown = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert re.search(r"\x1b\[2Ka note\r\n", shown)  # the line was cleared before
    assert re.search(r"(\n|\x1b\[2K)done\r\n$", shown)


def test_retrieval_says_once_what_was_searched(capsys):
    terminal.retrieval(REPORT.evaluations)
    shown = capsys.readouterr().out
    assert shown.count("Retrieval among") == len({(found.split, found.images) for found in REPORT.evaluations}) == 2
    assert shown.count("style split, test") == 2
    assert shown.count("Chance is computed.") == 2


def test_comparison_starts_with_a_bar_per_network(capsys):
    terminal.comparison(REPORT.comparison)
    lines = capsys.readouterr().out.splitlines()
    brief = REPORT.comparison.brief
    assert lines[2].startswith("Energy per inference")
    shown = lines[3 : 3 + len(brief.rows)]
    for text, name, (_, who) in zip(shown, brief.names(), brief.rows, strict=True):
        assert text.startswith(f"  {name}")
        host, spiking, ann = (text.count(sign) for sign in "█▓░")
        assert host >= 1 and bool(spiking) == who.spiking and bool(ann) == (not who.spiking)
    lengths = [sum(text.count(sign) for sign in "█▓░") for text in shown]
    typical = [who.total_j.typical for _, who in brief.rows]
    assert max(lengths) == 32 and lengths.index(max(lengths)) == typical.index(max(typical))
    assert lines[3 + len(shown)].strip() == brief.sentence()
