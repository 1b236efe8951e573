import json
import os
import re
import sys
from pathlib import Path

import pytest

from ashneuro.errors import LavaError, install_command
from ashneuro.simulation.lava import environment


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    monkeypatch.delenv("ASHNEURO_LAVA_PYTHON", raising=False)
    return tmp_path


def made(home):
    """Make an environment like `set_up`, with this interpreter."""
    (home / "lava" / "bin").mkdir(parents=True)
    (home / "lava" / "bin" / "python").symlink_to(sys.executable)
    (home / "lava" / "ready.json").write_text(json.dumps({"requirements": environment._fingerprint()}))
    return home / "lava" / "bin" / "python"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_variable_has_priority(home, monkeypatch):
    made(home)
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", sys.executable)
    assert environment.find_interpreter() == Path(sys.executable)
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", "/no/such/python")
    with pytest.raises(LavaError, match="ASHNEURO_LAVA_PYTHON = /no/such/python"):
        environment.find_interpreter()


def test_set_up_environment_is_found(home):
    with pytest.raises(LavaError, match=r"not installed\n.*\ndo:  ashneuro doctor --setup lava"):
        environment.find_interpreter()
    assert made(home) == environment.find_interpreter()


def test_environment_of_other_requirements_is_ignored(home):
    made(home)
    (home / "lava" / "ready.json").write_text(json.dumps({"requirements": "older"}))
    with pytest.raises(LavaError, match="not installed"):
        environment.find_interpreter()


def test_set_up_returns_existing_environment_at_once(home, monkeypatch):
    python = made(home)
    told = []
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: pytest.fail("nothing is to be started"))
    assert environment.set_up(told.append) == python
    assert told == []


def test_interpreters_behind_shims_are_found(home, monkeypatch):
    """A shim that fails, one that works, another version, and pyenv's folder."""
    fails = script(home / "a" / "python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 127")
    works = script(home / "b" / "python3.10", "echo /real/python3.10")
    wrong = script(home / "c" / "python3.10", "echo")
    versions = home / "pyenv" / "versions"
    inside = script(versions / "3.10.9" / "bin" / "python3.10", "echo /pyenv/3.10.9")
    monkeypatch.setenv("PATH", os.pathsep.join(str(path.parent) for path in (fails, works, wrong)) + ":/bin:/usr/bin")
    monkeypatch.setenv("PYENV_ROOT", str(home / "pyenv"))
    found = [str(path) for path in environment._pythons()]
    assert [path for path in found if not path.startswith("/usr")] == ["/real/python3.10", "/pyenv/3.10.9"]
    assert inside.exists()


def test_missing_python_error(home, monkeypatch):
    uv = script(home / "uv", 'echo "error: No interpreter found for Python 3.10" >&2; exit 2')
    monkeypatch.setattr(environment, "_find_uv", lambda: str(uv))
    monkeypatch.setattr(environment, "_pythons", lambda: iter(()))
    told = []
    with pytest.raises(
        LavaError, match=r"cannot be made\nwhy: uv says: error: No interpreter found.*\ndo:  install Python 3.10"
    ):
        environment.set_up(told.append)
    assert told == ["downloading Python 3.10"]
    assert not environment.describe().ok


def test_missing_uv_error(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(LavaError, match="not installed\ndo:  " + re.escape(install_command("lava"))):
        environment.set_up()


def test_describe_reports_import_error(home, monkeypatch):
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", sys.executable)
    found = environment.describe()
    assert not found.ok
    assert "cannot import lava: ModuleNotFoundError: No module named 'lava'" in found.text


@pytest.mark.lava
def test_describe_reports_versions():
    found = environment.describe()
    assert found.ok
    assert (
        found.versions["lava"] == "0.10.0"
        and found.versions["python"].startswith("3.10")
        and found.versions["numpy"].startswith("1.")
    )
    assert str(found.interpreter) in found.text
