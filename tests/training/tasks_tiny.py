"""Questions about the squares of `tests.training.tiny`, and a run that learns to answer them."""

from __future__ import annotations

from dataclasses import replace

from ashneuro.config import DataConfig, MultimodalConfig, RunConfig, StageConfig, TasksConfig
from ashneuro.data.pairs import Question, Questions, Splits
from tests.training import tiny

WIDE = MultimodalConfig(width=16, layers=1, heads=2, dropout=0.0)


def load_questions(task: str, tasks: TasksConfig, data: DataConfig, splits: Splits | None = None) -> Questions:
    splits = splits or tiny.load_splits(data)

    def asked(part: str) -> tuple[Question, ...]:
        found = []
        for pair in getattr(splits, part):
            colour, place = pair.key.split("/")[1].split("-")
            if task == "vqa":
                found.append(
                    Question(f"{pair.key}?", (pair.key,), "which colour?", (colour,) * 10, "colour", split=part)
                )
                found.append(Question(f"{pair.key}!", (pair.key,), "which place?", (place,) * 10, "place", split=part))
            elif task == "entailment":
                found.append(Question(f"{pair.key}+", (pair.key,), f"this is {colour}", ("entailment",), split=part))
                wrong = next(other for other in tiny.COLOURS if other != colour)
                found.append(Question(f"{pair.key}-", (pair.key,), f"this is {wrong}", ("contradiction",), split=part))
            else:
                for other in getattr(splits, part)[:6]:
                    same = other.key.split("/")[1].startswith(colour)
                    answers, group = (("true",) if same else ("false",)), pair.key
                    found.append(
                        Question(
                            f"{pair.key}&{other.key}", (pair.key, other.key), "same colour", answers, "", group, part
                        )
                    )
        return tuple(found)

    pictures = {pair.key: pair.load for part in (splits.train, splits.validation, splits.test) for pair in part}
    return Questions(task, asked("train"), asked("validation"), asked("test"), pictures, "squares")


def config(*schedule: StageConfig, **train: object) -> RunConfig:
    settings = tiny.config(**train)
    return replace(settings, model=replace(settings.model, multimodal=WIDE), schedule=schedule)
