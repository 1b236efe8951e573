"""Results of the malformed inputs: written line by line, read after an interruption, merged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import results, runner
from tests.fuzz.cases import Case, all_cases
from tests.fuzz.further_cases import FURTHER
from tests.fuzz.results import Result
from tests.fuzz.runner import Ended, Outcome

CASES = all_cases()


def result(case: Case, outcome: Outcome = Outcome.ERROR) -> Result:
    return Result(case.name, case.target.kind, outcome.value, 2, 0.1, "abc")


def test_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cases, ran = tmp_path / "a.jsonl", CASES[:4], []

    def attempt(case: Case, folder: Path) -> tuple[Outcome, Ended]:
        ran.append(case)
        return Outcome.FINE, Ended(0, "", 0.1, 0, False)

    results.append(file, result(cases[0]))
    results.append(file, result(cases[1], Outcome.HANG))
    with file.open("a") as opened:
        opened.write('{"case": "cut o')
    monkeypatch.setattr(fuzz, "attempt", attempt)
    monkeypatch.setattr(fuzz, "make_seeds", lambda folder: folder.mkdir(exist_ok=True))
    monkeypatch.setattr(runner, "warm", lambda: None)
    found = fuzz.run(cases, file, tmp_path / "seeds", False)
    assert ran == list(cases[1:])  # what hung is tried again
    assert results.read([file]) == found and len(found) == 4
    assert not any(one.is_wrong for one in found.values())


def test_shards_are_merged_into_the_page(tmp_path: Path) -> None:
    for index in (1, 2):
        for case in CASES[index - 1 :: 2]:
            results.append(tmp_path / f"{index}.jsonl", result(case))
    files = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    assert results.page(CASES, results.read(files)).startswith(f"{len(CASES):,} cases, all of them run (")
    half = results.page(CASES, results.read(files[:1]))
    assert half.startswith(f"{len(CASES):,} cases, {len(CASES[::2]):,} of them run (") and "Not run: " in half
    assert fuzz.main(["--merge", *map(str, files), "--out", str(tmp_path / "page.md")]) == 0
    assert f"| **all** | {len(CASES)} | {len(CASES)} | 0 |" in (tmp_path / "page.md").read_text()


def test_every_further_file_has_fifteen_cases() -> None:
    counts = Counter(case.target.kind for case in CASES)
    assert min(counts[target.kind] for target in FURTHER) >= 15
