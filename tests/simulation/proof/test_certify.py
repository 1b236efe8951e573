from dataclasses import replace
from itertools import pairwise

import nir
import numpy as np
import pytest

from ashneuro.program.bundle import Reference, write_bundle
from ashneuro.program.certificate import Certificate, Computation
from ashneuro.program.lower import lower
from ashneuro.program.quantise import quantise
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.compare import compare_records
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.describe import own_process
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.proof import certify as module
from ashneuro.simulation.proof.certify import certify, verify
from ashneuro.spiking.contract import Contract
from tests.simulation import graphs

CONTRACT = Contract(dt_s=graphs.DT, timesteps=6)


@pytest.fixture(scope="module")
def export():
    graph = graphs.deployable(1)
    x = np.random.default_rng(0).normal(0.4, 0.8, (6, 6, 4, 6, 6))
    program = lower(graph, CONTRACT)
    return graph, {"float": program, "integer": calibrate(program, x).program}, x


@pytest.fixture(scope="module")
def bundle(export, tmp_path_factory):
    graph, programs, x = export
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    answers = certify(graph, CONTRACT, programs, x, lava=False).reference
    return write_bundle(folder, graph, CONTRACT, programs["float"], programs["integer"], answers)


@pytest.fixture(scope="module")
def without_lava(export):
    graph, programs, x = export
    return certify(graph, CONTRACT, programs, x, lava=False).certificate


@pytest.mark.parametrize("steps", [0, 1])
def test_delay_before_output_is_compared(steps):
    neuron = nir.LIF(*(np.full(3, value) for value in (4e-3, 2.0, 0.0, 0.5, 0.0)))
    nodes = {
        "input": nir.Input(np.array([3])),
        "lif": neuron,
        "late": nir.Delay(np.full(3, steps * graphs.DT)),
        "output": nir.Output(None),
    }
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)
    x = np.random.default_rng(2).normal(0.4, 0.8, (6, 4, 3))
    proof = certify(graph, CONTRACT, {"float": lower(graph, CONTRACT)}, x, lava=False).certificate
    layers = {layer.layer: layer for layer in proof.comparison(Computation.GRAPH, Computation.FLOAT).layers}
    assert set(layers) == {"lif", "output"} and layers["output"].compared == 6 * 4 * 3
    assert proof.comparison(Computation.GRAPH, Computation.FLOAT).status == "equal"


def test_certificate_without_lava_neither_passes_nor_fails(without_lava):
    assert not without_lava.passed
    assert not without_lava.failed
    assert without_lava.comparison(Computation.GRAPH, Computation.FLOAT).status == "equal"
    assert without_lava.comparison(Computation.INTEGER, Computation.LAVA_INTEGER).status == "not run"
    assert any("Lava, fixed_pt: it was not asked for" in sentence for sentence in without_lava.not_compared)


def test_compared_values_are_counted(without_lava, export):
    programs = export[1]
    comparison = without_lava.comparison(Computation.GRAPH, Computation.FLOAT)
    assert [layer.layer for layer in comparison.layers] == [layer.name for layer in programs["float"].layers]
    assert comparison.compared == 36 * sum(layer.size for layer in programs["float"].layers)
    assert all(layer.spikes > 0 for layer in comparison.layers)


def test_silent_layers_are_named(without_lava, export):
    """Behind them zeros were compared: any weights would have passed."""
    graph, programs, x = export
    assert not any("spiked" in sentence for sentence in without_lava.not_compared)
    silent = certify(graph, CONTRACT, programs, x * 1e-3, lava=False).certificate
    quiet = [
        layer.layer
        for layer in silent.comparison(Computation.GRAPH, Computation.FLOAT).layers
        if layer.largest is None and not layer.spikes
    ]
    assert quiet and any(
        sentence.startswith(f"what spikes of {', '.join(quiet)} would do") for sentence in silent.not_compared
    )


def test_float_integer_difference_is_reported_but_not_required(without_lava):
    comparison = without_lava.comparison(Computation.GRAPH, Computation.INTEGER)
    assert comparison.status == "different" and not comparison.required
    assert without_lava.comparison(Computation.FLOAT, Computation.FLOAT32).required is False


