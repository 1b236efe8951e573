"""Run folders: saving, loading, and errors on damaged ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ashneuro.config import EARLIER, load_config
from ashneuro.errors import ConfigError, DataError
from ashneuro.model.network import AshNet
from ashneuro.training.checkpoint import load_run, write_state
from ashneuro.training.loop import train
from tests.training import tiny
from tests.training.tasks_tiny import WIDE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "squares"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ashneuro.training.data.load_splits", tiny.load_splits)
        train(tiny.config(epochs=1), path)
    return path


def copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_load_run_round_trip(folder: Path, tmp_path: Path) -> None:
    run = load_run(folder)
    trained = train(tiny.config(epochs=1), tmp_path / "again")
    assert run.config == tiny.config(epochs=1) and run.vocabulary == trained.vocabulary
    assert not run.model.training
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(run.model.embed_images(images), trained.model.embed_images(images))
    for name, value in trained.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], value), name
    assert run.model.state_dict()["abstract.entry.tau"].dtype == torch.float64


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_raises_oserror() -> None:
    """The command line prints an OSError in three parts; a RuntimeError is a traceback."""
    with pytest.raises(OSError, match="No space left"):
        write_state(Path("/dev/full"), {"weights": torch.zeros(100_000)})


def test_files_of_a_run(folder: Path) -> None:
    names = {file.name for file in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "vocabulary.json", "README.md", "metrics.jsonl", "trainer.pt"}
    card = (folder / "README.md").read_text()
    assert "one explicit reading of the abstract" in card and "not a reproduction" in card
    assert "1 of 1, seed 0" in card


def test_damaged_run_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run"):
        load_run(tmp_path)
    damaged = copy(folder, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(DataError, match=r"model\.safetensors"):
        load_run(damaged)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("num_batches_tracked"))
    save_file({name: weights[name] for name in weights if name != lost}, damaged / "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors") as left_out:
        load_run(damaged)
    assert lost in left_out.value.why
    other = copy(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["model"]["embedding"] = 9
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"model\.safetensors") as error:
        load_run(other)
    assert "size mismatch" in error.value.why
    config["model"]["embeding"] = 9
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="unknown"):
        load_run(other)


def test_heads_of_earlier_runs_see_the_summary_token_alone(tmp_path: Path) -> None:
    config = tiny.config(epochs=1)
    earlier = replace(config, model=replace(config.model, multimodal=replace(WIDE, **EARLIER["model"]["multimodal"])))
    run = train(earlier, tmp_path / "run")
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    for name in EARLIER["model"]["multimodal"]:
        del written["model"]["multimodal"][name]  # as before the settings existed
    (tmp_path / "run" / "config.json").write_text(json.dumps(written))
    opened = load_run(tmp_path / "run")
    assert opened.config == run.config and opened.model.itm.in_features == WIDE.width
    without = tmp_path / "config.json"
    written["model"]["multimodal"]["layers"] = 0
    without.write_text(json.dumps(written))
    there = load_config(without).model.multimodal
    assert there == replace(WIDE, layers=0), "equal to the settings of now, so a sweep goes on"
    now = AshNet(replace(earlier.model, multimodal=WIDE), 9, 8)
    assert now.itm.in_features == WIDE.width + earlier.model.embedding


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:x", "", "meta", *([] if torch.cuda.is_available() else ["cuda", "cuda:1"])]
)
def test_missing_device_is_an_error(folder: Path, device: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        load_run(folder, device)
