"""Shards and tables, written by the libraries of these formats."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as arrow
import pytest
from PIL import Image
from pyarrow import parquet

from ashneuro.config import DataConfig
from ashneuro.data.archives import read_huggingface, read_webdataset
from ashneuro.data.columns import Columns
from ashneuro.data.images import decode_image
from ashneuro.data.sources import load_splits
from ashneuro.errors import DataError


def pixels(number: int) -> np.ndarray:
    return np.full((4, 6, 3), 10 * number, np.uint8)


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, "PNG")
    return buffer.getvalue()


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(number: int) -> list[tuple[str, bytes]]:
    """Members of a sample as img2dataset writes it, captions in .txt and .json in turn."""
    key = f"{number:08d}"
    text = json.dumps({"caption": f"picture {number}", "url": "http://x"}).encode()
    return [
        (f"{key}.png", png(number)),
        (f"{key}.txt", f"picture {number}\n".encode()) if number % 2 else (f"{key}.json", text),
    ]


@pytest.mark.parametrize(
    "members, problem",
    [
        ([("caf\udce9.png", png(1)), ("caf\udce9.txt", b"a")], "its name is not UTF-8"),
        ([("a.png", png(1)), ("a.json", b"[" * 100_000)], "its .json cannot be read"),
        ([("a.png", png(1)), ("a.json", b'{"caption": "\\ud83d"}')], "half of a letter"),
    ],
)
def test_unusable_captions_are_problems(tmp_path: Path, members: list[tuple[str, bytes]], problem: str) -> None:
    records, problems = read_webdataset(shard(tmp_path / "a.tar", members))
    assert not records and problem in problems[0]
    problems[0].encode()


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_shards_are_read_in_place(tmp_path: Path, suffix: str) -> None:
    for number in range(3):
        shard(tmp_path / f"train-{number:06d}{suffix}", [*sample(2 * number), *sample(2 * number + 1)])
    for path in (tmp_path, tmp_path / ("train-{000000..000002}" + suffix)):
        records, problems = read_webdataset(path)
        assert problems == []
        assert [record.captions for record in records] == [[f"picture {number}"] for number in range(6)]
        assert {record.split for record in records} == {"train"}
        for number, record in enumerate(records):
            assert record.read is not None
            np.testing.assert_array_equal(decode_image(record.read, record.image), pixels(number))
    one, _ = read_webdataset(tmp_path / f"train-000001{suffix}")
    assert [record.image for record in one] == ["00000002.png", "00000003.png"]


def test_all_problems_of_shards_are_reported(tmp_path: Path) -> None:
    members = [
        *sample(1),
        ("a.txt", b"no picture"),
        ("b.png", png(1)),
        ("c.png", png(1)),
        ("c.json", b"{"),
        ("d.png", png(2)),
        ("d.txt", b"\xff"),
    ]
    members += [("nokey", b""), ("e.png", png(2)), ("e.png", png(2)), ("e.txt", b"twice"), *sample(1)]
    shard(tmp_path / "0.tar", members)
    shard(tmp_path / "1.tar", sample(1))
    damaged = shard(tmp_path / "2.tar", [*sample(4), *sample(5)])
    damaged.write_bytes(damaged.read_bytes()[:2700])
    records, problems = read_webdataset(tmp_path)
    assert [record.image for record in records] == ["00000001.png", "e.png", "00000004.png"]
    starts = [problem.partition(":")[0] for problem in problems]
    assert starts == [
        "0.tar nokey",
        "0.tar e.png",
        "0.tar 00000001.png",
        "0.tar 00000001.txt",
        "0.tar a",
        "0.tar b",
        "0.tar c",
        "0.tar d",
        "1.tar 00000001",
        "2.tar",
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no shards"):
        read_webdataset(tmp_path / "none")


def test_missing_shard_is_a_problem(tmp_path: Path) -> None:
    shard(tmp_path / "s-0.tar", sample(1))
    records, problems = read_webdataset(tmp_path / "s-{0..1}.tar")
    assert len(records) == 1 and len(problems) == 1 and problems[0].startswith("s-1.tar")


def saved(folder: Path, texts: Any = "caption") -> Path:
    datasets.disable_progress_bars()

    def part(numbers: range) -> Any:
        rows = {
            "image": [Image.fromarray(pixels(number)) for number in numbers],
            texts: [f"picture {number}" for number in numbers],
        }
        return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())

    datasets.DatasetDict(
        {"train": part(range(4)), "validation": part(range(4, 5)), "test": part(range(5, 7))}
    ).save_to_disk(folder)
    return folder


def test_saved_dataset_keeps_parts_and_pictures(tmp_path: Path) -> None:
    records, problems = read_huggingface(saved(tmp_path / "set"))
    assert problems == []
    by_text = {record.captions[0]: record for record in records}
    assert [by_text[f"picture {number}"].split for number in range(7)] == ["train"] * 4 + ["validation"] + ["test"] * 2
    for number in range(7):
        read = by_text[f"picture {number}"].read
        assert read is not None
        np.testing.assert_array_equal(decode_image(read, "x"), pixels(number))
    splits = load_splits(DataConfig(source=str(tmp_path / "set"), format="huggingface", split="file"))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (4, 1, 2)
    np.testing.assert_array_equal(splits.test[1].load(), pixels(6))


def test_parquet_with_caption_lists_and_image_paths(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "beside.png").write_bytes(png(3))
    cells = [{"bytes": png(1), "path": None}, {"bytes": None, "path": "beside.png"}, {"bytes": None, "path": None}]
    table = arrow.table({"image": cells, "sentences": [["a", "b"], ["c"], [""]], "split": ["train", "val", "test"]})
    parquet.write_table(table, folder / "all-00000-of-00001.parquet")
    records, problems = read_huggingface(tmp_path)
    assert [record.captions for record in records] == [["a", "b"], ["c"]]
    assert [record.split for record in records] == ["train", "validation"]
    np.testing.assert_array_equal(decode_image(records[1].read, "x"), pixels(3))  # type: ignore[arg-type]
    assert problems == [
        "data/all-00000-of-00001.parquet row 2: needs sentences: a text, or a list of texts, none of them empty"
    ]


def test_folder_without_tables_or_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a Hugging Face data set"):
        read_huggingface(tmp_path)
    parquet.write_table(arrow.table({"pic": [1], "text": ["a"]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="its columns are 'pic', 'text'"):
        read_huggingface(tmp_path)
    (tmp_path / "half.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(DataError, match=r"cannot read .*half\.parquet"):
        read_huggingface(tmp_path / "half.parquet")


@pytest.mark.parametrize(
    "content, why",
    [("{", "is not JSON"), ("[]", "not what save_to_disk writes"), ('{"_data_files": [{}]}', "filename")],
)
def test_damaged_state_file_is_named(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(DataError, match=why):
        read_huggingface(tmp_path)


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_members_in_any_order_with_several_captions(tmp_path: Path, suffix: str) -> None:
    members = [
        ("./a.txt", b"one\n\n two\n"),
        ("./b.json", json.dumps({"caption": ["three", "four"], "key": "b"}).encode()),
        ("./._a.txt", b"attributes of macOS"),
        ("./c.json", b'["five"]'),
        ("./sub/a.txt", b"six"),
        ("./d.json", json.dumps({"text": "seven"}).encode()),
        *((f"./{name}.JPEG", png(number)) for number, name in enumerate(["c", "b", "sub/a", "a", "d"])),
    ]
    (tmp_path / "train").mkdir()
    records, problems = read_webdataset(shard(tmp_path / "train" / f"0{suffix}", members).parent.parent)
    assert problems == []
    found = {record.image: record.captions for record in records}
    assert found == {
        "train/a.jpeg": ["one", "two"],
        "train/b.jpeg": ["three", "four"],
        "train/c.jpeg": ["five"],
        "train/sub/a.jpeg": ["six"],
        "train/d.jpeg": ["seven"],
    }
    for record in records:
        number = ["c", "b", "sub/a", "a", "d"].index(record.image.removeprefix("train/").removesuffix(".jpeg"))
        np.testing.assert_array_equal(decode_image(record.read, "x"), pixels(number))  # type: ignore[arg-type]


def test_keys_with_dots_are_pictures_of_their_own(tmp_path: Path) -> None:
    members = [(f"2024.05.{number}.png", png(number)) for number in (1, 2)]
    texts = [(f"2024.05.{number}.txt", f"picture {number}".encode()) for number in (1, 2)]
    records, problems = read_webdataset(shard(tmp_path / "a.tar", members + texts))
    assert problems == []
    assert {record.image: record.captions for record in records} == {
        "2024.05.1.png": ["picture 1"],
        "2024.05.2.png": ["picture 2"],
    }
    two_views = [("a.left.png", png(1)), ("a.right.png", png(2)), ("a.txt", b"one picture of two")]
    records, _ = read_webdataset(shard(tmp_path / "b.tar", two_views))
    assert [(record.image, record.captions) for record in records] == [("a.left.png", ["one picture of two"])]


def test_folders_of_shards_may_number_alike(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        shard(tmp_path / part / "0.tar", [*sample(0), *sample(1)])
    records, problems = read_webdataset(tmp_path)
    assert problems == []
    assert [(record.image, record.split) for record in records] == [
        ("test/00000000.png", "test"),
        ("test/00000001.png", "test"),
        ("train/00000000.png", "train"),
        ("train/00000001.png", "train"),
    ]


@pytest.mark.parametrize("inner", [".tar", ".tar.gz"])
@pytest.mark.parametrize("outer", [".tar", ".tar.gz"])
def test_shards_inside_shards(tmp_path: Path, inner: str, outer: str) -> None:
    parts = [shard(tmp_path / f"{number}{inner}", sample(number)) for number in range(2)]
    whole = shard(tmp_path / f"all{outer}", [(part.name, part.read_bytes()) for part in parts] + sample(2))
    records, problems = read_webdataset(whole)
    assert problems == []
    assert [record.image for record in records] == ["00000000.png", "00000001.png", "00000002.png"]
    for number, record in enumerate(records):
        np.testing.assert_array_equal(decode_image(record.read, "x"), pixels(number))  # type: ignore[arg-type]


def test_column_of_a_shards_json_can_be_named(tmp_path: Path) -> None:
    members = [("a.png", png(1)), ("a.txt", b"alt text"), ("a.json", b'{"caption": "x", "long": "a long one"}')]
    path = shard(tmp_path / "a.tar", members)
    assert read_webdataset(path)[0][0].captions == ["alt text"]
    assert read_webdataset(path, Columns("", "long"))[0][0].captions == ["a long one"]


def test_compressed_shard_that_claims_too_much_ends_at_once(tmp_path: Path) -> None:
    head = tarfile.TarInfo("000.png")
    head.size = 10**12
    (tmp_path / "shard.tar.gz").write_bytes(gzip.compress(head.tobuf()))
    records, problems = read_webdataset(tmp_path / "shard.tar.gz")
    assert not records and len(problems) == 1 and "claims to hold 1,000,000,000,000" in problems[0]
