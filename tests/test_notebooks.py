"""Notebooks of docs: every cell runs, and the outputs are as promised."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parent.parent / "docs" / "notebooks"
jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed: pip install -e '.[notebooks]'")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install -e '.[notebooks]'")

Run = Callable[..., str]

START = """
%reset -f
%cd -q {folder}
import os, sys
sys.path.insert(0, {root!r})
os.environ.update({{"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}})
"""
WITHOUT_LAVA = 'os.environ["ASHNEURO_LAVA_PYTHON"] = "/no/lava"'  # its comparisons are "not run"; Lava takes longer
WITH_LAVA = 'os.environ.pop("ASHNEURO_LAVA_PYTHON", None)'


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """One kernel for all notebooks, which imports torch once; names are forgotten in between."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


@pytest.fixture
def run(kernel: Any, tmp_path: Path) -> Run:
    """A function that runs a notebook in an empty folder, and returns its texts."""
    from nbformat.v4 import new_code_cell

    def run(name: str, lava: str = WITHOUT_LAVA) -> str:
        notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
        notebook.cells.insert(0, new_code_cell(START.format(folder=tmp_path, root=str(NOTEBOOKS.parents[1])) + lava))
        nbclient.NotebookClient(notebook, km=kernel, timeout=600).execute()
        return "\n".join(_texts(notebook))

    return run


def _texts(notebook: Any) -> Iterator[str]:
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            yield output.get("text", "") or output.get("data", {}).get("text/html", "")


def test_model_of_snntorch_keeps_its_accuracy(run: Run) -> None:
    pytest.importorskip("snntorch", reason="snntorch is not installed: pip install -e '.[frameworks]'")
    said = run("1_snntorch_on_loihi")
    accuracies = re.search(r"accuracy: float64 ([\d.]+)%, Loihi's integers ([\d.]+)%", said)
    assert accuracies and abs(float(accuracies[1]) - float(accuracies[2])) < 10
    assert "249,600 values compared, 0 differ" in said and "<table" in said


@pytest.mark.lava
def test_nir_file_is_proved_in_lava(run: Run) -> None:
    said = run("2_nir_to_lava", WITH_LAVA)
    assert "does not say what its spikes depend on" in said
    assert "integer program – Lava, fixed_pt: 14,080 values, 0 differ" in said


def test_own_ann_stands_beside_the_network(run: Run) -> None:
    said = run("3_cost_against_your_ann")
    assert re.search(r"Sequential \(your ANN\), int8 +[\d.]+ nJ", said) and "firing rate: " in said
    assert "no energy per synop has been published for Intel Loihi 2" in said


def test_hybrid_learns_own_pictures(run: Run) -> None:
    said = run("4_hybrid_on_your_pictures")
    assert "A zeroed" in said and "estimated from counted events on cmos45" in said


def test_stream_by_changes_saves_products(run: Run) -> None:
    said = run("5_sigma_delta_stream")
    assert "0 differ" in said and re.search(r"products: 5,920 by changes, 116,736 dense: 5.1%", said)


def test_every_notebook_is_run() -> None:
    names = re.findall(r'run\("(\d\w+)"', Path(__file__).read_text(encoding="utf-8"))
    assert sorted(names) == [path.stem for path in sorted(NOTEBOOKS.glob("*.py"))]
