"""A user's own ANN in `compare` and `report`: of a graph, a file and a bundle, beside the twins."""

import nir
import numpy as np
import pytest
import torch
from torch import nn

import ashneuro as ash
from ashneuro.cost.comparison.contenders import Role
from ashneuro.errors import ConfigError, DataError
from ashneuro.workflows.own_ann import Sample, count_own_ann, mean_sample
from tests.program import networks as net

PROFILES = ("cmos45", "h100")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def graph(rng):
    def linear(rows, columns):
        return nir.Linear(rng.normal(size=(rows, columns)))

    return net.chain(
        (6,), linear(8, 6), net.lif((8,), rng, uniform=True), linear(4, 8), net.lif((4,), rng, uniform=True)
    )


@pytest.fixture
def inputs(rng):
    return net.spikes(rng, 10, 3, (6,))


def same_shape():
    """Return the ANN of the graph's topology."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 4, bias=False), nn.ReLU())


def rows(comparison):
    return {who.name: who for who in comparison.groups[0].contenders}


def test_ann_of_the_twins_shape_costs_what_the_twin_costs(graph, inputs):
    found = rows(ash.compare(graph, ann=same_shape(), inputs=inputs, profiles=PROFILES))
    for precision in ("int8", "fp32"):
        own, twin = found[f"Sequential (your ANN), {precision}"], found[f"ANN twin, {precision}"]
        assert own.total_j == twin.total_j and own.arithmetic_j == twin.arithmetic_j and own.host is None
        assert own.deployed.profile == twin.deployed.profile == "cmos45"
    skipping = found["Sequential (your ANN), int8, zero-skipping"]
    assert skipping.role is Role.OWN_ZERO_SKIPPING and skipping.total_j.typical < own.total_j.typical
    fp16, fp32 = (found[f"Sequential (your ANN), {each}"].total_j.typical for each in ("fp16", "fp32"))
    assert fp16 < fp32


def test_twin_stays_and_decides(graph, inputs):
    alone = ash.compare(graph, inputs=inputs, profiles=PROFILES)
    beside = ash.compare(graph, ann=same_shape(), inputs=inputs, profiles=PROFILES)
    assert (alone.winner, alone.case, alone.break_even) == (beside.winner, beside.case, beside.break_even)
    kept = [name for name in rows(beside) if "your ANN" not in name]
    assert kept == list(rows(alone)) and "your ANN" not in alone.verdict
    assert "Sequential (your ANN), int8 takes" in beside.verdict
    # A GPU computes it as well.
    assert "Sequential (your ANN) on h100, int8" in {who.name for who in beside.groups[1].contenders}


def test_zeros_are_those_of_the_sample(graph, inputs):
    ann = same_shape()
    default = ash.report(graph, inputs=inputs, ann=ann, profiles=PROFILES).own_ann
    mean = inputs.mean(axis=0)
    assert default.workload == count_own_ann(ann, mean).workload and "mean over time" in default.measured_on
    given = ash.report(graph, inputs=inputs, ann=ann, sample=torch.eye(6), profiles=PROFILES).own_ann
    assert given.workload.samples == 6 and given.measured_on == "the given sample"
    assert given.workload.layers[0].effective_macs == 6 * 8
    noise = ash.report(graph, ann=ann, profiles=PROFILES).own_ann
    assert noise.zero_share is None and "not measured" in noise.sentence()


def test_report_of_a_bundle_and_its_pages(graph, inputs, tmp_path):
    bundle = ash.export(graph, tmp_path / "bundle", inputs=inputs, lava=None, accept_assumptions=True).bundle
    result = ash.report(bundle, ann=same_shape(), profiles=PROFILES)
    page, data = ash.write_report(result, tmp_path / "report")[::-1]
    text = page.read_text(encoding="utf-8")
    assert "Sequential (your ANN), fp16" in text and "with a zero" in text
    saved = data.read_text(encoding="utf-8")
    assert '"name": "Sequential (your ANN), int8"' in saved and '"zero_share"' in saved
    assert result.facts["Sequential (your ANN)"].startswith("2 layers, 80 MACs per inference")


def test_runs_without_an_ann_say_nothing_of_it(graph, inputs):
    result = ash.report(graph, inputs=inputs, profiles=PROFILES)
    assert result.own_ann is None and result.to_json()["own_ann"] is None


def test_several_inputs_have_no_default(inputs):
    assert mean_sample({"a": inputs, "b": inputs}, "x", real=True) is None
    mean = mean_sample({"a": inputs}, "x.npy", real=True)
    assert mean.source == "x.npy, mean over time" and mean.values.shape == (3, 6)


def test_other_objects_and_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="without a sample"):
        count_own_ann(same_shape())
    with pytest.raises(ConfigError, match="a pickle runs code of its own"):
        count_own_ann(tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="ann is a dict"):
        count_own_ann({})
    with pytest.raises(DataError, match="does not take a sample"):
        count_own_ann(same_shape(), np.ones((2, 5)))
    with pytest.raises(DataError, match="cannot read"):
        count_own_ann(same_shape(), tmp_path / "absent.npy")


def test_onnx_of_other_shapes_is_counted_by_shape(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[ann]'")
    helper = onnx.helper
    ends = [helper.make_tensor_value_info(name, 1, ["b", size]) for name, size in (("x", 5), ("y", 2))]
    weight = onnx.numpy_helper.from_array(np.ones((5, 2), np.float32), "w")
    made = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], "fc")], "g", ends[:1], ends[1:], [weight])
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    np.save(tmp_path / "x.npy", np.eye(5, dtype=np.float32))
    unlike = Sample(np.ones((3, 6)), "the bundle's reference")
    assert count_own_ann(path, None, unlike).zero_share is None
    measured = count_own_ann(str(path), tmp_path / "x.npy", unlike)
    assert measured.zero_share == pytest.approx(0.8) and measured.name == "other"
    with pytest.raises(DataError, match="does not take a sample"):
        count_own_ann(path, np.ones((3, 6)))
