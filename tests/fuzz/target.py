"""Files that are damaged, and the commands that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.fuzz.mutations import Mutation

Words = tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """A file that commands read.

    Args:
        scene: folder of the seeds.
        file: the file in it.
        damage: its mutations; the argument is the number of rounds of random ones.
        rounds: of them.
        verbs: commands that read it, used in turn.
        kind: row of the table.
        derived: it can be made again, so nothing stops because of it.
        required: ``False``: the commands may do without reading all of it, so nothing is wrong
            with accepting it.
    """

    scene: str
    file: str
    damage: Callable[[int], Iterable[Mutation]]
    rounds: int
    verbs: tuple[Words, ...]
    kind: str
    derived: bool = False
    required: bool = True


def data_verbs(file: str) -> tuple[Words, ...]:
    """Return the commands that read a data set."""
    return ("data", "check", file), ("data", "show", file, "--out", "sheet.png")
