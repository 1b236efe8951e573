"""Names of nodes, captions and paths cannot write on the terminal, through real verbs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import nir
import numpy as np
import pytest

from ashneuro.reporting import terminal
from ashneuro.training.claims import Holder
from tests.commands.conftest import Command

NAME = "lif\x1b]0;owned\x07\r\x1b[2K\nerror: all is lost\u202e"
SHOWN = r"lif\x1b]0;owned\x07\r\x1b[2K"
HARMFUL = {"\x1b", "\x07", "\r", "\u202e", "\x9b"}


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A NIR file with a node of that name, and inputs for it, in a folder of that name."""
    folder = tmp_path / NAME.replace("\x07", "")
    folder.mkdir()
    monkeypatch.chdir(folder)
    one = np.ones(3)
    nodes = {
        "input": nir.Input(np.array([3])),
        "fc": nir.Affine(np.full((3, 3), 0.4), np.zeros(3)),
        NAME: nir.LIF(tau=4e-3 * one, r=one, v_leak=0 * one, v_threshold=0.2 * one, v_reset=0 * one),
        "output": nir.Output(np.array([3])),
    }
    nir.write("net.nir", nir.NIRGraph(nodes, [("input", "fc"), ("fc", NAME), (NAME, "output")]))
    np.save("x.npy", (np.random.default_rng(0).random((8, 2, 3)) < 0.5).astype(float))
    return folder


def require_harmless(*texts: str) -> None:
    for text in texts:
        assert not HARMFUL & set(text)
        assert "error: all is lost" not in [line[:18] for line in text.splitlines()]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_of_nodes_are_escaped_in_every_verb(ashneuro: Command, named: Path) -> None:
    for words in (
        ("check", "net.nir"),
        ("export", "net.nir", "--no-lava", "--inputs", "x.npy"),  # refused, and the names are in the reason
        ("export", "net.nir", "--no-lava", "--inputs", "x.npy", "--accept-assumptions"),
        ("verify", "net.bundle", "--no-lava"),
        ("simulate", "net.bundle", "--on", "loihi"),
        ("report", "net.bundle", "--profile", "loihi1"),
        ("check", named / "net.nir", "--json"),
    ):
        said = ashneuro(*words)
        assert said.code == (2 if len(words) == 5 and words[0] == "export" else 0), said.err
        require_harmless(said.out, said.err)
        assert "--json" in words or SHOWN in said.out + said.err
    # Files keep the name as it is: HTML escapes markup, JSON controls.
    assert NAME in json.loads((named / "net.bundle/program.json").read_text())["programs"]["integer"]["outputs"]


def test_words_of_the_command_line_and_paths_are_escaped(ashneuro: Command, named: Path) -> None:
    for words in (
        (NAME,),
        ("check", NAME),
        ("verify", named),
        ("simulate", "net.nir", "--on", NAME),
        ("data", "check", named),
        ("report", "net.nir", "--profile", NAME),
    ):
        said = ashneuro(*words)
        assert said.code == 2
        require_harmless(said.out, said.err)


def test_captions_and_problems_are_escaped(ashneuro: Command, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text(json.dumps({"image": NAME, "caption": NAME}) + "\n")
    said = ashneuro("data", "check", tmp_path / "captions.jsonl")
    require_harmless(said.out, said.err)
    assert "lif" in said.out + said.err


def test_terminal_gets_no_sequence_of_a_file(named: Path) -> None:
    """At a terminal rich writes sequences of its own, so the foreign ones are looked for."""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "ashneuro", "check", "net.nir"]
    environment = {**os.environ, "COLUMNS": "400", "TERM": "xterm-256color"}
    with subprocess.Popen(words, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the process has ended
                break
            said += part
            if not part:
                break
    os.close(ours)
    assert process.returncode == 0
    assert b"owned" in said and b"\x1b]0;owned" not in said and b"\x07" not in said and b"\x1b[2K" not in said


def test_keys_and_names_in_settings_are_escaped(ashneuro: Command, tmp_path: Path) -> None:
    """Keys of a configuration, a profile and a sweep, its variants, and repositories."""
    key = json.dumps(NAME)  # a quoted key of TOML has the same escapes
    for name, text in {
        "settings.toml": f"[train]\n{key} = 1\n",
        "section.toml": f"[{key}]\nepochs = 1\n",
        "profile.toml": f"name = {key}\n{key} = 1\n",
        "variant.toml": f"base = 'tiny'\nseeds = [0]\n[factors.x]\n{key} = ['train.epochs']\n",
        "factor.toml": f"base = 'tiny'\nseeds = [0]\n[factors.{key}]\n'a' = [{key}]\n",
        "base.toml": f"base = {key}\nseeds = [0]\n[factors.x]\n'a' = []\n",
    }.items():
        (tmp_path / name).write_text(text)
    for words in (
        ("train", tmp_path / "settings.toml", "--dry-run"),
        ("train", tmp_path / "section.toml", "--dry-run"),
        ("train", "tiny", "--dry-run", "--set", f"{NAME}=1"),
        ("profiles", "show", tmp_path / "profile.toml"),
        *(("sweep", tmp_path / f"{name}.toml", "--out", tmp_path / "out") for name in ("variant", "factor", "base")),
        ("data", "pull", f"me/{NAME}", "--out", tmp_path / "run"),
        ("data", "push", tmp_path, NAME),
        ("data", "fetch", NAME),
    ):
        said = ashneuro(*words)
        assert said.code == 2, words
        require_harmless(said.out, said.err)
        assert "lif" in said.out + said.err or "--dry-run" in words, words


def test_holder_of_a_claim_and_a_card_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.line(f"claimed by {Holder(1, NAME, '')}")
    terminal.wrote(Path("runs") / NAME / "README.md")
    terminal.next_steps(f"ashneuro evaluate {NAME}")
    said = capsys.readouterr()
    require_harmless(said.out, said.err)
    assert said.out.count(SHOWN) == 3
