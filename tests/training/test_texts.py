"""Runs on captions without spaces, and with a length that follows from the data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ashneuro.config import MIN_WORDS, DataConfig, RunConfig
from ashneuro.data.pairs import Splits
from ashneuro.data.pieces import Pieces
from ashneuro.data.tokens import Vocabulary
from ashneuro.training.checkpoint import load_run
from ashneuro.training.loop import train
from tests.training import tiny

CHINESE = {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "left": "左", "right": "右", "top": "上"}


def chinese(config: DataConfig) -> Splits:
    """The squares with captions such as 红色的方块在左边, and one of them long."""
    splits = tiny.load_splits(config)

    def translated(part: str) -> tuple:
        pairs = []
        for pair in getattr(splits, part):
            colour, place = (CHINESE[word] for word in pair.concept.split())
            pairs.append(replace(pair, captions=(f"{colour}的方块在{place}边",)))
        pairs[0] = replace(pairs[0], captions=(pairs[0].captions[0] * 4,))
        return tuple(pairs)

    return replace(splits, train=translated("train"), validation=translated("validation"), test=translated("test"))


def config(**data: object) -> RunConfig:
    settings = tiny.config(epochs=1)
    return replace(settings, data=replace(settings.data, captions="separate", **{"max_words": 0, **data}))


def test_captions_without_spaces_are_learned_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashneuro.training.data.load_splits", chinese)
    notes: list[str] = []
    run = train(config(), tmp_path / "run", on_note=notes.append)
    assert isinstance(run.vocabulary, Pieces) and run.config.data.max_words == 32
    assert "12 of 12 texts are in scripts without spaces between words; they are read in pieces of words" in notes
    assert not any("more than" in note for note in notes)
    again = load_run(tmp_path / "run")
    assert again.vocabulary == run.vocabulary and again.config.data.max_words == 32
    assert len(again.vocabulary.indices("红色的方块")) == 5
    # The same settings resume it, though its own hold what followed from the data.
    train(config(), tmp_path / "run", resume=True)
    started = replace(config(), train=replace(config().train, start=str(tmp_path / "run")))
    assert train(started, tmp_path / "next").config.data.max_words == 32


def test_words_are_kept_on_request_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashneuro.training.data.load_splits", chinese)
    notes: list[str] = []
    run = train(config(tokeniser="words", max_words=5), tmp_path / "run", on_note=notes.append)
    assert isinstance(run.vocabulary, Vocabulary) and run.config.data.max_words == 5
    assert any("12 of 12 texts are in scripts without spaces" in note and "one word" in note for note in notes)


def test_runs_of_older_versions_keep_their_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashneuro.training.data.load_splits", tiny.load_splits)
    train(config(), tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    content = json.loads(file.read_text())
    assert content["data"]["max_words"] == MIN_WORDS
    del content["data"]["tokeniser"]
    file.write_text(json.dumps(content))
    assert load_run(tmp_path / "run").config.data.tokeniser == "words"
    train(config(), tmp_path / "run", resume=True)
