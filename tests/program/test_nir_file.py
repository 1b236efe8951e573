import zipfile
from dataclasses import fields

import h5py
import nir
import numpy as np
import pytest

from ashneuro.errors import BundleError, GraphError
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import load_graph, read_graph, write_graph
from ashneuro.spiking.contract import Contract
from tests.program import networks as net


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def small(rng, **metadata):
    graph = net.chain((6,), net.affine(6, 9, rng), net.lif((9,), rng), net.affine(9, 4, rng), net.cuba((4,), rng))
    graph.metadata = metadata
    return graph


def write(graph, tmp_path, name="network.nir"):
    nir.write(tmp_path / name, graph)
    return tmp_path / name


def refused(path, *words, **overrides):
    with pytest.raises(GraphError) as caught:
        read_graph(path, **overrides)
    assert caught.value.what and caught.value.why and caught.value.do
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in:\n{caught.value}"


def test_file_and_graph_give_the_same_program(tmp_path, rng):
    graph = small(rng)
    read, contract = read_graph(write(graph, tmp_path))
    x = {"input": net.spikes(rng, 20, 2, (6,))}
    expected, got = (net.run_program(lower(g, contract.contract), x) for g in (graph, read))
    assert list(got) == ["n1", "n3"]
    for name, raster in expected.items():
        np.testing.assert_array_equal(got[name], raster)


def test_contract_is_read_from_metadata(tmp_path, rng):
    written = Contract(dt_s=5e-4, timesteps=7, if_convention="per-second", input_coding="spikes")
    _, read = read_graph(write(small(rng, **written.to_metadata()), tmp_path))
    assert read.contract == written and read.assumed == ()


def test_missing_contract_fields_are_assumed_or_overridden(tmp_path, rng):
    path = write(small(rng), tmp_path)
    _, read = read_graph(path)
    assert read.contract == Contract() and set(read.assumed) == {field.name for field in fields(Contract)} - {
        "timesteps",
        "message_limit",
    }
    _, read = read_graph(path, dt_s=2e-4, timesteps=3)
    assert (read.contract.dt_s, read.contract.timesteps) == (2e-4, 3) and "dt_s" not in read.assumed


def test_non_square_kernels_and_groups(tmp_path, rng):
    conv = net.conv2d(4, 6, (9, 8), rng, kernel=(5, 2), padding="same", groups=2)
    path = write(net.chain((4, 9, 8), conv, net.lif((6, 9, 8), rng), type_check=False), tmp_path)
    graph, _ = read_graph(path)
    assert graph.nodes["n0"].padding == "same"


