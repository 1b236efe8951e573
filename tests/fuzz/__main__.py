"""Run the malformed inputs, and write the table of docs/reliability.md.

python -m tests.fuzz                      all cases; writes the table
python -m tests.fuzz --only trainer.pt    cases whose name holds these words; prints each
python -m tests.fuzz --count 200          evenly spaced cases; writes their table
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import runner, seeds
from tests.fuzz.cases import Case, all_cases, sample
from tests.fuzz.runner import Outcome

WRONG = tuple(outcome for outcome in Outcome if outcome not in (Outcome.ERROR, Outcome.FINE))


def make_seeds(folder: Path) -> None:
    """Write the sound inputs; see `tests.fuzz.seeds.make`."""

    def run(cwd: Path, *words: object) -> None:
        ended = runner.run(words, cwd, 120)
        if ended.code != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}:\n{ended.text}")

    seeds.make(folder, run)


def attempt(case: Case, folder: Path) -> tuple[Outcome, runner.Ended]:
    """Run one case in a scene of its own."""
    with tempfile.TemporaryDirectory(prefix="case-") as place:
        scene = Path(place) / "scene"
        case.prepare(folder, scene)
        ended = runner.run(case.words, scene)
        return runner.classify(ended, case.must, scene), ended


PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- malformed inputs: begin -->", "<!-- malformed inputs: end -->"


def main(words: Sequence[str]) -> int:
    """Run cases; return 1 if any of them is in one of the columns that should be empty."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name, file or kind holds this")
    parser.add_argument("--count", type=int, default=0, help="only so many, evenly spaced")
    parser.add_argument("--seeds", type=Path, help="folder of the sound inputs, kept for the next call")
    parser.add_argument("--verbose", action="store_true", help="print what every case printed")
    parser.add_argument("--out", type=Path, default=PAGE, help="page whose table is replaced")
    given = parser.parse_args(words)
    runner.warm()
    with tempfile.TemporaryDirectory(prefix="seeds-") as own:
        folder: Path = (given.seeds or Path(own)).resolve()
        if not (folder / "sweep").exists():
            make_seeds(folder)
        cases = sample(given.count) if given.count else all_cases()
        cases = tuple(case for case in cases if given.only in f"{case.name} {case.target.kind}")
        begun = time.monotonic()
        counts: dict[str, Counter[Outcome]] = {}
        for case in cases:
            outcome, ended = attempt(case, folder)
            counts.setdefault(case.target.kind, Counter())[outcome] += 1
            if outcome in WRONG or given.verbose:
                text = ended.text if given.verbose else "\n".join(ended.text.strip().splitlines()[-6:])
                how = f"code {ended.code}, {ended.seconds:.1f} s, {ended.resident >> 20} MiB"
                print(f"--- {outcome.value} | {case.name} | {how}\n{text[-3000:]}", flush=True)
    print(found := table(counts))
    print(f"{len(cases)} cases in {time.monotonic() - begun:.0f} s")
    if not given.only:
        write(given.out, f"{len(cases):,} of {len(all_cases()):,} cases, evenly spaced:\n\n{found}")
    return int(any(count[outcome] for count in counts.values() for outcome in WRONG))


def write(page: Path, found: str) -> None:
    """Replace the table in a page; a page without one becomes the table."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def table(counts: dict[str, Counter[Outcome]]) -> str:
    """Return the outcomes by file, as a table in Markdown."""
    columns = [outcome for outcome in Outcome]
    lines = [
        "| file | cases | " + " | ".join(outcome.value for outcome in columns) + " |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    total: Counter[Outcome] = Counter()
    for kind, count in counts.items():
        total += count
        lines.append(f"| {kind} | {count.total()} | " + " | ".join(str(count[outcome]) for outcome in columns) + " |")
    lines.append(f"| **all** | {total.total()} | " + " | ".join(str(total[outcome]) for outcome in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
