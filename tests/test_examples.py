"""Examples: configs load, scripts run."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ashneuro.config import SWEEPS, load_config, presets, sweeps
from ashneuro.errors import ConfigError
from ashneuro.sweep_config import load_sweep
from ashneuro.training.sweep import cells
from tests.commands.conftest import ashneuro, foreign, spikes  # noqa: F401 - fixtures

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_config_is_valid(path: Path) -> None:
    if path.stem in SWEEPS:
        assert cells(load_sweep(path))
    else:
        load_config(path)


def test_tiny_preset_is_the_example() -> None:
    assert load_config("tiny") == load_config(EXAMPLES / "tiny.toml")
    assert presets()["tiny"].samefile(EXAMPLES / "tiny.toml")


def test_presets_are_installed() -> None:
    configs = {path.stem for path in EXAMPLES.glob("*.toml")}
    assert configs == presets().keys() | sweeps().keys()
    packed = tomllib.loads((EXAMPLES.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]
    assert {f"examples/{name}.toml": f"ashneuro/examples/{name}.toml" for name in configs}.items() <= packed[
        "force-include"
    ].items()


@pytest.mark.parametrize("name", SWEEPS)
def test_sweep_loads_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_sweep(Path(name)) == load_sweep(EXAMPLES / f"{name}.toml")
    with pytest.raises(ConfigError, match="did you mean front") as caught:
        load_sweep(Path("frond"))
    assert "ablation, ablation-lif, demo, front" in caught.value.do
    with pytest.raises(ConfigError, match="is a preset") as caught:
        load_sweep(Path("tiny"))
    assert Path(caught.value.do.removeprefix("see ")).is_file()


def run(script: str, *words: object) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_any_nir_graph_needs_no_torch() -> None:
    code = "import sys, runpy; sys.modules['torch'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    command = [sys.executable, "-c", code, str(EXAMPLES / "any_nir_graph.py")]
    result = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "float64: " in result and "nJ per sample" in result


def test_from_torch_equals_its_model() -> None:
    pytest.importorskip("snntorch", reason="pip install -e '.[frameworks]'")
    said = run("from_torch.py")
    assert "0 of 232400 values differ" in said and "0 findings forbid Lava" in said


def test_compare_costs_reads_a_bundle(ashneuro, foreign: Path, spikes: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    bundle = tmp_path / "net.bundle"
    words = ("--inputs", spikes, "--out", bundle, "--no-lava", "--accept-assumptions")
    assert ashneuro("export", foreign, *words).code == 0
    assert "break-even on cmos45" in run("compare_costs.py", bundle)
