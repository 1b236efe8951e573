from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ashneuro.data import emoji_build
from ashneuro.data.emoji import PACK
from ashneuro.data.emoji_build import (
    STYLES,
    Emoji,
    IconSet,
    Package,
    build_pack,
    check_integrity,
    family,
    fetch_package,
    join,
    make_splits,
    read_emoji,
    read_icons,
    render,
)
from ashneuro.errors import DataError


def tarball(files: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def square(colour: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path fill="{colour}" d="M0 0h8v8H0z"/></svg>'


def emoji(code: str, name: str, *keywords: str) -> Emoji:
    return Emoji(code, name, keywords, "animals & nature", "animal mammal")


WORDS = ("dog", "cat", "fox", "cow", "pig", "rat", "owl", "bee", "ant", "elk", "man singing", "woman singing")
ANIMALS = [
    emoji(f"1f{400 + index}", name, "animal", f"keyword{index // 2 if index > 9 else index}")
    for index, name in enumerate(WORDS)
]


def icon_sets(styles: int = 3) -> dict[str, IconSet]:
    """Icons of one colour each, different in each style."""
    return {
        style: IconSet(
            {item.code: square(f"rgb({20 * number},{80 * row},90)") for number, item in enumerate(ANIMALS)},
            {a.code: a.code for a in ANIMALS},
        )
        for row, style in enumerate(list(STYLES)[:styles])
    }


def read_pack(pack: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return json.loads(gzip.decompress((pack / "captions.json.gz").read_bytes())), json.loads(
        (pack / "splits.json").read_text()
    )


def test_icons_have_sizes_aliases_and_code_points() -> None:
    icons = {
        "width": 8,
        "height": 8,
        "icons": {
            "a": {"body": "<g/>"},
            "wide": {"body": "<b/>", "width": 16},
            "tall": {"body": "<c/>", "width": 2, "height": 6},
        },
        "aliases": {"b": {"parent": "a"}, "c": {"parent": "b", "hFlip": True}, "d": {"parent": "c", "hFlip": True}},
    }
    found = read_icons(tarball({"icons.json": icons, "chars.json": {"2764-fe0f": "a"}, "metadata.json": {}}))
    assert set(found.svg) == {"a", "wide", "tall", "b", "c", "d"}
    assert found.by_code == {"2764": "a"}
    assert found.svg["a"] == found.svg["b"] == found.svg["d"]
    assert '<g transform="translate(8 0) scale(-1 1)"><g/></g>' in found.svg["c"]
    assert 'viewBox="0 -4 16 16"' in found.svg["wide"] and 'viewBox="-2 0 6 6"' in found.svg["tall"]


def test_flipped_alias_is_mirrored() -> None:
    icons = {
        "width": 8,
        "height": 8,
        "icons": {"a": {"body": '<path d="M0 0h2v8H0z"/>'}},
        "aliases": {"b": {"parent": "a", "hFlip": True}},
    }
    found = read_icons(tarball({"icons.json": icons}))
    left, right = render(found.svg["a"]), render(found.svg["b"])
    assert np.array_equal(left, right[:, ::-1]) and not np.array_equal(left, right)


def test_drawings_are_64_pixels_on_white_and_not_stretched() -> None:
    pixels = render(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -4 16 16"><path fill="#f00" d="M0 0h16v8H0z"/></svg>'
    )
    assert (pixels.shape, pixels.dtype) == ((64, 64, 3), np.uint8)
    assert (pixels[:16] == 255).all() and (pixels[48:] == 255).all()
    assert (pixels[16:48] == (255, 0, 0)).all()


def test_emoji_are_in_unicode_order_without_flags_and_components() -> None:
    data = [
        {"hexcode": "1F436", "label": "dog face", "tags": ["dog"], "order": 5, "group": 3, "subgroup": 1},
        {"hexcode": "2764-FE0F", "label": "red heart", "order": 2, "group": 0, "subgroup": 0},
        {"hexcode": "1F1E6", "label": "regional indicator A"},
        {"hexcode": "1F3FB", "label": "light skin tone", "order": 3, "group": 2, "subgroup": 0},
        {"hexcode": "1F1E9", "label": "flag: Germany", "order": 9, "group": 9, "subgroup": 0},
    ]
    keys = {
        0: ("smileys-emotion", "smileys & emotion"),
        2: ("component", "components"),
        3: ("animals-nature", "animals & nature"),
        9: ("flags", "flags"),
    }
    messages = {
        "groups": [{"key": key, "message": message, "order": order} for order, (key, message) in keys.items()],
        "subgroups": [
            {"key": "heart", "message": "heart", "order": 0},
            {"key": "animal-mammal", "message": "animal mammal", "order": 1},
        ],
    }
    assert read_emoji(tarball({"en/data.json": data, "en/messages.json": messages})) == [
        Emoji("2764", "red heart", (), "smileys & emotion", "heart"),
        Emoji("1f436", "dog face", ("dog",), "animals & nature", "animal mammal"),
    ]


def test_joining_prefers_code_points_then_names() -> None:
    items = [
        emoji("1", "dog face"),
        emoji("2", "woman’s hat"),
        emoji("3", "keycap: #"),
        emoji("4", "love letter"),
        emoji("5", "piñata"),
        emoji("6", "no"),
    ]
    names = {
        name: name for name in ("by-code", "dog-face", "womans-hat", "keycap-pound", "keycap", "loveletter", "pinata")
    }
    assert join(IconSet(names, {"1": "by-code"}), items) == {
        "1": "by-code",
        "2": "womans-hat",
        "3": "keycap-pound",
        "4": "loveletter",
        "5": "pinata",
    }
    assert join(IconSet(names, {}), items)["1"] == "dog-face"


def test_pack_holds_every_drawing_with_its_captions(tmp_path: Path) -> None:
    summary = build_pack(tmp_path, icon_sets(), ANIMALS)
    captions, _ = read_pack(tmp_path)
    assert (summary.images, summary.concepts, summary.captions) == ({"noto": 12, "twemoji": 12, "fluent": 12}, 12, 72)
    assert [image["file_name"] for image in captions["images"][:2]] == ["noto/1f400", "noto/1f401"]
    texts = [annotation["caption"] for annotation in captions["annotations"] if annotation["image_id"] == 14]
    assert texts == ["cat", "animal, keyword1"]
    licences = {licence["id"]: licence["name"] for licence in captions["licenses"]}
    assert licences[captions["images"][13]["license"]].startswith("CC-BY-4.0, Twemoji")
    sheet = np.asarray(Image.open(tmp_path / "twemoji.webp").convert("RGB"))
    cell = sheet[:64, 64 * captions["images"][13]["cell"] :][:, :64]
    assert np.abs(cell.astype(int) - (20, 80, 90)).max() <= 8  # WebP is lossy


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (build_pack(tmp_path / name, icon_sets(), ANIMALS) for name in ("a", "b"))
    assert first == second
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_digest_changes_with_a_drawing(tmp_path: Path) -> None:
    icons = icon_sets()
    first = build_pack(tmp_path, icons, ANIMALS)
    changed = {**icons, "noto": IconSet({**icons["noto"].svg, "1f400": square("#123456")}, icons["noto"].by_code)}
    assert build_pack(tmp_path, changed, ANIMALS).digest != first.digest


def test_ambiguous_drawings_are_left_out(tmp_path: Path) -> None:
    icons = icon_sets(2)
    same = dict(icons["noto"].svg) | {"1f401": icons["noto"].svg["1f400"]}
    summary = build_pack(tmp_path, {**icons, "noto": IconSet(same, icons["noto"].by_code)}, ANIMALS)
    names = {image["file_name"] for image in read_pack(tmp_path)[0]["images"]}
    assert (summary.images, summary.ambiguous) == ({"noto": 10, "twemoji": 12}, 2)
    assert {"twemoji/1f400", "twemoji/1f401"} < names and not {"noto/1f400", "noto/1f401"} & names


def test_keywords_equal_to_the_name_are_one_caption(tmp_path: Path) -> None:
    items = [*ANIMALS[:-1], emoji(ANIMALS[-1].code, "hole", "hole")]
    assert build_pack(tmp_path, icon_sets(1), items).captions == 23


def test_splits_hold_out_a_style_and_whole_families() -> None:
    images = [
        {"id": row * 12 + col, "file_name": f"{style}/{item.code}", "style": style, "concept": item.name}
        for row, style in enumerate(("noto", "twemoji", "fluent"))
        for col, item in enumerate(ANIMALS)
    ]
    annotations = [{"image_id": image["id"], "caption": image["concept"]} for image in images]
    annotations += [{"image_id": 0, "caption": "Animal,  face"}, {"image_id": 1, "caption": "animal, face"}]
    splits = make_splits(images, annotations)
    assert splits["style"]["test_style"] == "fluent"
    assert len(splits["style"]["validation"]) == 2 and not [
        key for key in splits["style"]["validation"] if key.startswith("fluent")
    ]
    for part in ("validation", "test"):
        for together in ({"man singing", "woman singing"}, {"dog", "cat"}):
            assert len(together & set(splits["concept"][part])) in (0, 2)
    assert not set(splits["concept"]["validation"]) & set(splits["concept"]["test"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("man running: facing right", "running"),
        ("women with bunny ears", "with bunny ears"),
        ("family: man, woman, girl, boy", "family"),
        ("woman and man holding hands", "holding hands"),
        ("woman’s hat", "hat"),
        ("man", "person"),
        ("older person", "person"),
        ("mermaid", "merperson"),
        ("snowman", "snowman"),
        ("Santa Claus", "santa claus"),
        ("man-made", "man-made"),
    ],
)
def test_family_is_the_name_without_the_person(name: str, expected: str) -> None:
    assert family(name) == expected


def test_package_with_another_hash_is_refused() -> None:
    good = "sha512-" + base64.b64encode(hashlib.sha512(b"right").digest()).decode()
    check_integrity("x@1", b"right", good)
    with pytest.raises(DataError, match="x@1 is not the pinned package"):
        check_integrity("x@1", b"wrong", good)


def test_missing_npm_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"cannot fetch x@1[\s\S]*npm is not on the PATH"):
        fetch_package(Package("x", "1", ""), tmp_path)


def test_error_of_npm_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'E404 no such package' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(DataError, match="E404 no such package"):
        fetch_package(Package("x", "1", ""), tmp_path)


def test_download_of_npm_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        (Path(command[-1]) / "x-1.tgz").write_bytes(b"what came")
        return subprocess.CompletedProcess(command, 0, "x-1.tgz\n", "")

    monkeypatch.setattr(emoji_build.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(emoji_build.subprocess, "run", pack)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(b"what came").digest()).decode()
    assert fetch_package(Package("x", "1", integrity), tmp_path) == b"what came"
    with pytest.raises(DataError, match="not the pinned package"):
        fetch_package(Package("x", "1", "sha512-other"), tmp_path)


@pytest.mark.slow
def test_embedded_pack_equals_a_new_build(tmp_path: Path) -> None:
    """Needs npm and its registry.

    Pixels and texts must be equal; compressed bytes depend on encoder versions.
    """
    summary = emoji_build.build_emoji(tmp_path)
    embedded, built = (json.loads((folder / "pack.json").read_text()) for folder in (PACK, tmp_path))
    assert summary.digest == built["digest"] == embedded["digest"]
    if built["made_with"] == embedded["made_with"]:
        assert built == embedded
    assert (tmp_path / "splits.json").read_bytes() == (PACK / "splits.json").read_bytes()
    assert (tmp_path / "LICENSES.txt").is_file()
