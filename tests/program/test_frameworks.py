"""Graphs exported by other frameworks spike as the framework does, as far as NIR can express it.

Where they cannot, the difference is shown, so that docs/nir.md, which lists them, stays true.
"""

import nir
import numpy as np
import pytest
import torch

from ashneuro.errors import GraphError
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import read_graph
from ashneuro.program.rules.open_fields import assumptions_of
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.spiking.contract import Contract
from tests.frameworks.modules import QUIET, framework, strong

pytestmark = QUIET

STEPS, BATCH = 30, 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def full(shape, value):
    return torch.full(shape if isinstance(shape, tuple) else (shape,), float(value))


def inputs(*shape, rate=0.5):
    return (torch.rand(STEPS, BATCH, *shape) < rate).float()


def ours(graph, x, tmp_path, **contract):
    """Return the only Output of a graph from a file, equal for the graph and its program."""
    path = tmp_path / "network.nir"
    nir.write(path, graph)
    read, said = read_graph(path, timesteps=STEPS, **contract)
    program = lower(read, said.contract)
    (name,) = program.outputs
    record = run_graph(read, said.contract, x.numpy(), rasters=[name])
    again = run_program(program, x.numpy(), rasters=[name])
    np.testing.assert_allclose(again.layers[name].raster, record.layers[name].raster, rtol=0, atol=1e-10)
    assert record.layers[name].raster is not None
    return record.layers[name].raster


def same(got, theirs):
    wanted = theirs.detach().numpy()
    assert 0.02 < (wanted != 0).mean() < 0.95, f"{(wanted != 0).mean():.1%} of the spikes say little"
    np.testing.assert_array_equal(got, wanted)


def different(got, theirs):
    return bool((got != theirs.detach().numpy()).any())


def stepped(step, x):
    return torch.stack([step(frame) for frame in x])


# Norse 1.1: `to_nir` takes shapes from one sample without a batch, and divides dt, in place of 1,
# by τ⁻¹.


def norse_boxes(norse, *shapes, v_reset=0.0):
    parameters = norse.LIFBoxParameters
    return [norse.LIFBoxCell(p=parameters(full(s, 200), full(s, 0), full(s, 0.3), full(s, v_reset))) for s in shapes]


def norse_run(net, x):
    state, out = None, []
    for frame in x:
        y, state = net(frame, state)
        out.append(y)
    return torch.stack(out)


def norse_dense(norse, **kwargs):
    first, second = norse_boxes(norse, (8,), (4,), **kwargs)
    return strong(norse.SequentialState(torch.nn.Linear(6, 8), first, torch.nn.Linear(8, 4), second), gain=4)


def test_norse_dense(tmp_path):
    norse = framework("norse.torch")
    net, x = norse_dense(norse), inputs(6)
    same(ours(norse.to_nir(net, torch.zeros(6), dt=1.0), x, tmp_path, dt_s=1e-3), norse_run(net, x))


def test_norse_writes_time_constants_times_dt(tmp_path):
    """The file's τ is a thousand times too short, so its dt is as well."""
    norse = framework("norse.torch")
    net, x = norse_dense(norse), inputs(6)
    graph = norse.to_nir(net, torch.zeros(6))
    np.testing.assert_allclose(graph.nodes["1"].tau, 5e-6)
    same(ours(graph, x, tmp_path, dt_s=1e-6), norse_run(net, x))
    with pytest.raises(GraphError, match=r"smallest tau = 5e-06 s, dt = 0\.001 s"):
        lower(graph, Contract())


def test_norse_convolution(tmp_path):
    """Its Conv2d lacks input_shape, without which nir.write fails; `infer_types` adds it."""
    norse = framework("norse.torch")
    first, second = norse_boxes(norse, (3, 4, 4), (2, 2, 2))
    net = strong(
        norse.SequentialState(torch.nn.Conv2d(2, 3, 3), first, torch.nn.Conv2d(3, 2, 2, stride=2), second), gain=4
    )
    x = inputs(2, 6, 6)
    graph = norse.to_nir(net, torch.zeros(2, 6, 6), dt=1.0)
    with pytest.raises(TypeError):
        nir.write(tmp_path / "without.nir", graph)
    assert lower(graph, Contract()).layers[0].shape == (3, 4, 4)
    graph.infer_types()
    same(ours(graph, x, tmp_path, dt_s=1e-3), norse_run(net, x))


