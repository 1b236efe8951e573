"""Foreign text in front of a terminal."""

from __future__ import annotations

import json
import os

import pytest

from ashneuro.errors import AshneuroError, words_of
from ashneuro.reporting import terminal
from ashneuro.reporting.escape import visible, visible_json, visible_lines
from ashneuro.reporting.tables.table import Cell, Mark, Table

FOREIGN = "a\x1b]0;mine\x07b\rc\nerror: d\x9b2J\u202ee"
SHOWN = r"a\x1b]0;mine\x07b\rc\nerror: d\x9b2J\u202ee"


def test_control_characters_are_shown() -> None:
    assert visible(FOREIGN) == SHOWN
    assert visible(os.fsdecode(b"pic\xff.png")) == r"pic\xff.png"
    assert visible("\u2028\u2066\t\x7f") == r"\u2028\u2066\t\x7f"
    for kept in ("naïve – ≥ 漢字 שלום", "👩‍👧", "[bold]x[/]", "C:\\new"):
        assert visible(kept) == kept


def test_lines_after_the_first_never_begin_at_the_margin() -> None:
    assert visible_lines("a\nerror: b\n     c\r", "     ") == "a\n     error: b\n     c\\r"


def test_json_keeps_its_content() -> None:
    value = {"name": FOREIGN, "list": ["x", "\x85"]}
    text = visible_json(json.dumps(value, indent=1, ensure_ascii=False))
    assert json.loads(text) == value and text.count("\n") == 6
    assert not {"\x1b", "\x9b", "\u202e", "\x85"} & set(text)


def test_everything_printed_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.line(FOREIGN)
    terminal.heading(FOREIGN)
    terminal.wrote(FOREIGN)
    terminal.next_steps(FOREIGN)
    terminal.show(Table(FOREIGN, (FOREIGN, ">" + FOREIGN), ((Cell(FOREIGN, Mark.BAD), FOREIGN),), note=FOREIGN))
    terminal.print_error(AshneuroError(FOREIGN, FOREIGN, FOREIGN))
    with terminal.status(FOREIGN) as say:
        say(FOREIGN)
    with terminal.progress() as tell:
        tell(FOREIGN, 0, 0)
    with terminal.counting(FOREIGN) as tick:
        tick(1, 2)
    printed = capsys.readouterr()
    for text, times in ((printed.out, 8), (printed.err, 6)):
        assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e"} & set(text)
        assert text.count(r"a\x1b]0;mine\x07b\rc") >= times
        assert not [line for line in text.splitlines()[1:] if line.startswith("error: d")]


def test_advice_to_load_a_pickle_is_not_repeated() -> None:
    torchs = "Weights only load failed. Re-running `torch.load` with `weights_only` set to `False` will likely succeed"
    assert "weights_only" not in words_of(RuntimeError(torchs)) and "not loaded" in words_of(RuntimeError(torchs))
    assert words_of(RuntimeError("first\nsecond")) == "first" and words_of(KeyError()) == "KeyError"
