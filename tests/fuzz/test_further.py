"""Malformed ONNX models, tables, clips, workloads and questions, straight into their readers."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ashneuro.cost.cases import load_case, measured_folder
from ashneuro.cost.own.onnx_file import count_onnx
from ashneuro.data.archives import read_huggingface, read_table
from ashneuro.data.clip_check import check_clips
from ashneuro.data.question_files import QUESTION_READERS
from ashneuro.data.streams import open_clips
from ashneuro.errors import AshneuroError
from ashneuro.spiking.integers import IntegerLayer, Integers
from tests.fuzz import further_seeds, mutations
from tests.fuzz.mutations import Mutation

SLOW = ("GiB", "nested keys")
OF_ARRAYS = ("NaN in a member", "a member of another shape")


def _clips(path: Path) -> object:
    records = open_clips(str(path))
    return check_clips(str(path), records, 1)


def _questions(name: str) -> Callable[[Path], object]:
    return QUESTION_READERS[name][1]


Case = tuple[str, str, Callable[[Path], object], Callable[[int], Iterable[Mutation]], str]
CASES: tuple[Case, ...] = (
    ("ann", "ann.onnx", count_onnx, mutations.binary, ""),
    ("tables", "pairs.parquet", read_huggingface, mutations.binary, ""),
    ("tables", "pairs.arrow", read_huggingface, mutations.binary, ""),
    ("clips", "pack/clips.zip", _clips, mutations.npz_file, "pack"),
    ("clips", "pack/pack.json", _clips, mutations.json_file, "pack"),
    ("clips", "moving.gif", _clips, mutations.binary, ""),
    ("clips", "moving.webp", _clips, mutations.binary, ""),
    ("clips", "moving.png", _clips, mutations.binary, ""),
    ("questions", "v2_questions.json", _questions("vqa2"), mutations.json_file, ""),
    ("questions", "v2_annotations.json", _questions("vqa2"), mutations.json_file, "v2_questions.json"),
    ("questions", "questions.json", _questions("easy-vqa"), mutations.json_file, ""),
    ("questions", "snli_ve_dev.jsonl", _questions("snli-ve"), mutations.json_file, ""),
    ("workloads", "braille.toml", load_case, mutations.toml_file, ""),
    ("integers", "integers.json", lambda path: Integers.loads(path.read_text()), mutations.json_file, ""),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    for name in ("ann", "workloads", "integers"):
        (folder / name).mkdir()
    shutil.copy(measured_folder() / "braille.toml", folder / "workloads")
    units = Integers({"lif": IntegerLayer(64.0, 100, 409)}, 2.0, 128)
    (folder / "integers" / "integers.json").write_text(units.dumps())
    further_seeds.questions(folder / "questions")
    pytest.importorskip("PIL._avif")
    further_seeds.clips(folder / "clips")
    return folder


@pytest.mark.parametrize(("scene", "name", "read", "damage", "opened"), CASES, ids=[case[1] for case in CASES])
def test_readers_raise_nothing_else(
    scene: str,
    name: str,
    read: Callable[[Path], object],
    damage: Callable[[int], Iterable[Mutation]],
    opened: str,
    sound: Path,
    tmp_path: Path,
) -> None:
    if scene == "ann":
        pytest.importorskip("onnx")
        further_seeds.onnx_model(sound / scene / name)
    if scene == "tables" and not (sound / scene).exists():
        pytest.importorskip("pyarrow")
        further_seeds.tables(sound / scene)
    read(sound / scene / (opened or name))
    tried = 0
    for number, mutation in enumerate(damage(2)):
        if any(word in mutation.name for word in (*SLOW, *OF_ARRAYS)):
            continue
        if scene == "integers" and mutation in mutations.PLACES:  # others read the file
            continue
        place = tmp_path / str(number)
        shutil.copytree(sound / scene, place)
        mutation.apply(place / name, random.Random(number))
        read_table.cache_clear()
        try:
            read(place / (opened or name))
        except AshneuroError as error:
            assert str(error)
        except ValueError as error:
            assert str(error) and scene == "integers"
        tried += 1
    assert tried > 10