def test_norse_lif_with_current_loses_gain(tmp_path):
    """LIFCell adds its input to the current; CubaLIF scales it by dt/τ_syn, and w_in is 1."""
    norse = framework("norse.torch")
    cell = norse.LIFCell(p=norse.LIFParameters(full(8, 250), full(8, 200), full(8, 0), full(8, 0.6), full(8, 0)))
    net, x = strong(norse.SequentialState(torch.nn.Linear(6, 8), cell)), inputs(6)
    graph, theirs = norse.to_nir(net, torch.zeros(6), dt=1.0), norse_run(net, x)
    assert different(ours(graph, x, tmp_path, dt_s=1e-3), theirs)
    graph.nodes["1"].w_in = graph.nodes["1"].tau_syn.numpy() / 1e-3
    same(ours(graph, x, tmp_path, dt_s=1e-3), theirs)


def test_norse_integrators(tmp_path):
    norse = framework("norse.torch")
    spiking = norse.IAFCell(p=norse.IAFParameters(v_th=full(8, 1.2), v_reset=full(8, 0)))
    reading = norse.LIBoxCell(p=norse.LIBoxParameters(tau_mem_inv=full(4, 150), v_leak=full(4, 0)))
    net, x = strong(norse.SequentialState(torch.nn.Linear(6, 8), spiking, torch.nn.Linear(8, 4), reading)), inputs(6)
    got = ours(norse.to_nir(net, torch.zeros(6), dt=1.0), x, tmp_path, dt_s=1e-3)
    np.testing.assert_allclose(got, norse_run(net, x).detach().numpy(), rtol=0, atol=1e-6)


def test_norse_omits_v_reset():
    norse = framework("norse.torch")
    graph = norse.to_nir(norse_dense(norse, v_reset=-0.2), torch.zeros(6), dt=1.0)
    assert not np.any(graph.nodes["1"].v_reset)


# snnTorch 1.0: dt is 1e-4 in every file; export fails without one value per neuron.


def leaky(snn, shape, **kwargs):
    settings = {"beta": full(shape, 0.8), "threshold": full(shape, 0.7), "init_hidden": True, "reset_mechanism": "zero"}
    return snn.Leaky(**settings | kwargs)


def snntorch_export(net, shape):
    return framework("snntorch.export_nir").export_to_nir(net, torch.zeros(1, *shape), ignore_dims=[0])


@pytest.mark.parametrize("delayed", [True, False])
def test_snntorch_dense(tmp_path, delayed):
    """A Leaky neuron resets to zero before it decays: one step late is as good as at once."""
    snn = framework("snntorch")
    layers = [leaky(snn, 8, reset_delay=delayed), leaky(snn, 4, reset_delay=delayed)]
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), layers[0], torch.nn.Linear(8, 4), layers[1])), inputs(6)
    graph = snntorch_export(net, (6,))
    same(ours(graph, x, tmp_path, dt_s=1e-4), stepped(net, x))


def test_snntorch_convolution(tmp_path):
    snn = framework("snntorch")
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3, padding=1),
        leaky(snn, (3, 6, 6)),
        torch.nn.AvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(27, 4),
        leaky(snn, 4),
    )
    x = inputs(2, 6, 6)
    graph = snntorch_export(strong(net), (2, 6, 6))
    same(ours(graph, x, tmp_path, dt_s=1e-4), stepped(net, x))


def synaptic(snn, **kwargs):
    shape = {"alpha": full(8, 0.6), "beta": full(8, 0.8), "threshold": full(8, 1.5)}
    settings = {"init_hidden": True, "reset_mechanism": "zero"} | kwargs
    neuron = snn.Synaptic(**shape, **settings)
    return strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron))


