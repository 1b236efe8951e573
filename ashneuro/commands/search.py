"""``ashneuro search``: the pictures that a text describes best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ashneuro.commands.options import AsJson, SkipBroken, Whole
from ashneuro.reporting import terminal

SHOWN = 20
"""Number of pictures that were left out and are printed; a file lists all."""


def search(
    run: Path,
    query: str,
    /,
    *,
    data: Annotated[
        str | None, Parameter(help="Data whose test pictures are searched: the run's, moved, or others.")
    ] = None,
    images: Annotated[
        Path | None,
        Parameter(help="Folder to search; with --data, where its pictures are. Default: the run's own test pictures."),
    ] = None,
    n: Annotated[Whole, Parameter(help="Number of matches.")] = 6,
    abstract_on: Annotated[
        Literal["torch", "loihi", "lava"],
        Parameter(help="Simulator of the spikes: torch, the integer emulator, or Lava."),
    ] = "torch",
    device: Annotated[str, Parameter(help="Device of the ANN branch: cpu, cuda.")] = "cpu",
    out: Annotated[Path, Parameter(help="Image file of the matches.")] = Path("search.png"),
    skip_broken: SkipBroken = False,
    json: AsJson = False,
) -> None:
    """Search pictures by text: print and draw the best matches.

    Args:
        run: a folder that `ashneuro train` wrote.
        query: the text, e.g. "a red flower".
    """
    from ashneuro.data.broken import LEFT_OUT, save_left_out
    from ashneuro.files import named
    from ashneuro.workflows.search import search as find

    found = find(
        run, query, data=data, images=images, n=n, abstract_on=abstract_on, device=device, skip_broken=skip_broken
    )
    found.save(out)
    elsewhere = images is not None and data is None
    listed = named(out).with_name(f"{out.stem}-{LEFT_OUT}") if elsewhere else run / LEFT_OUT
    save_left_out(listed, found.unreadable)
    if json:
        terminal.json(found.to_json())
        return
    rows = [
        (rank, match.pair.key, match.caption, f"{match.cosine:.3f}") for rank, match in enumerate(found.best, start=1)
    ]
    terminal.table(f"{query!r} among {found.pictures:,} pictures", (">rank", "picture", "caption", ">cosine"), rows)
    if found.hits:
        shown = sum(match.hit for match in found.best)
        terminal.line(f"{found.hits:,} of the pictures have this text as a caption, {shown} of them above")
    if found.unknown_words:
        terminal.line(f"not in the training captions, hence ignored: {', '.join(found.unknown_words)}", "yellow")
    for problem in found.unreadable[:SHOWN]:
        terminal.line(f"left out, {problem}", "yellow")
    terminal.left_out(listed)
    terminal.wrote(out)
