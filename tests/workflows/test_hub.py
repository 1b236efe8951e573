"""Runs on the hub, which here is a folder: uploads, downloads, refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ashneuro as ash
from ashneuro.errors import ConfigError, DataError, MissingDependency
from tests.commands.conftest import ashneuro, exported_run, pairs, task_run  # noqa: F401 - fixtures
from tests.hub import folder_hub

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install -e '.[hub]'")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in the place of the hub."""
    folder = tmp_path / "hub"
    for name, stand_in in folder_hub(folder).items():
        monkeypatch.setattr(hub, name, stand_in)
    return folder


def test_run_comes_back_as_it_was(ashneuro: Any, exported_run: Path, store: Path, tmp_path: Path) -> None:  # noqa: F811
    result = ashneuro("data", "push", exported_run, "me/hybrid")
    assert result.code == 0 and "hub/me/hybrid" in result.out, result.err
    kept = {str(path.relative_to(store / "me/hybrid")) for path in (store / "me/hybrid").rglob("*") if path.is_file()}
    assert {"README.md", "config.json", "model.safetensors", "vocabulary.json", "bundle/network.nir"} <= kept
    assert not [name for name in kept if name.endswith(".pt")]
    assert (store / "me/hybrid/visibility").read_text() == "private"
    (store / "me/hybrid/evil.pt").write_bytes(b"pickle")
    back = tmp_path / "back"
    assert ashneuro("data", "pull", "me/hybrid", "--out", back).code == 0
    assert not list(back.rglob("*.pt"))
    assert (back / "model.safetensors").read_bytes() == (exported_run / "model.safetensors").read_bytes()
    assert ash.read(back).name == "back"


def test_card_has_front_matter(task_run: Path) -> None:  # noqa: F811
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed: pip install -e '.[test]'")
    _, front, text = (task_run / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "ashneuro" and text.startswith("\n# ")
    hub.ModelCard.load(task_run / "README.md")


@pytest.mark.parametrize("name", ["hybrid", "me/", "/hybrid", "me/a/b", "me/my run"])
def test_names_are_checked(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its name is OWNER/NAME"):
        ash.pull(name, tmp_path / "out")


def test_missing_repository(store: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="404: no repository me/none"):
        ash.pull("me/none", tmp_path / "out")


def test_folder_with_files_stays_as_it_is(store: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(ConfigError, match="is not empty"):
        ash.pull("me/hybrid", tmp_path)


def test_only_runs_are_pushed(store: Path, exported_run: Path) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match="is not a run"):
        ash.push(exported_run / "bundle", "me/hybrid")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match="the Hugging Face hub needs the package 'huggingface_hub'"):
        ash.pull("me/hybrid", tmp_path / "out")


def test_errors_of_the_hub_are_known_without_its_own_import() -> None:
    """`huggingface_hub.errors` is no attribute of the package before it is imported."""
    code = (
        "import huggingface_hub as hub\n"
        "from ashneuro.workflows.hub import _failures\n"
        "print([each.__name__ for each in _failures(hub)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "HfHubHTTPError" in done.stdout, done.stderr


@pytest.mark.parametrize("leads", ["secret.json", "/dev/zero", "nowhere"])
def test_files_of_others_are_not_uploaded(leads: str, store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (tmp_path / "secret.json").write_text("x")
    (run / "evaluation.json").symlink_to(f"../{leads}" if leads != "/dev/zero" else leads)
    with pytest.raises(DataError, match=r"evaluation\.json"):
        ash.push(run, "me/hybrid")
    assert not store.exists()
