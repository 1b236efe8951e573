"""Work of a stream, coding by coding, against loops over every product."""

from dataclasses import replace

import numpy as np
import pytest

from ashneuro.cost.asic import estimate_asic
from ashneuro.cost.profile import load_profile
from ashneuro.cost.streams import (
    CODINGS,
    Stream,
    host_mask,
    host_work,
    needed,
    products,
    reached,
    stream_work,
    total,
)
from ashneuro.cost.workload import ann_twin
from ashneuro.errors import AshneuroError
from ashneuro.exchange import HostLayer
from ashneuro.program.lower import lower
from ashneuro.program.program import Synapse
from ashneuro.program.synapse import conv_shape, matrix, sparse
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_program import run_program
from tests.cost import networks
from tests.program.test_changes import stream as pictures
from tests.program.test_levels import CONTRACT, LAYERS, network


def stream(threshold=0.0, steps=6, samples=2):
    """Return a stream of `network`, run in integers, and the pixels that changed."""
    x = pictures(samples=samples, steps=steps)
    program = calibrate(lower(network(4, 1.4, threshold), CONTRACT), x).program
    record = run_program(program, x, rasters=LAYERS)
    moved = np.ones(x.shape, bool)
    moved[1:] = x[1:] != x[:-1]
    return Stream(program, {name: record.layers[name].raster for name in LAYERS}, moved)


def walk(stream, coding):
    """Count products, updates and traffic of every layer, frame by frame and product by product.

    Returns:
        by layer: products, updates, weights, inputs, and outputs written or compared.
    """
    program, (steps, samples) = stream.program, stream.moved.shape[:2]
    found = {layer.name: np.zeros(5, int) for layer in program.layers}
    for sample in range(samples):
        for step in range(steps):
            arrived = {"input": stream.moved[step, sample]}
            for layer in program.layers:
                change = stream.sent[layer.name][step, sample] != 0
                value = np.abs(stream.sent[layer.name][: step + 1, sample].sum(axis=0)) > 1e-9
                computed, work, read = np.zeros(layer.shape, bool), 0, set()
                lines = []
                for number, connection in enumerate(layer.connections):
                    if connection.synapse is None:
                        computed |= arrived[connection.source].reshape(layer.shape)
                        continue
                    for target, source, weight in networks.products(connection.synapse):
                        out, inside = connection.synapse.out_shape, connection.synapse.in_shape
                        flat = int(np.ravel_multi_index(target, out)), int(np.ravel_multi_index(source, inside))
                        lines.append((number, *flat, weight, connection.source))
                for _, target, source, _, name in lines:
                    computed.flat[target] |= arrived[name].flat[source]
                if coding in ("afresh", "dense") or step == 0:
                    computed[...] = True
                for number, target, source, weight, name in lines:
                    sent = stream.sent[name][: step + 1, sample].reshape(step + 1, -1)[:, source]
                    if coding == "changes":
                        work += sent[step] != 0 and weight != 0
                    elif coding == "afresh":
                        work += abs(sent.sum()) > 1e-9 and weight != 0
                    elif computed.flat[target]:
                        work += 1
                        read.add((number, source))
                changed = change | (step == 0)
                moved = {"layers": changed.sum() + computed.sum()}.get(coding, computed.sum())
                parameters = sum(c.synapse.weight.size for c in layer.connections if c.synapse is not None)
                parameters += np.size(layer.neuron.bias) if np.any(layer.neuron.bias) else 0
                found[layer.name] += (work, computed.sum(), min(work, parameters), len(read), moved)
                arrived[layer.name] = {"pixels": computed, "layers": changed, "afresh": value}.get(coding, change)
    return found


@pytest.mark.parametrize("coding", CODINGS)
def test_counts_match_a_loop_over_every_product(coding):
    given = stream()
    expected, work = walk(given, coding), stream_work(given, coding)
    assert work.samples == given.frames and work.timesteps == 1
    for row in work.layers:
        if row.kind == "input":
            continue
        wanted = expected[row.name]
        if row.kind == "snn":
            assert (row.effective_macs, row.updates) == tuple(wanted[:2]), row.name
        elif coding == "dense":
            assert row.dense_macs == wanted[0], row.name
        else:
            moved = row.accesses
            found = (row.dense_macs, row.updates, moved.weights, moved.inputs, moved.outputs)
            assert found == tuple(wanted), row.name
    assert sum(values[0] for values in expected.values()) > 1000


def test_less_is_computed_from_coding_to_coding():
    given = stream()
    work = {coding: stream_work(given, coding) for coding in CODINGS}
    macs = {coding: one.total("dense_macs") for coding, one in work.items()}
    assert macs["dense"] > macs["pixels"] > macs["layers"] > work["changes"].total("effective_macs") > 0
    assert work["afresh"].total("graded_messages") > work["changes"].total("graded_messages") > 0


def test_a_still_stream_costs_its_first_frame():
    given = stream()
    still = {
        name: np.where(np.arange(6).reshape(-1, 1, *[1] * (one.ndim - 2)) == 0, one, 0)
        for name, one in given.sent.items()
    }
    moved = given.moved.copy()
    moved[1:] = False
    frozen = replace(given, sent=still, moved=moved)
    once = Stream(given.program, {name: one[:1] for name, one in given.sent.items()}, given.moved[:1])
    for coding in ("changes", "pixels", "layers"):
        for row, first in zip(stream_work(frozen, coding).layers, stream_work(once, coding).layers, strict=True):
            assert (row.effective_macs, row.updates, row.accesses) == (
                first.effective_macs,
                first.updates,
                first.accesses,
            )
            assert row.messages == first.messages and (coding == "changes" or row.dense_macs == first.dense_macs)