def test_snntorch_synaptic(tmp_path):
    net, x = synaptic(framework("snntorch"), reset_delay=False), inputs(6)
    same(ours(snntorch_export(net, (6,)), x, tmp_path, dt_s=1e-4), stepped(net, x))


@pytest.mark.parametrize("mechanism", ["zero", "subtract"])
def test_snntorch_synaptic_late_reset(tmp_path, mechanism):
    """A late reset to zero discards the input of its step."""
    net, x = synaptic(framework("snntorch"), reset_mechanism=mechanism), inputs(6)
    graph, reset = snntorch_export(net, (6,)), {"zero": "value"}.get(mechanism, mechanism)
    theirs = stepped(net, x)  # once: the modules keep their state
    assert different(ours(graph, x, tmp_path, dt_s=1e-4), theirs)
    same(ours(graph, x, tmp_path, dt_s=1e-4, reset=reset, reset_delay=1), theirs)


def snntorch_subtracting(snn, threshold, **kwargs):
    neuron = leaky(snn, 8, reset_mechanism="subtract", threshold=full(8, threshold), **kwargs)
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron)), inputs(6)
    return snntorch_export(net, (6,)), x, stepped(net, x)


def test_snntorch_default_reset_is_late_subtraction(tmp_path):
    """The file states v_reset = 0 nevertheless; the options read it as it was trained."""
    graph, x, theirs = snntorch_subtracting(framework("snntorch"), 0.7)
    assert different(ours(graph, x, tmp_path, dt_s=1e-4), theirs)
    same(ours(graph, x, tmp_path, dt_s=1e-4, reset="subtract", reset_delay=1), theirs)


def test_snntorch_file_leaves_its_reset_open(tmp_path):
    """The certificate of such a file names the reset that it was read with."""
    graph, _, _ = snntorch_subtracting(framework("snntorch"), 0.7)
    nir.write(tmp_path / "network.nir", graph)
    wiring, read = read_graph(tmp_path / "network.nir", dt_s=1e-4)
    found = {item.field: item for item in assumptions_of(wiring, read)}
    assert set(found) == {"reset", "reset_delay", "comparison", "integration", "input_coding"}
    assert (found["reset"].value, found["reset"].spikes) == ("value", True)
    assert found["reset"].nodes == tuple(wiring.named("neuron"))


def test_snntorch_reset_at_once_is_subtraction_up_to_two_thresholds(tmp_path):
    """With reset_delay=False, a potential that exceeds the threshold after a reset is not reset."""
    snn, options = framework("snntorch"), {"dt_s": 1e-4, "reset": "subtract"}
    graph, x, theirs = snntorch_subtracting(snn, 2.0, reset_delay=False)
    assert different(ours(graph, x, tmp_path, dt_s=1e-4), theirs)
    same(ours(graph, x, tmp_path, **options), theirs)
    graph, x, theirs = snntorch_subtracting(snn, 0.7, reset_delay=False)
    assert different(ours(graph, x, tmp_path, **options), theirs)


@pytest.mark.parametrize("delayed", [True, False])
def test_snntorch_recurrence(tmp_path, delayed):
    """A late reset of RLeaky discards the input of that step, as in Synaptic but not in Leaky."""
    snn = framework("snntorch")
    settings = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": delayed}
    neuron = snn.RLeaky(beta=0.8, threshold=0.7, linear_features=8, **settings)
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron)), inputs(6)
    graph = snntorch_export(net, (6,))
    assert set(graph.nodes) >= {"1.lif", "1.w_rec"}
    theirs = stepped(net, x)
    if delayed:
        assert different(ours(graph, x, tmp_path, dt_s=1e-4), theirs)
    same(ours(graph, x, tmp_path, dt_s=1e-4, reset_delay=int(delayed)), theirs)


# sinabs 2.0: samples and steps are one axis; τ is in steps.


def single(activation):
    return {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}


def sinabs_run(net, x):
    flat = x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    return net(flat).reshape(BATCH, STEPS, -1).swapaxes(0, 1)


