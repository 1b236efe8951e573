"""An exception that nobody foresaw: exit code 4, a sentence, and a file to send."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashneuro.workflows.doctor import Check
from tests.commands.conftest import Command


def fail(*_: object, **__: object) -> None:
    raise KeyError("loss\x1b[2J\nerror: nothing")


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache folder, where opening a network fails."""
    monkeypatch.setattr("ashneuro.workflows.networks.open_network", fail)
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_fault_exits_with_4_and_names_its_log(ashneuro: Command, faulty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashneuro.workflows.doctor.examine", lambda: [Check("python", "3.x"), Check("limits", "none")])
    said = ashneuro("export", "README.md")
    assert said.code == 4 and "Traceback" not in said.err and "\x1b" not in said.err
    assert said.err.startswith("error: a fault of ashneuro in export.py, line ") and "KeyError" in said.err
    (log,) = (faulty / "faults").iterdir()
    assert str(log) in said.err and "do:" in said.err
    text = log.read_text()
    assert "export README.md" in text and "Traceback" in text and "KeyError" in text
    assert text.endswith("\npython: 3.x\nlimits: none\n"), "what doctor says"


def test_fault_is_logged_elsewhere_where_the_cache_cannot_be(
    ashneuro: Command, faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashneuro.workflows.doctor.examine", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for home in ("~no-such-user/x", "/proc/nowhere"):
        monkeypatch.setenv("ASHNEURO_HOME", home)
        said = ashneuro("export", "README.md")
        assert said.code == 4 and str(tmp_path / "tmp") in said.err
    texts = [file.read_text() for file in (tmp_path / "tmp").iterdir()]
    assert texts and all("ashneuro doctor failed: KeyError" in text for text in texts)
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    said = ashneuro("export", "README.md")
    assert said.code == 4 and "Traceback" in said.err, "nowhere to write it: it is shown"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(12, "Cannot allocate memory", "x"), 2),
        (OSError(28, "No space left on device", "x"), 2),
        (OSError("no number"), 4),
        (MemoryError(), 2),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 512000000000 bytes"), 2),
        (RecursionError("deep"), 4),
        (AssertionError(), 4),
    ],
)
def test_codes_of_exceptions(
    ashneuro: Command, faulty: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ashneuro.workflows.networks.open_network", raising)
    monkeypatch.setattr("ashneuro.workflows.doctor.examine", list)
    said = ashneuro("export", "README.md")
    assert said.code == code and "why:" in said.err and "do:" in said.err and "Traceback" not in said.err


def test_help_has_the_exit_codes(ashneuro: Command) -> None:
    for words in (("--help",), ("verify", "--help")):
        said = " ".join(ashneuro(*words).out.split())
        assert "4 a fault of ashneuro" in said and "1 a finding" in said
