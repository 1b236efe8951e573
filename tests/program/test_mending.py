"""Graphs that leave shapes open compute what the graph with all shapes computes."""

import copy
import itertools

import h5py
import nir
import numpy as np
import pytest
import torch

from ashneuro.errors import DataError
from ashneuro.program.bundle import read_bundle
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import load_graph, write_graph
from ashneuro.program.primitives import PARAMETERS, READ_OUT, SPIKING
from ashneuro.program.rules.graph import graph_findings
from ashneuro.program.wiring import wire
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.workflows.export import export
from tests.program import networks as net

STEPS, BATCH = 25, 3
VALUES = {
    "tau": 6e-3,
    "tau_syn": 4e-3,
    "tau_mem": 6e-3,
    "r": 1.5,
    "v_leak": 0.0,
    "v_threshold": 0.3,
    "v_reset": 0.0,
    "w_in": 1.2,
    "threshold": 0.4,
    "scale": 1.7,
    "delay": 2e-3,
}
SINGLE = ((), (1,), (1, 1))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make(kind, shape):
    """Return a neuron, Scale or Delay with parameters of one shape."""
    return kind(**{name: np.full(shape, VALUES[name]) for name in PARAMETERS[kind]})


def lif(shape):
    return make(nir.LIF, shape)


def chain(shape, *nodes, out=None):
    """Return a graph as an exporter leaves it: shapes as they are given, unchecked."""
    names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    made = dict(zip(names, [nir.Input(shape), *nodes, nir.Output(out)], strict=True))
    return nir.NIRGraph(made, list(itertools.pairwise(names)), type_check=False)


def without(graph, *names):
    graph = copy.copy(graph)
    graph.nodes = {name: node for name, node in graph.nodes.items() if name not in names}
    graph.edges = [edge for edge in graph.edges if not set(edge) & set(names)]
    return graph


def flat(shape, start=1, end=-1):
    return nir.Flatten(None if shape is None else np.array(shape), start, end)