def test_sinabs_dense(tmp_path):
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    first, second = (
        layers.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(t), **single(activation)) for t in (1.3, 0.9)
    )
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), first, torch.nn.Linear(8, 4), second)), inputs(6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    same(ours(graph, x, tmp_path), theirs)


def test_sinabs_convolution(tmp_path):
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    first, second = (layers.IAFSqueeze(batch_size=BATCH, **single(activation)) for _ in range(2))
    dense = torch.nn.Linear(12, 4)
    net = strong(
        torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), first, layers.SumPool2d(2), torch.nn.Flatten(), dense, second),
        gain=1,
    )
    x = inputs(2, 6, 6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 2, 6, 6))
    graph.infer_types()
    same(ours(graph, x, tmp_path), theirs)


def test_sinabs_single_spike_and_subtraction(tmp_path):
    """sinabs' own reset, with one spike per step: by subtraction, at v ≥ spike_threshold."""
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    neuron = layers.LIFSqueeze(
        tau_mem=full(8, 4), spike_threshold=full(8, 0.3), batch_size=BATCH, spike_fn=activation.SingleSpike
    )
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron)), inputs(6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    settings = {"dt_s": 1.0, "integration": "exponential", "comparison": "inclusive"}
    assert different(ours(graph, x, tmp_path, **settings), theirs)
    same(ours(graph, x, tmp_path, reset="subtract", **settings), theirs)


def test_sinabs_integer_inputs_meet_the_threshold(tmp_path):
    """Whole weights and a whole threshold: many potentials lie on it, where ≥ and > differ."""
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    neuron = layers.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(2.0), spike_fn=activation.SingleSpike)
    dense = torch.nn.Linear(6, 8, bias=False)
    dense.weight.data = torch.randint(-2, 4, (8, 6), generator=torch.Generator().manual_seed(0)).float()
    net, x = torch.nn.Sequential(dense, neuron), inputs(6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    assert different(ours(graph, x, tmp_path, reset="subtract"), theirs)
    same(ours(graph, x, tmp_path, reset="subtract", comparison="inclusive"), theirs)


COUNTS = {"reset": "subtract", "comparison": "inclusive", "message": "count"}


def sinabs_neuron(layers, kind, size, **kwargs):
    settings = {"batch_size": BATCH, "spike_threshold": full(size, 0.3 if kind == "IAF" else 0.06)} | kwargs
    return layers.IAFSqueeze(**settings) if kind == "IAF" else layers.LIFSqueeze(tau_mem=full(size, 4), **settings)


@pytest.mark.parametrize("kind", ["IAF", "LIF"])
def test_sinabs_defaults_are_spike_counts_and_subtraction(tmp_path, kind):
    layers = framework("sinabs.layers")
    first, second = (sinabs_neuron(layers, kind, size) for size in (8, 4))
    net = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), first, torch.nn.Linear(8, 4), second), gain=2)
    x = inputs(6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    settings = {"dt_s": 1.0, "integration": "exponential"}
    assert theirs.max() > 3
    assert different(ours(graph, x, tmp_path, **settings), theirs)
    same(ours(graph, x, tmp_path, **settings, **COUNTS), theirs)


def test_sinabs_convolution_with_spike_counts(tmp_path):
    layers = framework("sinabs.layers")
    first, second = (layers.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(0.4)) for _ in range(2))
    dense = torch.nn.Linear(12, 4)
    modules = torch.nn.Conv2d(2, 3, 3), first, layers.SumPool2d(2), torch.nn.Flatten(), dense, second
    net, x = strong(torch.nn.Sequential(*modules), gain=1), inputs(2, 6, 6)
    theirs = sinabs_run(net, x)
    assert theirs.max() > 3
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 2, 6, 6))
    graph.infer_types()
    same(ours(graph, x, tmp_path, **COUNTS), theirs)


