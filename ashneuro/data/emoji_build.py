"""Build of the pack *emoji in six drawing styles*: sprite sheets, COCO captions, two fixed splits.

Each drawing of an emoji is one image; its English Unicode (CLDR) name and its keywords are the two
captions. All drawings of an emoji share a concept. Packages come from npm, pinned by the integrity
hash that the registry publishes. Everything after the rendering is in Unicode order or in the order
of a hash: the same packages and renderer give the same bytes.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.metadata
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.data.emoji import PACK
from ashneuro.data.splits import connected, hash_order, normalise_caption
from ashneuro.errors import DataError, need
from ashneuro.files import replace_files

CELL = 64  # pixels, both sides; a multiple of WebP's 16-pixel blocks, so that no block spans two cells
COLUMNS = 40
QUALITY = 90
TEST_STYLE = "fluent"
FLAGS_GROUP = "flags"
SKIPPED_GROUPS = ("component", FLAGS_GROUP)  # components: skin tones and hair, which are no emoji of their own


@dataclass(frozen=True)
class Package:
    """An npm package; ``integrity`` as ``npm view NAME@VERSION dist.integrity`` prints it."""

    name: str
    version: str
    integrity: str


@dataclass(frozen=True)
class Style:
    """A drawing style, its author and its licence."""

    package: Package
    title: str
    author: str
    licence: str
    licence_url: str
    home: str


CC_BY = "https://creativecommons.org/licenses/by/4.0/"
APACHE = "https://www.apache.org/licenses/LICENSE-2.0"

STYLES: dict[str, Style] = {
    "noto": Style(
        Package(
            "@iconify-json/noto",
            "1.2.9",
            "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        ),
        "Noto Emoji",
        "Google",
        "Apache-2.0",
        APACHE,
        "https://github.com/googlefonts/noto-emoji",
    ),
    "twemoji": Style(
        Package(
            "@iconify-json/twemoji",
            "1.2.5",
            "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        ),
        "Twemoji",
        "Twitter, Inc. and other contributors",
        "CC-BY-4.0",
        CC_BY,
        "https://github.com/jdecked/twemoji",
    ),
    "fluent": Style(
        Package(
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        ),
        "Fluent Emoji (flat)",
        "Microsoft Corporation",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji/blob/main/LICENSE",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    "noto-v1": Style(
        Package(
            "@iconify-json/noto-v1",
            "1.2.5",
            "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        ),
        "Noto Emoji, first version",
        "Google",
        "Apache-2.0",
        APACHE,
        "https://github.com/googlefonts/noto-emoji",
    ),
    "emojione": Style(
        Package(
            "@iconify-json/emojione",
            "1.2.3",
            "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        ),
        "EmojiOne 2 / EmojiTwo",
        "EmojiOne and the EmojiTwo contributors",
        "CC-BY-4.0",
        CC_BY,
        "https://github.com/EmojiTwo/emojitwo",
    ),
    "fxemoji": Style(
        Package(
            "@iconify-json/fxemoji",
            "1.2.2",
            "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        ),
        "FxEmojis",
        "Mozilla",
        "CC-BY-4.0",  # by Mozilla's own LICENSE.md; the npm package says Apache-2.0
        CC_BY,
        "https://github.com/mozilla/fxemoji",
    ),
}
TEXT = Package(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)


@dataclass(frozen=True)
class Emoji:
    """Unicode data of an emoji: ``code`` points in hexadecimal, joined by hyphens."""

    code: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str


@dataclass(frozen=True)
class IconSet:
    """Drawings of a style: ``svg`` by icon name, and icon names ``by_code`` where the package lists
    them.
    """

    svg: Mapping[str, str]
    by_code: Mapping[str, str]


@dataclass(frozen=True)
class PackSummary:
    """Counts of a build.

    Args:
        images: number of images by style.
        concepts: number of distinct emoji.
        captions: number of captions.
        ambiguous: number of drawings left out, because one style draws several emoji with the same
            pixels.
        digest: SHA-256 of all pixels before compression, captions and splits; independent of WebP
            and gzip.
        size_bytes: size of all files together.
    """

    images: Mapping[str, int]
    concepts: int
    captions: int
    ambiguous: int
    digest: str
    size_bytes: int


def build_emoji(out: str | Path, progress: Callable[[str], None] | None = None) -> PackSummary:
    """Fetch and check the npm packages, and write the whole pack to the folder ``out``.

    Raises:
        DataError: npm is missing or fails, or a package is not the pinned one.
        MissingDependency: Pillow or resvg-py is not installed.
    """
    say = progress or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="ashneuro-npm-") as folder:
        icons = {}
        for name, style in STYLES.items():
            say(f"fetching {style.package.name}@{style.package.version}")
            icons[name] = read_icons(fetch_package(style.package, Path(folder)))
        say(f"fetching {TEXT.name}@{TEXT.version}")
        emoji = read_emoji(fetch_package(TEXT, Path(folder)))
    summary = build_pack(out, icons, emoji, say)
    if Path(out).resolve() != PACK.resolve():
        shutil.copy(PACK / "LICENSES.txt", out)
    return summary


def fetch_package(package: Package, folder: Path) -> bytes:
    """Return the package's tarball from the npm registry, checked against its pinned hash."""
    npm = shutil.which("npm")
    spec = f"{package.name}@{package.version}"
    if npm is None:
        raise DataError(
            f"cannot fetch {spec}",
            "npm is not on the PATH",
            "install Node.js; only building the pack needs it, using it does not",
        )
    done = subprocess.run(
        [npm, "pack", spec, "--silent", "--pack-destination", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip() or f"npm ended with status {done.returncode}"
        raise DataError(f"cannot fetch {spec}", reason, "check the network and `npm config get registry`")
    data = (folder / done.stdout.strip().splitlines()[-1]).read_bytes()
    check_integrity(spec, data, package.integrity)
    return data


def check_integrity(spec: str, data: bytes, integrity: str) -> None:
    """Raise `DataError` unless ``data`` has the hash ``integrity``, ``sha512-`` and base64 as npm
    writes it.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != integrity:
        raise DataError(
            f"{spec} is not the pinned package",
            f"its hash is {found}, expected {integrity}",
            "fetch from registry.npmjs.org",
        )


def read_icons(tarball: bytes) -> IconSet:
    """Return the drawings of an iconify package, aliases resolved, each as a square SVG."""
    files = _members(tarball, "icons.json", "chars.json")
    icons = files["icons.json"]
    names = [*icons["icons"], *icons.get("aliases", {})]
    by_code = {plain_code(code): name for code, name in files.get("chars.json", {}).items()}
    return IconSet({name: _svg(icons, name) for name in names}, by_code)


def read_emoji(tarball: bytes) -> list[Emoji]:
    """Return all emoji without skin tones in Unicode order, from emojibase's English data."""
    files = _members(tarball, "en/data.json", "en/messages.json")
    groups = {group["order"]: (group["key"], group["message"]) for group in files["en/messages.json"]["groups"]}
    subgroups = {group["order"]: group["message"] for group in files["en/messages.json"]["subgroups"]}
    found = []
    for entry in sorted(
        (entry for entry in files["en/data.json"] if "order" in entry and "group" in entry),
        key=lambda entry: entry["order"],
    ):
        key, group = groups[entry["group"]]
        if key not in SKIPPED_GROUPS:
            code = plain_code(entry["hexcode"])
            found.append(Emoji(code, entry["label"], tuple(entry.get("tags", ())), group, subgroups[entry["subgroup"]]))
    return found


def join(icons: IconSet, emoji: Iterable[Emoji]) -> dict[str, str]:
    """Return the SVG of each emoji that the style draws, by code.

    Icons are found by code point where the package lists them. Other packages name icons after the
    emoji: the name with hyphens is looked up, then without them.
    """
    # In reverse, so that of several names without hyphens the first in alphabetical order stays.
    without_hyphens = {name.replace("-", ""): name for name in sorted(icons.svg, reverse=True)}
    found = {}
    for item in emoji:
        slug = _slug(item.name)
        name = icons.by_code.get(item.code) or (
            slug if slug in icons.svg else without_hyphens.get(slug.replace("-", ""))
        )
        if name is not None:
            found[item.code] = icons.svg[name]
    return found


def build_pack(
    out: str | Path, icons: Mapping[str, IconSet], emoji: Sequence[Emoji], progress: Callable[[str], None] | None = None
) -> PackSummary:
    """Write ``{style}.webp``, ``captions.json.gz``, ``splits.json`` and ``pack.json`` to ``out``,
    all or none.

    Drawings that one style uses for several emoji, pixel for pixel, are left out: the picture does
    not tell the name (Twemoji draws ten families alike).
    """
    say = progress or (lambda _: None)
    return replace_files(Path(out), lambda folder: _write_pack(folder, icons, emoji, say), last="pack.json")


def _write_pack(
    out: Path, icons: Mapping[str, IconSet], emoji: Sequence[Emoji], say: Callable[[str], None]
) -> PackSummary:
    by_code = {item.code: item for item in emoji}
    images: list[dict[str, Any]] = []  # COCO, with the cell of a sheet in place of a file
    annotations: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    ambiguous = 0
    digest = hashlib.sha256()
    for licence, (style, icon_set) in enumerate(icons.items(), start=1):  # COCO's ids start at 1
        say(f"drawing {style}")
        drawn = {code: render(svg) for code, svg in join(icon_set, emoji).items()}
        kept = _unambiguous(drawn)
        ambiguous += len(drawn) - len(kept)
        counts[style] = len(kept)
        for cell, code in enumerate(kept):
            digest.update(drawn[code].tobytes())
            item = by_code[code]
            images.append(
                {
                    "id": len(images) + 1,
                    "file_name": f"{style}/{code}",
                    "width": CELL,
                    "height": CELL,
                    "license": licence,
                    "sheet": f"{style}.webp",
                    "cell": cell,
                    "style": style,
                    "concept": item.name,
                    "group": item.group,
                    "subgroup": item.subgroup,
                }
            )
            for caption in dict.fromkeys(text for text in (item.name, ", ".join(item.keywords)) if text):
                annotations.append({"id": len(annotations) + 1, "image_id": len(images), "caption": caption})
        _write_sheet(out / f"{style}.webp", [drawn[code] for code in kept])
    captions = {"info": _info(), "licenses": _licences(icons), "images": images, "annotations": annotations}
    splits = make_splits(images, annotations)
    packed = _json(captions, indent=None)
    digest.update(packed)
    digest.update(_json(splits, indent=1))
    with (
        (out / "captions.json.gz").open("wb") as raw,
        # Without name and time, which would differ between builds.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file,
    ):
        file.write(packed)
    (out / "splits.json").write_bytes(_json(splits, indent=1))
    files = [f"{style}.webp" for style in icons] + ["captions.json.gz", "splits.json"]
    manifest = {
        "digest": digest.hexdigest(),
        "files": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files},
        "made_with": _made_with(),
    }
    (out / "pack.json").write_bytes(_json(manifest, indent=1))
    size = sum((out / name).stat().st_size for name in [*files, "pack.json"])
    return PackSummary(
        counts, len({image["concept"] for image in images}), len(annotations), ambiguous, digest.hexdigest(), size
    )


def render(svg: str) -> NDArray[np.uint8]:
    """Return the drawing on white, (64, 64, 3) uint8."""
    resvg = need("resvg_py", extra="data", purpose="drawing the emoji pack")
    image = need("PIL.Image", extra="data", purpose="drawing the emoji pack")
    png = bytes(resvg.svg_to_bytes(svg_string=svg, width=CELL, height=CELL))
    drawing = image.open(io.BytesIO(png)).convert("RGBA")
    page = image.new("RGBA", (CELL, CELL), "white")
    page.alpha_composite(drawing)
    return np.asarray(page.convert("RGB"))


def make_splits(images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return both splits; everything that a split does not name is for training.

    ``style``: all drawings of one style are the test set. Validation is one drawing (by hash) of
        every fifth
    concept (by hash) that at least two of the other styles draw: as in the test, a new drawing of
    something seen in training.

    ``concept``: groups of concepts in the order of their hash; the first tenth is the test set, the
        next tenth
    validation. A group holds concepts whose names differ only in the person, "man running" and
    "woman running", and concepts that share a caption, such as frog and fox with the keywords
    "animal, face".
    """
    styles_of: dict[str, list[str]] = defaultdict(list)
    texts: dict[str, set[str]] = {image["concept"]: {f"family {family(image['concept'])}"} for image in images}
    for image in images:
        if image["style"] != TEST_STYLE:
            styles_of[image["concept"]].append(image["file_name"])
    concept_of = {image["id"]: image["concept"] for image in images}
    for annotation in annotations:
        texts[concept_of[annotation["image_id"]]].add(f"caption {normalise_caption(annotation['caption'])}")
    concepts = sorted(texts)
    groups = {
        concepts[group[0]]: [concepts[index] for index in group]
        for group in connected([texts[concept] for concept in concepts])
    }
    eligible = hash_order((concept for concept, drawings in styles_of.items() if len(drawings) > 1), "style")
    validation = [hash_order(styles_of[concept], "style")[0] for concept in eligible[: len(eligible) // 5]]
    order = hash_order(groups, "concept")
    tenth = round(len(order) / 10)
    return {
        "style": {"test_style": TEST_STYLE, "validation": sorted(validation)},
        "concept": {
            "test": sorted(concept for name in order[:tenth] for concept in groups[name]),
            "validation": sorted(concept for name in order[tenth : 2 * tenth] for concept in groups[name]),
        },
    }


WHO = re.compile(
    r"\b(?:facing right|(?:man|men|woman|women|person|people|boys?|girls?|child|children|adults?|baby|older|old|and)"
    r"(?:[’']s)?)(?![\w’'-])"
)
SAME_FAMILY = {"merman": "merperson", "mermaid": "merperson", "prince": "princess"}


def family(name: str) -> str:
    """Return the name without words for the person, which all variants of an emoji then share."""
    words = re.findall(r"[^\s:,]+", WHO.sub(" ", name.lower()))
    return " ".join(SAME_FAMILY.get(word, word) for word in words) or "person"


def _members(tarball: bytes, *names: str) -> dict[str, Any]:
    with tarfile.open(fileobj=io.BytesIO(tarball), mode="r:gz") as tar:
        found = {}
        for member in tar:
            name = member.name.partition("/")[2]
            if name in names and member.isfile():
                file = tar.extractfile(member)
                assert file is not None  # isfile() says so
                found[name] = json.loads(file.read())
    return found


def plain_code(code: str) -> str:
    """Return a code point, "1f600" or several with hyphens, in lower case and without FE0F."""
    # FE0F only selects the coloured form; some packages write it, some do not.
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def _slug(name: str) -> str:
    name = (
        name.lower()
        .replace("#", " pound ")
        .replace("*", " asterisk ")
        .replace("&", " and ")
        .replace("’", "")
        .replace("'", "")
    )
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")


def _svg(icons: Mapping[str, Any], name: str) -> str:
    flipped = False
    while name not in icons["icons"]:
        alias = icons["aliases"][name]
        flipped ^= bool(alias.get("hFlip"))
        name = alias["parent"]
    icon = icons["icons"][name]
    # Iconify gives a size only to icons that differ from the set's.
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    body = f'<g transform="translate({width} 0) scale(-1 1)">{icon["body"]}</g>' if flipped else icon["body"]
    side = max(width, height)  # a square view box, so that no drawing is stretched
    view = f"{(width - side) / 2:g} {(height - side) / 2:g} {side:g} {side:g}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{view}">{body}</svg>'


def _unambiguous(drawn: Mapping[str, NDArray[np.uint8]]) -> list[str]:
    codes: dict[bytes, list[str]] = defaultdict(list)
    for code, pixels in drawn.items():
        codes[pixels.tobytes()].append(code)
    alone = {same[0] for same in codes.values() if len(same) == 1}
    return [code for code in drawn if code in alone]


def _write_sheet(path: Path, cells: Sequence[NDArray[np.uint8]]) -> None:
    image = need("PIL.Image", extra="data", purpose="writing the emoji pack")
    rows = max(1, -(-len(cells) // COLUMNS))
    # (rows, columns, y, x, RGB), then rows of pixels; cells that are left over stay white.
    sheet = np.full((rows, COLUMNS, CELL, CELL, 3), 255, dtype=np.uint8)
    for index, cell in enumerate(cells):
        sheet[index // COLUMNS, index % COLUMNS] = cell
    pixels = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * CELL, COLUMNS * CELL, 3)
    image.fromarray(np.ascontiguousarray(pixels)).save(path, "WEBP", quality=QUALITY, method=6)


def _info() -> dict[str, Any]:
    return {
        "description": "Emoji in six drawing styles, with Unicode CLDR names and keywords",
        "changes": f"resized to {CELL} px and flattened on white; flags and drawings with several names left out",
        "text": f"Unicode CLDR through {TEXT.name} {TEXT.version}",
        "grid": {"cell": CELL, "columns": COLUMNS},
    }


def _licences(styles: Iterable[str]) -> list[dict[str, Any]]:
    licences = []
    for number, name in enumerate(styles, start=1):
        style = STYLES[name]
        licences.append(
            {"id": number, "name": f"{style.licence}, {style.title}, {style.author}", "url": style.licence_url}
        )
    return licences


def _made_with() -> dict[str, str]:
    features = need("PIL.features", extra="data", purpose="writing the emoji pack")
    packages = {package.name: package.version for package in (*(style.package for style in STYLES.values()), TEXT)}
    return {
        **packages,
        "resvg-py": importlib.metadata.version("resvg-py"),
        "pillow": importlib.metadata.version("pillow"),
        "libwebp": str(features.version("webp")),
    }


def _json(value: Any, *, indent: int | None) -> bytes:
    separators = (",", ":") if indent is None else None
    return (json.dumps(value, ensure_ascii=False, indent=indent, separators=separators) + "\n").encode()
