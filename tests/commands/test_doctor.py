"""``ashneuro doctor``: a block for bug reports, and commands for what is missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ashneuro.errors import install_command
from ashneuro.simulation.lava.environment import WORKER, find_interpreter
from ashneuro.workflows import doctor
from tests.commands.conftest import Command


def checks(ashneuro: Command) -> dict[str, dict[str, object]]:
    result = ashneuro("doctor", "--json")
    assert result.code == 0
    return {check["name"]: check for check in json.loads(result.out)}


def test_block_for_bug_reports(ashneuro: Command) -> None:
    found = checks(ashneuro)
    wanted = (
        "ashneuro",
        "python",
        "system",
        "limits",
        "frameworks",
        "lava",
        "gpu",
        "kernels, cpu",
        "gpu energy",
        "cpu energy",
        "profiles",
        "cache",
        "completion",
    )
    assert set(wanted) <= set(found)
    assert f"({sys.executable})" in found["python"]["found"]  # type: ignore[operator]
    assert "torch 2." in found["packages, train"]["found"] and "loihi2" in found["profiles"]["found"]  # type: ignore[operator]
    assert "Norse 1." in found["frameworks"]["found"]  # type: ignore[operator]
    block = ashneuro("doctor").out
    assert all(len(line) <= 140 for line in block.splitlines() if not line.startswith("  "))
    assert block.splitlines()[0].startswith("ashneuro ")


def test_missing_parts_have_commands(ashneuro: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "norse" else real(name))
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", "/no/such/python")
    found = checks(ashneuro)
    assert "norse –" in found["packages, train"]["found"] and not found["packages, train"]["ok"]  # type: ignore[operator]
    assert (
        found["lava"]["mend"] == "unset ASHNEURO_LAVA_PYTHON; ashneuro doctor --setup lava" and not found["lava"]["ok"]
    )
    block = ashneuro("doctor").out
    assert f"  {install_command('train')}   # packages, train\n" in block
    assert "  unset ASHNEURO_LAVA_PYTHON; ashneuro doctor --setup lava   # lava\n" in block


def test_services_for_logs_are_nothing_to_mend(ashneuro: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    required = ['mlflow>=3; extra == "mlflow"', 'torch>=2.6; extra == "train"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: required)
    monkeypatch.setattr(doctor, "_version", lambda name: "")
    found = checks(ashneuro)
    assert found["packages, train"]["mend"] == install_command("train") and not found["packages, mlflow"]["mend"]


def test_unusable_cache_folder(ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("ASHNEURO_HOME", str(home))
        cache = checks(ashneuro)["cache"]
        assert (
            not cache["ok"]
            and f"{tmp_path / 'file'} is a file" in str(cache["found"])
            and "ASHNEURO_HOME" in str(cache["mend"])
        )
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "new"))
    assert checks(ashneuro)["cache"]["ok"]


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_broken_compiler_has_a_command(
    compiler: str, ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    assert "  unset CXX   # kernels, cpu\n" in ashneuro("doctor").out


def test_unreachable_lava_command(ashneuro: Command) -> None:
    result = ashneuro("doctor", "--lava-command", "/no/such/ssh host python3.10 worker.py")
    assert result.code == 0 and "/no/such/ssh host python3.10 worker.py: No such file" in " ".join(result.out.split())


@pytest.mark.lava
def test_lava_command_is_examined() -> None:
    checks = doctor.examine(f"{find_interpreter()} {WORKER}/worker.py")
    (check,) = [check for check in checks if check.name == "lava elsewhere"]
    assert check.ok and "lava-nc 0.10.0" in check.found and "CPUs" in check.found


def test_completion_of_the_users_shell(ashneuro: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    found = checks(ashneuro)["completion"]
    assert found["ok"] and "not installed for fish" in str(found["found"])
    assert ashneuro("--install-completion", "--shell", "fish").code == 0
    assert str(tmp_path) in str(checks(ashneuro)["completion"]["found"])
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert "not available for the shell tcsh" in str(checks(ashneuro)["completion"]["found"])


COMPLETE = """
source {script}
COMP_WORDS=({words} "{word}"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _ashneuro; echo "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ashneuro.cli import app

    folder = tmp_path_factory.mktemp("completions")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(app.generate_completion(shell=shell), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("words", "word", "found"),
    [
        ("ashneuro", "re", {"report"}),
        ("ashneuro report run", "--pro", {"--profile"}),
        ("ashneuro simulate x --on", "", {"torch", "loihi", "lava"}),
        ("ashneuro data", "f", {"fetch", "formats"}),
    ],
)
def test_bash_completes(words: str, word: str, found: set[str], completions: Path) -> None:
    script = COMPLETE.format(script=completions / "bash", words=words, word=word)
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(said.stdout.split()) >= found and not said.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_scripts_of_their_shell(shell: str, completions: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine (apt-get install {shell})")
    words = [shell, "--no-execute" if shell == "fish" else "-n", str(completions / shell)]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 0
