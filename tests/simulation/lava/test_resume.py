import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.program.assumption import Assumption
from ashneuro.simulation.lava import resume
from ashneuro.simulation.lava.network import LavaNetwork
from ashneuro.simulation.lava.resume import KEPT_S, FinishedChunks
from ashneuro.simulation.record import Activity, SpikeRecord
from tests.simulation import nets


def record(seed=0, stock=3):
    rng = np.random.default_rng(seed)
    raster = (rng.random((4, 5, 2, 3)) < 0.5).astype(np.uint8)
    layers = {
        "file": Activity(raster.sum((0, 1), dtype=np.int64), None, raster),
        "a/b": Activity(np.zeros((2,), np.int64), None, rng.normal(size=(4, 5, 2)), binary=False),
        "counted": Activity(np.arange(6, dtype=np.int64), binary=False, ones=np.arange(6) // 2),
    }
    inputs = {"input": Activity(np.array([7, 8]), binary=False)}
    return SpikeRecord("lava", "integer", 4, 5, layers, inputs, stock, (Assumption("reset", "zero", ("a/b",)),))


def expect_same(found, wanted):
    assert (found.source, found.precision, found.timesteps, found.samples, found.stock_samples) == (
        "lava",
        "integer",
        4,
        5,
        3,
    )
    assert found.assumptions == wanted.assumptions
    for part in ("layers", "inputs"):
        assert list(getattr(found, part)) == list(getattr(wanted, part))
        for name, activity in getattr(wanted, part).items():
            other = getattr(found, part)[name]
            np.testing.assert_array_equal(other.counts, activity.counts)
            np.testing.assert_array_equal(other.ones, activity.ones)
            assert other.binary == activity.binary and (other.raster is None) == (activity.raster is None)
            if activity.raster is not None:
                np.testing.assert_array_equal(other.raster, activity.raster)
                assert other.raster.dtype == activity.raster.dtype


SAMPLES = {"input": np.arange(12.0).reshape(2, 3, 2)}


def test_record_is_found_by_samples_network_and_rasters(tmp_path):
    chunks = FinishedChunks(tmp_path, "network", ["b", "a"])
    assert chunks.find(SAMPLES) is None
    chunks.keep(SAMPLES, record())
    expect_same(FinishedChunks(tmp_path, "network", ["a", "b"]).find(SAMPLES), record())
    for other in (
        SAMPLES | {"input": SAMPLES["input"] + 1},
        SAMPLES | {"input": SAMPLES["input"].astype(np.float32)},
        {"x": SAMPLES["input"]},
    ):
        assert chunks.find(other) is None
    for network, rasters in (("another", ["a", "b"]), ("network", ["a"])):
        assert FinishedChunks(tmp_path, network, rasters).find(SAMPLES) is None
    chunks.clear()
    assert chunks.find(SAMPLES) is None and not list(tmp_path.iterdir())


def test_concurrent_runs_keep_their_own_chunks(tmp_path, monkeypatch):
    others = {"input": SAMPLES["input"] + 1}
    one, two = (FinishedChunks(tmp_path, "network", []) for _ in range(2))
    one.keep(SAMPLES, record())
    two.keep(others, record())
    one.clear()
    assert two.find(others) is not None and two.find(SAMPLES) is None
    replace_file = resume.replace_file

    def removed_meanwhile(path, write):
        monkeypatch.setattr(resume, "replace_file", replace_file)
        shutil.rmtree(next(tmp_path.iterdir()))
        replace_file(path, write)

    monkeypatch.setattr(resume, "replace_file", removed_meanwhile)
    two.keep(others, record())
    assert two.find(others) is not None
    two.clear()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"PK nothing", None])
def test_damaged_file_is_ignored(tmp_path, damage):
    chunks = FinishedChunks(tmp_path, "network", [])
    chunks.keep(SAMPLES, record())
    (file,) = tmp_path.glob("*/*.npz")
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    assert chunks.find(SAMPLES) is None


def test_old_chunks_are_removed(tmp_path):
    FinishedChunks(tmp_path, "old", []).keep(SAMPLES, record())
    (old,) = tmp_path.iterdir()
    os.utime(old, (time.time(), time.time() - KEPT_S - 60))
    FinishedChunks(tmp_path, "new", []).keep(SAMPLES, record())
    (left,) = tmp_path.iterdir()
    assert left != old


def layer_with(layer, **units):
    return replace(layer, neuron=replace(layer.neuron, **units))


def test_fingerprint_depends_on_host_units():
    _, program = nets.NETS["dense"](4, "integer")
    *hidden, out = program.layers
    (port,) = program.inputs
    assert not out.neuron.spiking
    others = [
        replace(program, inputs=(replace(port, scale=2 * port.scale),)),
        *(
            replace(program, layers=(*hidden, layer))
            for layer in (
                replace(out, scale=2 * out.scale),
                layer_with(out, v_unit=np.array(2.0)),
                layer_with(out, v_origin=np.array(0.5)),
            )
        ),
    ]
    found = [LavaNetwork(other, 5).fingerprint for other in (program, *others)]
    assert len(set(found)) == len(found)
    assert LavaNetwork(replace(program), 5).fingerprint == found[0]
