import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from ashneuro.files import (
    conform,
    copy_folder,
    named,
    parse_json,
    parse_toml,
    read_bytes,
    read_json,
    reason_of,
    replace_file,
    replace_files,
    require_unpacked,
)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file: Path) -> None:
        file.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, fail)
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["file"]
    replace_file(path, lambda file: file.write_text("new"))
    assert path.read_text() == "new"


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "pack"

    def fail(fresh: Path) -> None:
        (fresh / "a").write_text("ne")
        raise OSError(28, "disk full", str(fresh / "a"))

    with pytest.raises(OSError, match="disk full") as failed:
        replace_files(folder, fail)
    assert failed.value.filename == str(folder / "a") and list(tmp_path.iterdir()) == []
    folder.mkdir()
    for name in ("a", "mine"):
        (folder / name).write_text("old")
    with pytest.raises(OSError, match="disk full"):
        replace_files(folder, fail)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "old", "mine": "old"}

    def write(fresh: Path) -> int:
        for name in ("a", "manifest", "z"):
            (fresh / name).write_text("new")
        return 3

    assert replace_files(folder, write, last="manifest") == 3
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "a": "new",
        "manifest": "new",
        "mine": "old",
        "z": "new",
    }


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, why in (("pipe", "a named pipe"), ("link", "a device"), (".", "a folder"), ("absent", "No such file")):
        with pytest.raises(OSError) as error:
            read_bytes(tmp_path / name)
        assert why in reason_of(error.value)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="1,099,511,627,776 bytes; at most"):
        read_json(tmp_path / "large")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "thousands of digits"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "1e999"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_not_read(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "{a=" * 100_000, "nested too deeply"),
        (".".join("a" * 100_000) + " = 1", "key of more than 100 parts"),
        ("[" + ".".join("a" * 100_000) + "]", "key of more than 100 parts"),
        ("a = " + "9" * 5000, "thousands of digits"),
    ],
)
def test_toml_that_is_not_read(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_toml(text)
    assert parse_toml('a.b = "x.y' + ".z" * 200 + '"') == {"a": {"b": "x.y" + ".z" * 200}}


def test_values_are_compared_with_their_model() -> None:
    @dataclass
    class Model:
        number: int
        sizes: tuple[int, ...] = ()

    assert conform({"number": 1, "sizes": [2], "later": True}, Model) == Model(1, (2,))
    for values, why in (
        ({}, "it has no 'number'"),
        ({"number": "1"}, "number is '1'"),
        ({"number": True}, "number is True"),
        ({"number": 1, "sizes": [1, None]}, "sizes.1 is None"),
        (None, "should be an object"),
    ):
        with pytest.raises(ValueError, match=why):
            conform(values, Model)


def test_unpacked_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    require_unpacked(1 << 30, 1000)
    require_unpacked(10 << 30, 1 << 30)
    with pytest.raises(ValueError, match="ASHNEURO_LARGEST_GIB"):
        require_unpacked((1 << 30) + 1, 1000)
    monkeypatch.setenv("ASHNEURO_LARGEST_GIB", "2.5")
    require_unpacked(5 << 29, 1000)


def test_folder_is_copied_without_what_is_not_its_own(tmp_path: Path) -> None:
    run, target = tmp_path / "run", tmp_path / "copy"
    (run / "bundle").mkdir(parents=True)
    for name in ("a.json", "bundle/b.npz", ".hidden", "row.json"):
        (run / name).write_text(name)
    (run / "again.json").symlink_to("a.json")

    def copy() -> None:
        copy_folder(run, target, lambda name: name == "row.json" or name.startswith("."))

    copy()
    found = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert found == {"a.json": "a.json", "again.json": "a.json", "bundle/b.npz": "bundle/b.npz"}
    (tmp_path / "secret").write_text("x")
    for name, leads in {"bundle/z": "../../secret", "z": "/dev/zero", "y": "bundle", "x": "nowhere"}.items():
        (run / name).symlink_to(leads)
        with pytest.raises(OSError):
            copy()
        (run / name).unlink()
    os.mkfifo(run / "pipe")
    with pytest.raises(OSError, match="a named pipe"):
        copy()


def test_paths_end_in_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.bundle" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "net.bundle" / "inner")
    assert named(Path("..")) == tmp_path / "net.bundle" and named(Path(".")) == tmp_path / "net.bundle" / "inner"
    assert named(Path("a/b.nir")) == Path("a/b.nir") and named(Path("/")) == Path("/root")
