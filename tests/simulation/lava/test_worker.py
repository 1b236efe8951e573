"""Start of a worker process: no folder may hide the package lava."""

from pathlib import Path

import pytest

import ashneuro.simulation
from ashneuro.simulation.lava import environment
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.worker import worker_command

SIMULATION = Path(ashneuro.simulation.__file__).parent


def test_no_folder_beside_the_worker_is_named_lava(monkeypatch):
    """Python looks for modules beside the script first: such a folder would hide the package."""
    monkeypatch.setattr("ashneuro.simulation.lava.worker.find_interpreter", lambda: Path("python3.10"))
    *options, script = worker_command(None)
    assert options == ["python3.10", "-B"] and Path(script) == environment.WORKER / "worker.py"
    assert not [path for path in environment.WORKER.rglob("lava*") if path.stem == "lava"]


@pytest.mark.lava
def test_folder_named_lava_elsewhere_does_not_hide_the_package(monkeypatch):
    """Neither in the current folder nor on PYTHONPATH."""
    assert (SIMULATION / "lava" / "__init__.py").is_file()
    monkeypatch.chdir(SIMULATION)
    monkeypatch.setenv("PYTHONPATH", str(SIMULATION))
    found = environment.describe()
    assert found.ok, found.text
    with Lava() as lava:
        assert lava.versions["lava-nc"] == "0.10.0"
