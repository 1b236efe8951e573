"""``ashneuro search``: the pictures that a text describes best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.errors import ConfigError, DataError, need
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair


def search(
    run: Path,
    query: str,
    /,
    *,
    images: Annotated[Path | None, Parameter(help="Folder of pictures. Default: the run's own test pictures.")] = None,
    n: Annotated[int, Parameter(help="How many of the best.")] = 6,
    abstract_on: Annotated[
        Literal["torch", "loihi", "lava"],
        Parameter(help="What computes the spikes: torch, the integer emulator, or Lava."),
    ] = "torch",
    device: Annotated[str, Parameter(help="Where the ANN branch runs: cpu, cuda.")] = "cpu",
    out: Annotated[Path, Parameter(help="Where the best are drawn.")] = Path("search.png"),
    json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False,
) -> None:
    """Show me that it works on my pictures: print and draw those that match a text best.

    Args:
        run: a folder that `ashneuro train` wrote.
        query: the text, e.g. "a red flower".
    """
    from ashneuro.commands.evaluate import open_run, require_kind
    from ashneuro.data.folder import folder_pictures
    from ashneuro.data.show import page, save_page
    from ashneuro.data.tokens import split_words

    if n < 1:
        raise ConfigError(f"--n {n}", "the best are at least one", "--n 6")
    batches = need("ashneuro.data.batches", extra="train", purpose="searching")
    hybrid = need("ashneuro.hybrid", extra="train", purpose="searching")
    pairs: Sequence[Pair]
    problems: list[str] = []
    if images is None:
        opened, pairs, _ = open_run(run, "test", None, device)
    else:  # what it learned from need not be here
        require_kind(run, "run")
        opened = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run").load_run(run, device)
        pairs, problems = folder_pictures(images)
    unknown = opened.vocabulary.unknown(query)
    # An unknown word would pull the text towards one that was never learned.
    known = " ".join(word for word in split_words(query) if word not in unknown) if unknown else query.strip()
    if not known or not opened.vocabulary.indices(known):
        raise DataError(
            f"nothing is known of {query!r}",
            "none of its words was in the captions that the run learned from",
            "use other words",
        )
    with hybrid.HybridSession(opened, abstract_on) as session:
        size = opened.config.data.image_size
        scores = (session.embed_texts([known]) @ session.embed_images(batches.load_images(pairs, size)).T)[0]
    best = sorted(range(len(pairs)), key=lambda index: -scores[index])[:n]
    rows = [
        {"picture": pairs[index].key, "caption": pairs[index].captions[0], "cosine": float(scores[index])}
        for index in best
    ]
    save_page(
        page([replace(pairs[index], captions=(f"{scores[index]:.3f}", *pairs[index].captions[:1])) for index in best]),
        out,
    )
    if json:
        terminal.json(
            {"query": query, "unknown_words": unknown, "pictures": len(pairs), "unreadable": problems, "best": rows}
        )
        return
    title = f"{query!r} among {len(pairs):,} pictures"
    table = [
        (number, row["picture"], row["caption"], f"{row['cosine']:.3f}") for number, row in enumerate(rows, start=1)
    ]
    terminal.table(title, (">rank", "picture", "caption", ">cosine"), table)
    if unknown:
        terminal.line(f"not in the captions that it learned from, so of no effect: {', '.join(unknown)}", "yellow")
    for problem in problems:
        terminal.line(f"left out, {problem}", "yellow")
    terminal.wrote(out)
