"""Search: the pictures that a text describes best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ashneuro.display import Brief
from ashneuro.errors import ConfigError, DataError, need
from ashneuro.workflows.places import Place, run_on
from ashneuro.workflows.runs import list_left_out, open_run, pairs_of

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair
    from ashneuro.training.checkpoint import Run


@dataclass(frozen=True)
class SearchMatch:
    """A picture that was found.

    Args:
        cosine: of its embedding and the text's.
        caption: its caption that equals the text, else its first one.
        hit: a caption of it equals the text, up to case and spaces.
    """

    pair: Pair
    cosine: float
    caption: str
    hit: bool


@dataclass(frozen=True, repr=False)
class SearchResult(Brief):
    """Result of a search.

    Args:
        query: the text as it was asked.
        pictures: number of pictures that were searched.
        unknown_words: words of the query that the run never learned from; they have no effect.
        unreadable: one sentence per picture that was left out.
        best: best match first.
        hits: number of all pictures that have a caption equal to the text.
    """

    query: str
    pictures: int
    unknown_words: tuple[str, ...]
    unreadable: tuple[str, ...]
    best: tuple[SearchMatch, ...]
    hits: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        best = [
            {"picture": match.pair.key, "caption": match.caption, "cosine": match.cosine, "hit": match.hit}
            for match in self.best
        ]
        return {
            "query": self.query,
            "unknown_words": list(self.unknown_words),
            "pictures": self.pictures,
            "unreadable": list(self.unreadable),
            "hits": self.hits,
            "best": best,
        }

    def save(self, path: Path) -> None:
        """Draw the best matches, with cosine and caption, to an image file."""
        from ashneuro.data.show import page, save_page

        captioned = [replace(match.pair, captions=(f"{match.cosine:.3f}", match.caption)) for match in self.best]
        save_page(page(captioned), path)


def search(
    run: str | Path | Run,
    query: str,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    n: int = 6,
    abstract_on: Literal["torch", "loihi", "lava"] = "torch",
    device: str = "cpu",
    skip_broken: bool = False,
) -> SearchResult:
    """Return the pictures that match a text best.

    Args:
        run: a folder that `ashneuro train` wrote, or a loaded run.
        query: the text.
        data: data whose test pictures are searched: the run's own where they are now, or others.
        images: folder of pictures; those that cannot be read are left out. With ``data``: the
            folder of its pictures. Default: the run's own test pictures.
        n: number of matches.
        abstract_on: where the spikes are computed: torch, the integer emulator, or Lava.
        device: where the ANN branch runs.
        skip_broken: leave out pictures of the run's own data that cannot be read; RUN/left-out.txt
            lists them.

    Raises:
        DataError: no word of the query is known to the run, or there are no pictures.
        AshneuroError: the run cannot be read, or has no bundle for spikes from elsewhere.
    """
    from ashneuro.data.folder import folder_pictures
    from ashneuro.data.splits import normalise_caption
    from ashneuro.data.tokens import split_words

    if n < 1:
        raise ConfigError(f"--n {n}", "at least one match is shown", "--n 6")
    batches = need("ashneuro.data.batches", extra="train", purpose="searching")
    hybrid = need("ashneuro.workflows.hybrid", extra="train", purpose="searching")
    opened = open_run(run, device, skip_broken=skip_broken)
    if data is not None:
        opened, images = run_on(opened, Place(str(data), str(images or ""))), None
    pairs: Sequence[Pair]
    unreadable: list[str] = []
    if images is None:
        pairs, _ = pairs_of(opened, "test")
    else:  # the data that it learned from need not be here
        pairs, unreadable = folder_pictures(Path(images))
    unknown = opened.vocabulary.unknown(query)
    # An unknown word would pull the text towards an embedding that was never learned.
    known = " ".join(word for word in split_words(query) if word not in unknown) if unknown else query.strip()
    if not known or not opened.vocabulary.indices(known):
        raise DataError(
            f"no word of {query!r} is known",
            "none of its words was in the captions that the run learned from",
            "use other words",
        )
    with hybrid.HybridSession(opened, abstract_on) as session:
        size = opened.config.data.image_size
        if images is None:
            pixels = batches.load_images(pairs, size)
        else:
            pixels, pairs, broken = batches.load_readable(pairs, size)
            unreadable += broken
        if not pairs:
            raise DataError(f"no picture in {images} can be read", unreadable[0], "give another folder")
        scores = (session.embed_texts([known]) @ session.embed_images(pixels).T)[0]
    if images is None:
        list_left_out(opened)
        unreadable = list(opened.splits.left_out)
    best = sorted(range(len(pairs)), key=lambda index: -scores[index])[:n]
    equal = {
        index: text
        for index, pair in enumerate(pairs)
        for text in batches.texts_of(pair, opened.config.data.captions)
        if normalise_caption(text) == normalise_caption(query)
    }
    matches = tuple(
        SearchMatch(pairs[index], float(scores[index]), equal.get(index, pairs[index].captions[0]), index in equal)
        for index in best
    )
    return SearchResult(query, len(pairs), tuple(unknown), tuple(unreadable), matches, len(equal))