# name: (graph with gaps, graph with all shapes), from the same weights.
def cases():
    rng = np.random.default_rng(1)
    w, w2 = rng.normal(size=(8, 6)), rng.normal(size=(4, 8))
    square = rng.normal(size=(6, 6))
    kernel, dense = rng.normal(size=(3, 2, 3, 3)), rng.normal(size=(4, 48))
    one_channel = rng.normal(size=(3, 1, 3, 3))
    kernel1, dense1 = rng.normal(size=(3, 2, 3)), rng.normal(size=(4, 12))
    from_image = rng.normal(size=(4, 32))

    def conv(shape, weight=kernel, padding=0, bias=0.2, kind=nir.Conv2d):
        return kind(shape, weight, 1, padding, 1, 1, np.full(len(weight), bias) if np.ndim(bias) == 0 else bias)

    sound = chain((6,), nir.Linear(w), lif(8), nir.Linear(w2), lif(4), out=(4,))

    def dense_with(shape, first=None, second=None, out=(4,), matrix=w2):
        return chain(shape, nir.Linear(w), first or lif(8), nir.Linear(matrix), second or lif(4), out=out)

    found = {
        "batch axis of the ends": (dense_with((1, 6), out=(1, 1, 4)), sound),
        "axes of batch and time everywhere": (
            dense_with((1, 1, 6), lif((1, 8)), lif((1, 1, 4)), out=(1, 4)),
            sound,
        ),
        "batch axis of the weights": (dense_with((1, 6), out=(1, 4), matrix=w2[None]), sound),
        "one value per population": (dense_with((6,), lif(()), lif((1,))), sound),
        "one value, and axes": (dense_with((1, 6), lif((1, 1)), lif(1), out=(1, 4)), sound),
        "ends without a shape": (dense_with(None, lif(()), lif(()), out=None), sound),
        "ends with the shape ()": (dense_with((), out=()), sound),
        "no ends": (without(dense_with(None, lif(()), lif(())), "input", "output"), sound),
        "a neuron before the first weights": (
            chain((1, 6), lif(()), nir.Linear(w), lif(1)),
            chain((6,), lif(6), nir.Linear(w), lif(8), out=(8,)),
        ),
        "an open Input before neurons": (
            chain(None, lif(()), nir.Scale(np.float64(1.7)), nir.Linear(w), lif(1)),
            chain((6,), lif(6), make(nir.Scale, 6), nir.Linear(w), lif(8), out=(8,)),
        ),
        "biases": (
            chain((6,), nir.Affine(w, np.array(0.3)), lif(8), nir.Affine(w2[None], np.full((1, 4), 0.1)), lif(4)),
            chain((6,), nir.Affine(w, np.full(8, 0.3)), lif(8), nir.Affine(w2, np.full(4, 0.1)), lif(4), out=(4,)),
        ),
        "convolution with a batch axis": (
            chain((1, 2, 6, 6), conv(None), lif(()), flat(None), nir.Linear(dense), lif(1), out=(1, 4)),
            chain(
                (2, 6, 6),
                conv((6, 6)),
                lif((3, 4, 4)),
                flat((3, 4, 4), 0),
                nir.Linear(dense),
                lif(4),
                out=(4,),
            ),
        ),
        "axes of batch in every shape": (
            chain(
                (1, 1, 2, 6, 6),
                conv((6, 6)),
                lif((1, 3, 4, 4)),
                flat((1, 1, 3, 4, 4), 2),
                nir.Linear(dense),
                lif((1, 4)),
                out=(1, 1, 4),
            ),
            chain((2, 6, 6), conv((6, 6)), lif((3, 4, 4)), flat((3, 4, 4), 0), nir.Linear(dense), lif(4), out=(4,)),
        ),
        "one value per channel": (
            chain((2, 6, 6), conv(None, bias=np.array(0.2)), lif((3, 1, 1))),
            chain((2, 6, 6), conv((6, 6)), lif((3, 4, 4)), out=(3, 4, 4)),
        ),
        "one channel is no batch axis": (
            chain((1, 6, 6), conv(None, one_channel, "same"), lif((1, 1, 1)), out=None),
            chain((1, 6, 6), conv((6, 6), one_channel, 1), lif((3, 6, 6)), out=(3, 6, 6)),
        ),
        "one channel behind a batch axis": (
            chain((1, 1, 6, 6), conv(None, one_channel, "valid"), lif(()), out=(1, 3, 4, 4)),
            chain((1, 6, 6), conv((6, 6), one_channel), lif((3, 4, 4)), out=(3, 4, 4)),
        ),
        "padding as a number of numpy": (
            chain((2, 6, 6), conv(None, padding=np.int64(1)), lif(())),
            chain((2, 6, 6), conv((6, 6), padding=(1, 1)), lif((3, 6, 6)), out=(3, 6, 6)),
        ),
        "one dimension": (
            chain((1, 2, 6), conv(None, kernel1, kind=nir.Conv1d), lif(()), flat(None), nir.Linear(dense1), lif(())),
            chain(
                (2, 6),
                conv(6, kernel1, kind=nir.Conv1d),
                lif((3, 4)),
                flat((3, 4), 0),
                nir.Linear(dense1),
                lif(4),
                out=(4,),
            ),
        ),
        "Flatten that counts a batch axis": (
            chain((2, 4, 4), flat(None), nir.Linear(from_image), lif(4)),
            chain((2, 4, 4), flat((2, 4, 4), 0), nir.Linear(from_image), lif(4), out=(4,)),
        ),
        "Flatten that counts two": (
            chain((2, 4, 4), flat(None, 2, 4), nir.Linear(from_image), lif(4)),
            chain((2, 4, 4), flat((2, 4, 4), 0), nir.Linear(from_image), lif(4), out=(4,)),
        ),
        "Flatten of a vector": (
            chain((6,), flat(None), nir.Linear(w), lif(8)),
            chain((6,), flat((6,), 0), nir.Linear(w), lif(8), out=(8,)),
        ),
        "Flatten, with single values behind it": (
            chain(
                (2, 4, 4), lif(()), flat((2, 4, 4)), nir.Scale(np.float64(1.7)), lif(1), nir.Linear(from_image), lif(())
            ),
            chain(
                (2, 4, 4),
                lif((2, 4, 4)),
                flat((2, 4, 4), 0),
                make(nir.Scale, 32),
                lif(32),
                nir.Linear(from_image),
                lif(4),
                out=(4,),
            ),
        ),
        "pools": (
            chain((1, 2, 6, 6), nir.AvgPool2d(2, 2, 0), lif(()), nir.SumPool2d(3, 1, 0), lif(()), flat(None), lif(())),
            chain(
                (2, 6, 6),
                nir.AvgPool2d(2, 2, 0),
                lif((2, 3, 3)),
                nir.SumPool2d(3, 1, 0),
                lif((2, 1, 1)),
                flat((2, 1, 1), 1),
                lif((2, 1)),
                out=(2, 1),
            ),
        ),
    }
    for kind in (*SPIKING, *READ_OUT):
        found |= {
            f"{kind.__name__} of shape {shape}": (
                chain((6,), nir.Linear(w), make(kind, shape)),
                chain((6,), nir.Linear(w), make(kind, 8), out=(8,)),
            )
            for shape in SINGLE
        }
    for kind in (nir.Scale, nir.Delay):
        found |= {
            f"{kind.__name__} of shape {shape}": (
                chain((1, 6), nir.Linear(w), lif(8), make(kind, shape), nir.Linear(w2), lif(4)),
                chain((6,), nir.Linear(w), lif(8), make(kind, 8), nir.Linear(w2), lif(4), out=(4,)),
            )
            for shape in SINGLE
        }

    def recurrent(own, out):
        nodes = {"input": nir.Input(out), "lif": lif(own), "w": nir.Linear(square * 0.5), "output": nir.Output(out)}
        edges = [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")]
        return nir.NIRGraph(nodes, edges, type_check=False)

    found["a nested graph"] = (
        chain((1, 6), recurrent((), None), nir.Linear(w), lif(()), out=(1, 8)),
        chain((6,), recurrent(6, (6,)), nir.Linear(w), lif(8), out=(8,)),
    )
    found["a nested graph without ends"] = (
        chain((6,), without(chain((6,), nir.Linear(w), lif(())), "input", "output"), nir.Linear(w2), lif(())),
        chain((6,), chain((6,), nir.Linear(w), lif(8), out=(8,)), nir.Linear(w2), lif(4), out=(4,)),
    )
    return found


CASES = cases()
KEYS = list(CASES)


def samples(graph, rng):
    (shape,) = (wire(graph).in_shapes[name] for name in wire(graph).named("input"))
    return net.spikes(rng, STEPS, BATCH, shape, 0.5)


def values(graph, x):
    record = run_graph(graph, net.CONTRACT, x, rasters=wire(graph).named("neuron"))
    return {name: layer.raster for name, layer in record.layers.items()}


def content(graph):
    """Return everything that a graph's nodes hold, as text."""
    return {
        name: content(node) if isinstance(node, nir.NIRGraph) else {k: repr(v) for k, v in vars(node).items()}
        for name, node in graph.nodes.items()
    } | {"edges": list(graph.edges)}


@pytest.mark.parametrize("case", KEYS)
def test_mended_graph_computes_what_the_whole_graph_computes(case, rng):
    open_graph, sound = CASES[case]
    x = samples(sound, rng)
    wanted = values(sound, x)
    assert any(np.ptp(raster) > 0 for raster in wanted.values())
    got = values(open_graph, x)
    assert list(got) == list(wanted)
    for name, raster in wanted.items():
        np.testing.assert_array_equal(got[name], raster)
    # By definition, too, which knows nothing of shapes that are left open.
    defined = net.define(sound, net.CONTRACT, {"input": x})
    program = net.run_program(lower(open_graph, net.CONTRACT), {"input": x})
    for name, raster in program.items():
        np.testing.assert_allclose(raster.reshape(defined[name].shape), defined[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", KEYS)
def test_every_mending_is_a_note_and_leaves_the_graph_untouched(case):
    open_graph, sound = CASES[case]
    before = content(open_graph)
    findings = graph_findings(open_graph, net.CONTRACT)
    assert all(finding.ok for finding in findings), findings
    notes = [finding for finding in findings if finding.rule == "follows_from_graph"]
    assert notes and all(note.level == "note" and note.actual and note.remedy for note in notes)
    assert content(open_graph) == before
    # A graph with all shapes is taken as it is.
    assert wire(sound).graph is sound and not wire(sound).mended
    # The mended one has nothing left to mend, and the same notes do not come back.
    assert not wire(wire(open_graph).graph).mended


@pytest.mark.parametrize("case", KEYS)
def test_mended_graph_is_written_for_every_reader(case, tmp_path):
    open_graph, _ = CASES[case]
    wiring = wire(open_graph)
    write_graph(tmp_path / "whole.nir", wiring, net.CONTRACT)
    again = wire(load_graph(tmp_path / "whole.nir"))
    assert not again.mended and again.in_shapes == wiring.in_shapes and again.out_shapes == wiring.out_shapes
    if case != "Flatten, with single values behind it":
        nir.read(tmp_path / "whole.nir")  # with its own type check


def test_gaps_of_a_file(tmp_path):
    """NIR's constructors want every entry, and neurons whose parameters have one shape."""
    _, sound = CASES["convolution with a batch axis"]
    path = tmp_path / "network.nir"
    write_graph(path, sound, net.CONTRACT)
    with h5py.File(path, "r+") as file:
        nodes = file["node/nodes"]
        del nodes["n0/input_shape"], nodes["input/shape"], nodes["output/shape"], nodes["n2/input_type"]
        nodes["input/shape"] = np.array([1, 2, 6, 6])
        nodes["output/shape"] = h5py.Empty("i8")
        del nodes["n2/start_dim"]
        nodes["n2/start_dim"] = 1
        for name in ("tau", "v_leak"):
            del nodes[f"n1/{name}"]
            nodes[f"n1/{name}"] = VALUES[name]
        del nodes["n1/v_reset"], nodes["n4/r"]
        nodes["n4/r"] = np.array([VALUES["r"]])
    read = load_graph(path)
    x = samples(sound, np.random.default_rng(0))
    wanted, got = values(sound, x), values(read, x)
    assert all((got[name] == raster).all() for name, raster in wanted.items())
    assert {note.node for note in wire(read).mended} == {"input", "n0", "n1", "n2", "n4", "output"}


def test_leading_axes_of_any_size_are_left_out(rng):
    graph, sound = CASES["batch axis of the ends"]
    x, wanted = samples(sound, rng), values(sound, samples(sound, np.random.default_rng(0)))
    open_graph = chain((-1, -1, 6), *(graph.nodes[f"n{i}"] for i in range(4)), out=(-1, 4))
    assert {note.node: note.what for note in wire(open_graph).mended} == {
        "input": "a leading axis of any size (-1) left out: its shape is 6",
        "output": "a leading axis of any size (-1) left out: its shape is 4",
    }
    assert all((values(open_graph, x)[name] == raster).all() for name, raster in wanted.items())
    # Alone, -1 is no size; nor is it one elsewhere. Nothing else is reported of such a node.
    for shape in ((-1,), (6, -1), (0, 6)):
        (finding,) = [each for each in graph_findings(chain(shape, lif(6)), net.CONTRACT) if not each.ok]
        assert finding.node == "input" and finding.rule == "readable_parameters"


def test_tensors_are_read_as_arrays(rng):
    """Graphs made in memory may hold parameters of a module."""
    _, sound = CASES["batch axis of the ends"]
    x = samples(sound, rng)
    graph = copy.copy(sound)
    graph.nodes = dict(sound.nodes)
    for name, node in sound.nodes.items():
        graph.nodes[name] = copy.copy(node)
        for key in PARAMETERS.get(type(node), ()):
            setattr(graph.nodes[name], key, torch.nn.Parameter(torch.tensor(getattr(node, key))))
    assert not [finding for finding in check(graph, net.CONTRACT) if finding.level == "error"]
    wanted = values(sound, x)
    assert all((values(graph, x)[name] == raster).all() for name, raster in wanted.items())
    assert isinstance(graph.nodes["n0"].weight, torch.nn.Parameter)
    half = copy.copy(sound)
    half.nodes = sound.nodes | {"n0": nir.Linear(torch.tensor(sound.nodes["n0"].weight, dtype=torch.bfloat16))}
    assert wire(half).nodes["n0"].weight.dtype == np.float32


def test_samples_may_keep_the_axis_of_the_file(rng):
    graph, sound = CASES["batch axis of the ends"]
    x = samples(sound, rng)
    wanted = values(sound, x)
    got = values(graph, x[:, :, None, None])
    assert all((got[name] == raster).all() for name, raster in wanted.items())
    # Nor need they have an axis of size 1 that the Input keeps.
    image, whole = CASES["one channel is no batch axis"]
    pictures = samples(whole, rng)
    wanted_image, got_image = values(whole, pictures), values(image, pictures[:, :, 0])
    assert all((got_image[name] == raster).all() for name, raster in wanted_image.items())
    with pytest.raises(DataError, match="add the time axis"):
        values(image, pictures[0])
    with pytest.raises(DataError, match=r"must be \(T, B, 6\)"):
        values(graph, np.repeat(x[:, :, None], 2, axis=2))


def refusals():
    rng = np.random.default_rng(2)
    w, w1 = rng.normal(size=(8, 6)), rng.normal(size=(2, 1, 3))
    two = {"input": nir.Input((1, 6)), "a": nir.Linear(w), "b": nir.Conv1d(6, w1, 1, 0, 1, 1, np.zeros(2))}
    two |= {"lif": lif(8), "lif2": lif((2, 4)), "output": nir.Output(None)}
    edges = [("input", "a"), ("a", "lif"), ("lif", "output"), ("input", "b"), ("b", "lif2")]
    roots = {"a": nir.Linear(w), "b": nir.Linear(w), "lif": lif(8), "output": nir.Output(None)}
    loop = {"lif": lif(6), "w": nir.Linear(rng.normal(size=(6, 6))), "other": lif(6)}
    return {
        "a batch of ten": (chain((10, 6), nir.Linear(w), lif(8)), ("input → n0", "10×6", "axis of batch or time")),
        "steps and a batch": (
            chain((50, 1, 6), nir.Linear(w), lif(8)),
            ("leading axes 50×1", "one sample at one step"),
        ),
        "a batch of neurons": (chain((6,), nir.Linear(w), lif((3, 8))), ("leading axis of 3 of n1", "batch or time")),
        "one axis as batch and as channel": (
            nir.NIRGraph(two, edges, type_check=False),
            ("b", "batch or time", "channels"),
        ),
        "nothing says a size": (chain(None, lif(()), lif(())), ("n0", "no edge says how many", "one value per neuron")),
        "an image into weights": (chain((4, 4), nir.Linear(np.ones((3, 16))), lif(3)), ("put a Flatten",)),
        "values per channel without axes": (
            chain((3, 5, 5), nir.AvgPool2d(1, 1, 0), lif((3,))),
            ("n0 → n1", "one value per channel", "the shape 3×1×1"),
        ),
        "two nodes without an Input": (
            nir.NIRGraph(roots, [("a", "lif"), ("b", "lif"), ("lif", "output")], type_check=False),
            ("no Input", "a, b could be next to it", "add a nir.Input"),
        ),
        "a loop of two neurons without ends": (
            nir.NIRGraph(loop, [("lif", "w"), ("w", "other"), ("other", "lif")], type_check=False),
            ("no Input", "no Output"),
        ),
        "a Flatten of axes that are not there": (
            chain((2, 4, 4), flat(None, -5, -4), lif(())),
            ("n0", "dimensions -5 to -4", "start_dim"),
        ),
    }


REFUSALS = refusals()


@pytest.mark.parametrize("case", REFUSALS)
def test_ambiguous_shapes_are_refused_with_a_remedy(case):
    graph, words = REFUSALS[case]
    errors = [finding for finding in check(graph, net.CONTRACT) if not finding.ok]
    text = " ".join(f"{error.node} {error.actual} {error.remedy}" for error in errors)
    assert errors and all(error.remedy for error in errors)
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"


def test_refused_axis_is_mended_by_its_remedy():
    """The remedy: the Input without the axis."""
    graph, _ = REFUSALS["a batch of ten"]
    graph = copy.copy(graph)
    graph.nodes = graph.nodes | {"input": nir.Input((6,))}
    assert all(finding.ok for finding in check(graph, net.CONTRACT))


def looped(*nodes):
    """Return in → … → out with the only neuron feeding itself through weights, without ends."""
    rng = np.random.default_rng(3)
    made = {"w": nir.Linear(rng.normal(size=(4, 6))), "lif": lif(()), "back": nir.Linear(rng.normal(size=(4, 4)) * 0.3)}
    edges = [("w", "lif"), ("lif", "back"), ("back", "lif")]
    return nir.NIRGraph(
        {name: made[name] for name in nodes}, [e for e in edges if set(e) <= set(nodes)], type_check=False
    )


def test_loop_at_the_end_has_its_output_behind_its_only_neuron():
    wiring = wire(looped("w", "lif", "back"))
    assert wiring.sources("output") == ["lif"] and wiring.targets("input") == ["w"]
    assert all(finding.ok for finding in graph_findings(wiring, net.CONTRACT))
    alone = wire(looped("lif", "back"))
    assert alone.sources("output") == ["lif"] and alone.targets("input") == ["lif"]
    assert alone.in_shapes["input"] == (4,)


def test_several_outputs_are_added_behind_their_nodes(rng):
    w = rng.normal(size=(4, 6))
    nodes = {"input": nir.Input((1, 6)), "a": nir.Linear(w), "one": lif(()), "b": nir.Linear(w), "two": lif(())}
    edges = [("input", "a"), ("a", "one"), ("input", "b"), ("b", "two")]
    wiring = wire(nir.NIRGraph(nodes, edges, type_check=False))
    assert {name: wiring.sources(name) for name in wiring.named("output")} == {"output": ["one"], "output_two": ["two"]}


@pytest.mark.lava
@pytest.mark.parametrize("case", ["axes of batch in every shape", "a nested graph"])
def test_bundle_holds_the_mended_graph_and_lava_runs_it(case, rng, tmp_path):
    open_graph, sound = CASES[case]
    x = samples(sound, rng)
    exported = export(open_graph, tmp_path / "bundle", inputs=x, samples=BATCH, accept_assumptions=True)
    assert {note.node for note in exported.notes if note.rule == "follows_from_graph"}
    lava = [each for each in exported.certificate.comparisons if each.right.value.startswith("Lava")]
    assert {each.status for each in lava} == {"equal"}
    bundle = read_bundle(tmp_path / "bundle")
    assert not bundle.wiring.mended
    wanted = values(sound, x)
    for name, raster in bundle.reference.spikes.items():
        np.testing.assert_array_equal(raster, wanted[name].astype(raster.dtype))