def test_first_frames_of_all_codings_are_whole():
    """One frame per clip: an ANN that keeps outputs computes what the dense one does."""
    given = stream(steps=1)
    dense = stream_work(given, "dense")
    for coding in ("pixels", "layers"):
        work = stream_work(given, coding)
        assert [row.dense_macs for row in work.layers] == [row.dense_macs for row in dense.layers]
    twin = ann_twin(given.program)
    profile = load_profile("cmos45")
    one, other = (estimate_asic(work, profile, "int4").dynamic_j for work in (dense, twin))
    assert one.typical == pytest.approx(other.typical)
    pixels = estimate_asic(stream_work(given, "pixels"), profile, "int4").dynamic_j
    assert pixels.typical == pytest.approx(one.typical)


def test_thresholds_have_no_ann():
    given = stream(threshold=2.0)
    assert stream_work(given, "changes").total("effective_macs") > 0
    with pytest.raises(AshneuroError, match="below a threshold"):
        stream_work(given, "layers")


def test_other_networks_are_refused():
    program = networks.tiny_program()
    with pytest.raises(AshneuroError, match="sends no levels"):
        Stream(
            program, {layer.name: np.zeros((2, 2, *layer.shape)) for layer in program.layers}, np.ones((2, 2, 4), bool)
        )


def synapses():
    rng = np.random.default_rng(2)

    def conv(in_shape, out, kernel, stride, padding, groups=1):
        weight = rng.normal(size=(out, in_shape[0] // groups, *kernel))
        pads, ones = tuple((size, size) for size in padding), (1, 1)
        shape = conv_shape(in_shape, kernel, out, stride, pads, ones)
        return Synapse("conv", in_shape, shape, weight, stride, pads, ones, groups)

    return {
        "3×3": conv((2, 5, 6), 3, (3, 3), (1, 1), (1, 1)),
        "stride 2": conv((2, 7, 6), 4, (3, 3), (2, 2), (1, 1)),
        "no padding": conv((2, 7, 6), 4, (2, 3), (2, 1), (0, 0)),
        "depthwise": conv((4, 5, 5), 4, (3, 3), (1, 1), (1, 1), groups=4),
        "dense": Synapse("dense", (2, 3), (5,), rng.normal(size=(5, 6))),
        "scale": Synapse("scale", (2, 3), (2, 3), rng.normal(size=(2, 3))),
        "sparse": sparse(matrix(conv((2, 5, 5), 2, (3, 3), (2, 2), (1, 1))), (2, 5, 5), (2, 3, 3)),
    }


@pytest.mark.parametrize("name", synapses())
def test_receptive_fields_are_those_of_the_matrix(name):
    synapse = synapses()[name]
    rng, pattern = np.random.default_rng(0), matrix(synapse).toarray() != 0
    mask = rng.random((30, *synapse.in_shape)) < np.linspace(0, 0.3, 30).reshape(-1, *[1] * len(synapse.in_shape))
    wanted = (pattern[None] & mask.reshape(30, 1, -1)).any(axis=2)
    np.testing.assert_array_equal(reached(synapse, mask).reshape(30, -1), wanted)
    outputs = rng.random((30, *synapse.out_shape)) < 0.1
    wanted = (pattern[None] & outputs.reshape(30, -1, 1)).any(axis=1)
    np.testing.assert_array_equal(needed(synapse, outputs).reshape(30, -1), wanted)
    np.testing.assert_array_equal(products(synapse).ravel(), pattern.sum(axis=1))


def test_host_recomputes_where_pixels_changed():
    conv = synapses()["stride 2"]
    layers = (
        HostLayer(
            "conv",
            dense_macs=int(products(conv).sum()),
            parameters=conv.weight.size + 4,
            inputs=84,
            outputs=conv.out_size,
        ),
        HostLayer("readout", dense_macs=50, parameters=50, inputs=10, outputs=5),
        HostLayer("project", dense_macs=20, parameters=24, inputs=5, outputs=4),
        HostLayer("text", dense_macs=99, parameters=9, outputs=4, part="text"),
    )
    pixels = np.zeros((3, 2, *conv.in_shape), bool)
    pixels[0] = True
    pixels[2, 1, 0, 3, 3] = True
    answered = np.array([[True, True], [True, False], [False, False]])
    work = host_work(layers, [("conv", conv)], pixels, answered)
    rows = {row.name: row for row in work.layers}
    outputs = reached(conv, pixels.reshape(6, *conv.in_shape))
    assert list(rows) == ["conv", "readout", "project"] and work.samples == 6
    assert rows["conv"].dense_macs == 2 * products(conv).sum() + products(conv)[outputs[5]].sum()
    assert rows["conv"].updates == outputs.sum() and 0 < outputs[5].sum() < conv.out_size
    assert (rows["readout"].dense_macs, rows["project"].dense_macs) == (4 * 50, 3 * 20)
    np.testing.assert_array_equal(host_mask([("conv", conv)], pixels).reshape(6, *conv.out_shape), outputs)


def test_parts_add_up():
    given = stream()
    halves = [
        Stream(given.program, {name: one[:, part] for name, one in given.sent.items()}, given.moved[:, part])
        for part in (slice(0, 1), slice(1, 2))
    ]
    for coding in CODINGS:
        whole, parts = stream_work(given, coding), total([stream_work(half, coding) for half in halves])
        for row, other in zip(whole.layers, parts.layers, strict=True):
            assert replace(row, firing_rate=None) == replace(other, firing_rate=None), (coding, row.name)