def test_first_mismatch(export):
    """One more spike: sample 2, step 4, neuron 5 of the first layer, and one later."""
    graph, _, x = export
    shifted = np.array(x)
    shifted[4, 2].flat[5] = 50.0 if shifted[4, 2].flat[5] < 1 else -50.0
    shifted[5, 4].flat[3] = 50.0 if shifted[5, 4].flat[3] < 1 else -50.0
    left = run_graph(graph, CONTRACT, x, rasters=["lif0"])
    right = run_graph(graph, CONTRACT, shifted, rasters=["lif0"])
    first = compare_records(*(replace(record, layers={"lif0": record.layers["lif0"]}) for record in (left, right)))[0]
    assert first.first == (2, 4, 5)
    assert first.mismatches >= 2


def test_nan_differs_from_everything(export):
    record = run_graph(export[0], CONTRACT, export[2], rasters=["lif0"])
    values = np.zeros((6, 6, 3))
    values[2, 4, 1] = np.nan
    for left, right in ((values, np.zeros_like(values)), (np.zeros_like(values), values), (values, values)):
        sides = (replace(record.layers["lif0"], sent=side, binary=False) for side in (left, right))
        (found,) = compare_records(*(replace(record, layers={"out": side}) for side in sides))
        assert (found.mismatches, found.first) == (1, (4, 2, 1)) and np.isfinite(found.largest)


def test_wrong_program_fails(export):
    graph, programs, x = export
    layer = programs["float"].layers[1]
    wrong = replace(layer, neuron=replace(layer.neuron, v_threshold=layer.neuron.v_threshold * 1.1))
    layers = (programs["float"].layers[0], wrong, *programs["float"].layers[2:])
    program = replace(programs["float"], layers=layers)
    found = certify(graph, CONTRACT, {"float": program}, x, lava=False).certificate
    assert found.failed and not found.passed
    assert found.comparison(Computation.GRAPH, Computation.FLOAT).layers[1].mismatches > 0
    assert found.comparison(Computation.GRAPH, Computation.FLOAT).layers[0].mismatches == 0
    assert found.comparison(Computation.GRAPH, Computation.INTEGER).reason == "the network has no integer program"


def test_missing_lava_is_the_reason(export, monkeypatch, tmp_path):
    graph, programs, x = export
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path))
    monkeypatch.delenv("ASHNEURO_LAVA_PYTHON", raising=False)
    found = certify(graph, CONTRACT, programs, x).certificate
    assert (
        found.comparison(Computation.GRAPH, Computation.LAVA_FLOAT).reason
        == "Lava is not installed (ashneuro doctor --setup lava)"
    )
    assert not found.passed and not found.failed


@pytest.mark.parametrize("recorded", [False, True])
def test_each_computation_runs_once(export, bundle, monkeypatch, recorded):
    graph, programs, x = export
    runs = []

    def count(name):
        original = getattr(module, name)

        def counting(what, *args, **kwargs):
            runs.append((name, getattr(what, "precision", ""), kwargs.get("float_type", "")))
            return original(what, *args, **kwargs)

        monkeypatch.setattr(module, name, counting)

    count("run_graph")
    count("run_program")
    if recorded:
        verify(bundle, lava=False)
    else:
        certify(graph, CONTRACT, programs, x, lava=False)
    assert runs == [
        ("run_graph", "", ""),
        ("run_program", "float", ""),
        ("run_program", "float", "float32"),
        ("run_program", "integer", ""),
    ]


def test_reference_has_computed_answers(export):
    graph, programs, x = export
    found = certify(graph, CONTRACT, programs, x, lava=False).reference
    names = [layer.name for layer in programs["float"].layers]
    answers = run_graph(graph, CONTRACT, x, rasters=names), run_program(programs["integer"], x, rasters=names)
    assert list(found.inputs) == ["input"] and np.array_equal(found.inputs["input"], x)
    for kept, record in zip((found.spikes, found.integer), answers, strict=True):
        assert set(kept) == set(names)
        assert all(np.array_equal(kept[name], record.layers[name].raster) for name in names)


