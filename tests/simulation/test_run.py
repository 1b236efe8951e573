import subprocess
import sys

import numpy as np
import pytest

from ashneuro.errors import ConfigError, DataError
from ashneuro.program.bundle import write_bundle
from ashneuro.program.lower import lower
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.proof.certify import certify
from ashneuro.simulation.record import save_rasters
from ashneuro.simulation.run import Graph, simulate
from ashneuro.spiking.contract import Contract
from tests.simulation import graphs, nets

CONTRACT = Contract(dt_s=graphs.DT, timesteps=5)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(0.4, 0.8, (5, 3, 4, 6, 6))


@pytest.fixture(scope="module")
def graph():
    return Graph(graphs.deployable(2), CONTRACT)


@pytest.fixture(scope="module")
def bundle(graph, x, tmp_path_factory):
    program = lower(graph.graph, CONTRACT)
    integer = calibrate(program, x).program
    return write_bundle(
        tmp_path_factory.mktemp("b") / "bundle",
        graph.graph,
        CONTRACT,
        program,
        integer,
        certify(graph.graph, CONTRACT, {"float": program}, x, lava=False).reference,
    )


def test_graph_bundle_and_program_agree(graph, bundle, x):
    for on, precision, program in (
        ("torch", "float", bundle.float_program),
        ("loihi", "integer", bundle.integer_program),
    ):
        records = [simulate(target, x, on=on, rasters="all") for target in (graph, bundle, program)]
        for record in records:
            assert (record.source, record.precision) == (on, precision)
            assert record.layers.keys() == records[0].layers.keys()
            for name, activity in record.layers.items():
                np.testing.assert_array_equal(activity.raster, records[0].layers[name].raster)


@pytest.mark.lava
def test_lava_agrees(bundle, x):
    for precision, other in (("float", "torch"), (None, "loihi")):
        record = simulate(bundle, x, on="lava", precision=precision, rasters=["lif2", "lif4"])
        there = simulate(bundle, x, on=other, rasters=["lif2", "lif4"])
        assert record.source == "lava"
        for name in ("lif2", "lif4"):
            np.testing.assert_array_equal(record.layers[name].raster, there.layers[name].raster)


def test_rasters_of_outputs(graph, x):
    record = simulate(graph, x, on="torch", rasters="outputs")
    assert [name for name, activity in record.layers.items() if activity.raster is not None] == ["lif4"]
    with pytest.raises(DataError, match=r"no layer is called lif9\nwhy: the layers are lif0"):
        simulate(graph, x, on="torch", rasters=["lif9"])


@pytest.mark.parametrize(
    ("on", "precision", "message"),
    [
        (
            "torch",
            "integer",
            r"--on torch --precision integer\nwhy: torch computes the graph in float64\ndo:  --on loihi",
        ),
        ("loihi", "float", r"--on loihi --precision float\nwhy: .*integers\ndo:  --on torch"),
        ("lava", "double", r"--precision double\nwhy: Lava computes float or integer"),
        ("abacus", None, "simulators are torch, loihi, lava"),
    ],
)
def test_unsupported_precision_is_refused(graph, x, on, precision, message):
    with pytest.raises(ConfigError, match=message):
        simulate(graph, x, on=on, precision=precision)


def test_program_of_other_precision_is_refused(bundle, x):
    with pytest.raises(ConfigError, match="this is a float program"):
        simulate(bundle.float_program, x, on="loihi")
    with pytest.raises(ConfigError, match="this is an integer program"):
        simulate(bundle.integer_program, x, on="torch")


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "cuda:99", "abacus"])
def test_unsupported_device_is_refused(graph, x, device):
    with pytest.raises(ConfigError, match=f"device '?{device}") as caught:
        simulate(graph, x, on="torch", device=device)
    assert "--device cpu" in caught.value.do


def test_saved_rasters_have_layer_names(tmp_path):
    random, program = nets.dense_net(1, "float")
    record = simulate(program, random.inputs(program.inputs[0], 4, 3), on="torch", rasters=["a", "b"])
    save_rasters(record, tmp_path / "spikes.npz")
    with np.load(tmp_path / "spikes.npz") as saved:
        assert set(saved.files) == {"a", "b", "out"}
        assert (saved["a"].dtype, saved["a"].shape) == (np.uint8, (4, 3, 7))
        assert saved["out"].dtype == np.float64
        np.testing.assert_array_equal(saved["b"], record.layers["b"].raster)


def test_save_errors(tmp_path):
    random, program = nets.conv_net(1, "float")
    record = simulate(program, random.inputs(program.inputs[0], 2, 1), on="torch")
    with pytest.raises(DataError, match="keeps none"):
        save_rasters(record, tmp_path / "spikes.npz")
    record = simulate(program, random.inputs(program.inputs[0], 2, 1), on="torch", rasters="all")
    with pytest.raises(DataError, match="No such file"):
        save_rasters(record, tmp_path / "no" / "spikes.npz")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it raises ImportError
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *args: None if name == "torch" else found(name, *args)
import numpy as np
from ashneuro.simulation.run import Graph, simulate
from ashneuro.spiking.contract import Contract
from tests.simulation import graphs
x = np.random.default_rng(0).normal(0.4, 0.8, (5, 3, 4, 6, 6))
graph = Graph(graphs.deployable(2), Contract(dt_s=graphs.DT, timesteps=5))
for on in ("torch", "loihi"):
    print(*simulate(graph, x, on=on).layers["lif3"].counts.ravel())
"""


def test_simulation_without_torch(graph, x):
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    wanted = [
        " ".join(str(n) for n in simulate(graph, x, on=on).layers["lif3"].counts.ravel()) for on in ("torch", "loihi")
    ]
    assert done.stdout.splitlines() == wanted
