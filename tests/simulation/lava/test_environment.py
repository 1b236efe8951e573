import json
import os
import sys
import time
from pathlib import Path

import pytest

from ashneuro.errors import LavaError
from ashneuro.simulation.lava import environment


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    monkeypatch.delenv("ASHNEURO_LAVA_PYTHON", raising=False)
    return tmp_path


def made(home):
    """An environment as `set_up` leaves it, around this interpreter."""
    (home / "lava" / "bin").mkdir(parents=True)
    (home / "lava" / "bin" / "python").symlink_to(sys.executable)
    (home / "lava" / "ready.json").write_text(json.dumps({"requirements": environment._fingerprint()}))
    return home / "lava" / "bin" / "python"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_variable_comes_first(home, monkeypatch):
    made(home)
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", sys.executable)
    assert environment.find_interpreter() == Path(sys.executable)
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", "/no/such/python")
    with pytest.raises(LavaError, match="ASHNEURO_LAVA_PYTHON = /no/such/python"):
        environment.find_interpreter()


def test_then_the_environment_that_was_set_up(home):
    with pytest.raises(LavaError, match=r"not installed\n.*\ndo:  ashneuro doctor --setup lava"):
        environment.find_interpreter()
    assert made(home) == environment.find_interpreter()


def test_an_environment_of_other_requirements_does_not_count(home):
    made(home)
    (home / "lava" / "ready.json").write_text(json.dumps({"requirements": "older"}))
    with pytest.raises(LavaError, match="not installed"):
        environment.find_interpreter()


def test_set_up_is_quick_where_it_is_done(home):
    python = made(home)
    told, start = [], time.monotonic()
    assert environment.set_up(told.append) == python
    assert time.monotonic() - start < 0.5
    assert told == []


def test_finds_real_interpreters_behind_shims(home, monkeypatch):
    """A shim that fails, a shim that works and says who it is, another version, and pyenv's folder."""
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


def test_says_what_is_missing_when_there_is_no_python(home, monkeypatch):
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


def test_says_what_is_missing_when_there_is_no_uv(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(LavaError, match=r"not installed\ndo:  pip install 'ashneuro\[lava\]'"):
        environment.set_up()


def test_describes_why_lava_cannot_be_imported(home, monkeypatch):
    monkeypatch.setenv("ASHNEURO_LAVA_PYTHON", sys.executable)
    found = environment.describe()
    assert not found.ok
    assert "cannot import lava: ModuleNotFoundError: No module named 'lava'" in found.text


@pytest.mark.lava
def test_describes_what_is_there():
    found = environment.describe()
    assert found.ok
    assert (
        found.versions["lava"] == "0.10.0"
        and found.versions["python"].startswith("3.10")
        and found.versions["numpy"].startswith("1.")
    )
    assert str(found.interpreter) in found.text
