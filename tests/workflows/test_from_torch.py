"""From a module in memory to a bundle: the module's own spikes lead the certificate."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import ashneuro
from ashneuro.errors import DataError, GraphError, ProofError
from ashneuro.program.certificate import Certificate
from ashneuro.reporting import tables
from ashneuro.simulation.proof.source import compare_source
from ashneuro.spiking.lif import LIF
from tests.frameworks.modules import spikes, strong
from tests.program.test_certificate import CERTIFICATE


@pytest.fixture
def module():
    torch.manual_seed(0)
    return strong(nn.Sequential(nn.Linear(6, 8), LIF(4e-3, 0.3, dt=1e-3), nn.Linear(8, 4), LIF(4e-3, 0.3, dt=1e-3)), 4)


def first_row(certificate):
    return [str(getattr(cell, "text", cell)) for cell in tables.proof.certificate(certificate)[0].rows[0]]


def test_certificate_begins_with_the_module(module, tmp_path):
    network = ashneuro.from_torch(module, spikes(6))
    exported = ashneuro.export(network, tmp_path / "b", lava=None)
    assert exported.samples_from.endswith("the sample that the module was read with")
    row = first_row(exported.certificate)
    assert row[0].startswith("Sequential (ashneuro ") and row[0].endswith("– graph, float64")
    assert row[1:4] == ["equal", "900", "0"]
    stored = json.loads((tmp_path / "b" / "certificate.json").read_text())
    assert list(stored).index("source") < list(stored).index("comparisons")
    assert [found["name"] for found in stored["source"]["populations"]] == ["1", "3"]
    assert Certificate.from_json(stored).source == network.source
    # The bundle proves itself without the module: its line is the export's.
    again = ashneuro.verify(exported.bundle, lava=None)
    assert again.source == network.source
    frame = exported.certificate.to_dataframe()
    assert list(frame.left[:2]) == ["Sequential", "Sequential"]


def test_certificate_of_a_graph_says_that_it_starts_there(module, tmp_path):
    network = ashneuro.from_torch(module, spikes(6))
    graph = ashneuro.export(network.graph, tmp_path / "b", inputs=spikes(6).numpy(), lava=None).certificate
    assert graph.source is None and "Sequential" not in first_row(graph)[0]
    assert any("starts from the graph" in sentence for sentence in graph.not_compared)
    with_module = ashneuro.export(network, tmp_path / "b", lava=None).certificate
    assert not any("starts from the graph" in sentence for sentence in with_module.not_compared)


def test_graph_that_spikes_otherwise_is_found(module):
    """The first difference is the one that a changed weight causes."""
    network = ashneuro.from_torch(module, spikes(6))
    record = ashneuro.simulate(network)
    sent = {name: record.layers[name].raster for name in ("1", "3")}
    (same, _) = compare_source(network.graph, network.contract, network.sample, sent)
    assert same.mismatches == 0 and same.first is None
    sent["1"] = sent["1"].copy()
    sent["1"][7, 1, 5] ^= 1
    (changed, other) = compare_source(network.graph, network.contract, network.sample, sent)
    assert (changed.mismatches, changed.first, other.mismatches) == (1, (1, 7, 5), 0)
    # What only float32 computes otherwise is a tie.
    exact = {name: record.layers[name].raster for name in sent}
    (tied, _) = compare_source(network.graph, network.contract, network.sample, sent, exact)
    assert (tied.mismatches, tied.ties, tied.first) == (0, 1, None)


def test_certificate_with_a_mismatch_fails(module):
    source = ashneuro.from_torch(module, spikes(6)).source
    wrong = dataclasses.replace(source.populations[0], mismatches=3, first=(0, 1, 2))
    passed = dataclasses.replace(CERTIFICATE, comparisons=(), source=source)
    failed = dataclasses.replace(passed, source=dataclasses.replace(source, populations=(wrong,)))
    assert passed.passed and not passed.failed and failed.failed and not failed.passed
    assert "1: sample 0, step 1, neuron 2" in first_row(failed)[4]


def test_neuron_that_is_not_its_class_is_refused_with_the_place(module):
    """A subclass that scales its own spikes' input is found by the comparison, not by its name."""

    class Faster(LIF):
        def neurons(self):
            return dataclasses.replace(super().neurons(), decay=super().neurons().decay * 1.5)

    module[1] = Faster(4e-3, 0.3, dt=1e-3)
    with pytest.raises(ProofError, match="does not spike as the module does") as error:
        ashneuro.from_torch(module, spikes(6))
    assert "first in 1, sample 0, step" in error.value.why


def test_something_else_than_a_module_or_a_sample_is_an_error(module):
    for other in ("model.pt", module.state_dict()):
        with pytest.raises(GraphError, match="is no torch module"):
            ashneuro.from_torch(other, spikes(6))
    for sample in (None, "x.npy", [[["a"]]]):
        with pytest.raises(DataError, match="the sample cannot be read"):
            ashneuro.from_torch(module, sample)
    assert ashneuro.from_torch(module, spikes(6).tolist()).sample.shape == spikes(6).shape


def test_sample_is_the_default_input_of_report_and_check(module):
    module[0].weight.data *= 2
    network = ashneuro.from_torch(module, 3 * torch.rand(20, 2, 6))
    report = ashneuro.report(network, profiles=["cmos45"])
    assert report.about["inputs"] == "the sample that the module was read with"
    assert report.about["spikes"].endswith("2 samples of 20 steps")
    assert "known_peak" not in {finding.rule for finding in ashneuro.check(network, "lava")}


def test_sample_is_the_default_input(module):
    network = ashneuro.from_torch(module, spikes(6))
    record = ashneuro.simulate(network)
    assert record.layers["3"].events == network.source.populations[1].spikes
    assert ashneuro.simulate(network, spikes(6, seed=1).numpy()).timesteps == 25