def test_bundle_verifies_itself(bundle):
    found = verify(bundle, lava=False)
    assert found.comparison(Computation.RECORDED, Computation.GRAPH).status == "equal"
    assert found.samples == 6


def test_changed_reference_is_detected(bundle):
    spikes = {name: np.array(raster) for name, raster in bundle.reference.spikes.items()}
    spikes["lif2"][3, 1].flat[4] ^= 1
    changed = replace(bundle, reference=replace(bundle.reference, spikes=spikes))
    found = verify(changed, lava=False)
    (layer,) = [layer for layer in found.comparison(Computation.RECORDED, Computation.GRAPH).layers if layer.mismatches]
    assert (layer.layer, layer.first, found.failed) == ("lif2", (1, 3, 4), True)
    del spikes["lif2"]
    found = verify(changed, lava=False)
    (check,) = [check for check in found.checks if check.status == "different"]
    assert found.failed and check.detail == "it has no answers of lif2 by the graph, float64"


def test_changed_integer_answer_is_detected(bundle, export):
    inputs, spikes = bundle.reference.inputs, bundle.reference.spikes
    answers = dict(certify(export[0], CONTRACT, export[1], inputs, lava=False).reference.integer)
    found = verify(replace(bundle, reference=Reference(inputs, spikes, answers)), lava=False)
    assert found.comparison(Computation.RECORDED, Computation.INTEGER).status == "equal" and not found.failed
    answers["lif2"][3, 1].flat[4] ^= 1
    found = verify(replace(bundle, reference=Reference(inputs, spikes, answers)), lava=False)
    assert found.comparison(Computation.RECORDED, Computation.INTEGER).mismatches == 1 and found.failed


@pytest.mark.lava
def test_bundle_passes_with_lava(bundle):
    told = []
    found = verify(bundle, progress=lambda done, total: told.append((done, total)))
    assert found.passed
    assert found.comparison(Computation.INTEGER, Computation.LAVA_INTEGER).compared == 36 * 311
    assert found.versions["lava worker: lava-nc"] == "0.10.0"
    assert told == [(k, 6) for k in range(1, 7)]


@pytest.mark.lava
def test_difference_in_lava_fails(export, monkeypatch):
    """Lava is given another threshold than the emulator."""
    graph, programs, x = export
    original = module.Lava.run

    def other(self, program, *args, **kwargs):
        if program.precision == "integer":
            layer = program.layers[2]
            wrong = replace(layer, neuron=replace(layer.neuron, v_threshold=layer.neuron.v_threshold + 3))
            program = replace(program, layers=(*program.layers[:2], wrong, *program.layers[3:]))
        return original(self, program, *args, **kwargs)

    monkeypatch.setattr(module.Lava, "run", other)
    found = certify(graph, CONTRACT, programs, x).certificate
    assert found.failed
    wrong = [
        layer for layer in found.comparison(Computation.INTEGER, Computation.LAVA_INTEGER).layers if layer.mismatches
    ]
    assert wrong[0].layer == "lif2" and wrong[0].first is not None


@pytest.mark.lava
@pytest.mark.parametrize("comparison", ["strict", "inclusive"])
@pytest.mark.parametrize("reset_delay", [0, 1])
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_every_firing_is_proved_in_lava(reset, reset_delay, comparison):
    contract = replace(CONTRACT, reset=reset, reset_delay=reset_delay, comparison=comparison)
    rng = np.random.default_rng(3)
    graph = graphs.deployable(1)
    x = rng.normal(0.4, 0.8, (6, 5, 4, 6, 6))
    program = lower(graph, contract)
    programs = {"float": program, "integer": calibrate(program, x).program}
    certificate = certify(graph, contract, programs, x).certificate
    assert certificate.passed, certificate
    spiking = tuple(layer.name for layer in program.layers if layer.neuron.spiking)
    own = {} if (reset, reset_delay, comparison) == ("value", 0, "strict") else dict.fromkeys(spiking, "Fired")
    assert certificate.own_processes == own
    assert any("process Fired" in sentence for sentence in certificate.not_compared) == bool(own)
    assert Certificate.from_json(certificate.to_json()) == certificate


