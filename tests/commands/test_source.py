"""``ashneuro check FILE --source``: the contract that reproduces a module's spikes."""

import json
import warnings
from pathlib import Path

import nir
import numpy as np
import pytest
import torch

import ashneuro as ash
from ashneuro.errors import GraphError
from tests.commands.conftest import Command
from tests.frameworks.modules import framework, spikes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SNNTORCH = """
import snntorch as snn, torch
from torch import nn

def build():
    torch.manual_seed(0)
    def leaky(n):
        return snn.Leaky(beta=torch.full((n,), 0.9), threshold=torch.ones(n), init_hidden=True)
    net = nn.Sequential(nn.Linear(6, 8), leaky(8), nn.Linear(8, 4), leaky(4))
    for parameter in net.parameters():
        parameter.data *= 3
    return net

nothing = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of snnTorch's own exporter, the module it came from, and samples."""
    framework("snntorch")
    export = framework("snntorch.export_nir").export_to_nir
    (tmp_path / "model.py").write_text(SNNTORCH)
    scope: dict[str, object] = {}
    exec(SNNTORCH, scope)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nir.write(tmp_path / "net.nir", export(scope["build"](), torch.zeros(1, 6), ignore_dims=[0]))  # type: ignore[operator]
    np.save(tmp_path / "x.npy", spikes(6).numpy())
    return tmp_path


def words(folder: Path) -> tuple[object, ...]:
    return ("check", folder / "net.nir", "--source", f"{folder / 'model.py'}:build", "--inputs", folder / "x.npy")


def test_contract_of_a_default_network_is_found(ashneuro: Command, folder: Path) -> None:
    result = ashneuro(*words(folder))
    assert result.code == 0
    options = "--dt 0.0001 --reset subtract --reset-delay 1"
    assert f"The file spikes as Sequential does, with {options}" in result.out
    assert "export" in result.out and options.split(" --")[1] in result.out
    found = json.loads(ashneuro(*words(folder), "--json").out)
    assert found["source"]["options"] == options and found["source"]["comparison"]["mismatches"] == 0
    assert all(finding["ok"] for finding in found["findings"])


def test_given_options_are_not_searched(ashneuro: Command, folder: Path) -> None:
    result = ashneuro(*words(folder), "--reset", "value")
    assert result.code == 1
    assert "No contract reproduces Sequential" in result.out and "from_torch" in result.out


def test_wrong_arguments_have_a_remedy(ashneuro: Command, folder: Path) -> None:
    check = ("check", folder / "net.nir")
    assert "--source without --inputs" in ashneuro(*check, "--source", "model.py:build").err
    inputs = ("--inputs", folder / "x.npy")
    for place, said in (
        ("missing.py:build", "there is no file missing.py"),
        (folder / "model.py", "it names a file alone"),
        (f"{folder / 'model.py'}:other", "has no 'other'"),
        (f"{folder / 'model.py'}:nothing", "it makes int, which is not a module"),
    ):
        result = ashneuro(*check, "--source", place, *inputs)
        assert result.code == 2 and said in result.err and "Traceback" not in result.err
    (folder / "broken.py").write_text("import not_there_at_all")
    result = ashneuro(*check, "--source", f"{folder / 'broken.py'}:build", *inputs)
    assert result.code == 2 and "ModuleNotFoundError" in result.err


def test_contract_of_spikingjelly_integrators() -> None:
    """R = 1/dt, and v ≥ v_threshold with whole weights."""
    neuron = framework("spikingjelly.activation_based.neuron")
    exchange = framework("spikingjelly.activation_based.nir_exchange")
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), neuron.IFNode(v_threshold=2.0, step_mode="s"))
    net[0].weight.data = torch.randint(-1, 3, (8, 6), generator=torch.Generator().manual_seed(0)).float()
    net[0].bias.data[:] = 0
    graph = exchange.export_to_nir(net, torch.zeros(1, 6), dt=1e-4)
    match = ash.match_contract(graph, net, spikes(6))
    assert match.found and match.contract.if_convention == "per-second" and match.contract.comparison == "inclusive"
    assert match.contract.dt_s == pytest.approx(1e-4)


def test_module_decides_what_its_sample_leaves_open() -> None:
    """Drawn weights never tie, so that both comparisons fit; SpikingJelly's is v ≥ v_threshold."""
    neuron = framework("spikingjelly.activation_based.neuron")
    exchange = framework("spikingjelly.activation_based.nir_exchange")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), neuron.IFNode(step_mode="s"))
    net[0].weight.data *= 3
    graph = exchange.export_to_nir(net, torch.zeros(1, 6), dt=1e-4)
    match = ash.match_contract(graph, net, spikes(6))
    assert match.found and "comparison" in match.either
    assert match.contract.comparison == "inclusive" and "--comparison inclusive" in match.options
    assert ash.match_contract(graph, net, spikes(6), contract={"comparison": "strict"}).contract.comparison == "strict"


def test_contract_of_sinabs_defaults() -> None:
    """Several spikes in a step: counts, and subtraction."""
    layers = framework("sinabs.layers")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), layers.IAFSqueeze(batch_size=3, spike_threshold=torch.ones(8)))
    net[0].weight.data *= 6
    match = ash.match_contract(framework("sinabs.nir").to_nir(net, torch.zeros(3, 6)), net, spikes(6))
    assert match.found and match.options == "--reset subtract --comparison inclusive --message count"


def test_contract_of_sinabs_layers() -> None:
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    neuron = layers.LIFSqueeze(
        tau_mem=torch.full((8,), 4.0),
        spike_threshold=torch.full((8,), 0.3),
        batch_size=3,
        spike_fn=activation.SingleSpike,
    )
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), neuron)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(3, 6))
    match = ash.match_contract(graph, net, spikes(6))
    assert match.found
    assert (match.contract.reset, match.contract.reset_delay) == ("subtract", 0)
    assert "comparison" in match.either


def test_a_file_of_another_module_is_refused(folder: Path) -> None:
    from ashneuro.spiking.lif import LIF

    net = torch.nn.Sequential(torch.nn.Linear(6, 5), LIF(4e-3, dt=1e-3))
    with pytest.raises(GraphError, match="do not correspond"):
        ash.match_contract(folder / "net.nir", net, spikes(6))


def test_next_step_feeds_the_file_as_its_sample(ashneuro: Command, folder: Path) -> None:
    for values, coding in ((np.load(folder / "x.npy"), "spikes"), (np.load(folder / "x.npy") * 0.5, "current")):
        np.save(folder / "x.npy", values)
        command = ashneuro(*words(folder)).out.splitlines()[-1]
        assert command.endswith(f"--input-coding {coding}")
        given = ashneuro(*words(folder), "--input-coding", "current").out.splitlines()[-1]
        assert given.count("--input-coding current") == 1
