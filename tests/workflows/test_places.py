"""Question files of a run where they are now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ashneuro.config import QuestionConfig, RunConfig, StageConfig, TasksConfig
from ashneuro.workflows.places import Place, moved
from tests.training import tiny


def asked(**files: str) -> RunConfig:
    tasks = TasksConfig(vqa=QuestionConfig(format="vqa2", **files))
    return replace(tiny.config(), schedule=(StageConfig("ask", 1, task="vqa"),), tasks=tasks)


@pytest.fixture
def now(tmp_path: Path) -> Path:
    for name in ("train.json", "test.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_question_files_are_found_by_their_names(now: Path) -> None:
    config = asked(train="then/train.json", test="then/test.json", images="then/pictures")
    found = moved(config, Place(str(now), "pictures"))
    assert found.tasks.vqa == replace(
        config.tasks.vqa, train=str(now / "train.json"), test=str(now / "test.json"), images="pictures"
    )
    assert found.data == config.data, "the pairs lie where they did"
    assert moved(config, Place(images="pictures")).tasks.vqa.images == "pictures"


def test_folder_of_all_parts_is_that_of_its_name(now: Path) -> None:
    config = asked(train="then/vqa")
    assert moved(config, Place(str(now / "vqa"))).tasks.vqa.train == str(now / "vqa")


def test_other_data_are_the_pairs(now: Path) -> None:
    config = asked(train="then/train.json", test="then/other.json")
    found = moved(config, Place(str(now)))
    assert found.tasks == config.tasks and found.data.source == str(now)
    untrained = replace(config, schedule=())
    assert moved(untrained, Place(str(now / "train.json"))).tasks == config.tasks


def test_pairs_and_questions_may_be_in_one_folder(now: Path) -> None:
    config = asked(train="then/train.json", test="then/test.json")
    config = replace(config, data=replace(config.data, source=f"then/{now.name}"))
    found = moved(config, Place(str(now)))
    assert found.data.source == str(now) and found.tasks.vqa.train == str(now / "train.json")
