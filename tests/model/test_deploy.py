"""Deployed graph against the module, spike for spike; host layers against brute-force counts."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
import torch

from ashneuro.errors import GraphError
from ashneuro.exchange import HostLayer
from ashneuro.model.deploy import deployed_graph, host_layers
from ashneuro.program.wiring import node_message
from ashneuro.spiking.contract import read_contract
from ashneuro.spiking.message import Message
from tests import reference
from tests.model.tiny import images, model, with_reset


@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_folded_graph_spikes_as_the_module(reset: str) -> None:
    net = with_reset(model().double(), reset)
    x = images(12).double()
    with torch.no_grad():
        currents = net.currents(x).numpy()
        layers = net.encode(x).layers
    outputs = reference.run_graph(deployed_graph(net), np.broadcast_to(currents, (3, *currents.shape)), dt=1e-3)
    for name, spikes in layers.items():
        assert 0.02 < spikes.mean() < 0.9, name
        np.testing.assert_array_equal(outputs[name], spikes.numpy(), err_msg=name)
    np.testing.assert_array_equal(outputs["output"], layers["semantic.lif"].numpy())


def test_message_is_in_the_metadata_of_its_node(tmp_path: Path) -> None:
    net = model(neuron="graded", message_bits=6, message_limit=0.9, learn_threshold=True)
    nir.write(tmp_path / "network.nir", deployed_graph(net))
    nodes = nir.read(tmp_path / "network.nir").nodes
    thresholds = set()
    for name, neurons, _ in net.abstract.populations():
        assert node_message(nodes[name]) == neurons.message == Message("graded", 6, 0.9)
        (threshold,) = np.unique(nodes[name].threshold)
        assert threshold == neurons.v_threshold.item()
        thresholds.add(threshold)
    assert len(thresholds) == 8  # perturbed, one per population


def test_graph_is_a_valid_file_with_contract(tmp_path: Path) -> None:
    graph = deployed_graph(model())
    nir.write(tmp_path / "network.nir", graph)
    read = nir.read(tmp_path / "network.nir")
    assert read.check_types()
    assert set(read.nodes) == set(graph.nodes) and sorted(read.edges) == sorted(graph.edges)
    contract = read_contract(read.metadata).contract
    assert (contract.dt_s, contract.timesteps, contract.input_coding) == (1e-3, 3, "constant-current")
    assert {type(node).__name__ for node in read.nodes.values()} == {
        "Input",
        "LIF",
        "Conv2d",
        "Scale",
        "Flatten",
        "Affine",
        "Output",
    }
    np.testing.assert_array_equal(read.nodes["block1.lif2"].tau, np.full((6, 3, 3), 2e-3))
    assert read.nodes["block1.lif2"].tau.dtype == np.float64
    assert read.nodes["block2.conv3"].weight.dtype == np.float32
    assert sorted(source for source, target in read.edges if target == "block2.lif3") == ["block2.conv3", "block2.skip"]
    assert [target for source, target in read.edges if source == "input"] == ["entry.lif"]


def test_reset_by_subtraction_is_in_the_metadata_of_its_node(tmp_path: Path) -> None:
    net = model()
    net.abstract.blocks[0].lif2.reset = "subtract"
    nir.write(tmp_path / "network.nir", deployed_graph(net))
    nodes = nir.read(tmp_path / "network.nir").nodes
    stated = {name: read_contract(node.metadata).contract.reset for name, node in nodes.items()}
    assert [name for name, reset in stated.items() if reset == "subtract"] == ["block1.lif2"]


@pytest.mark.parametrize("kind", ["none", "relu", "quantised-relu"])
def test_deploying_a_control_raises(kind: str) -> None:
    with pytest.raises(GraphError, match=kind) as error:
        deployed_graph(model(kind))
    assert "spiking" in error.value.do


def test_host_layer_counts_equal_loops() -> None:
    net = model()
    rows = {row.name: row for row in host_layers(net)}
    taps = sum(
        0 <= 2 * i + k - 1 < 9 and 0 <= 2 * j + m - 1 < 9
        for i in range(5)
        for j in range(5)
        for k in range(3)
        for m in range(3)
    )
    assert taps < 25 * 9
    assert rows["concrete.conv1"] == HostLayer(
        "concrete.conv1",
        part="image",
        dense_macs=taps * 3 * 5,
        parameters=5 * 3 * 9 + 5,
        inputs=3 * 81,
        outputs=5 * 25,
    )
    assert rows["concrete.project"].dense_macs == 25 * 5 * 6
    assert (rows["w_in"].dense_macs, rows["w_in"].outputs) == (25 * 6 * 4, int(np.prod(net.in_shape)))
    assert [rows[name].dense_macs for name in ("readout.omega", "readout", "fusion", "project")] == [
        3 * 9,
        9 * 6,
        6,
        6 * 10,
    ]
    assert [row.name for row in rows.values() if row.part == "text"] == ["text"]


def test_read_out_at_positions_is_counted_at_each() -> None:
    rows = {row.name: row for row in host_layers(model(positions=True))}  # 2 × 2 positions of 9 units
    assert [rows[name].dense_macs for name in ("readout.omega", "readout", "fusion", "project")] == [
        3 * 4 * 9,
        4 * 9 * 6,
        4 * 6,
        6 * 10,
    ]
    assert (rows["readout"].parameters, rows["readout"].inputs, rows["readout"].outputs) == (9 * 6, 36, 24)


@pytest.mark.parametrize("layers", [0, 1])
def test_text_macs_equal_torch(layers: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    net = model(layers=layers)
    (row,) = (row for row in host_layers(net) if row.part == "text")
    net.text.train()  # in eval mode the layer is one fused call that the counter cannot look into
    with FlopCounterMode(display=False) as counter:
        net.text(torch.ones(1, net.max_words, dtype=torch.long))
    weighted_sum = net.max_words * net.config.text.width
    assert row.dense_macs == counter.get_total_flops() // 2 + weighted_sum


def test_host_layers_without_an_abstract_encoder() -> None:
    assert [row.name for row in host_layers(model("none"))] == [
        "concrete.conv1",
        "concrete.project",
        "project",
        "text",
    ]
