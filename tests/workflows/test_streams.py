"""Streams: frames of a run by changes, their accuracy and work, the bundle and the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ashneuro.data.batches import normalise
from ashneuro.data.streams import load_clips
from ashneuro.errors import AshneuroError, ConfigError, DataError
from ashneuro.exchange import StreamEvaluation
from ashneuro.program.bundle import read_bundle
from ashneuro.training.evaluate import metrics
from ashneuro.workflows import streams
from ashneuro.workflows.runs import open_run
from ashneuro.workflows.simulate import simulate
from ashneuro.workflows.streams import (
    StreamSettings,
    code_stream,
    evaluate_stream,
    export_stream,
    stream_file,
    stream_model,
)
from ashneuro.workflows.train import train
from tests.commands.conftest import Command, settings

NAMES, FRAMES, SIZE = ("dog face", "red heart", "sun"), 4, 16
CLIPS = len(NAMES)


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ReLU network of 3 bits."""
    more = [
        word for word in settings(pairs, "model.abstract.kind=quantised-relu", "train.batch_size=4") if word != "--set"
    ]
    return train("tiny", tmp_path_factory.mktemp("stream") / "levels", settings=more).path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of frames: a square that moves over a still background."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for name in NAMES:
        (folder / name).mkdir()
        still = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        for frame in range(FRAMES):
            picture = still.copy()
            picture[3:6, 2 + 2 * frame : 5 + 2 * frame] = 255
            Image.fromarray(picture).save(folder / name / f"{frame}.png")
    return folder


def test_frames_by_changes_are_as_good_as_frames_afresh(run: Path, clips: Path) -> None:
    """In floats: the embeddings of the model of levels, frame by frame."""
    found = evaluate_stream(run, clips, frames_per_s=(24.0, 12.0), abstract_on="torch")
    opened = open_run(run)
    model, loaded = stream_model(opened), load_clips(clips, image_size=SIZE)
    texts = streams._texts(opened, loaded)[0]
    for rate, every in zip(found.rates, (1, 2), strict=True):
        kept = np.concatenate([clip.frames[::every] for clip in loaded])
        with torch.no_grad():
            images = model.embed_images(normalise(torch.from_numpy(kept).permute(0, 3, 1, 2).contiguous()))
        right = np.repeat(np.arange(CLIPS), len(kept) // CLIPS)[:, None] == np.arange(CLIPS)
        assert rate.metrics == metrics(images.numpy() @ texts.T, right)
        assert (rate.frames, rate.frames_per_s) == (len(kept), 24 / every)
        assert rate.own_metrics == rate.metrics  # a quantised ReLU has its levels already
    assert found.bits == 3 and found.clips == CLIPS
    assert 0 < found.rates[0].changed_pixels < found.rates[1].changed_pixels < 0.3


def test_work_and_energy_fall_from_coding_to_coding(run: Path, clips: Path) -> None:
    found = evaluate_stream(run, clips, frames_per_s=(24.0,))
    file = stream_file(run, clips.name, StreamSettings())
    assert StreamEvaluation.from_json(json.loads(file.read_text())) == found
    (rate,) = found.rates
    work = {coding.coding: coding for coding in rate.codings}
    assert work["changes"].messages < work["afresh"].messages and work["dense"].messages is None
    order = [work[name].operations for name in ("dense", "pixels", "layers", "changes")]
    assert order == sorted(order, reverse=True) and len(set(order)) == 4
    assert work["changes"].bits == 4 and {work[name].bits for name in ("afresh", "dense", "layers")} == {3}
    assert 0 < rate.host_skipping_macs < rate.host_macs and rate.host_skipping_j.typical < rate.host_j.typical
    total = rate.total_j(work["changes"], skipping=True)
    assert total.typical == rate.host_skipping_j.typical + work["changes"].energy.typical
    assert total.low < total.typical < total.high


def test_a_skipping_host_sends_what_a_whole_one_sends(run: Path, clips: Path) -> None:
    model, loaded = open_run(run).model, load_clips(clips, image_size=SIZE)
    host = streams._currents(model, loaded)
    frames = np.stack([clip.frames for clip in loaded], axis=1).reshape(-1, SIZE, SIZE, 3)
    with torch.no_grad():
        whole = model.eval().currents(normalise(torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous())).numpy()
    np.testing.assert_allclose(host.currents.reshape(whole.shape), whole, atol=1e-5)
    assert (host.currents[1:] == host.currents[:-1]).mean() > 0.3
    assert host.pixels[0].all() and 0 < host.pixels[1:].mean() < 0.3


def test_larger_thresholds_send_less_and_have_one_coding(run: Path, clips: Path) -> None:
    found = evaluate_stream(run, clips, frames_per_s=(24.0,), settings=StreamSettings(threshold=3))
    exact = evaluate_stream(run, clips, frames_per_s=(24.0,))
    (only,) = found.rates[0].codings
    assert only.coding == "changes" and only.messages < exact.rates[0].codings[0].messages
    assert stream_file(run, clips.name, StreamSettings(3, 2)).name == f"stream-{clips.name}-3bits-from2.json"


def test_faults_are_told(run: Path, clips: Path, tmp_path: Path, pairs: Path) -> None:
    (tmp_path / "one").mkdir(parents=True)
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "one" / "0.png")
    with pytest.raises(DataError, match="two frames"):
        evaluate_stream(run, tmp_path)
    with pytest.raises(ConfigError, match="at least one clip"):
        evaluate_stream(run, clips, samples=0)
    with pytest.raises(ConfigError, match="frames"):
        evaluate_stream(run, clips, frames_per_s=(60.0,))
    with pytest.raises(ConfigError, match="1 to 15 bits"):
        evaluate_stream(run, clips, settings=StreamSettings(bits=20))
    with pytest.raises(DataError, match="schema 'other'"):
        StreamEvaluation.from_json({"schema": "other"})