@pytest.mark.parametrize("kind", ["IAF", "LIF"])
def test_sinabs_most_spikes_of_a_step(tmp_path, kind):
    """Spikes above the largest number stay in v."""
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    neuron = sinabs_neuron(layers, kind, 8, spike_fn=activation.MaxSpike(2))
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron), gain=1.3), inputs(6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    settings = {"dt_s": 1.0, "integration": "exponential", **COUNTS}
    assert different(ours(graph, x, tmp_path, **settings), theirs)
    same(ours(graph, x, tmp_path, **settings, message_limit=2), theirs)


def test_sinabs_counts_meet_multiples_of_the_threshold(tmp_path):
    """Whole weights and a whole threshold: potentials often lie on a multiple of it."""
    layers = framework("sinabs.layers")
    neuron = layers.IAFSqueeze(batch_size=BATCH, spike_threshold=torch.tensor(2.0))
    dense = torch.nn.Linear(6, 8, bias=False)
    dense.weight.data = torch.randint(-2, 6, (8, 6), generator=torch.Generator().manual_seed(0)).float()
    net, x = torch.nn.Sequential(dense, neuron), inputs(6)
    theirs = sinabs_run(net, x)
    assert theirs.max() > 3
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    assert different(ours(graph, x, tmp_path, **COUNTS | {"comparison": "strict"}), theirs)
    same(ours(graph, x, tmp_path, **COUNTS), theirs)


def test_sinabs_leaks_exponentially(tmp_path):
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    neuron = layers.LIFSqueeze(tau_mem=full(8, 4), spike_threshold=full(8, 0.4), batch_size=BATCH, **single(activation))
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron)), inputs(6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    same(ours(graph, x, tmp_path, dt_s=1.0, integration="exponential"), theirs)
    assert different(ours(graph, x, tmp_path, dt_s=1.0, integration="euler"), theirs)


@pytest.mark.parametrize("lost", [{"norm_input": False}, {"tau_syn": 3.0}, {"min_v_mem": -0.05}])
def test_sinabs_omits_parameters_that_change_spikes(tmp_path, lost):
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    neuron = layers.LIFSqueeze(
        tau_mem=full(8, 4), spike_threshold=full(8, 0.4), batch_size=BATCH, **single(activation), **lost
    )
    net, x = (
        strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron), gain=4 if "min_v_mem" in lost else 0.7),
        inputs(6),
    )
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 6))
    assert different(ours(graph, x, tmp_path, dt_s=1.0, integration="exponential"), theirs)
    if "norm_input" in lost:
        graph.nodes["1"].r = np.full(8, 1 / (1 - np.exp(-1 / 4)))
        same(ours(graph, x, tmp_path, dt_s=1.0, integration="exponential"), theirs)


# SpikingJelly 2.0: R = 1/dt in IF; samples start at v_reset.


def jelly_export(net, shape, dt=1e-3):
    return framework("spikingjelly.activation_based.nir_exchange").export_to_nir(net, torch.zeros(BATCH, *shape), dt=dt)


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("v_reset", [0.0, -0.2])
def test_spikingjelly_dense(tmp_path, decay_input, v_reset):
    neuron = framework("spikingjelly.activation_based.neuron")
    first = neuron.LIFNode(tau=3.0, decay_input=decay_input, v_threshold=0.4, v_reset=v_reset)
    second = neuron.IFNode(v_threshold=0.8, v_reset=v_reset)
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), first, torch.nn.Linear(8, 4), second)), inputs(6)
    graph = jelly_export(net, (6,))
    got = ours(graph, x, tmp_path, dt_s=1e-3, if_convention="per-second", start="v_reset")
    same(got, stepped(net, x))


def test_spikingjelly_file_leaves_the_convention_of_if_open(tmp_path):
    neuron = framework("spikingjelly.activation_based.neuron")
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron.IFNode(v_threshold=0.8))), inputs(6)
    graph, theirs = jelly_export(net, (6,)), stepped(net, x)
    assert different(ours(graph, x, tmp_path), theirs)
    open_fields = {item.field: item for item in assumptions_of(*read_graph(tmp_path / "network.nir"))}
    assert open_fields["if_convention"].value == "per-step" and "dt_s" not in open_fields
    same(ours(graph, x, tmp_path, dt_s=1e-3, if_convention="per-second"), theirs)


