"""Run the malformed inputs, and write the table of docs/reliability.md.

python -m tests.fuzz                      all cases; writes the table
python -m tests.fuzz --results FILE       the same, and goes on from FILE after an interruption
python -m tests.fuzz --shard 2/6 --results FILE   every sixth case, from the second on
python -m tests.fuzz --merge FILE FILE    runs nothing; writes the table of these results
python -m tests.fuzz --only trainer.pt    cases whose name holds these words; prints each
python -m tests.fuzz --count 200          evenly spaced cases; writes their table

Cases that were wrong in FILE are run again; of two results of a case the later one counts.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import results, runner, seeds
from tests.fuzz.cases import Case, all_cases, sample
from tests.fuzz.results import Result
from tests.fuzz.runner import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- malformed inputs: begin -->", "<!-- malformed inputs: end -->"


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


def shard(text: str) -> tuple[int, int]:
    """Return ``i`` and ``n`` of ``i/n``."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not i/n with 1 <= i <= n")
    return int(found[1]), int(found[2])


def main(words: Sequence[str]) -> int:
    """Run cases; return 1 if any of them is in one of the columns that should be empty."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose name, file or kind holds this")
    parser.add_argument("--count", type=int, default=0, help="only so many, evenly spaced")
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="i/n", help="every n-th case, from the i-th on")
    parser.add_argument("--results", type=Path, help="file of JSON lines to which results are added")
    parser.add_argument("--merge", type=Path, nargs="+", metavar="FILE", help="write the table of these results")
    parser.add_argument("--seeds", type=Path, help="folder of the sound inputs, kept for the next call")
    parser.add_argument("--verbose", action="store_true", help="print what every case printed")
    parser.add_argument("--out", type=Path, default=PAGE, help="page whose table is replaced")
    given = parser.parse_args(words)
    if given.merge:
        found = results.read(given.merge)
    else:
        index, count = given.shard
        chosen = (sample(given.count) if given.count else all_cases())[index - 1 :: count]
        found = run(
            [case for case in chosen if given.only in f"{case.name} {case.target.kind}"],
            given.results,
            given.seeds,
            given.verbose,
        )
    text = results.page(all_cases(), found)
    print(text)
    if not given.only and given.shard == (1, 1):
        write(given.out, text)
    return int(any(result.is_wrong for result in found.values()))


def run(cases: Sequence[Case], file: Path | None, kept: Path | None, verbose: bool) -> dict[str, Result]:
    """Run cases and print the wrong ones; return the results of these cases, earlier ones of
    ``file`` included.
    """
    earlier = results.read([file]) if file else {}
    found = {case.name: earlier[case.name] for case in cases if case.name in earlier}
    left = [case for case in cases if case.name not in found or found[case.name].is_wrong]
    print(f"{len(cases)} cases, {len(cases) - len(left)} of them run before", flush=True)
    runner.warm()
    commit, begun = results.present_commit(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seeds-") as own:
        folder: Path = (kept or Path(own)).resolve()
        if not (folder / "complete").exists():
            make_seeds(folder)
            (folder / "complete").touch()
        for case in left:
            outcome, ended = attempt(case, folder)
            wrong = outcome in results.WRONG
            shown = "\n".join(ended.text.strip().splitlines()[-6:])[-3000:] if wrong else ""
            seconds = round(ended.seconds, 2)
            found[case.name] = Result(case.name, case.target.kind, outcome.value, ended.code, seconds, commit, shown)
            if file:
                results.append(file, found[case.name])
            if wrong or verbose:
                how = f"code {ended.code}, {seconds} s, {ended.resident >> 20} MiB"
                print(f"--- {outcome.value} | {case.name} | {how}\n{ended.text if verbose else shown}", flush=True)
    print(f"{len(left)} cases in {time.monotonic() - begun:.0f} s")
    return found


def write(page: Path, found: str) -> None:
    """Replace the table in a page; a page without one becomes the table."""
    text = page.read_text(encoding="utf-8") if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
