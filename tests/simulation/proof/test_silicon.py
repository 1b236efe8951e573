"""Downloads 68 MB the first time; the recordings then stay in the cache folder."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.simulation.proof import sigma_delta, silicon
from ashneuro.simulation.proof.recordings import MEMBERS, fetch_recordings

ALL = {"u": 0, "v": 0, "s": 0}
SPIKES = {"s": 0}


@pytest.fixture(scope="module")
def report():
    return silicon.verify_silicon()


def replay(report, name):
    return next(item for item in report.replays if item.name == name)


def test_emulator_equals_all_recordings(report):
    assert report.mismatches == 0
    assert [layer.first for item in report.replays for layer in item.layers if layer.first] == []
    assert {item.name: (item.origin, item.compared) for item in report.replays} == {
        "PilotNet-LIF, layer by layer": ("silicon", 2_853_792),
        "PilotNet-LIF, chained": ("silicon", 3_614_690),
        "PilotNet-LIF, first and last layer": ("silicon", 950_417),
        "NTIDIGITS, dense layers with axonal delays": ("reference output", 726_000),
        "dense block": ("reference output", 512_000),
        "tiny.net": ("reference output", 25_020),
        "PilotNet-SDNN, chained": ("reference output", 695_289),
        "PilotNet-SDNN, square": ("reference output", 183_760),
        "TinyNet-SDNN, blocks": ("reference output", 13_984),
    }
    assert report.compared("silicon") == 7_418_899 and report.compared("reference output") == 2_156_053


def test_chained_replay_equals_chip(report):
    """From each layer's first reset on, from the image alone: 2,664,290 neuron-steps of u, v, s."""
    chained = replay(report, "PilotNet-LIF, chained").layers
    entry, layers = chained[0], chained[1:]
    assert entry.mismatches == SPIKES and (entry.neurons, entry.steps) == (39_600, 24)
    assert [layer.layer for layer in layers] == [
        "conv1",
        "conv2",
        "conv3",
        "conv4",
        "conv5",
        "dense7",
        "dense8",
        "dense9",
    ]
    assert [layer.steps for layer in layers] == [23, 22, 21, 20, 19, 18, 17, 16]
    assert sum(layer.compared for layer in layers) == 2_664_290
    assert all(layer.mismatches == ALL for layer in layers)
    alone = replay(report, "PilotNet-LIF, layer by layer").layers
    assert {layer.steps for layer in alone} == {24} and all(layer.mismatches == ALL for layer in alone)
    last = replay(report, "PilotNet-LIF, first and last layer").layers[1]
    assert (last.layer, last.neurons, last.steps, last.mismatches) == ("dense10", 1, 17, {"u": 0, "v": 0})


def test_recorded_v_is_128_at_spikes(report):
    alone = replay(report, "PilotNet-LIF, layer by layer").layers
    assert sum(layer.v_masked for layer in alone) == 275_436
    assert {layer.v_at_spikes for layer in alone} == {(128,)}


def test_report_names_source_and_omissions(report):
    said = json.loads(json.dumps(report.to_json()))
    assert said["compared"] == {"silicon": 7_418_899, "reference output": 2_156_053} and said["mismatches"] == 0
    assert said["replays"][0]["layers"][0]["compared"] == 76_032 * 24
    assert "BSD-3" in said["licence"] and said["sha256"] == silicon.SHA256
    assert any("first reset" in text for text in said["replays"][1]["not_compared"])
    assert any("resonate-and-fire" in text for text in said["not_compared"])


def test_recordings_have_their_licence():
    folder = fetch_recordings()
    assert "Copyright (c) 2021, Intel Corporation" in (folder / "LICENSE").read_text()
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(MEMBERS)


def with_layers(monkeypatch, module, alter):
    """Let ``module`` read networks whose layers are altered."""
    original = module.read_netx

    def altered(path):
        program = original(path)
        return replace(program, layers=tuple(alter(layer) for layer in program.layers))

    monkeypatch.setattr(module, "read_netx", altered)


@pytest.mark.parametrize("what", ["dv", "v_threshold", "bias"])
def test_wrong_parameter_is_detected(monkeypatch, what):
    """A replay with one parameter of conv4 changed by one."""

    def alter(layer):
        neuron = replace(layer.neuron, **{what: getattr(layer.neuron, what) + np.int32(1)})
        return replace(layer, neuron=neuron) if layer.name == "conv4" else layer

    with_layers(monkeypatch, silicon, alter)
    emulator = silicon.Emulator("auto", "cpu")
    layers = {layer.layer: layer for layer in silicon._pilotnet_layers(fetch_recordings(), emulator).layers}
    assert {name for name, layer in layers.items() if layer.first} == {"conv4"}
    assert layers["conv4"].mismatches["u"] == 0 and layers["conv4"].mismatches["s"] > 0
    assert "of neuron (" in layers["conv4"].first and "recorded" in layers["conv4"].first


SDNN = {
    "PilotNet-SDNN, chained": {"input0": (20, "s"), "conv1": (20, "u"), "conv2": (20, "u"), "dense9": (9, "s")},
    "PilotNet-SDNN, square": {f"conv{n}": (20, "u") for n in range(1, 5)},
    "TinyNet-SDNN, blocks": {"delta": (15, "s"), "conv": (1, "s"), "sum": (16, "s")},
}


def test_sigma_delta_networks_equal_their_recordings(report):
    for name, layers in SDNN.items():
        found = {layer.layer: layer for layer in replay(report, name).layers}
        assert {key: (layer.steps, *layer.mismatches) for key, layer in found.items()} == layers
        assert all(layer.mismatches == {layers[key][1]: 0} for key, layer in found.items())
    recorded = silicon.time_first(fetch_recordings(), "gts/pilotnet_sdnn/output")[:, 0]
    assert recorded.tolist() == [0, -3840, 4880, 361928, 461416, 342568, -315628, -315628, -31026]


@pytest.mark.parametrize("what", ["v_threshold", "bias", "shift"])
def test_wrong_sigma_delta_parameter_is_detected(monkeypatch, what):
    """A replay with one parameter of conv1 changed by one: its sum is of what arrives."""

    def alter(layer):
        neuron = layer.neuron
        if layer.name != "conv1":
            return layer
        if what == "shift":
            return replace(layer, neuron=replace(neuron, message=replace(neuron.message, shift=5)))
        return replace(layer, neuron=replace(neuron, **{what: getattr(neuron, what) + np.int32(1)}))

    with_layers(monkeypatch, sigma_delta, alter)
    found = sigma_delta.pilotnet_sdnn(fetch_recordings(), silicon.Emulator("auto", "cpu"))
    differing = {layer.layer for layer in found.layers if layer.first}
    assert "conv2" in differing and not {"input0", "conv1"} & differing


def test_windows_between_resets():
    assert silicon._windows(3, 17, 24) == [(0, 3), (3, 20), (20, 24)]
    assert silicon._windows(0, 16, 24) == [(0, 16), (16, 24)]
    assert silicon._windows(8, 17, 24) == [(0, 8), (8, 24)]
