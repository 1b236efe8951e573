"""VQA v2, SNLI-VE, NLVR2 and easy-vqa files: good ones, and every kind of damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ashneuro.data.formats import read_questions
from ashneuro.data.question_files import picture_path, read_easy_vqa, read_nlvr2, read_snli_ve, read_vqa2
from ashneuro.errors import ConfigError, DataError

from .pictures import write_picture


def vqa(folder: Path, part: str, questions: list[Any], annotations: list[Any] | None) -> Path:
    """Write the two files of a part of VQA v2 under their official names."""
    common = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": part}
    path = folder / f"v2_OpenEnded_mscoco_{part}_questions.json"
    path.write_text(json.dumps({**common, "task_type": "Open-Ended", "questions": questions}))
    if annotations is not None:
        (folder / f"v2_mscoco_{part}_annotations.json").write_text(json.dumps({**common, "annotations": annotations}))
    return path


def ask(number: int, image: int = 458752, text: str = "What is this photo taken looking through?") -> dict[str, Any]:
    return {"image_id": image, "question": text, "question_id": number}


def annotate(number: int, *answers: str) -> dict[str, Any]:
    given = [
        {"answer": text, "answer_confidence": "yes", "answer_id": place} for place, text in enumerate(answers, start=1)
    ]
    return {
        "question_type": "what",
        "multiple_choice_answer": answers[0] if answers else "",
        "answers": given,
        "image_id": 458752,
        "answer_type": "other",
        "question_id": number,
    }


def test_vqa_joins_questions_and_annotations(tmp_path: Path) -> None:
    vqa(tmp_path, "val2014", [ask(3, 7)], [annotate(3, *["yes"] * 10)])
    path = vqa(
        tmp_path,
        "train2014",
        [ask(458752000), ask(458752001)],
        [annotate(458752001, "2", "two"), annotate(458752000, *["net"] * 10)],
    )
    questions, problems = read_vqa2(path)
    assert problems == []
    assert [question.key for question in questions] == ["458752000", "458752001"]
    assert questions[0].answers == ("net",) * 10 and questions[1].answers == ("2", "two")
    assert questions[0].images == ("COCO_train2014_000000458752.jpg",)
    assert (questions[0].kind, questions[0].split) == ("other", "train")
    both, problems = read_vqa2(tmp_path)
    assert problems == [] and [question.split for question in both] == ["train", "train", "validation"]


def test_vqa_test_questions_have_no_answers(tmp_path: Path) -> None:
    questions, problems = read_vqa2(vqa(tmp_path, "test-dev2015", [ask(1)], None))
    assert questions[0].images == ("COCO_test2015_000000458752.jpg",), "test-dev asks about pictures of the test part"
    assert problems == [] and questions[0].answers == () and questions[0].split == "test"


def test_all_problems_of_vqa_files_are_reported(tmp_path: Path) -> None:
    asked = [ask(1), ask(1), ask(2), {"question_id": 3}, ask(4, text=" "), ask(5)]
    given = [annotate(1, "a"), annotate(1, "a"), annotate(5), annotate(9, "a")]
    questions, problems = read_vqa2(vqa(tmp_path, "train2014", asked, given))
    assert [question.key for question in questions] == ["1"]
    text = "\n".join(problems)
    for words in (
        "annotations[1]: question_id 1 is annotated twice",
        "annotations[2]: needs a question_id and answers",
        "questions[1]: question_id 1 is already",
        "questions[2]: question 2 has no annotation",
        "questions[3]: needs",
        "questions[4]: needs",
        "questions[5]: question 5 has no annotation",
        "question 9 is annotated but not asked",
    ):
        assert words in text
    assert len(problems) == 8


def test_an_annotations_file_is_not_a_questions_file(tmp_path: Path) -> None:
    path = tmp_path / "v2_mscoco_train2014_annotations.json"
    path.write_text(json.dumps({"annotations": []}))
    with pytest.raises(DataError, match="no VQA questions"):
        read_vqa2(path)
    with pytest.raises(ConfigError, match="questions are read as"):
        read_questions(path, "coco")


def entail(label: str = "entailment", key: str = "3416050480.jpg#4r1e", **more: Any) -> str:
    entry = {
        "Flickr30K_ID": "3416050480",
        "pairID": key,
        "captionID": "3416050480.jpg#4",
        "sentence1": "Two men",
        "sentence2": "Two people.",
        "gold_label": label,
        "annotator_labels": [label],
    }
    return json.dumps(entry | more)


def test_snli_ve_reads_every_spelling_of_the_picture(tmp_path: Path) -> None:
    lines = [entail()]
    for number, name in enumerate(("Flickr30kID", "Flikr30kID")):
        lines.append(entail("neutral", f"k{number}", Flickr30K_ID=None, **{name: "77"}))
    lines.append(entail("contradiction", "88.jpg#1r1c", Flickr30K_ID=None))
    lines.append(entail("-", "left out"))
    (tmp_path / "snli_ve_train.jsonl").write_text("\n".join(lines))
    (tmp_path / "snli_ve_dev.jsonl").write_text(entail(key="other"))
    questions, problems = read_snli_ve(tmp_path)
    assert problems == []
    assert [(question.images[0], question.answers[0], question.split) for question in questions] == [
        ("3416050480.jpg", "entailment", "validation"),
        ("3416050480.jpg", "entailment", "train"),
        ("77.jpg", "neutral", "train"),
        ("77.jpg", "neutral", "train"),
        ("88.jpg", "contradiction", "train"),
    ]
    assert questions[0].text == "Two people."


def test_all_problems_of_snli_ve_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join([entail(), entail(), entail("maybe", "x"), "{", entail(key="y", sentence2=""), "[]"]))
    questions, problems = read_snli_ve(path)
    assert len(questions) == 1
    assert [problem.split(":")[0].split(" ")[-1] for problem in problems] == ["2", "3", "4", "5", "6"]


def nlvr(name: str, label: Any = "True", **more: Any) -> str:
    entry = {
        "identifier": name,
        "sentence": "Both are dogs.",
        "left_url": "http://a",
        "right_url": "http://b",
        "label": label,
    }
    return json.dumps(entry | {"synset": "dog", "query": "dogs4", "writer": "1", "validation": {"1": "True"}} | more)


def test_nlvr2_pictures_parts_and_groups(tmp_path: Path) -> None:
    lines = [
        nlvr("dev-850-0-0"),
        nlvr("dev-850-1-0", "False"),
        nlvr("dev-850-0-1", sentence="One dog."),
        nlvr("test1-0-0-0", True),
    ]
    path = tmp_path / "dev.json"
    path.write_text("\n".join([*lines, nlvr("train-10171-0-0", "False", directory=63)]))
    questions, problems = read_nlvr2(path)
    assert problems == []
    assert questions[0].images == ("dev-850-0-img0.png", "dev-850-0-img1.png") and questions[0].answers == ("true",)
    assert questions[0].group == questions[1].group != questions[2].group
    assert [question.split for question in questions] == ["validation"] * 3 + ["test", "train"]
    assert questions[4].images[0] == "63/train-10171-0-img0.png"


def test_all_problems_of_nlvr2_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text(
        "\n".join(
            [
                nlvr("dev-1-0-0"),
                nlvr("dev-1-0-0"),
                nlvr("dev-1"),
                nlvr("dev-2-0-0", "maybe"),
                nlvr("dev-3-0-0", sentence=""),
            ]
        )
    )
    questions, problems = read_nlvr2(path)
    assert len(questions) == 1
    assert [problem.split(" ")[2].rstrip(":") for problem in problems] == ["2", "3", "4", "5"]


def test_easy_vqa_holds_out_every_tenth_training_picture(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 2)):
        (tmp_path / part).mkdir()
        rows = [["what shape is in the image?", "circle", number] for number in range(count)]
        (tmp_path / part / "questions.json").write_text(
            json.dumps(rows + [["is it red?", "no", 3], ["?", 1, 2]][: 2 if part == "test" else 1])
        )
    questions, problems = read_easy_vqa(tmp_path)
    assert problems == ["test/questions.json [3]: not [question, answer, image number]"]
    parts = [question.split for question in questions]
    assert (parts.count("train"), parts.count("validation"), parts.count("test")) == (19, 2, 3)
    assert {question.images for question in questions if question.split == "validation"} == {
        ("train/images/0.png",),
        ("train/images/10.png",),
    }
    assert {question.kind for question in questions} == {"other", "yes/no"}
    alone, _ = read_easy_vqa(tmp_path / "train" / "questions.json")
    assert alone[0].images == ("images/0.png",)


def test_pictures_are_found_in_the_layouts_of_the_benchmarks(tmp_path: Path) -> None:
    for name in (
        "train2014/COCO_train2014_000000000001.jpg",
        "val2017/000000000002.jpg",
        "dev/dev-1-0-img0.png",
        "a.jpg",
    ):
        write_picture(tmp_path / name)
    assert picture_path(tmp_path, "COCO_train2014_000000000001.jpg").parent.name == "train2014"
    assert picture_path(tmp_path, "COCO_val2014_000000000002.jpg").parent.name == "val2017"
    assert picture_path(tmp_path, "63/dev-1-0-img0.png").is_file()
    assert picture_path(tmp_path, "a.jpg").is_file()
    assert picture_path(tmp_path, "b.jpg") == tmp_path / "b.jpg"
