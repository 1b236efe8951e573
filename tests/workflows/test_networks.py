"""Networks and inputs from files and from memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from ashneuro.errors import AshneuroError, ConfigError, DataError, GraphError
from ashneuro.program.bundle import Bundle
from ashneuro.program.netx.file import NetxReading
from ashneuro.workflows.networks import Network, named_inputs, open_bundle, open_network, read, require_kind
from tests.program import networks
from tests.program.netx.test_read import dense_net, write

X = np.arange(12.0).reshape(2, 2, 3)


@pytest.fixture
def graph() -> nir.NIRGraph:
    rng = np.random.default_rng(0)
    return networks.chain((3,), networks.affine(3, 4, rng), networks.lif((4,), rng))


@pytest.fixture
def netx(tmp_path: Path) -> Path:
    return write(tmp_path / "dense.net", dense_net([[2, -4, 6], [8, 10, -12]]), Ts=1.0, tSample=9)


def test_array_is_for_the_only_input() -> None:
    for given in (X, X.tolist()):
        ((name, x),) = named_inputs(given, ["a"]).items()
        assert name == "a"
        np.testing.assert_array_equal(x, X)
    with pytest.raises(DataError, match="one array of inputs") as error:
        named_inputs(X, ["a", "b"])
    assert "inputs are a, b" in error.value.why


def test_mapping_is_passed_on() -> None:
    given = {"b": X, "a": X + 1}
    assert named_inputs(given, ["a", "b"]) == given


def test_npy_is_for_the_only_input(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, X)
    for given in (path, str(path)):
        np.testing.assert_array_equal(named_inputs(given, ["a"])["a"], X)
    with pytest.raises(DataError, match="holds one array"):
        named_inputs(path, ["a", "b"])


def test_npz_has_an_array_per_input(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=X, b=X + 1)
    found = named_inputs(path, ["b", "a"])
    np.testing.assert_array_equal(found["a"], X)
    np.testing.assert_array_equal(found["b"], X + 1)
    for names in (["a"], ["a", "b", "c"], ["a", "c"]):
        with pytest.raises(DataError, match="holds arrays a, b") as error:
            named_inputs(path, names)
        assert error.value.why == f"the network's inputs are {', '.join(names)}"


@pytest.mark.parametrize("name", ["none.npy", "text.npy", "folder"])
def test_unreadable_inputs_are_errors(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=f"cannot read .*{name}"):
        named_inputs(tmp_path / name, ["a"])


def test_open_graph_in_memory(graph: nir.NIRGraph) -> None:
    network = open_network(graph, {"dt_s": 2e-3})
    assert (network.name, network.path, network.run, network.is_netx) == ("network", None, None, False)
    assert network.contract.dt_s == 2e-3 and network.contract_read is not None
    assert "dt_s" not in network.contract_read.assumed and "reset" in network.contract_read.assumed
    assert network.input_names == ["input"]
    assert [layer.name for layer in network.program.layers] == ["n1"] and network.program.precision == "float"
    assert network.wiring is network.wiring and network.program is network.program
    assert open_network(network) is network


def test_contract_field_that_does_not_exist_is_an_error(graph: nir.NIRGraph) -> None:
    with pytest.raises(ConfigError, match="no contract has a field 'dt'") as error:
        read(graph, dt=1e-4)
    assert error.value.do == "dt_s=0.0001"
    assert read(graph, dt_s=1e-4).contract.dt_s == 1e-4
    with pytest.raises(ConfigError, match="no contract has a field 'tau'") as error:
        open_network(graph, {"tau": 1.0})
    assert "reset_delay" in error.value.do


def test_network_that_was_read_keeps_its_contract(graph: nir.NIRGraph) -> None:
    with pytest.raises(ConfigError, match="network with dt_s") as error:
        open_network(read(graph), {"dt_s": 1e-4})
    assert error.value.do == "ash.read(path, dt_s=0.0001)"


def test_something_else_is_no_network() -> None:
    with pytest.raises(ConfigError, match="a dict is not a network") as error:
        open_network({})  # type: ignore[arg-type]
    assert "from_torch" in error.value.do


def test_metadata_that_is_no_number_names_its_option(graph: nir.NIRGraph) -> None:
    for field, option in (("dt_s", "--dt SECONDS"), ("message_limit", "--message-limit N")):
        graph.metadata = {f"ashneuro.{field}": "x"}
        with pytest.raises(GraphError) as error:
            read(graph)
        assert error.value.do == option


def test_read_nir_file(graph: nir.NIRGraph, tmp_path: Path) -> None:
    path = tmp_path / "small.nir"
    nir.write(path, graph)
    network = read(str(path), dt_s=2e-3, timesteps=None)
    assert isinstance(network, Network) and (network.name, network.path) == ("small", path)
    assert network.contract.dt_s == 2e-3 and network.contract.timesteps is None


def test_read_netx(netx: Path) -> None:
    network = read(netx)
    assert isinstance(network, Network) and network.is_netx and (network.name, network.path) == ("dense", netx)
    assert network.program.precision == "integer" and network.program.timesteps == 9
    assert network.input_names == [port.name for port in network.program.inputs]


def test_netx_rejects_contract_fields(netx: Path) -> None:
    for fields, option in (({"dt_s": 5e-3}, "--dt 0.005"), ({"reset_delay": 1}, "--reset-delay 1")):
        with pytest.raises(ConfigError, match=re.escape(f"{netx} with {option}")):
            read(netx, **fields)
    assert isinstance(read(netx, dt_s=None), Network)


def test_netx_takes_comparison_and_input_shape(netx: Path) -> None:
    network = read(netx, comparison="inclusive", input_shape=[1, 1, 3])
    assert isinstance(network, Network) and network.reading == NetxReading("inclusive", (1, 1, 3))
    assert network.program.layers[0].neuron.firing.comparison == "inclusive"
    with pytest.raises(GraphError, match=r"file says 1×1×3, --input-shape says 4"):
        _ = open_network(netx, {"input_shape": (4,)}).program
    with pytest.raises(GraphError, match="comparison = 'equal'"):
        read(netx, comparison="equal")
    for shape in ((), (1, 2, 3, 4), (0,), (2.5,), "2,7,6", 3):
        with pytest.raises(ConfigError, match="input_shape = "):
            read(netx, input_shape=shape)


def test_input_shape_is_for_netx_alone(graph: nir.NIRGraph, old: Path) -> None:
    for source in (graph, "lif_cubalif.bundle", "runs/hybrid"):
        with pytest.raises(ConfigError, match="with --input-shape 2,7,6"):
            open_network(source, {"input_shape": (2, 7, 6)})


def test_read_bundle(old: Path) -> None:
    for name in ("lif_cubalif.bundle", "conv_delays.bundle"):
        bundle = read(name)
        assert isinstance(bundle, Bundle) and bundle.folder == Path(name)
    # With contract fields the graph of the bundle is read again.
    network = read("lif_cubalif.bundle", dt_s=2e-3)
    assert isinstance(network, Network) and network.contract.dt_s == 2e-3
    with pytest.raises(ConfigError, match=r"conv_delays\.bundle with --dt 0\.002"):
        read("conv_delays.bundle", dt_s=2e-3)


def test_open_network_of_a_bundle(old: Path) -> None:
    bundle = read("lif_cubalif.bundle")
    assert isinstance(bundle, Bundle)
    network = open_network(bundle)
    assert [layer.name for layer in network.program.layers] == ["lif", "cuba"]
    assert network.contract == bundle.contract
    netx = open_network("conv_delays.bundle")
    assert netx.is_netx and [layer.name for layer in netx.program.layers] == ["conv1", "dense3", "dense4"]


def test_read_run(old: Path) -> None:
    network = read("runs/hybrid")
    assert isinstance(network, Network) and network.name == "hybrid" and network.run is not None
    assert network.program.layers[-1].name == "semantic.lif" and network.input_names == ["input"]
    bundle = open_bundle("runs/hybrid")
    assert bundle.folder == Path("runs/hybrid/bundle") and open_bundle(bundle) is bundle


@pytest.mark.parametrize(
    ("path", "error"),
    [("runs/learnt", "has no bundle yet"), ("runs/none", "does not exist"), ("shapes", "neither a run nor a bundle")],
)
def test_open_bundle_errors(old: Path, path: str, error: str) -> None:
    with pytest.raises(AshneuroError, match=f"{path} .*{error}") as caught:
        open_bundle(path)
    assert caught.value.why and caught.value.do


def test_require_kind(netx: Path, old: Path) -> None:
    require_kind(netx, "netx")
    require_kind(Path("runs/hybrid"), "run")
    with pytest.raises(AshneuroError, match=r"conv_delays\.bundle is a bundle"):
        require_kind(Path("conv_delays.bundle"), "run")


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text.nir"
    path.write_text("no graph")
    options: dict[str, Any] = {"dt_s": 1e-3}
    for source in (path, str(path)):
        with pytest.raises(AshneuroError, match=re.escape(str(path))):
            read(source, **options)