def test_spikingjelly_convolution(tmp_path):
    neuron, layer = framework("spikingjelly.activation_based.neuron"), framework("spikingjelly.activation_based.layer")
    net = torch.nn.Sequential(
        layer.Conv2d(2, 3, 3, stride=2, padding=1),
        neuron.LIFNode(tau=2.0, v_threshold=0.3),
        layer.AvgPool2d(2, stride=1),
        layer.Flatten(),
        layer.Linear(12, 4),
        neuron.IFNode(v_threshold=0.7),
    )
    x = inputs(2, 6, 6)
    graph = jelly_export(strong(net), (2, 6, 6))
    same(ours(graph, x, tmp_path, dt_s=1e-3, if_convention="per-second"), stepped(net, x))


@pytest.mark.parametrize("v_reset", [0.0, -0.2])
def test_spikingjelly_current(tmp_path, v_reset):
    """It rests at 0 and starts at v_reset."""
    neuron = framework("spikingjelly.activation_based.neuron")
    net, x = (
        strong(
            torch.nn.Sequential(torch.nn.Linear(6, 8), neuron.CUBALIFNode(0.5, 0.75, v_threshold=2.0, v_reset=v_reset))
        ),
        inputs(6),
    )
    graph = jelly_export(net, (6,))
    same(ours(graph, x, tmp_path, dt_s=1e-3, start="v_reset"), stepped(net, x))


@pytest.mark.parametrize("what", ["reset by subtraction", "groups"])
def test_spikingjelly_export_refuses_unsupported_features(what):
    neuron, layer = framework("spikingjelly.activation_based.neuron"), framework("spikingjelly.activation_based.layer")
    net = neuron.IFNode(v_reset=None) if what != "groups" else layer.Conv2d(2, 2, 3, groups=2)
    with pytest.raises(NotImplementedError):
        jelly_export(torch.nn.Sequential(net), (2, 6, 6))


# Limits of all files.


def in_memory(graph, x, **contract):
    """Return the only Output of a graph as its exporter left it: without a file, which NIR cannot
    write.
    """
    said = Contract(timesteps=STEPS, **contract)
    program = lower(graph, said)
    (name,) = program.outputs
    record = run_graph(graph, said, x.numpy(), rasters=[name])
    np.testing.assert_array_equal(
        run_program(program, x.numpy(), rasters=[name]).layers[name].raster != 0, record.layers[name].raster != 0
    )
    return record.layers[name].raster


def snntorch_nodes(net, sample):
    """Return snnTorch's graph before `infer_types`, with which its exporter refuses scalars."""
    exporter, nirtorch = framework("snntorch.export_nir"), framework("nirtorch")
    return nirtorch.extract_nir_graph(net, exporter._extract_snntorch_module, sample)


@pytest.mark.parametrize("batch", [(), (1,), (1, 1)])
@pytest.mark.parametrize("neuron", ["LIFBoxCell", "IAFCell", "LIBoxCell"])
def test_norse_default_neurons_from_memory(neuron, batch, tmp_path):
    """Their parameters are scalars: `nir.write` fails, the edges say how many neurons there are."""
    norse = framework("norse.torch")
    cells = [getattr(norse, neuron)() for _ in range(2)]
    net = strong(norse.SequentialState(torch.nn.Linear(6, 8), cells[0], torch.nn.Linear(8, 4), cells[1]), gain=40)
    graph, x = norse.to_nir(net, torch.zeros(*batch, 6), dt=1.0), inputs(6)
    if neuron != "LIBoxCell":  # its scalars are tensors of torch, which can be written
        with pytest.raises(TypeError):
            nir.write(tmp_path / "scalar.nir", graph)
    theirs = norse_run(net, x).detach().numpy()
    got = in_memory(graph, x, dt_s=1e-3)
    if neuron == "LIBoxCell":
        np.testing.assert_allclose(got, theirs, rtol=1e-5, atol=1e-6)
    else:
        same(got, torch.from_numpy(theirs))


