"""Partitions and hops: rules, limits, and agreement with loops over every neuron and synapse."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashneuro.cost.cores import core_limits
from ashneuro.cost.profile import load_profile
from ashneuro.errors import GraphError
from ashneuro.program.placement.place import place
from ashneuro.program.placement.placement import CoreLimits, Placement
from ashneuro.program.placement.route import out_axons, received, traffic
from ashneuro.program.program import Connection, InputPort, Layer, Program, Synapse
from ashneuro.program.synapse import matrix, sparse
from tests.cost import networks

SMALL = CoreLimits("a small chip", 64, 2000, 8, 10, 8, 800, None, False, 2, 3, 12)
LOIHI1, LOIHI2 = (core_limits(load_profile(name)) for name in ("loihi1", "loihi2"))


def limits(**changes):
    return replace(SMALL, **changes)


def dense_program(inputs, *sizes):
    rng = np.random.default_rng(0)
    layers, source, shape = [], "input", (inputs,)
    for number, size in enumerate(sizes):
        synapse = networks.dense(rng, shape, size, zeros=0)
        layers.append(Layer(f"fc{number}", (size,), networks.neuron(), (Connection(source, synapse),), number + 1))
        source, shape = f"fc{number}", (size,)
    return Program("float", 1e-3, 4, (InputPort("input", (inputs,), "spikes"),), tuple(layers), (source,))


def test_neurons_are_partitioned_within_capacities():
    program = networks.tiny_program(channels=16, size=12)
    for chip in (SMALL, LOIHI1, LOIHI2):
        placement = place(program, chip)
        first = 0
        for layer in program.layers:
            placed = placement.layer(layer.name)
            seen = np.zeros(layer.shape, int)
            blocks = list(placed.blocks())
            for block in blocks:
                seen[block] += 1
            assert (seen == 1).all() and len(blocks) == placed.cores
            assert placed.first_core == first
            assert placed.neurons <= chip.neurons and placed.synapse_words <= chip.synapse_words
            assert chip.in_axons is None or placed.in_axons <= chip.in_axons
            first += placed.cores
        assert placement.cores == first


def test_flat_layer_divisor_doubles_until_it_fits():
    # 2,560 inputs × ⌈100·16/64⌉ words are 64,000 of 12,000: six parts of 17 neurons would take
    # 12,800 words, so there are twelve.
    placed = place(dense_program(2560, 100), LOIHI2).layers[0]
    assert (placed.cores, placed.neurons, placed.synapse_words, placed.limited_by) == (12, 9, 7680, "synapse words")


def test_pairs_of_decays_have_cores_of_their_own():
    program = dense_program(20, 40)
    layer = program.layers[0]

    def cores(dv, chip=SMALL):
        other = replace(layer, neuron=replace(layer.neuron, dv=np.asarray(dv)))
        return place(replace(program, layers=(other,)), chip).layers[0]

    assert cores(np.full(40, 0.3)).cores == cores(0.3).cores == 1
    halves = cores(np.repeat([0.3, 0.4], 20))
    assert (halves.cores, halves.limited_by) == (2, "pairs of decays")
    # With 20 neurons on a core, 37 of one pair take two, and 3 of the other a third.
    assert cores(np.repeat([0.3, 0.4], [37, 3]), limits(neurons=20)).demands["pairs of decays"] == 3
    assert cores(np.linspace(0.1, 0.9, 40)).cores == 40
    assert cores(0.3 + np.arange(40) * 1e-6).cores == 1  # equal in 1/4096


def test_words_of_synapse_lists():
    # One axon per input: a header of 10 bits and 8 per weight, rounded up to 64.
    assert place(dense_program(20, 7), limits(neurons=8)).layers[0].synapse_words == 20 * math.ceil((7 * 8 + 10) / 64)
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(30, 40)) * (rng.random((30, 40)) > 0.8)
    synapse = sparse(weights, (40,), (30,))
    layer = Layer("fc", (30,), networks.neuron(), (Connection("input", synapse),), 1)
    program = Program("float", 1e-3, 4, (InputPort("input", (40,), "spikes"),), (layer,), ("fc",))
    expected = sum(math.ceil((count * 8 + 10) / 64) for count in (weights != 0).sum(axis=0) if count)
    assert place(program, SMALL).layers[0].synapse_words == expected


def test_words_of_dense_layers_are_exact():
    # 25 neurons on four cores, 7 each: as floats 25 · (7 / 25) is above 7.
    placed = place(dense_program(20, 25), limits(neurons=7, synapse_bits=64, axon_bits=0)).layers[0]
    assert (placed.neurons, placed.synapse_words) == (7, 20 * 7)


def test_connections_of_different_delay_share_axons():
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(30, 40)) * (rng.random((30, 40)) > 0.5)
    late = rng.random((30, 40)) > 0.5
    parts = [sparse(np.where(late, weights, 0), (40,), (30,)), sparse(np.where(late, 0, weights), (40,), (30,))]
    connections = tuple(Connection("input", part, delay) for delay, part in enumerate(parts))
    whole = (Connection("input", sparse(weights, (40,), (30,))),)
    programs = [
        Program(
            "float",
            1e-3,
            4,
            (InputPort("input", (40,), "spikes"),),
            (Layer("fc", (30,), networks.neuron(), ways, 1),),
            ("fc",),
        )
        for ways in (connections, whole)
    ]
    first, second = (place(program, SMALL).layers[0] for program in programs)
    assert first == second and first.in_axons == 40


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_networks_keep_limits_and_halving_adds_cores(seed):
    rng = np.random.default_rng(seed)
    program = networks.tiny_program(seed=seed, channels=int(rng.integers(2, 12)), size=int(rng.integers(3, 11)))
    chip = limits(neurons=int(rng.integers(8, 200)), synapse_words=int(rng.integers(1300, 5000)), in_axons=None)
    placement, tighter = place(program, chip), place(program, replace(chip, neurons=chip.neurons // 2))
    for placed in placement.layers:
        assert placed.neurons <= chip.neurons and placed.synapse_words <= chip.synapse_words
        assert placed.cores * placed.neurons >= math.prod(placed.shape)
        assert sum(math.prod(part.stop - part.start for part in block) for block in placed.blocks()) == math.prod(
            placed.shape
        )
    assert tighter.cores >= placement.cores


def test_limited_by():
    program = networks.tiny_program(channels=16, size=12)
    assert place(program, limits(neurons=128, synapse_words=10**6, in_axons=None)).layers[0].limited_by == "neurons"
    assert (
        place(program, limits(neurons=10**6, synapse_words=10**6, in_axons=700)).layers[1].limited_by == "input axons"
    )
    assert place(program, limits(neurons=10**6, synapse_words=10**6, in_axons=None)).layers[0].limited_by == ""
    assert place(dense_program(20, 60), limits(out_axons=40)).layers[0].limited_by == ""  # it sends to nobody
    crowded = place(dense_program(20, 60, 30), limits(synapse_words=150, out_axons=60))
    assert crowded.layers[0].limited_by in ("output axons", "synapse words")
    assert all(one.out_axons <= 60 for one in crowded.layers)


def test_output_axons_cut_layers_finer():
    # 188 cores are fed: 22 neurons need 4,136 output axons of 4,096, 21 need 3,948. Dividing 4,096
    # neurons by 189 rounds up to 22 again.
    placed = place(dense_program(20, 4096, 3000), LOIHI1)
    assert placed.layer("fc1").cores == 188
    assert (placed.layer("fc0").neurons, placed.layer("fc0").out_axons) == (21, 3948)


def test_too_many_output_axons_are_named():
    rng = np.random.default_rng(0)
    synapse = networks.conv(rng, (3, 8, 8), 4)
    layers = tuple(
        Layer(name, shape, networks.neuron(), (Connection(source, way),), depth)
        for name, shape, source, way, depth in (
            ("a", (3, 8, 8), "input", None, 0),
            ("b", synapse.out_shape, "a", synapse, 1),
        )
    )
    program = Program("float", 1e-3, 4, (InputPort("input", (3, 8, 8), "current"),), layers, ("b",))
    with pytest.raises(GraphError, match="output axons per core, at most 3, stay too many"):
        place(program, limits(neurons=8, in_axons=None, out_axons=3))


def test_layers_that_fit_no_core_are_reported_at_once():
    with pytest.raises(GraphError) as caught:
        place(dense_program(500, 4, 4), limits(in_axons=400))
    assert "fc0: one neuron takes" in caught.value.why and "500 of 400 input axons" in caught.value.why
    assert "fc1" not in caught.value.why
    with pytest.raises(GraphError, match="output axons"):
        place(dense_program(10, 60, 60), limits(neurons=4, out_axons=10))


def test_cores_fill_tiles_in_serpentine_order():
    placement = Placement(SMALL, ())
    positions = [placement.tile(core) for core in range(14)]
    assert positions[::2] == [(0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 2, 1), (0, 1, 1), (0, 0, 1), (1, 0, 0)]
    assert positions[0] == positions[1]


def synapses(rng):
    yield networks.conv(rng, (3, 6, 7), 4)
    yield networks.conv(rng, (4, 6, 7), 4, stride=2, groups=4)
    yield networks.conv(rng, (4, 6, 7), 6, dilation=2, groups=2)
    yield Synapse("scale", (4, 6, 7), (4, 6, 7), np.array(0.5))
    yield networks.dense(rng, (3, 4, 5), 30)
    weights = rng.normal(size=(30, 60)) * (rng.random((30, 60)) > 0.9)
    yield sparse(weights, (3, 4, 5), (30,))


@pytest.mark.parametrize("number", range(6))
def test_traffic_equals_a_loop_over_spikes(number):
    rng = np.random.default_rng(number)
    synapse = list(synapses(rng))[number]
    zeros = synapse.kind in ("sparse",)
    if not zeros:  # a compiled convolution or matrix keeps its zeros, and so its routes
        synapse = replace(synapse, weight=np.ones_like(synapse.weight))
    first = Layer("a", synapse.in_shape, networks.neuron(), (Connection("input", None),), 0)
    second = Layer("b", synapse.out_shape, networks.neuron(), (Connection("a", synapse),), 1)
    program = Program("float", 1e-3, 4, (InputPort("input", synapse.in_shape, "current"),), (first, second), ("b",))
    placement = place(program, limits(neurons=16, synapse_words=10**6, in_axons=None))
    counts = {layer.name: rng.integers(0, 5, layer.shape) for layer in program.layers}
    core = {}
    for placed in placement.layers:
        for offset, block in enumerate(placed.blocks()):
            for index in np.ndindex(placed.shape):
                if all(part.start <= i < part.stop for i, part in zip(index, block, strict=True)):
                    core[placed.layer, int(np.ravel_multi_index(index, placed.shape))] = placed.first_core + offset
    messages = local = east_west = north_south = crossings = 0
    inbox, outbox = {}, {}
    weights = matrix(synapse).tocsc()
    for source in range(synapse.in_size):
        spikes = int(counts["a"].ravel()[source])
        here = core["a", source]
        for there in {core["b", row] for row in weights[:, source].indices}:
            p, q = placement.tile(here), placement.tile(there)
            messages += spikes
            inbox[there] = inbox.get(there, 0) + spikes
            outbox[here] = outbox.get(here, 0) + 1
            crossings += spikes * (p[0] != q[0])
            if p[0] == q[0]:
                east_west += spikes * abs(p[1] - q[1])
                north_south += spikes * abs(p[2] - q[2])
                local += spikes * (p == q)
    found = traffic(program, placement, counts)
    assert vars(found["a"]) == {
        "messages": messages,
        "local": local,
        "east_west": east_west,
        "north_south": north_south,
        "crossings": crossings,
    }
    assert found["b"].messages == 0 and messages > 0
    assert received(program, placement, counts)["b"] == max(inbox.values())
    assert out_axons(program, placement) == {"a": max(outbox.values()), "b": 0}


@pytest.mark.parametrize("by", ["source", "synapse"])
def test_connections_of_different_delay_share_messages(by):
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(30, 40)) * (rng.random((30, 40)) > 0.8)
    delays = rng.integers(0, 4, (1, 40) if by == "source" else (30, 40))
    late = tuple(Connection("a", sparse(np.where(delays == d, weights, 0), (40,), (30,)), d) for d in range(4))
    first = Layer("a", (40,), networks.neuron(), (Connection("input", None),), 0)
    port = InputPort("input", (40,), "current")
    both = [
        Program("float", 1e-3, 4, (port,), (first, Layer("b", (30,), networks.neuron(), ways, 1)), ("b",))
        for ways in (late, (Connection("a", sparse(weights, (40,), (30,))),))
    ]
    counts = {"a": rng.integers(0, 5, 40), "b": np.zeros(30, int)}
    parts, whole = ([f(p, place(p, limits(neurons=8)), counts) for f in (traffic, received)] for p in both)
    assert parts == whole
    assert out_axons(both[0], place(both[0], limits(neurons=8))) == out_axons(
        both[1], place(both[1], limits(neurons=8))
    )


def test_skip_beside_convolution_adds_no_messages():
    program = networks.tiny_program(channels=16, size=12)
    placement = place(program, limits(neurons=128, synapse_words=10**6, in_axons=None))
    counts = {layer.name: np.ones(layer.shape, int) for layer in program.layers}
    bare = tuple(
        replace(layer, connections=layer.connections[:1]) if layer.name == "lif3" else layer for layer in program.layers
    )
    assert traffic(program, placement, counts) == traffic(replace(program, layers=bare), placement, counts)
