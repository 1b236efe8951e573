"""Results of cases in a file of JSON lines, so that a run can be cut short, go on and be merged."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.cases import Case
from tests.fuzz.runner import Outcome

GOOD = (Outcome.ERROR, Outcome.FINE)
WRONG = tuple(outcome for outcome in Outcome if outcome not in GOOD)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Result:
    """Outcome of one case.

    Args:
        case: name of the case.
        kind: row of the table.
        outcome: value of an `Outcome`.
        commit: abbreviated commit of the code that ran; ``+``: with changes. Empty without git.
        shown: last lines that a wrong case printed.
    """

    case: str
    kind: str
    outcome: str
    code: int
    seconds: float
    commit: str
    shown: str = ""

    @property
    def is_wrong(self) -> bool:
        """True if the outcome is none of `GOOD`."""
        return Outcome(self.outcome) in WRONG


def present_commit() -> str:
    """Return the commit of this checkout, for `Result`."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except OSError:  # no git
        return ""


def append(path: Path, result: Result) -> None:
    """Add one result to a file, on a line of its own: the last line of a killed run has no end."""
    line = json.dumps(asdict(result), ensure_ascii=False)
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{'' if whole else chr(10)}{line}\n")


def read(paths: Iterable[Path]) -> dict[str, Result]:
    """Return the results in files by case; of two of the same case, the later one.

    A line without an end is left out.
    """
    found: dict[str, Result] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                result = Result(**json.loads(line))
            except (ValueError, TypeError):
                continue
            found[result.case] = result
    return found


def page(cases: Sequence[Case], found: dict[str, Result]) -> str:
    """Return the number of ``cases`` that ran, and the outcomes by kind, as Markdown."""
    ran = [found[case.name] for case in cases if case.name in found]
    all_of = Counter(case.target.kind for case in cases)
    missing = all_of - Counter(result.kind for result in ran)
    share = "all" if not missing else f"{len(ran):,}"
    commits = Counter(result.commit for result in ran if result.commit)
    code = "; ".join(f"{count:,} on commit {commit}" for commit, count in commits.most_common())
    lines = [f"{len(cases):,} cases, {share} of them run{f' ({code})' if code else ''}:", "", table(ran)]
    if missing:
        lines += ["", f"Not run: {'; '.join(f'{kind} {count} of {all_of[kind]}' for kind, count in missing.items())}."]
    return "\n".join(lines)


def table(results: Iterable[Result]) -> str:
    """Return the outcomes by kind, as a table in Markdown."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result.kind, Counter())[result.outcome] += 1
    columns = [outcome.value for outcome in Outcome]
    rows = [*counts.items(), ("**all**", sum(counts.values(), Counter()))]
    return "\n".join(
        [
            "| file | cases | " + " | ".join(columns) + " |",
            "|---|" + "---:|" * (len(columns) + 1),
            *(
                f"| {kind} | {count.total()} | " + " | ".join(str(count[word]) for word in columns) + " |"
                for kind, count in rows
            ),
        ]
    )