def test_snntorch_default_threshold_and_decay_from_memory():
    snn = framework("snntorch")

    def leaky():
        return snn.Leaky(beta=0.9, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), leaky(), torch.nn.Flatten(), torch.nn.Linear(48, 4), leaky())
    strong(net, 4)
    x = inputs(2, 6, 6)
    graph = snntorch_nodes(net, torch.zeros(1, 2, 6, 6))
    assert tuple(graph.nodes["input"].input_type["input"]) == (1, 2, 6, 6) and graph.nodes["1"].tau.shape == ()
    for layer in (net[1], net[4]):
        layer.reset_mem()
    same(in_memory(graph, x, dt_s=1e-4), stepped(net, x))


def test_sinabs_default_parameters_from_memory():
    layers, activation = framework("sinabs.layers"), framework("sinabs.activation")
    neuron = layers.LIFSqueeze(tau_mem=20.0, batch_size=BATCH, spike_threshold=0.3, **single(activation))
    net, x = strong(torch.nn.Sequential(torch.nn.Linear(6, 8), neuron), gain=8), inputs(6)
    theirs = sinabs_run(net, x)
    graph = framework("sinabs.nir").to_nir(net, torch.zeros(BATCH, 1, 6))
    assert tuple(graph.nodes["input"].input_type["input"]) == (1, 6)
    same(in_memory(graph, x, dt_s=1.0, integration="exponential"), theirs)


def test_spikingjelly_graph_without_its_shapes():
    """Its exporter states every shape; with them taken away, the same spikes follow."""
    neuron, layer = framework("spikingjelly.activation_based.neuron"), framework("spikingjelly.activation_based.layer")
    modules = [layer.Conv2d(2, 3, 3, padding=1), neuron.LIFNode(v_threshold=0.3), layer.AvgPool2d(2), layer.Flatten()]
    net = strong(torch.nn.Sequential(*modules, layer.Linear(27, 4), neuron.IFNode(v_threshold=0.7)))
    graph, x = jelly_export(net, (2, 6, 6)), inputs(2, 6, 6)
    for node in graph.nodes.values():
        if isinstance(node, nir.Conv2d):
            node.input_shape = None
        elif isinstance(node, nir.LIF | nir.IF):
            for key in {"tau", "r", "v_leak", "v_threshold", "v_reset"} & vars(node).keys():
                setattr(node, key, np.asarray(getattr(node, key)).flat[0])
        elif isinstance(node, nir.Flatten | nir.Output):
            node.input_type = node.output_type = {"input": None, "output": None}
        if isinstance(node, nir.Flatten):
            node.start_dim = 1
    same(in_memory(graph, x, dt_s=1e-3, if_convention="per-second"), stepped(net, x))


def test_neuron_at_its_threshold():
    """sinabs and SpikingJelly spike at the threshold; Norse, snnTorch, Lava and NIR above it."""
    one, step = torch.ones(1, 1), torch.ones(1, 1, 1)
    fired = {
        "norse": lambda: framework("norse.torch").IAFCell(p=framework("norse.torch").IAFParameters(v_th=full(1, 1)))(
            one
        )[0],
        "snntorch": lambda: framework("snntorch").Leaky(beta=full(1, 0.5), threshold=full(1, 1), init_hidden=True)(one),
        "sinabs": lambda: framework("sinabs.layers").IAF(spike_fn=framework("sinabs.activation").SingleSpike)(step)[0],
        "spikingjelly": lambda: framework("spikingjelly.activation_based.neuron").IFNode()(one),
    }
    assert {name: bool(spike().item()) for name, spike in fired.items()} == {
        "norse": False,
        "snntorch": False,
        "sinabs": True,
        "spikingjelly": True,
    }
    integrator = nir.IF(np.ones(1), np.ones(1), np.zeros(1))
    nodes = {"input": nir.Input(np.array([1])), "if": integrator, "output": nir.Output(np.array([1]))}
    record = run_graph(nir.NIRGraph(nodes, [("input", "if"), ("if", "output")]), Contract(), np.ones((1, 1, 1)))
    assert record.layers["if"].events == 0