def test_missing_and_foreign_files_are_refused(tmp_path):
    refused(tmp_path / "no.nir", "no.nir", "No such file")
    (tmp_path / "text.nir").write_text("hello")
    refused(tmp_path / "text.nir", "HDF5")
    with zipfile.ZipFile(tmp_path / "torch.nir", "w") as archive:
        archive.writestr("data.pkl", "x")
    refused(tmp_path / "torch.nir", "zip archive")
    with h5py.File(tmp_path / "other.nir", "w") as file:
        file["x"] = 1
    refused(tmp_path / "other.nir", "no group 'node'")


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_truncated_file_gives_graph_error(tmp_path, rng, keep):
    path = write(small(rng), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    refused(path)


@pytest.mark.parametrize("seed", range(40))
def test_corrupted_file_gives_graph_error_or_loads(tmp_path, rng, seed):
    path = write(small(rng), tmp_path)
    content = bytearray(path.read_bytes())
    noise = np.random.default_rng(seed)
    for position in noise.integers(0, len(content), 60):
        content[position] = noise.integers(256)
    path.write_bytes(bytes(content))
    try:
        read_graph(path)
    except GraphError as error:
        assert error.what and error.why and error.do


def edit(path, action):
    with h5py.File(path, "r+") as file:
        action(file["node/nodes"], file["node"])


def replace(group, key, value):
    if key in group:
        del group[key]
    group[key] = value


def say(node, field, value):
    node.require_group("metadata")[f"ashneuro.{field}"] = value


BROKEN = {
    "missing field": (lambda nodes, _: nodes["n1"].__delitem__("tau"), ["n1 (LIF)", "tau"]),
    "unknown field": (lambda nodes, _: nodes["n1"].__setitem__("colour", 1), ["n1 (LIF)", "colour"]),
    "unknown primitive": (lambda nodes, _: replace(nodes["n1"], "type", "Softmax"), ["n1", "Softmax"]),
    "no type": (lambda nodes, _: nodes["n1"].__delitem__("type"), ["n1", "no type"]),
    "shapes of one neuron": (lambda nodes, _: replace(nodes["n1"], "tau", np.ones(3)), ["n1 (LIF)", "same shape"]),
    "dangling edge": (
        lambda _, node: replace(node, "edges", [[b"input", b"n0"], [b"n0", b"ghost"]]),
        ["n0 → ghost", "no node ghost"],
    ),
    "edges of three": (lambda _, node: replace(node, "edges", [[b"a", b"b", b"c"]]), ["edges have shape"]),
    "shape clash": (
        lambda nodes, _: replace(nodes["n2"], "weight", np.ones((4, 7))),
        ["n1 → n2", "gives 9", "takes 7"],
    ),
    "infinite weight": (
        lambda nodes, _: replace(nodes["n2"], "weight", np.full((4, 9), np.inf)),
        ["n2 (Affine)", "36 values"],
    ),
    "text for numbers": (lambda nodes, _: replace(nodes["n2"], "bias", "zero"), ["n2 (Affine)", "numeric"]),
    "bias of another size": (
        lambda nodes, _: replace(nodes["n2"], "bias", np.ones(3)),
        ["n2 (Affine)", "fit each other"],
    ),
    "metadata that are a number": (
        lambda _, node: replace(node, "metadata", 3.0),
        ["graph", "metadata are not a group"],
    ),
    "steps without end": (lambda _, node: say(node, "timesteps", np.inf), ["ashneuro.timesteps = inf", "infinity"]),
    "part of a step": (lambda _, node: say(node, "timesteps", 8.7), ["ashneuro.timesteps = 8.7", "whole"]),
    "two resets": (lambda _, node: say(node, "reset", [b"value", b"value"]), ["reset =", "one of value, subtract"]),
    "endless step": (lambda _, node: say(node, "dt_s", np.inf), ["dt = inf s", "finite"]),
    "two errors": (
        lambda nodes, _: (
            replace(nodes["n2"], "bias", np.full(4, np.nan)),
            replace(nodes["n1"], "v_reset", np.ones(9)),
        ),
        ["n2 (Affine)", "n1 (LIF)", "v_reset = 1"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_graph_error_has_node_rule_and_remedy(tmp_path, rng, case):
    path = write(small(rng), tmp_path)
    action, words = BROKEN[case]
    edit(path, action)
    refused(path, *words)
    unread = (
        "missing field",
        "unknown field",
        "unknown primitive",
        "no type",
        "shapes of one neuron",
        "edges of three",
    )
    if case not in (*unread, "metadata that are a number"):
        load_graph(path)  # check can still look at it


def test_scalar_parameters_without_a_neighbour_of_known_size(tmp_path, rng):
    path = write(net.chain((6,), net.lif((6,), rng)), tmp_path)
    edit(path, lambda nodes, _: [replace(nodes["n0"], key, 0.01) for key in nodes["n0"] if key != "type"])
    edit(path, lambda nodes, _: [nodes[end].__delitem__("shape") for end in ("input", "output")])
    refused(path, "n0 (LIF)", "tau is a scalar")


def test_step_longer_than_time_constant_names_the_option(tmp_path, rng):
    path = write(small(rng), tmp_path)
    refused(path, "n1 (LIF)", "--dt", dt_s=0.1)
    read_graph(path, dt_s=1e-4)


def test_loop_without_a_neuron(tmp_path, rng):
    nodes = {"input": (6,), "a": net.affine(6, 6, rng), "b": net.affine(6, 6, rng), "n": net.lif((6,), rng)}
    edges = [("input", "a"), ("a", "b"), ("b", "a"), ("b", "n"), ("n", "output")]
    refused(write(net.graph_of(nodes, [*edges, ("n", "a")]), tmp_path), "feed each other", "a, b")
    refused(write(net.graph_of(nodes, edges), tmp_path), "feed each other", "a, b")


def test_loop_through_two_neurons_needs_a_delay(tmp_path, rng):
    nodes = {"input": (6,), "a": net.lif((6,), rng), "b": net.lif((6,), rng)}
    refused(
        write(net.graph_of(nodes, [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")]), tmp_path),
        "a, b feed each other",
        "Delay",
    )


def test_node_without_input(tmp_path, rng):
    nodes = {"input": (6,), "a": net.lif((6,), rng), "b": net.lif((6,), rng)}
    refused(write(net.graph_of(nodes, [("input", "a"), ("a", "output")]), tmp_path), "b (LIF)", "no edge leads to it")


@pytest.mark.parametrize("name", ["linear/~/w", "net/lif", "a.b", "ü →", "..", "type", "n\n0"])
def test_names_of_nodes_are_kept(tmp_path, rng, name):
    """HDF5 makes groups of a name with slashes, as modules of JAX have."""
    weights, neurons = net.affine(6, 4, rng), net.lif((4,), rng)
    graph = net.graph_of(
        {"input": (6,), f"{name}1": weights, name: neurons},
        [("input", f"{name}1"), (f"{name}1", name), (name, "output")],
    )
    nir.write(tmp_path / "foreign.nir", graph)
    write_graph(tmp_path / "ours.nir", graph, net.CONTRACT)
    for file in ("foreign.nir", "ours.nir"):
        read = load_graph(tmp_path / file)
        assert set(read.nodes) == set(graph.nodes)
        np.testing.assert_array_equal(read.nodes[name].tau, neurons.tau)
    assert [layer.name for layer in lower(load_graph(tmp_path / "ours.nir"), net.CONTRACT).layers] == [name]


@pytest.mark.parametrize("name", ["", ".", "a//b", "/a", "a\0b"])
def test_names_that_no_file_holds_are_refused(tmp_path, rng, name):
    graph = net.graph_of({"input": (6,), name: net.lif((6,), rng)}, [("input", name), (name, "output")])
    with pytest.raises(BundleError, match="holds no entry of the name") as refused:
        write_graph(tmp_path / "ours.nir", graph, net.CONTRACT)
    assert refused.value.do == "rename the node" and not (tmp_path / "ours.nir").exists()