@pytest.mark.lava
def test_ties_on_the_grid_and_decays_per_neuron_pass():
    """Cases D5 and D10: round numbers, so that v ties with thresholds, and one τ per neuron."""
    rng = np.random.default_rng(0)
    dv = rng.integers(300, 900, 24)
    one = np.ones(24)
    values = {"tau_syn": 1e-3 * one, "v_leak": 0 * one, "v_reset": 0 * one, "w_in": one, "v_threshold": 150 / 512 * one}
    nodes = {
        "input": nir.Input(np.array([32])),
        "fc": nir.Linear(2 * rng.integers(-89, 97, (24, 32)) / 512),
        "grid": nir.CubaLIF(**values, tau_mem=4.096 / 415 * one, r=4096 / 415 * one),
        "between": nir.Linear(2 * rng.integers(-89, 97, (24, 24)) / 512),
        "each": nir.CubaLIF(**values, tau_mem=4.096 / dv, r=4096 / dv),
        "output": nir.Output(np.array([24])),
    }
    graph = nir.NIRGraph(nodes, list(pairwise(nodes)))
    contract = Contract(input_coding="spikes")
    x = rng.random((40, 6, 32)) < 0.3
    program = lower(graph, contract)
    calibration = calibrate(program, x)
    assert [layer.scale for layer in calibration.program.layers] == [512, 512]
    certificate = certify(graph, contract, {"float": program, "integer": calibration.program}, x).certificate
    assert certificate.passed, certificate
    assert certificate.own_processes == {}


def graded_graph(threshold, **metadata):
    """Return convolutions between graded messages, in front of a LIF and a graded output."""
    rng = np.random.default_rng(5)

    def sends(shape, value):
        node = nir.Threshold(np.full(shape, value))
        node.metadata = {"ashneuro.message": "graded", **{f"ashneuro.{name}": x for name, x in metadata.items()}}
        return node

    one = np.ones((4, 6, 6))
    nodes = {
        "first": sends((4, 6, 6), threshold),
        "conv": nir.Conv2d((6, 6), rng.normal(0.05, 0.3, (5, 4, 3, 3)), 1, 1, 1, 1, np.zeros(5)),
        "second": sends((5, 6, 6), threshold),
        "back": nir.Conv2d((6, 6), rng.normal(0.05, 0.3, (4, 5, 3, 3)), 1, 1, 1, 1, rng.normal(0, 0.1, 4)),
        "lif": nir.LIF(tau=2e-3 * one, r=one, v_leak=0 * one, v_threshold=0.3 * one, v_reset=0 * one),
        "flat": nir.Flatten({"input": np.array([4, 6, 6])}, start_dim=0, end_dim=-1),
        "fc": graphs.affine(rng, 5, 144),
        "last": sends((5,), threshold),
    }
    ends = graphs.ends((4, 6, 6), (5,))
    return graphs.graph({**ends, **nodes}, "input first conv second back lif flat fc last output", "first lif")


@pytest.mark.lava
@pytest.mark.parametrize("comparison", ["strict", "inclusive"])
@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_graded_messages_are_proved_in_lava(threshold, comparison, tmp_path):
    contract = replace(CONTRACT, comparison=comparison)
    graph = graded_graph(threshold, message_bits=6, message_limit=2.0)
    x = np.random.default_rng(3).normal(0.4, 0.8, (6, 5, 4, 6, 6))
    program = lower(graph, contract)
    programs = {"float": program, "integer": calibrate(program, x).program}
    proof = certify(graph, contract, programs, x)
    certificate = proof.certificate
    assert certificate.passed, certificate
    graded = ("first", "second", "last")
    assert set(certificate.own_processes) - set(graded) == ({"lif"} if comparison == "inclusive" else set())
    assert set(graded) <= set(certificate.own_processes)
    assert "process Graded" in " ".join(certificate.not_compared)
    for pair in certificate.required:
        layers = {layer.layer: layer for layer in pair.layers}
        assert all(layers[name].spikes > 50 for name in graded)
    # Payloads are quantised, and saturate: in integers these are other values than in floats.
    sent = proof.reference.integer["first"]
    assert sent.max() < proof.reference.spikes["first"].max() + 0.05
    assert len(np.unique(sent)) <= 2**6
    made = write_bundle(tmp_path / "bundle", graph, contract, program, programs["integer"], proof.reference)
    assert verify(made).passed