@pytest.mark.parametrize(
    "option",
    [
        "--data pairs.json",
        "--images folder",
        "--inputs x.npy",
        "--target nir",
        "--dt 0.001",
        "--skip-broken",
        "--accept-assumptions",
    ],
)
def test_export_of_a_stream_refuses_what_it_would_ignore(
    ashneuro: Command, run: Path, clips: Path, option: str
) -> None:
    said = ashneuro("export", run, "--stream", clips, *option.split())
    assert said.code == 2 and f"--stream with {option.split()[0]}" in said.err
    assert not (run / "stream").exists()


@pytest.mark.lava
def test_bundle_of_a_stream_is_proved_and_priced(ashneuro: Command, run: Path, clips: Path) -> None:
    exported = ashneuro("export", run, "--stream", clips, "--samples", 2, "--json")
    assert exported.code == 0, exported.err
    certificate = json.loads(exported.out)["certificate"]
    assert certificate["passed"] and set(certificate["own_processes"].values()) == {"Changes"}
    bundle = read_bundle(run / "stream")
    assert all(layer.neuron.message.levels for layer in bundle.program("integer").layers)
    simulated = ashneuro("simulate", run / "stream", "--on", "lava", "--stream", "--json")
    assert simulated.code == 0, simulated.err
    work = {row["coding"]: row for row in json.loads(simulated.out)["stream"]}
    assert list(work) == ["changes", "afresh", "dense", "pixels", "layers"]
    record = simulate(bundle, on="loihi", rasters="all")
    again = code_stream(bundle.program("integer"), bundle.reference.inputs, record)
    assert [one.messages for one in again] == [row["messages"] for row in work.values()]


def test_commands_show_a_stream(ashneuro: Command, run: Path, clips: Path) -> None:
    shown = ashneuro("evaluate", run, "--stream", "own", "--frames-per-s", "8,2", "--samples", 4)
    assert shown.code == 0, shown.err
    assert "by changes" in shown.out and "ANN, where pixels changed" in shown.out and "stream-own.json" in shown.out
    exported = export_stream(run, clips, run.parent / "kept", samples=1, frames=2, lava=None)
    assert not exported.certificate.failed and exported.bundle.reference.inputs["input"].shape[:2] == (2, 1)
    shown = ashneuro("simulate", run.parent / "kept", "--on", "loihi", "--stream")
    assert shown.code == 0 and "graded, afresh" in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "RUN", "--stream-bits", 3), "there is no stream"),
        (("evaluate", "RUN", "--stream", "own", "--task", "vqa"), "--task"),
        (("evaluate", "RUN", "--stream", "own", "--frames-per-s", "fast"), "numbers with commas"),
        (("export", "RUN", "--stream", "own", "--target", "nir"), "--target nir"),
        (("export", "RUN", "--stream-threshold", 2), "there is no stream"),
        (("simulate", "RUN", "--stream", "--trace", "a:0"), "--trace"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    ashneuro: Command, run: Path, words: tuple[object, ...], said: str
) -> None:
    result = ashneuro(*(run if word == "RUN" else word for word in words))
    assert result.code != 0 and said in result.err


def test_networks_without_levels_have_no_stream(tmp_path: Path, run: Path) -> None:
    opened = open_run(run)
    lif = replace(opened.config.model.abstract, kind="none")
    opened.model.config = replace(opened.model.config, abstract=lif)
    opened.model.abstract = None
    with pytest.raises(ConfigError, match="nothing to code by changes"):
        stream_model(opened)
    with pytest.raises(AshneuroError):
        export_stream(tmp_path)
