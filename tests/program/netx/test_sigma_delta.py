"""Sigma-delta networks of lava-dl: Lava's fixed-point models as netx sets them up are equal."""

import numpy as np
import pytest

from ashneuro.cost.workload import count, count_steps
from ashneuro.errors import GraphError
from ashneuro.program.netx.read import netx_findings, read_netx, reading_of
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.proof.certify import certify
from ashneuro.simulation.proof.recordings import fetch_recordings, load_recording
from tests.program.netx.test_random import PLANAR, late_sums, synapses
from tests.program.netx.test_read import changed, even, write

STEPS, SAMPLES = 10, 3
SDNN = {"type": "SDNN", "activation": "relu"}


class Lavas:
    """Lava's Delta, SigmaDelta and Sigma in fixed point, for one array of neurons."""

    def __init__(self, threshold, bias=0):
        self.threshold, self.bias = threshold << 12, np.asarray(bias, int) << 12
        self.sigma = self.act = self.residue = 0

    def delta(self, act):
        change = act - self.act + self.residue
        sent = np.where(np.abs(change) >= self.threshold, change, 0)
        self.residue, self.act = change - sent, act
        return sent >> 6

    def sum(self, a):
        self.sigma = self.sigma + a
        return self.sigma

    def sigma_delta(self, a):
        return self.delta(np.maximum(self.sum(a) + self.bias, 0))


def draw(rng):
    """Return (layers, input, messages or sums by layer, each (B, T, …)) of a random network."""
    shape = (int(rng.integers(1, 4)), int(rng.integers(4, 7)), int(rng.integers(4, 7)))
    weight, offset = float(rng.integers(20, 80)), float(rng.integers(-5, 6))
    x = np.cumsum(rng.normal(0, 0.4, (SAMPLES, STEPS, *shape)) * (rng.random((SAMPLES, STEPS, *shape)) < 0.4), axis=1)
    given = {**SDNN, "vThMant": int(rng.integers(0, 12))}
    layers = [{"type": "input", "shape": shape, "weight": weight, "bias": offset, "neuron": given}]
    neurons = Lavas(given["vThMant"])
    entered = (np.rint(x * weight) + offset).astype(int) << 12
    wanted = [np.stack([neurons.delta(entered[:, t]) for t in range(STEPS)], axis=1)]
    kinds = [*rng.choice([kind for kind in PLANAR if kind != "unpool"], rng.integers(0, 3)), "dense", "dense"]
    for number, kind in enumerate(map(str, kinds)):
        last = number == len(kinds) - 1
        if kind == "dense" and wanted[-1].ndim == 5:
            layers.append({"type": "flatten", "shape": [int(np.prod(wanted[-1].shape[2:])), 1, 1]})
        fields = {"type": kind, **synapses(rng, kind, wanted[-1].shape[2:])}
        if rng.random() < 0.3:
            fields["delay"] = float(rng.integers(1, 3))
        a = late_sums(fields, wanted[-1])
        fields["shape"] = list(a.shape[2:])
        neuron = {**SDNN, "vThMant": int(rng.integers(0, 40))} | ({"sigma_output": True} if last else {})
        bias = 0 if last else even(rng, a.shape[2], size=30)
        layers.append({**fields, "neuron": neuron} | ({} if last else {"bias": bias}))
        neurons = Lavas(neuron["vThMant"], np.reshape(bias, (-1, *[1] * (a.ndim - 3))))
        step = neurons.sum if last else neurons.sigma_delta
        wanted.append(np.stack([step(a[:, t]) for t in range(STEPS)], axis=1))
    return layers, x, wanted


def compare(path, seed, lava=None):
    """Compare a random network with the emulator, and with Lava; return the shares of messages."""
    layers, x, wanted = draw(np.random.default_rng(seed))
    program = read_netx(write(path / f"{seed}.net", layers, tSample=STEPS))
    names = [layer.name for layer in program.layers]
    records = [run_program(program, x.swapaxes(0, 1), rasters=names, backend=each) for each in ("numpy", "torch")]
    if lava is not None:
        records.append(lava.run(program, x.swapaxes(0, 1), rasters=names))
    for record in records:
        for layer, values in zip(program.layers, wanted, strict=True):
            # In units of training: 64 for x and for each weight, 2^12 for bits behind the point.
            unit = 2.0**18 if not layer.neuron.spiking else 2.0**12
            got = record.layers[layer.name].raster * unit
            np.testing.assert_array_equal(got, values.swapaxes(0, 1), err_msg=f"{seed}: {layer.name}")
    return [float((values != 0).mean()) for values in wanted]


def test_emulator_matches_definition(tmp_path):
    shares = [share for seed in range(30) for share in compare(tmp_path, seed)]
    assert np.mean([0.02 < share < 0.98 for share in shares]) > 0.7


