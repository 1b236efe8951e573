import dataclasses
import json

import numpy as np
import pytest

from ashneuro.errors import BundleError
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.serialise import NUMBERS, STRUCTURE, load_programs, save_programs


def example(precision="float"):
    rng = np.random.default_rng(0)
    read_out = Neuron(np.ones(()), np.full((2,), 0.5), np.full((), np.inf), np.zeros(()), spiking=False)
    spiking = Neuron(
        np.ones(()),
        np.float64(0.25),
        np.ones((4, 1)),
        rng.standard_normal((4, 6)),
        bias_exp=3,
        v_unit=np.full((), 0.5),
        v_origin=np.full(4, -1.0).reshape(4, 1),
    )
    conv = Synapse("conv", (3, 8), (4, 6), rng.standard_normal((4, 3, 3)), (1,), ((0, 0),), (1,), 1)
    csr = Synapse(
        "sparse", (4, 6), (2,), np.ones(3), indices=np.arange(3, dtype=np.int32), indptr=np.array([0, 1, 3], np.int32)
    )
    return Program(
        precision,
        1e-3,
        None,
        (InputPort("in", (3, 8), "graded", 2.5, 127), InputPort("one", (1,), "spikes", constant=True)),
        (
            Layer("a", (4, 6), spiking, (Connection("in", conv, nir=("conv",)),), 1, 3.5, ("a", "norm")),
            Layer("b", (2,), read_out, (Connection("a", csr, 1, -2), Connection("one", None)), 3),
        ),
        ("a", "b"),
        ("a sentence",),
    )


def in_integers(program):
    """Return ``program`` with whole numbers in the arrays that an integer program has whole."""

    def whole(values):
        return np.rint(np.minimum(values, 1000)).astype(np.int32)

    layers = []
    for layer in program.layers:
        neuron = dataclasses.replace(
            layer.neuron, **{name: whole(getattr(layer.neuron, name)) for name in ("du", "dv", "v_threshold", "bias")}
        )
        connections = [
            dataclasses.replace(
                one, synapse=one.synapse and dataclasses.replace(one.synapse, weight=whole(one.synapse.weight))
            )
            for one in layer.connections
        ]
        layers.append(dataclasses.replace(layer, neuron=neuron, connections=tuple(connections)))
    return dataclasses.replace(program, layers=tuple(layers))


def assert_same(a, b):
    if dataclasses.is_dataclass(a):
        assert type(a) is type(b)
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, tuple):
        assert isinstance(b, tuple) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray | np.generic):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype and a.shape == b.shape
    else:
        assert a == b and type(a) is type(b)


def test_round_trip(tmp_path):
    programs = {"float": example(), "integer": in_integers(example("integer"))}
    save_programs(tmp_path, programs)
    loaded = load_programs(tmp_path)
    assert list(loaded) == ["float", "integer"]
    for name, program in programs.items():
        assert_same(program, loaded[name])


def test_equal_programs_give_equal_bytes(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        save_programs(tmp_path / name, {"float": example()})
    for file in (STRUCTURE, NUMBERS):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()


def test_files_are_plain_json_and_arrays(tmp_path):
    save_programs(tmp_path, {"float": example()})
    structure = json.loads((tmp_path / STRUCTURE).read_text())
    key = structure["programs"]["float"]["layers"][0]["connections"][0]["synapse"]["weight"]
    with np.load(tmp_path / NUMBERS, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive[key], example().layers[0].connections[0].synapse.weight)


@pytest.mark.parametrize("file", [STRUCTURE, NUMBERS])
@pytest.mark.parametrize("damage", ["missing", "cut", "noise", "empty"])
def test_damaged_files_give_three_part_errors(tmp_path, file, damage):
    save_programs(tmp_path, {"float": example()})
    path = tmp_path / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "noise": b"\x00\xff" * 50, "empty": b""}[damage])
    with pytest.raises(BundleError) as caught:
        load_programs(tmp_path)
    assert caught.value.what and caught.value.why and caught.value.do


def test_other_schema_is_refused(tmp_path):
    save_programs(tmp_path, {"float": example()})
    path = tmp_path / STRUCTURE
    path.write_text(path.read_text().replace("ashneuro-program/2", "ashneuro-program/99"))
    with pytest.raises(BundleError, match="ashneuro-program/99"):
        load_programs(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("bits", 10**12), ("bits", -1), ("shift", 10**12)])
def test_sizes_of_messages_are_bounded(tmp_path, key, value):
    save_programs(tmp_path, {"float": example()})
    content = json.loads((tmp_path / STRUCTURE).read_text())
    content["programs"]["float"]["layers"][0]["neuron"]["message"][key] = value  # 2 to that power is allocated
    (tmp_path / STRUCTURE).write_text(json.dumps(content))
    with pytest.raises(BundleError, match="messages"):
        load_programs(tmp_path)