def counts_graph(limit):
    """Return a convolution and a dense layer between neurons that send spike counts."""
    rng = np.random.default_rng(5)

    def sends(kind, shape, threshold):
        one = np.ones(shape)
        rates = {"IF": {}, "LIF": {"tau": 3e-3 * one}, "CubaLIF": {"tau_syn": 2e-3 * one, "tau_mem": 3e-3 * one}}[kind]
        leak = {} if kind == "IF" else {"v_leak": 0 * one}
        node = getattr(nir, kind)(**rates, **leak, r=one, v_threshold=threshold * one, v_reset=0 * one)
        node.metadata = {"ashneuro.message": "count"} | ({} if limit is None else {"ashneuro.message_limit": limit})
        return node

    nodes = {
        "first": sends("LIF", (4, 6, 6), 0.15),
        "conv": nir.Conv2d((6, 6), rng.normal(0.05, 0.2, (5, 4, 3, 3)), 1, 1, 1, 1, rng.normal(0, 0.1, 5)),
        "second": sends("CubaLIF", (5, 6, 6), 0.15),
        "flat": nir.Flatten({"input": np.array([5, 6, 6])}, start_dim=0, end_dim=-1),
        "fc": graphs.affine(rng, 5, 180),
        "last": sends("IF", (5,), 0.7),
    }
    return graphs.graph({**graphs.ends((4, 6, 6), (5,)), **nodes}, "input first conv second flat fc last output")


@pytest.mark.lava
@pytest.mark.parametrize("comparison, limit", [("strict", 3), ("inclusive", None)])
def test_spike_counts_are_proved_in_lava(comparison, limit, tmp_path):
    contract = replace(CONTRACT, comparison=comparison, reset="subtract")
    graph = counts_graph(limit)
    x = np.random.default_rng(3).normal(0.4, 0.8, (6, 5, 4, 6, 6))
    program = lower(graph, contract)
    programs = {"float": program, "integer": calibrate(program, x).program}
    proof = certify(graph, contract, programs, x)
    certificate = proof.certificate
    assert certificate.passed, certificate
    assert set(certificate.own_processes.values()) == {"Counted"} and len(certificate.own_processes) == 3
    assert "process Counted" in " ".join(certificate.not_compared)
    for sent in (proof.reference.spikes, proof.reference.integer):
        assert all((sent[name] > 1).mean() > 0.01 for name in certificate.own_processes)
        assert limit is None or max(values.max() for values in sent.values()) == limit
    made = write_bundle(tmp_path / "bundle", graph, contract, program, programs["integer"], proof.reference)
    assert verify(made).passed


@pytest.mark.lava
def test_unlimited_graded_messages_run_in_lavas_own_process():
    """Without a bias or a limit, Lava's GradedReluVec computes the integers."""
    graph = graded_graph(0.25, message_bits=12)
    x = np.random.default_rng(3).normal(0.4, 0.8, (6, 5, 4, 6, 6))
    program = lower(graph, CONTRACT)
    integer = quantise(program, input_peak={"input": float(np.abs(x).max())}).program
    own = [layer.name for layer in integer.layers if own_process(integer, layer)]
    assert own == ["last"]  # it has a bias
    with Lava() as lava:
        found = lava.run(integer, x, rasters=[layer.name for layer in integer.layers])
    expected = run_program(integer, x, rasters=[layer.name for layer in integer.layers])
    for name, activity in expected.layers.items():
        np.testing.assert_array_equal(found.layers[name].raster, activity.raster, err_msg=name)
        np.testing.assert_array_equal(found.layers[name].counts, activity.counts, err_msg=name)
        assert activity.events > 50, name
