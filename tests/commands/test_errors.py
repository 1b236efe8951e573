"""Errors of a user: three parts and an exit code, never a traceback."""

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
        (("train", "tiny", "--set", "epochs=3"), "did you mean train.epochs?"),
        (("train", "front"), "ashneuro sweep front"),
        (("evaluate", "tiny"), "ashneuro train tiny"),
        (("train", "tiny", "--resume", "--out", "nowhere"), "--resume"),
        (("data", "show", "nowhere.json"), "nowhere.json"),
        (("data", "show", "emoji", "--n", "1", "--out", "/proc/nowhere/sheet.png"), "/proc/nowhere/sheet.png"),
        (("data", "show", "emoji", "--n", "1", "--out", "sheet"), "cannot write sheet"),
        (("data", "show", "emoji", "--n", "1", "--out", "sheet.xyz"), "cannot write sheet.xyz"),
        (("data", "check", "pyproject.toml"), "--format NAME"),
        (("data", "check", "nowhere", "--format", "karpathy", "--images", "docs"), "no such file or folder"),
    ],
)
def test_user_errors_have_three_parts(ashneuro: Command, words: tuple[str, ...], named: str) -> None:
    result = ashneuro(*words)
    assert result.code == 2
    assert named in result.err
    assert "why:" in result.err and "do:" in result.err
    assert "Traceback" not in result.err


def test_file_in_place_of_a_folder_is_kept(ashneuro: Command, foreign: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    result = ashneuro("report", foreign, "--out", file)
    assert result.code == 2 and f"cannot use {file}" in result.err and "choose another name" in result.err
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    "words", [("chekc",), ("check",), ("simulate", "x.nir", "--on", "loihi3"), ("export", "x", "--targe", "lava")]
)
def test_mistyped_commands(ashneuro: Command, words: tuple[str, ...]) -> None:
    result = ashneuro(*words)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "Error" in result.err


def test_train_does_not_overwrite_a_run(ashneuro: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    result = ashneuro("train", "tiny", "--out", tmp_path)
    assert result.code == 2
    assert (tmp_path / "model.safetensors").read_bytes() == b"precious"


def test_interruption_exits_with_130(ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ashneuro.workflows.train.train", interrupted)
    result = ashneuro("train", "tiny", "--out", tmp_path)
    assert result.code == 130 and "interrupted; what was finished is kept" in result.err