@pytest.mark.lava
def test_lava_matches_definition(tmp_path):
    with Lava() as lava:
        for seed in range(100, 106):
            compare(tmp_path, seed, lava)


@pytest.mark.slow
@pytest.mark.lava
def test_lava_matches_definition_of_many(tmp_path):
    with Lava() as lava:
        for seed in range(1000, 1040):
            compare(tmp_path, seed, lava)


def network():
    rng = np.random.default_rng(0)
    return [
        {"type": "input", "shape": [4], "neuron": {**SDNN, "vThMant": 2}},
        {"type": "dense", "weight": even(rng, 6, 4), "bias": even(rng, 6), "neuron": {**SDNN, "vThMant": 3}},
        {"type": "dense", "weight": even(rng, 2, 6), "neuron": {**SDNN, "vThMant": 3, "sigma_output": True}},
    ]


def test_numbers_are_those_of_the_file(tmp_path):
    layers = network()
    program = read_netx(write(tmp_path / "net.net", layers))
    entry, hidden, end = program.layers
    assert (entry.neuron.message.shift, hidden.neuron.message.shift) == (-6, 6)
    assert (int(hidden.neuron.v_threshold), hidden.neuron.bias_exp) == (3, 12)
    np.testing.assert_array_equal(hidden.neuron.bias, layers[1]["bias"])
    synapse = hidden.connections[0].synapse
    np.testing.assert_array_equal(synapse.weight * 2.0 ** hidden.connections[0].weight_exp, layers[1]["weight"])
    assert (entry.scale, hidden.scale, end.scale) == (64, 2**18, 2**18)
    assert entry.neuron.spiking and hidden.neuron.changes and not end.neuron.spiking
    assert reading_of(program).comparison == "strict"  # nothing here is compared with v
    assert {finding.rule for finding in netx_findings(tmp_path / "net.net")} == {"read_outs"}


@pytest.mark.parametrize(
    ("index", "fields", "says"),
    [
        (1, {"neuron_activation": "sigmoid"}, "dense1.*activation = sigmoid"),
        (1, {"neuron_weight_exp": 2}, "dense1.*neuron/weight_exp = 2"),
        (1, {"neuron_messageBits": 24}, "dense1.*neuron/messageBits = 24"),
        (1, {"neuron_sigma_output": True}, "dense1.*layers follow it"),
        (2, {"bias": np.ones(2)}, "dense2.*has a bias"),
        (1, {"neuron_vThMant": None}, "dense1.*missing: neuron/vThMant"),
    ],
)
def test_unfit_layers_are_refused(tmp_path, index, fields, says):
    with pytest.raises(GraphError, match=says):
        read_netx(write(tmp_path / "net.net", changed(network(), index, **fields)))


def test_published_networks_are_read():
    folder = fetch_recordings() / "gts/pilotnet_sdnn"
    program = read_netx(folder / "network.net")
    assert [layer.size for layer in program.layers] == [9900, 18816, 6048, 5632, 2560, 100, 50, 10, 1]
    assert [int(layer.neuron.v_threshold) for layer in program.layers[:-1]] == [0, 13, 0, 0, 0, 23, 1, 6]
    square = read_netx(folder / "square_network.net")
    assert square.layers[-1].shape == (64, 2, 2) and square.layers[-1].neuron.changes


def test_published_network_pays_for_what_moves():
    folder = fetch_recordings()
    program = read_netx(folder / "gts/pilotnet_sdnn/network.net")
    image = load_recording(folder, "gts/pilotnet_sdnn/input")[..., 0].T / 64
    still, moving = ([np.roll(image, t * speed, axis=2) for t in range(4)] for speed in (0, 1))
    products = []
    for frames in (still, moving):
        x = np.stack(frames)[:, None]
        record = run_program(program, x, rasters=[layer.name for layer in program.layers])
        rows = count_steps(program, record, {"input": x})
        products.append(sum(row.effective_macs for row in rows).tolist())
        dense = sum(row.dense_macs for row in count(program, record).layers) / 4
    assert products[0] == [products[0][0], 0, 0, 0] and products[1][0] == products[0][0]
    assert all(0 < moved < products[1][0] < dense / 2 for moved in products[1][1:])


@pytest.mark.lava
def test_bundle_of_a_network_is_proved(tmp_path):
    program = read_netx(write(tmp_path / "net.net", network(), tSample=STEPS))
    x = np.cumsum(np.random.default_rng(1).normal(0, 0.3, (STEPS, 5, 4)), axis=0)
    certificate = certify(None, None, {"integer": program}, x).certificate
    assert certificate.passed and set(certificate.own_processes.values()) == {"Changes"}
