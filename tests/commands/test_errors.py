"""A user's mistake gets three parts and an exit code, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.conftest import Command


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("check", "nowhere.nir"), "nowhere.nir"),
        (("check", "README.md"), "README.md"),
        (("simulate", "README.md", "--inputs", "x.npy"), "README.md"),
        (("verify", "tests"), "tests"),
        (("report", "tests"), "tests"),
        (("evaluate", "README.md"), "README.md"),
        (("export", "."), "neither a run nor a bundle"),
        (("profiles", "show", "loihi9"), "loihi9"),
        (("train", "nowhere.toml"), "nowhere.toml"),
        (("train", "tinny"), "did you mean tiny?"),
        (("train", "tiny", "--dry-run", "--pairs", "0"), "--pairs 0"),
        (("train", "tiny", "--dry-run", "--tflops", "-1"), "above 0"),
        (("sweep", "examples"), "examples"),
        (("sweep", "tiny"), "tiny is a preset, not a sweep"),
        (("train", "tiny", "--set", "train.epohcs=3"), "train.epochs"),
        (("train", "tiny", "--set", "train.epochs=many"), "train.epochs"),
        (("train", "tiny", "--set", "epochs"), "section.key=value"),
        (("train", "tiny", "--resume", "--out", "nowhere"), "--resume"),
        (("data", "show", "nowhere.json"), "nowhere.json"),
        (("data", "show", "emoji", "--n", "1", "--out", "/proc/nowhere/sheet.png"), "/proc/nowhere/sheet.png"),
        (("data", "show", "emoji", "--n", "1", "--out", "sheet"), "cannot write sheet"),
        (("data", "show", "emoji", "--n", "1", "--out", "sheet.xyz"), "cannot write sheet.xyz"),
        (("data", "check", "pyproject.toml"), "--format NAME"),
        (("data", "check", "nowhere", "--format", "karpathy", "--images", "docs"), "no such file or folder"),
    ],
)
def test_a_mistake_is_named_and_mended(ashneuro: Command, words: tuple[str, ...], named: str) -> None:
    said = ashneuro(*words)
    assert said.code == 2
    assert named in said.err
    assert "why:" in said.err and "do:" in said.err
    assert "Traceback" not in said.err


def test_a_file_where_a_folder_is_to_be_is_named(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    said = ashneuro("report", foreign, "--out", file, "--dt", "1e-3", "--input-coding", "spikes")
    assert said.code == 2 and str(file) in said.err and "choose another name" in said.err
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "words", [("chekc",), ("check",), ("simulate", "x.nir", "--on", "loihi3"), ("export", "x", "--targe", "lava")]
)
def test_a_mistyped_command_says_what_is_there(ashneuro: Command, words: tuple[str, ...]) -> None:
    said = ashneuro(*words)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert "Error" in said.err


def test_a_file_where_a_folder_is_to_be_made_stays(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("precious")
    said = ashneuro("report", foreign, "--out", tmp_path / "taken")
    assert said.code == 2 and f"cannot use {tmp_path / 'taken'}" in said.err
    assert (tmp_path / "taken").read_text() == "precious"


def test_nothing_is_lost_when_training_would_overwrite_a_run(ashneuro: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    said = ashneuro("train", "tiny", "--out", tmp_path)
    assert said.code == 2
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


def test_an_interruption_says_that_nothing_is_lost(
    ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ashneuro.workflows.train.train", interrupted)
    said = ashneuro("train", "tiny", "--out", tmp_path)
    assert said.code == 130 and "interrupted; what was finished is kept" in said.err
