"""Derived questions follow their rules, are balanced and stay in their part; questions from
files.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ashneuro.config import DataConfig, QuestionConfig, TasksConfig
from ashneuro.data.derive import derive_questions, keywords
from ashneuro.data.pairs import Pair, Questions, Splits
from ashneuro.data.sources import load_splits
from ashneuro.data.tasks import answer_vocabulary, load_questions, pictures_of
from ashneuro.data.tokens import split_words
from ashneuro.errors import ConfigError, DataError

from .pictures import write_picture

DATA = DataConfig(split="concept")


@cache
def derived(task: str) -> tuple[Splits, Questions]:
    splits = load_splits(DATA)
    return splits, derive_questions(task, splits, 4)


@pytest.mark.parametrize("task", ["vqa", "entailment", "nlvr2"])
def test_questions_stay_in_their_part_and_are_deterministic(task: str) -> None:
    splits, questions = derived(task)
    for part in ("train", "validation", "test"):
        own = {pair.key for pair in getattr(splits, part)}
        asked = getattr(questions, part)
        assert asked and {name for question in asked for name in question.images} <= own
        keys = [question.key for question in asked]
        assert len(keys) == len(set(keys))
        assert {question.split for question in asked} == {part}
    again = derive_questions(task, splits, 4)
    assert [question.__dict__ for question in again.test] == [question.__dict__ for question in questions.test]
    assert any("not VQA v2" in note for note in questions.notes)


def test_vqa_answers_follow_from_labels_and_are_balanced() -> None:
    splits, questions = derived("vqa")
    pairs = {pair.key: pair for pair in splits.test}
    carried: dict[str, set[str]] = {}
    for pair in splits.test:
        carried.setdefault(pair.labels["group"], set()).update(keywords(pair), split_words(pair.captions[0]))
    said: dict[str, list[str]] = {}
    for question in questions.test:
        pair, (answer,) = pairs[question.images[0]], question.answers
        if question.kind == "category":
            assert answer == pair.labels["group"]
        elif question.kind == "subcategory":
            assert answer == pair.labels["subgroup"]
        else:
            word = question.text.removeprefix("is this about ").removesuffix("?")
            said.setdefault(word, []).append(answer)
            assert (word in keywords(pair)) if answer == "yes" else (word not in carried[pair.labels["group"]])
    for answers in said.values():
        assert answers.count("yes") == answers.count("no")


def test_entailment_and_contradiction_share_no_word() -> None:
    splits, questions = derived("entailment")
    pairs = {pair.key: pair for pair in splits.test}
    for question in questions.test:
        pair, text = pairs[question.images[0]], question.text.removeprefix("this is ")
        if question.answers == ("entailment",):
            assert text == pair.captions[0]
        else:
            assert not set(split_words(text)) & {word for caption in pair.captions for word in split_words(caption)}
    said: dict[str, Counter[str]] = {}
    for question in questions.test:
        said.setdefault(question.text, Counter())[question.answers[0]] += 1
    assert all(counts["entailment"] == counts["contradiction"] for counts in said.values()), (
        "each name is true as often as false"
    )


def test_a_task_has_its_own_number_of_questions_unless_the_settings_say() -> None:
    splits, four = derived("nlvr2")
    assert len(derive_questions("nlvr2", splits).test) == pytest.approx(6 * len(four.test), abs=12)  # 24 a picture
    asked = [[question.key for question in derive_questions("vqa", splits, number).test] for number in (0, 4)]
    assert asked[0] == asked[1]


def test_nlvr2_sentences_are_true_where_labelled_true() -> None:
    splits, questions = derived("nlvr2")
    groups = {pair.key: pair.labels["group"] for pair in splits.test}
    truths: dict[str, set[str]] = {}
    for question in questions.test:
        left, right = (groups[name] for name in question.images)
        kind, name = question.kind, question.text.split(" show", 1)[1].removeprefix("s").strip()
        holds = {
            "both": left == right == name,
            "exactly one": (left == name) != (right == name),
            "at least one": name in (left, right),
            "left and right": tuple(name.split(" and the right one ")) == (left, right),
        }[kind]
        assert question.text.startswith({"left and right": "the left picture"}.get(kind, kind))
        assert holds == (question.answers == ("true",)), question
        truths.setdefault(question.group, set()).add(question.answers[0])
    assert all(answers == {"true", "false"} for answers in truths.values())
    assert {question.kind for question in questions.test} == {"both", "exactly one", "at least one", "left and right"}


def test_pairs_without_labels_derive_only_entailment() -> None:
    def part(start: int) -> tuple[Pair, ...]:
        return tuple(
            Pair(f"{n}", (f"word{n} thing", f"other{n}"), f"{n}", lambda: np.zeros((1, 1, 3), np.uint8))
            for n in range(start, start + 5)
        )

    splits = Splits(part(0), part(10), part(20), "mine")
    assert derive_questions("entailment", splits, 4).train == ()  # every name has the word "thing"
    clear = tuple(replace(pair, captions=(f"name{pair.key}", pair.captions[1])) for pair in splits.train)
    assert {question.text for question in derive_questions("entailment", replace(splits, train=clear), 4).train} >= {
        "this is name0"
    }
    with pytest.raises(DataError, match=r"no vqa questions[\s\S]*tasks\.vqa\.format"):
        derive_questions("vqa", splits, 4)


def nlvr(folder: Path, name: str, parts: dict[str, int]) -> Path:
    lines = []
    for part, count in parts.items():
        for number in range(count):
            for side in (0, 1):
                write_picture(folder / f"{part}-{number}-0-img{side}.png", number)
            entry = {
                "identifier": f"{part}-{number}-0-0",
                "sentence": f"Sentence {number}.",
                "label": ["True", "False"][number % 2],
            }
            lines.append(json.dumps(entry))
    (folder / name).write_text("\n".join(lines))
    return folder / name


def test_files_of_a_task_give_three_parts(tmp_path: Path) -> None:
    files = {
        name: str(nlvr(tmp_path, f"{name}.json", {part: 3}))
        for name, part in (("train", "train"), ("validation", "dev"), ("test", "test1"))
    }
    questions = load_questions("nlvr2", TasksConfig(nlvr2=QuestionConfig(format="nlvr2", **files)), DATA)
    assert [len(part) for part in (questions.train, questions.validation, questions.test)] == [3, 3, 3]
    assert questions.pictures["dev-1-0-img0.png"]().shape == (8, 12, 3)
    assert [pair.key for pair in pictures_of(questions, questions.test[:1])] == [
        "test1-0-0-img0.png",
        "test1-0-0-img1.png",
    ]
    folder = tmp_path / "all"
    folder.mkdir()
    nlvr(folder, "all.json", {"train": 2, "dev": 1, "test1": 1})
    questions = load_questions("nlvr2", TasksConfig(nlvr2=QuestionConfig(format="nlvr2", train=str(folder))), DATA)
    assert [len(part) for part in (questions.train, questions.validation, questions.test)] == [2, 1, 1]


def test_parts_in_separate_folders_keep_their_pictures(tmp_path: Path) -> None:
    """Each part numbers its pictures from 0, so equal names are different pictures."""
    colours = {"train": (200, 0, 0), "validation": (0, 200, 0), "test": (0, 0, 200)}
    for part, colour in colours.items():
        folder = tmp_path / part
        (folder / "images").mkdir(parents=True)
        Image.new("RGB", (4, 4), colour).save(folder / "images" / "0.png")
        (folder / "questions.json").write_text(json.dumps([["which colour?", part, 0]]))
    config = QuestionConfig("easy-vqa", **{part: str(tmp_path / part) for part in colours})
    questions = load_questions("vqa", TasksConfig(vqa=config), DATA, Splits((), (), (), "none"))
    for part, colour in colours.items():
        (question,) = getattr(questions, part)
        assert question.answers == (part,)
        assert tuple(questions.pictures[question.images[0]]()[0, 0]) == colour
    assert len(questions.pictures) == 3


def test_faulty_settings_of_a_task_are_refused(tmp_path: Path) -> None:
    path = nlvr(tmp_path, "train.json", {"train": 2})
    with pytest.raises(ConfigError, match="without files"):
        load_questions("nlvr2", TasksConfig(nlvr2=QuestionConfig(format="nlvr2")), DATA)
    with pytest.raises(ConfigError, match="task 'nlvr2'"):
        load_questions("vqa", TasksConfig(vqa=QuestionConfig(format="nlvr2", train=str(path))), DATA)
    with pytest.raises(DataError, match="no question for test"):
        load_questions("nlvr2", TasksConfig(nlvr2=QuestionConfig(format="nlvr2", train=str(path))), DATA)
    (tmp_path / "train-0-0-img1.png").unlink()
    with pytest.raises(DataError, match=r"train-0-0-img1\.png: there is no such file"):
        load_questions(
            "nlvr2", TasksConfig(nlvr2=QuestionConfig(format="nlvr2", train=str(path), test=str(path))), DATA
        )


def test_answer_vocabulary_is_the_most_frequent_training_answers() -> None:
    _, questions = derived("vqa")
    words = answer_vocabulary(questions.train, 3)
    assert set(words[:2]) == {"yes", "no"} and len(words) == 3
    assert len(answer_vocabulary(questions.train, 10_000)) < 150
