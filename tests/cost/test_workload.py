"""Counts of a run against loops over every product."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import load_profile
from ashneuro.cost.workload import LayerWorkload, Workload, ann_twin, count, count_steps, host_workload, neurobench
from ashneuro.errors import AshneuroError
from ashneuro.program.program import Connection, InputPort, Layer, Program
from ashneuro.program.synapse import conv_shape, sparse
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.record import Activity, SpikeRecord, load_counts, save_counts
from ashneuro.spiking.message import SPIKE
from tests.cost import networks


def brute(program, record, inputs):
    """Count by walking every product of every step and sample."""
    sent = {program.inputs[0].name: inputs} | {name: activity.raster for name, activity in record.layers.items()}
    work = {}
    for layer in program.layers:
        acs = macs = dense = 0
        for connection in layer.connections:
            if connection.synapse is None:
                continue
            values = sent[connection.source]
            graded = not np.isin(values, (0, 1)).all()
            for _, source, weight in networks.products(connection.synapse):
                line = values[(slice(None), slice(None), *source)]
                dense += line.size
                met = int(np.count_nonzero(line)) if weight != 0 else 0
                macs, acs = macs + met * graded, acs + met * (not graded)
        work[layer.name] = (dense, macs, acs)
    return work


@pytest.mark.parametrize("coding", ["current", "graded", "spikes"])
def test_synops_and_macs_match_a_loop_over_every_product(coding):
    program = networks.tiny_program(coding=coding, channels=2, size=5)
    x = networks.images(program, samples=2)
    x = (x > 0.5).astype(float) if coding == "spikes" else x
    record = networks.run(program, x)
    expected = brute(program, record, x)
    counted = {
        layer.name: (layer.dense_macs, layer.effective_macs, layer.effective_acs)
        for layer in count(program, record).layers
    }
    assert {name: counted[name] for name in expected} == expected
    assert sum(acs for _, _, acs in expected.values()) > 100
    assert (counted["lif1"][1] > 0) == (coding == "graded")


def graded_run(samples=2):
    """Return a program with graded layers, spikes into it, and its record."""
    program = networks.graded_program()
    x = (np.random.default_rng(1).random((program.timesteps, samples, *program.inputs[0].shape)) < 0.4).astype(float)
    return program, x, run_program(program, x, rasters=[layer.name for layer in program.layers])


def test_graded_messages_match_a_loop_over_every_product():
    program, x, record = graded_run()
    expected = brute(program, record, x)
    rows = {row.name: row for row in count(program, record).layers}
    found = {name: (rows[name].dense_macs, rows[name].effective_macs, rows[name].effective_acs) for name in expected}
    assert found == expected
    # Products of graded messages are MACs; behind spikes there are additions alone.
    assert [bool(rows[name].effective_macs) for name in expected] == [False, True, True, False]
    assert [bool(rows[name].effective_acs) for name in expected] == [True, False, False, True]
    steps = {row.name: row for row in count_steps(program, record, {"input": x})}
    for name, row in rows.items():
        if name != "input":
            assert steps[name].effective_macs.sum() == row.effective_macs
            assert steps[name].spikes.sum() == row.spikes


def change_run():
    """Return a program with layers that send changes, its inputs, and its record."""
    program = networks.change_program()
    x = networks.frames(program)
    return program, x, run_program(program, x, rasters=[layer.name for layer in program.layers])


def test_changes_match_a_loop_over_every_product():
    program, x, record = change_run()
    expected = brute(program, record, x)
    rows = {row.name: row for row in count(program, record).layers}
    assert expected == {
        name: (rows[name].dense_macs, rows[name].effective_macs, rows[name].effective_acs) for name in expected
    }
    # What did not change costs nothing: fewer products than those of the values themselves.
    values = {name: own.with_raster(own.raster.cumsum(axis=0)) for name, own in record.layers.items() if name != "lif"}
    whole = brute(program, replace(record, layers={**record.layers, **values}), x)
    for name in ("one", "two"):
        assert 0 < expected[name][1] < whole[name][1]
    steps = {row.name: row for row in count_steps(program, record, {"input": x})}
    assert all(steps[name].effective_macs.sum() == rows[name].effective_macs for name in expected)


def test_changes_carry_payload_bits_and_need_state():
    program, _, record = change_run()
    rows = {row.name: row for row in count(program, record).layers}
    integers = {row.name: row for row in count(replace(program, precision="integer"), record).layers}
    for name in ("delta", "one", "two"):
        sent = int(np.count_nonzero(record.layers[name].raster))
        assert (rows[name].spikes, rows[name].graded_messages, rows[name].messages) == (0, sent, sent) and sent > 50
        assert (rows[name].payload_bits, integers[name].payload_bits) == (32 * sent, 16 * sent)
    # d = y − y' + r, r = d − s, and |d| ≥ θ: 4. Then Σ, bias and ReLU, and the error.
    updates = [(rows[name].state_variables, rows[name].update_adds) for name in ("delta", "one", "two")]
    assert updates == [(2, 4), (3, 4 + 3), (4, 4 + 3 + 1)]
    assert all(rows[name].update_multiplies == 0 for name in ("delta", "one", "two"))
    assert rows["one"].state_bytes == 3 * 75 * 4


def test_twin_of_a_stream_passes_once_per_frame():
    program, _, record = change_run()
    once, stream = (ann_twin(program, timesteps=steps) for steps in (1, record.timesteps))
    for one, all_ in zip(once.layers, stream.layers, strict=True):
        assert (one.passes, all_.passes, all_.dense_macs) == (1, 6, 6 * one.dense_macs)
    profile = load_profile("cmos45")
    single, whole = (estimate(twin, profile, "int8") for twin in (once, stream))
    for case in ("low", "typical", "high"):
        assert getattr(whole.dynamic_j, case) == pytest.approx(6 * getattr(single.dynamic_j, case))
    assert any("6 passes per inference" in note for note in whole.notes) and len(single.notes) == len(whole.notes) - 1
    assert ann_twin(networks.tiny_program(), timesteps=4) == ann_twin(networks.tiny_program())


def test_graded_messages_are_no_spikes_and_carry_payload_bits():
    program, _, record = graded_run()
    messages = {name: int(np.count_nonzero(own.raster)) for name, own in record.layers.items()}
    rows = {row.name: row for row in count(program, record).layers}
    integers = {row.name: row for row in count(replace(program, precision="integer"), record).layers}
    assert messages["one"] > 50
    for name in ("one", "two", "out"):
        assert (rows[name].spikes, rows[name].graded_messages) == (0, messages[name])
        assert rows[name].payload_bits == 32 * messages[name]  # a float
        assert integers[name].payload_bits == 6 * messages[name]
        assert rows[name].firing_rate == messages[name] / rows[name].updates
        assert (rows[name].state_variables, rows[name].update_multiplies, rows[name].state_bytes) == (0, 0, 0)
    assert (rows["lif"].graded_messages, rows["lif"].payload_bits) == (0, 0)
    assert rows["lif"].spikes == messages["lif"]
    # "one" feeds two layers, "out" the host, with the payload of every neuron and step.
    assert [rows[name].messages for name in ("one", "two")] == [2 * messages["one"], messages["two"]]
    assert rows["out"].messages_out == messages["out"]
    assert (rows["out"].bytes_out, integers["out"].bytes_out) == (2 * 4 * 4 * 32 / 8, 2 * 4 * 4 * 6 / 8)


def counting_run(samples=2):
    """Return a program with layers of spike counts, spikes into it, and its record."""
    program = networks.counting_program()
    x = (np.random.default_rng(1).random((program.timesteps, samples, *program.inputs[0].shape)) < 0.4).astype(float)
    return program, x, run_program(program, x, rasters=[layer.name for layer in program.layers])


def test_counts_of_one_spike_are_added_and_others_multiplied():
    program, x, record = counting_run()
    sent = {"input": x} | {name: own.raster for name, own in record.layers.items()}
    assert max(values.max() for values in sent.values()) > 2
    rows = {row.name: row for row in count(program, record).layers}
    steps = {row.name: row for row in count_steps(program, record, {"input": x})}
    for layer in program.layers:
        added = multiplied = 0
        for connection in layer.connections:
            for _, source, weight in networks.products(connection.synapse):
                line = sent[connection.source][(slice(None), slice(None), *source)]
                added += int((line == 1).sum()) * (weight != 0)
                multiplied += int((line > 1).sum()) * (weight != 0)
        row = rows[layer.name]
        assert (row.effective_acs, row.effective_macs) == (added, multiplied), layer.name
        assert sum(row.acs_by_kind.values()) == row.effective_acs
        assert row.acs_from_counts == (0 if layer.name == "one" else added)
        assert (steps[layer.name].effective_acs.sum(), steps[layer.name].effective_macs.sum()) == (added, multiplied)
        assert bool(multiplied) == (layer.name != "one")
    # Synapses that take counts are left out: they take no spikes.
    alone = Workload(record.samples, record.timesteps, (rows["one"],))
    assert count(program, record).spikes_per_synapse == alone.spikes_per_synapse > 0


def test_spike_counts_are_messages_with_a_payload():
    program, _, record = counting_run()
    for precision, bits in (("float", 32), ("integer", 6)):
        rows = {row.name: row for row in count(replace(program, precision=precision), record).layers}
        for name in ("one", "two"):
            row, messages = rows[name], int(np.count_nonzero(record.layers[name].raster))
            assert (row.spikes, row.graded_messages, row.payload_bits) == (0, messages, bits * messages)
        # Every neuron and step of the output "two", in the bits of its payload.
        assert rows["two"].bytes_out == 2 * 4 * 3 * 3 * 4 * bits / 8
    lif = rows["lif"]
    assert (lif.graded_messages, lif.message_bits) == (0, 0)
    spikes = replace(program.layers[0], neuron=replace(program.layers[0].neuron, message=SPIKE))
    plain = replace(program, layers=(spikes, *program.layers[1:]))
    once = {row.name: row for row in count(plain, record).layers}["one"]
    floats = {row.name: row for row in count(program, record).layers}["one"]
    assert floats.update_multiplies == once.update_multiplies + 1  # with 1/v_threshold


def test_counts_on_disk_and_in_parts_are_the_same(tmp_path):
    program, x, record = counting_run()
    save_counts(record, tmp_path / "counts.npz")
    stored = load_counts(tmp_path / "counts.npz")
    parts = [run_program(program, x[:, [index]]) for index in range(2)]
    for other in (stored, parts[0] + parts[1]):
        assert count(program, other) == count(program, record)


def test_a_graded_layer_stays_graded_whatever_it_sends():
    program, _, record = graded_run()
    ones = {name: own.with_raster(np.sign(own.raster)) for name, own in record.layers.items()}
    assert count(program, replace(record, layers=ones)) == count(program, record)
    assert not any(record.layers[name].binary or record.layers[name].read_out for name in ("one", "two", "out"))


@st.composite
def synapses(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["conv", "dense", "sparse", "scale"]))
    shape = (draw(st.sampled_from([2, 4])), draw(st.integers(1, 5)), draw(st.integers(3, 5)))
    if kind == "conv":
        groups, kernel, dilation = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        padding, stride = draw(st.integers(0, 2)), draw(st.integers(1, 3))
        out = conv_shape(shape, (kernel, kernel), 4, (stride,) * 2, ((padding, padding),) * 2, (dilation,) * 2)
        if min(out) < 1:
            kernel, dilation = 1, 1
        return networks.conv(rng, shape, 4, kernel, stride, padding, dilation, groups, zeros=0.4)
    if kind == "dense":
        return networks.dense(rng, shape, 3, zeros=0.5)
    if kind == "scale":
        return networks.Synapse("scale", shape, shape, rng.integers(-1, 2, (shape[0], 1, 1)).astype(float))
    weights = rng.normal(size=(5, np.prod(shape))) * (rng.random((5, np.prod(shape))) > 0.7)
    return sparse(weights, shape, (5,))


@settings(max_examples=60, deadline=None)
@given(synapses(), st.integers(0, 2**32 - 1))
def test_synops_of_any_synapse(synapse, seed):
    rng = np.random.default_rng(seed)
    steps, samples = 3, 2
    x = (rng.random((steps, samples, *synapse.in_shape)) < 0.3).astype(np.uint8)
    x[0, 0].flat[0] = 1
    layer = Layer("out", synapse.out_shape, networks.neuron(), (Connection("in", synapse),), 1)
    program = Program("float", 1e-3, steps, (InputPort("in", synapse.in_shape, "spikes"),), (layer,), ("out",))
    silent = Activity(
        np.zeros(synapse.out_shape, np.int64), 0, np.zeros((steps, samples, *synapse.out_shape), np.uint8)
    )
    record = SpikeRecord(
        "torch", "float", steps, samples, {"out": silent}, {"in": Activity(x.sum((0, 1), dtype=np.int64))}
    )
    dense, _, acs = brute(program, record, x)["out"]
    row = count(program, record).layers[-1]
    assert (row.dense_macs, row.effective_acs) == (dense, acs)


def test_neuron_updates_count_in_every_step():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    for row in count(program, record).layers[1:]:
        layer, own = program.layer(row.name), record.layers[row.name]
        assert row.updates == layer.size * record.timesteps * record.samples
        assert row.updates_active == own.active_updates
        assert row.updates_inactive == row.updates - own.active_updates
        assert row.firing_rate == record.firing_rate(row.name)


def test_updates_of_unseen_states_are_unknown_not_zero():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    blind = replace(record, layers={name: replace(own, active_updates=None) for name, own in record.layers.items()})
    rows = count(program, blind).layers[1:]
    assert all(row.updates and row.updates_active is None and row.updates_inactive is None for row in rows)


@pytest.mark.parametrize(
    "du, dv, multiplies, variables",
    [(1.0, 0.5, 1, 1), (0.3, 0.5, 2, 2), (1.0, 0.0, 0, 1), (0.0, 1.0, 0, 1)],
    ids=["LIF", "CubaLIF", "IF", "full decay of v"],
)
def test_multiplies_per_decaying_state_variable(du, dv, multiplies, variables):
    program = networks.tiny_program()
    layers = tuple(replace(layer, neuron=networks.neuron(0.5, du, dv)) for layer in program.layers)
    program = replace(program, layers=layers)
    row = count(program, networks.run(program, networks.images(program))).layers[1]
    assert (row.update_multiplies, row.state_variables) == (multiplies, variables)


def test_full_integer_decay_needs_no_state():
    program = networks.tiny_program()
    whole = networks.neuron(1, np.array(4095), np.array(2048))
    layers = tuple(replace(layer, neuron=whole) for layer in program.layers)
    record = networks.run(program, networks.images(program))
    row = count(replace(program, precision="integer", layers=layers), record).layers[1]
    assert (row.update_multiplies, row.state_variables) == (1, 1)


def test_messages_per_target_layer_and_to_the_host():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    rows = {row.name: row for row in count(program, record).layers}
    spikes = {name: own.events for name, own in record.layers.items()}
    # lif2 feeds lif3 twice (conv and skip): one message per spike, the layer sorts it out.
    assert [rows[name].messages for name in ("lif1", "lif2", "lif3", "lif4")] == [
        spikes["lif1"],
        spikes["lif2"],
        spikes["lif3"],
        0,
    ]
    assert rows["lif4"].messages_out == spikes["lif4"] > 0
    assert rows["lif4"].bytes_out == record.samples * 5  # 10 neurons × 4 steps of one bit
    assert rows["lif1"].messages_out == rows["lif1"].bytes_out == 0


@pytest.mark.parametrize("limit, width", [(0, 4), (127, 1), (128, 2), (32767, 2), (2**23 - 1, 3)])
def test_input_bytes_follow_the_port_width(limit, width):
    program = networks.tiny_program()
    program = replace(program, inputs=(replace(program.inputs[0], limit=limit),))
    record = networks.run(program, networks.images(program))
    port = count(program, record).layers[0]
    sent = int(np.count_nonzero(networks.images(program)))
    assert (port.kind, port.messages, port.bytes_in) == ("input", sent, sent * width)


def test_host_layers_come_first_and_scale_with_samples():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program, samples=3))
    work = count(program, record, networks.HOST)
    assert [layer.name for layer in work.part("host").layers] == ["stem.conv1", "W_in"]
    assert [layer.name for layer in work.part("text").layers] == ["text"]
    assert work.part("host").per_inference("dense_macs") == 62208 + 3456
    assert work.part("host").total("dense_macs") == 3 * (62208 + 3456)


def test_host_workload_is_the_host_part():
    program = networks.tiny_program()
    alone, twin = host_workload(networks.HOST), ann_twin(program, host_layers=networks.HOST)
    assert alone.layers == (*twin.part("host").layers, *twin.part("text").layers)
    assert not alone.part("deployed").layers


def test_shards_add_up_to_the_whole():
    program = networks.tiny_program()
    x = networks.images(program, samples=4)
    whole = count(program, networks.run(program, x))
    shards = count(program, networks.run(program, x[:, :1]) + networks.run(program, x[:, 1:]))
    assert whole == shards


@pytest.mark.parametrize(
    "spoil, why",
    [
        (lambda r: replace(r, samples=0), "0 samples"),
        (lambda r: replace(r, layers={k: v for k, v in r.layers.items() if k != "lif2"}), "lif2 was not recorded"),
        (lambda r: replace(r, inputs={}), "input was not recorded"),
        (lambda r: replace(r, layers={**r.layers, "lif4": Activity(np.ones(9, np.int64))}), "lif4 has shape"),
        (
            lambda r: replace(
                r,
                layers={k: Activity(np.zeros_like(v.counts)) for k, v in r.layers.items()},
                inputs={k: Activity(np.zeros_like(v.counts)) for k, v in r.inputs.items()},
            ),
            "no input value and no spike",
        ),
    ],
)
def test_records_that_counted_nothing_are_refused(spoil, why):
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    with pytest.raises(AshneuroError, match=why):
        count(program, spoil(record))


def test_ann_twin_does_every_product_once():
    program = networks.tiny_program(channels=2, size=5)
    twin = ann_twin(program, host_layers=networks.HOST)
    loops = {
        layer.name: sum(len(list(networks.products(c.synapse))) for c in layer.connections if c.synapse is not None)
        for layer in program.layers
    }
    assert {row.name: row.dense_macs for row in twin.part("deployed").layers} == loops
    record = networks.run(program, networks.images(program))
    assert (
        count(program, record).part("deployed").total("dense_macs")
        == sum(loops.values()) * record.timesteps * record.samples
    )
    assert all(row.effective_macs is None for row in twin.layers)
    assert twin.part("host").per_inference("dense_macs") == count(program, record, networks.HOST).part(
        "host"
    ).per_inference("dense_macs")


def test_zero_skipping_twin_counts_non_zero_activations():
    program = networks.tiny_program(channels=2, size=5, timesteps=1)
    record = networks.run(program, networks.images(program))
    twin = ann_twin(program, record)
    met = {name: macs + acs for name, (_, macs, acs) in brute(program, record, networks.images(program)).items()}
    assert {row.name: row.effective_macs for row in twin.layers} == met


def test_rates_of_a_whole_network():
    def row(neurons, spikes, acs, dense):
        return LayerWorkload(
            "x",
            "deployed",
            neurons,
            0,
            dense,
            "snn",
            dense_acs=dense,
            updates=neurons * 8,
            spikes=spikes,
            effective_acs=acs,
            firing_rate=0,
        )

    work = Workload(2, 4, (row(10, 8, 30, 800), row(30, 8, 50, 800)))
    assert work.firing_rate == 16 / (40 * 8)
    assert work.spikes_per_synapse == (80 / 2) / (1600 / 8)


def test_graded_synapses_do_not_count_in_spikes_per_synapse():
    program = networks.tiny_program(coding="graded", channels=2, size=5)
    record = networks.run(program, networks.images(program))
    work = count(program, record)
    first, *rest = [row for row in work.layers if row.kind == "snn"]
    assert first.effective_macs > 0 and first.dense_acs == 0 and all(row.dense_acs == row.dense_macs for row in rest)
    assert first.graded_inputs == first.inputs > 0 and first.graded_events > 0
    assert all(row.graded_inputs == row.graded_events == 0 for row in rest)
    connections = sum(row.dense_macs for row in rest) / (record.samples * record.timesteps)
    assert work.spikes_per_synapse == pytest.approx(work.per_inference("effective_acs") / connections)
    alone = Workload(work.samples, work.timesteps, (first,))
    assert alone.spikes_per_synapse is None


@pytest.mark.parametrize("coding", ["current", "graded", "spikes"])
def test_counts_per_step_match_a_loop_and_the_totals(coding):
    program = networks.tiny_program(coding=coding, channels=2, size=5)
    x = networks.images(program, samples=2)
    x = (x > 0.5).astype(float) if coding == "spikes" else x
    record = networks.run(program, x)
    steps = {row.name: row for row in count_steps(program, record, {"input": x})}
    for whole in count(program, record).layers[1:]:
        row = steps[whole.name]
        assert int(row.effective_acs.sum()) == whole.effective_acs
        assert int(row.effective_macs.sum()) == whole.effective_macs
        assert int(row.spikes.sum()) == whole.spikes
    for t in range(record.timesteps):
        one = {name: own.with_raster(own.raster[t : t + 1]) for name, own in record.layers.items()}
        expected = brute(program, replace(record, layers=one), x[t : t + 1])
        assert {name: int(steps[name].effective_acs[t]) for name in expected} == {
            name: acs for name, (_, _, acs) in expected.items()
        }


def test_counts_per_step_need_rasters_and_inputs():
    program = networks.tiny_program()
    x = networks.images(program)
    record = networks.run(program, x)
    bare = replace(record, layers={**record.layers, "lif2": record.layers["lif2"].with_raster(None)})
    with pytest.raises(AshneuroError, match="lif2 has no raster; input input was not given"):
        count_steps(program, bare, {})


def test_bytes_of_parameters_and_states():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    floats = {row.name: row for row in count(program, record).layers}
    whole = {row.name: row for row in count(replace(program, precision="integer"), record).layers}
    lif4 = program.layer("lif4")
    weights = lif4.connections[0].synapse.weight.size
    assert floats["lif4"].parameter_bytes == 4 * (weights + 1)  # one bias for all
    assert whole["lif4"].parameter_bytes == weights + 2
    assert (floats["lif4"].state_bytes, whole["lif4"].state_bytes) == (
        4 * 10,
        3 * 10 * 2,
    )  # du = 1 vanishes in floats alone
    assert floats["lif1"].parameter_bytes == 0


def test_acs_by_kind_of_synapse():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    for row in count(program, record).layers[1:]:
        assert sum(row.acs_by_kind.values()) == row.effective_acs
    kinds = {row.name: set(row.acs_by_kind) for row in count(program, record).layers[1:]}
    assert kinds == {"lif1": set(), "lif2": {"conv"}, "lif3": {"conv", "scale"}, "lif4": {"dense"}}


def test_neurobench_metrics_cover_the_whole_hybrid():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    work = count(program, record, networks.HOST)
    found = neurobench(work)
    assert found["SynapticOperations"]["Effective_MACs"] == 62208 + 3456  # the host's; the text is encoded once
    assert found["SynapticOperations"]["Effective_ACs"] == work.per_inference("effective_acs")
    assert found["ActivationSparsity"] == 1 - work.firing_rate
    assert 0.1 < found["ConnectionSparsity"] < 0.4
    assert found["ParameterCount"] == sum(row.parameters for row in work.layers if row.place != "text")
