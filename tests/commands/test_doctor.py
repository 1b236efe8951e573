"""``ashneuro doctor``: a block for bug reports, and commands for what is missing."""

import json
import sys
from pathlib import Path

import pytest

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
    assert "  pip install 'ashneuro[train]'   # packages, train\n" in block
    assert "  unset ASHNEURO_LAVA_PYTHON; ashneuro doctor --setup lava   # lava\n" in block


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
