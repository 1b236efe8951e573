"""Remedies of the errors that no rule finds: (words, what fails, the same after the remedy)."""

import copy

import h5py
import nir
import numpy as np

from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.netx.read import read_netx
from ashneuro.program.nir_file import load_graph
from ashneuro.program.placement.place import place
from ashneuro.program.quantise import quantise
from ashneuro.spiking.contract import Contract
from tests.program import test_levels as levels
from tests.program.netx.test_read import every_layer, write
from tests.program.placement.test_place import dense_program, limits
from tests.program.remedies.graphs import CONTRACT, SOUND, looped


def _nir(tmp_path, action=lambda nodes, graph: None):
    path = tmp_path / "network.nir"
    nir.write(path, SOUND_FILE)
    with h5py.File(path, "r+") as file:
        action(file["node/nodes"], file["node"])
    return load_graph(path)


def _replaced(group, key, value):
    if key in group:
        del group[key]
    group[key] = value


SOUND_FILE = copy.copy(SOUND)
SOUND_FILE.nodes = SOUND.nodes | {"output": nir.Output((4,))}
SOUND_FILE = nir.NIRGraph(SOUND_FILE.nodes, list(SOUND_FILE.edges), type_check=False)


def _entry(*edits):
    """Return a function that reads a file after these edits of its entries."""

    def read(tmp_path):
        return _nir(tmp_path, lambda nodes, graph: [edit(nodes, graph) for edit in edits])

    return read


def _mend(node, key, value):
    return lambda nodes, graph: _replaced(nodes[node], key, value)


def _drop(node, key):
    return lambda nodes, graph: nodes[node].__delitem__(key)


def _bytes(name, content, read):
    def run(tmp_path):
        (tmp_path / name).write_bytes(content)
        return read(tmp_path / name)

    return run


def _net(*edits):
    def run(tmp_path):
        path = write(tmp_path / "network.net", every_layer(np.random.default_rng(0)))
        with h5py.File(path, "r+") as file:
            for edit in edits:
                edit(file)
        return read_netx(path)

    return run


def _other_hdf5(tmp_path):
    with h5py.File(tmp_path / "weights.nir", "w") as file:
        file["model_weights"] = 1
    return load_graph(tmp_path / "weights.nir")


def _damaged(tmp_path):
    path = tmp_path / "network.nir"
    nir.write(path, SOUND_FILE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return load_graph(path)


def _fine(tmp_path):
    return _nir(tmp_path)


def _levels(scale):
    program = lower(levels.network(), levels.CONTRACT)
    return lambda _: quantise(program, input_peak={"input": 3.0}, scales={"entry": scale})


def _short_loop(steps):
    graph = looped(nir.Delay(np.full(4, steps * 1e-3)))
    return lambda tmp_path: lower(graph, CONTRACT)


ANALOG = lower(SOUND, CONTRACT)
FLOAT = lower(SOUND, Contract(timesteps=8, input_coding="spikes"))


def _placed(*sizes, **capacity):
    return lambda tmp_path: place(dense_program(*sizes), limits(**capacity))


CASES = [
    ("--target lava", lambda _: check(SOUND, CONTRACT, "abacus"), lambda _: check(SOUND, CONTRACT, "lava")),
    ("nir.write", _bytes("x.nir", b"text", load_graph), _fine),
    ("give the path of a .nir file", lambda path: load_graph(path / "absent.nir"), _fine),
    ("nir.write", _other_hdf5, _fine),
    ("export or copy the file again", _damaged, _fine),
    ("write tau of LIF", _entry(_drop("n1", "tau")), _entry(_mend("n1", "tau", np.full(4, 5e-3)))),
    ("remove colour from LIF", _entry(_mend("n1", "colour", 1)), _fine),
    ("one value, or one per neuron", _entry(_mend("n1", "tau", np.full(3, 5e-3))), _entry(_mend("n1", "tau", 5e-3))),
    ("the name of its primitive as `type`", _entry(_drop("n1", "type")), _entry(_mend("n1", "type", "LIF"))),
    ("Softmax: there is none for spikes", _entry(_mend("n1", "type", "Softmax")), _fine),
    ("write the type as LIF", _entry(_mend("n1", "type", "lif")), _entry(_mend("n1", "type", "LIF"))),
    ("pairs of node names", _entry(lambda _, graph: _replaced(graph, "edges", [[b"a", b"b", b"c"]])), _fine),
    ("`nodes` as a group", lambda path: _nir(path, lambda _, graph: _replaced(graph, "nodes", 3.0)), _fine),
    ("`metadata` as a group", _entry(lambda _, graph: _replaced(graph, "metadata", 3.0)), _fine),
    ("lava-dl", _bytes("x.net", b"text", read_netx), _net()),
    ("check the path", lambda path: read_netx(path / "absent.net"), _net()),
    ("every block with block.export_hdf5", _net(lambda file: file.move("layer", "other")), _net()),
    ("every block with block.export_hdf5", _net(lambda file: file.move("layer/3", "layer/33")), _net()),
    ("every block with block.export_hdf5", _net(lambda file: _replaced(file["layer/4"], "weight", "text")), _net()),
    ("lengthen the Delay", _short_loop(1), _short_loop(2)),
    (
        "quantise what `lower` returns",
        lambda _: quantise(quantise(FLOAT, input_peak={}).program, input_peak={}),
        lambda _: quantise(FLOAT, input_peak={}),
    ),
    ("or a peak", lambda _: quantise(ANALOG, input_peak={}), lambda _: quantise(ANALOG, input_peak={"input": 1.0})),
    ("give the scale 2^n / step", _levels(3 / 0.3), _levels(4 / 0.3)),
    ("make those layers narrower", _placed(900, 4), _placed(700, 4)),
    ("that they feed smaller", _placed(20, 4, 600, out_axons=2), _placed(20, 4, 40, out_axons=2)),
]
