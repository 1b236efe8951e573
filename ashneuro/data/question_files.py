"""Question files: VQA v2, SNLI-VE, NLVR2, easy-vqa.

A reader takes a file, or a folder with the files of several parts, and returns the questions and
all problems. Pictures have the benchmark's own names; `picture_path` finds them in the image
folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ashneuro.data.pairs import Question
from ashneuro.data.readers import PARTS, is_id, json_lines, part_of_file, read_json, value_of
from ashneuro.errors import DataError
from ashneuro.files import is_file

Read = tuple[list[Question], list[str]]

ENTAILMENT = ("contradiction", "neutral", "entailment")
_ID_KEYS = ("Flickr30K_ID", "Flickr30kID", "Flikr30kID")  # spellings in the published files
_NLVR2 = re.compile(r"(?P<part>[a-z]+)\d?-\d+-\d+-\d+")


def read_vqa2(path: Path) -> Read:
    """Return the questions of VQA v2: a questions JSON with its annotations JSON beside it, or a
    folder of them.

    Questions without annotations (the test part) have no answers. The picture of image 42 in
    ``train2014`` is ``COCO_train2014_000000000042.jpg``; those of ``test-dev2015`` are pictures of
    ``test2015``.
    """
    files = [(file, read_json(file)) for file in ([path] if path.is_file() else sorted(path.glob("*.json")))]
    asked = [(file, content) for file, content in files if isinstance(value_of(content, "questions"), list)]
    if not asked:
        raise DataError(
            f"{path} has no VQA questions", "no JSON there has a list 'questions'", "name v2_OpenEnded_…_questions.json"
        )
    problems: list[str] = []
    questions: list[Question] = []
    ids: dict[Any, str] = {}
    for file, content in asked:
        subtype = str(content.get("data_subtype") or "")
        part = PARTS.get(re.sub(r"(-dev)?\d{4}$", "", subtype), "")
        annotations = _vqa_annotations(file, subtype, problems)
        for index, entry in enumerate(content["questions"]):
            where = f"{file.name} questions[{index}]"
            number, image, text = (value_of(entry, name) for name in ("question_id", "image_id", "question"))
            if not is_id(number) or not is_id(image) or not isinstance(text, str) or not text.strip():
                problems.append(f"{where}: needs a question_id, an image_id and a question")
                continue
            if number in ids:
                problems.append(f"{where}: question_id {number} is already that of {ids[number]}")
                continue
            ids[number] = where
            # Popped: what is left after the loop has an annotation but no question.
            answers, kind = annotations.pop(number, (None, "")) if annotations is not None else ((), "")
            if answers is None:
                problems.append(f"{where}: question {number} has no annotation")
                continue
            name = f"COCO_{subtype.replace('-dev', '')}_{int(image):012d}.jpg" if str(image).isdecimal() else str(image)
            questions.append(Question(str(number), (name,), text.strip(), answers, kind, split=part, where=where))
        problems += [f"{file.name}: question {number} is annotated but not asked" for number in annotations or {}]
    return questions, problems


def _vqa_annotations(
    file: Path, subtype: str, problems: list[str]
) -> dict[Any, tuple[tuple[str, ...] | None, str]] | None:
    """Return answers and answer type by question id; ``None`` if there is no annotations file."""
    for beside in sorted(file.parent.glob("*annotations*.json")):
        content = read_json(beside)
        if not isinstance(value_of(content, "annotations"), list) or (
            subtype and content.get("data_subtype") not in (subtype, None)
        ):
            continue
        found: dict[Any, tuple[tuple[str, ...] | None, str]] = {}
        for index, entry in enumerate(content["annotations"]):
            where = f"{beside.name} annotations[{index}]"
            number, given = value_of(entry, "question_id"), value_of(entry, "answers")
            texts = [value_of(answer, "answer") for answer in given] if isinstance(given, list) else []
            if not is_id(number) or not texts or not all(isinstance(text, str) for text in texts):
                problems.append(f"{where}: needs a question_id and answers")
            elif number in found:
                problems.append(f"{where}: question_id {number} is annotated twice")
            else:
                found[number] = tuple(texts), str(entry.get("answer_type") or "")
        return found
    return None


def read_snli_ve(path: Path) -> Read:
    """Return the hypotheses of SNLI-VE: a ``.jsonl``, or a folder of them.

    The part follows from the file's name.

    The premise is the picture ``Flickr30K_ID.jpg``, the hypothesis is ``sentence2``. Entries whose
    ``gold_label`` is ``-``, on which the annotators did not agree, are left out, as is customary.
    """
    problems: list[str] = []
    questions: list[Question] = []
    seen: dict[str, str] = {}
    for file in _files(path, ".jsonl"):
        part = part_of_file(file)
        for where, entry in json_lines(file, problems, file.name):
            pair, text, label = (entry.get(name) for name in ("pairID", "sentence2", "gold_label"))
            image = next((entry[name] for name in _ID_KEYS if is_id(entry.get(name))), None)
            if image is None and isinstance(pair, str) and ".jpg" in pair:
                image = pair.partition(".jpg")[0]
            if image is None or not isinstance(text, str) or not text.strip():
                problems.append(f"{where}: needs a Flickr30K_ID and a sentence2")
            elif label == "-":
                continue
            elif label not in ENTAILMENT:
                problems.append(f"{where}: gold_label is {label!r}, not one of {', '.join(ENTAILMENT)}")
            else:
                key = str(pair or where)
                if key in seen:
                    problems.append(f"{where}: pairID {key} is already that of {seen[key]}")
                    continue
                seen[key] = where
                questions.append(Question(key, (f"{image}.jpg",), text.strip(), (label,), split=part, where=where))
    return questions, problems


def read_nlvr2(path: Path) -> Read:
    """Return the sentences of NLVR2: a ``.json`` with one object a line, or a folder of them.

    ``dev-850-0-1`` is a sentence (set 850, pair 0, sentence 1) about ``dev-850-0-img0.png`` on the
    left and ``…-img1.png`` on the right. Sentences of a set with the same text count together for
    consistency.
    """
    problems: list[str] = []
    questions: list[Question] = []
    seen: dict[str, str] = {}
    for file in _files(path, ".json"):
        for where, entry in json_lines(file, problems, file.name):
            name, text, label = str(entry.get("identifier")), entry.get("sentence"), entry.get("label")
            match = _NLVR2.fullmatch(name)
            if match is None:
                problems.append(f"{where}: identifier is {name}, not SPLIT-SET-PAIR-SENTENCE")
            elif not isinstance(text, str) or not text.strip():
                problems.append(f"{where} ({name}): needs a sentence")
            elif label is not None and str(label).lower() not in ("true", "false"):
                problems.append(f"{where} ({name}): label is {label!r}, not True or False")
            elif name in seen:
                problems.append(f"{where}: identifier {name} is already that of {seen[name]}")
            else:
                seen[name] = where
                stem, folder = name.rpartition("-")[0], entry.get("directory")
                pictures = tuple(
                    (f"{folder}/" if folder is not None else "") + f"{stem}-img{side}.png" for side in (0, 1)
                )
                group = f"{'-'.join(name.split('-')[:2])} {text.strip()}"
                answers = () if label is None else (str(label).lower(),)
                questions.append(
                    Question(
                        name,
                        pictures,
                        text.strip(),
                        answers,
                        group=group,
                        split=PARTS.get(match["part"], ""),
                        where=where,
                    )
                )
    return questions, problems


def read_easy_vqa(path: Path) -> Read:
    """Return the questions of easy-vqa: its ``data`` folder, with ``train`` and ``test``, or a
    ``questions.json``.

    A file is ``[[question, answer, image number], …]``; the picture is ``images/NUMBER.png`` beside
    it. There is no validation part: every tenth training picture, by number, makes one.
    """
    files = [path] if path.is_file() else sorted(path.glob("*/questions.json")) or sorted(path.glob("questions.json"))
    if not files:
        raise DataError(
            f"{path} has no easy-vqa questions",
            "there is no questions.json in it or in its folders",
            "name the data folder",
        )
    problems: list[str] = []
    questions: list[Question] = []
    for file in files:
        content = read_json(file)
        part = part_of_file(file.parent)
        folder = "" if path.is_file() else f"{file.parent.relative_to(path).as_posix()}/".removeprefix("./")
        for index, entry in enumerate(content if isinstance(content, list) else [None]):
            where = f"{file.parent.name}/{file.name} [{index}]"
            if (
                not isinstance(entry, list)
                or len(entry) != 3
                or not all(isinstance(text, str) for text in entry[:2])
                or not is_id(entry[2])
            ):
                problems.append(f"{where}: not [question, answer, image number]")
                continue
            text, answer, number = entry
            held_out = part == "train" and str(number).isdecimal() and int(number) % 10 == 0
            kind = "yes/no" if answer in ("yes", "no") else "other"
            questions.append(
                Question(
                    f"{folder}{index}",
                    (f"{folder}images/{number}.png",),
                    text,
                    (answer,),
                    kind,
                    split="validation" if held_out else part,
                    where=where,
                )
            )
    return questions, problems


QUESTION_READERS: dict[str, tuple[str, Callable[[Path], Read]]] = {
    "vqa2": ("vqa", read_vqa2),
    "snli-ve": ("entailment", read_snli_ve),
    "nlvr2": ("nlvr2", read_nlvr2),
    "easy-vqa": ("vqa", read_easy_vqa),
}
"""Task and reader by format."""


def picture_path(folder: Path, name: str) -> Path:
    """Return the path of the picture ``name`` in ``folder``, in one of the layouts of the
    benchmarks.

    COCO: also in the folder of its part (``train2014/``), and under its 2017 name. NLVR2: also
        without its
    ``directory``. If it is in none of them, the first path is returned.
    """
    candidates = [folder / name]
    if match := re.fullmatch(r"COCO_(\w+?)_(\d{12}\.jpg)", name):
        candidates += [
            folder / match[1] / name,
            folder / match[2],
            *(folder / year / match[2] for year in ("train2017", "val2017")),
        ]
    elif re.search(r"-img[01]\.png$", name):
        bare = name.rpartition("/")[2]
        candidates += [folder / bare, folder / bare.partition("-")[0] / bare, folder / "images" / "train" / name]
    return next((path for path in candidates if is_file(path)), candidates[0])


def _files(path: Path, suffix: str) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.glob(f"*{suffix}"))
    if not files:
        raise DataError(f"{path} has no {suffix} file", "there is nothing to read", "check the path")
    return files
