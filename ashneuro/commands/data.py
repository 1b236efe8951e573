"""``ashneuro data``: list, show, check, fetch and build data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ashneuro.config import DataConfig, presets
from ashneuro.reporting import terminal

AsJson = Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())]

data = App(name="data", help="List, show, check, fetch and build data sets.")


@data.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """Which data sets have a name, and which of them are here."""
    from ashneuro.data.fetch import EASY_VQA, is_available
    from ashneuro.data.sources import SOURCES

    known = {name: (source.about, source.licence) for name, source in SOURCES.items()} | {
        "easy-vqa": (EASY_VQA.about, EASY_VQA.licence)
    }
    if json:
        keys = ("name", "here", "about", "licence")
        terminal.json(
            [dict(zip(keys, (name, is_available(name), *about), strict=True)) for name, about in known.items()]
        )
        return
    rows = [
        (name, "yes" if is_available(name) else f"ashneuro data fetch {name}", *about) for name, about in known.items()
    ]
    terminal.table("data sets", ("name", "here", "what it is", "licence"), rows)
    terminal.line(
        f"any COCO captions JSON, .jsonl or .csv with an image folder works too: see {presets()['own_pairs']}"
    )


@data.command
def formats(*, json: AsJson = False) -> None:
    """Which file formats are read."""
    from ashneuro.data.check import about
    from ashneuro.data.formats import FORMATS

    if json:
        terminal.json([{"name": name, "about": about(name)} for name in FORMATS])
        return
    terminal.table("formats", ("name", "what it is"), [(name, about(name)) for name in FORMATS])


@data.command
def check(
    path: Path,
    *,
    format: Annotated[str, Parameter(help="One of `ashneuro data formats`. Default: by the suffix.")] = "",
    images: Annotated[Path | None, Parameter(help="Folder of the pictures. Default: the folder of the file.")] = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of tables.", negative=())] = False,
) -> int:
    """Count a data set's parts, and name every problem: of its files, its texts, and every picture, decoded to its end.

    Exit code 1 when there is a problem.

    Args:
        path: file or folder; shards also as 'shard-{000000..000009}.tar'.
    """
    from dataclasses import asdict

    from ashneuro.data.check import check as check_data
    from ashneuro.data.formats import guess_format

    with terminal.counting("pictures") as tick:
        found = check_data(path, format or guess_format(path), images, tick)
    if json:
        terminal.json(asdict(found))
    else:
        terminal.data_check(found)
    return 1 if found.problems else 0


@data.command
def show(
    source: str = "emoji",
    *,
    images: str = "",
    split: Literal["style", "concept", "file", "random"] | None = None,
    part: Literal["train", "validation", "test"] = "test",
    n: Annotated[int, Parameter(help="How many pictures.")] = 24,
    seed: int = 0,
    out: Annotated[Path | None, Parameter(help="Where the sheet goes; default: SOURCE-PART.png here.")] = None,
    json: AsJson = False,
) -> None:
    """Count a data set, and draw a contact sheet of it with captions.

    Args:
        source: a name from `ashneuro data list`, or the path of a COCO captions JSON, a .jsonl or a .csv.
        images: folder of the image files, for a path.
        split: how it is split into train, validation and test.
        part: which part is drawn.
        seed: which pictures are drawn.
    """
    from dataclasses import asdict

    from ashneuro.data.describe import describe
    from ashneuro.data.show import contact_sheet, save_page
    from ashneuro.data.sources import SOURCES, load_splits

    chosen = split or ("style" if source == "emoji" else "random")
    splits = load_splits(DataConfig(source=source, images=images, split=chosen))
    counts = describe(splits)
    if not json:
        terminal.data_counts(counts)
    name = source if source in SOURCES else Path(source).stem
    path = out or Path(f"{name}-{part}.png")
    save_page(contact_sheet(getattr(splits, part), n=n, seed=seed), path)
    if json:
        terminal.json({**asdict(counts), "sheet": path})
    else:
        terminal.wrote(path)


@data.command
def fetch(name: Literal["tuxpaint", "easy-vqa"]) -> None:
    """Fetch a data set that does not ship with ashneuro: its package, checked by its hash.

    Args:
        name: tuxpaint: 785 real photographs and drawings with captions (Debian package, GPL-2, 161 MB).
            easy-vqa: 48,248 questions about 5,000 pictures of shapes drawn by a program (PyPI, MIT, 3 MB).
    """
    from ashneuro.data.fetch import PACKAGES
    from ashneuro.data.fetch import fetch as fetch_source

    with terminal.status(f"fetching {name}") as say:
        folder = fetch_source(name, say)
    terminal.wrote(folder)
    terminal.line(f"licence: {PACKAGES[name].licence}")
    if name == "easy-vqa":
        stage = '\'schedule=[{name="vqa",epochs=8,task="vqa"}]\''
        terminal.next_steps(
            f"ashneuro data check {folder} --format easy-vqa",
            f"ashneuro train tiny --out runs/{name} --set tasks.vqa.format={name} --set model.multimodal.layers=2 --set {stage}",
            f"ashneuro evaluate runs/{name} --task vqa",
        )
        return
    terminal.next_steps(
        f"ashneuro data show {name}",
        f"ashneuro train tiny --out runs/{name} --set data.source={name} --set data.split=random --set data.styles=[]",
    )


@data.command
def build(name: Literal["emoji"], *, out: Path = Path("emoji-pack")) -> None:
    """Make the embedded pack again from its pinned npm packages; the same packages give the same bytes.

    Args:
        name: which pack.
        out: folder to write.
    """
    from ashneuro.data.emoji_build import build_emoji

    with terminal.status(f"building {name}") as say:
        build_emoji(out, say)
    terminal.wrote(out)
