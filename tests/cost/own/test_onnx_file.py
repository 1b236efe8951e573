"""Counts of an ONNX model, against the same layers in torch, and against loops."""

import numpy as np
import pytest
import torch
from torch import nn

from ashneuro.cost.own import onnx_file
from ashneuro.cost.own.onnx_file import count_onnx
from ashneuro.cost.own.torch_module import count_module
from ashneuro.errors import AshneuroError, DataError, MissingDependency

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[ann]'")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, SAMPLES = onnx.TensorProto.FLOAT, 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def model(nodes, weights, shape, batch="batch", kind=FLOAT, result=FLOAT, axes=2):
    given = helper.make_tensor_value_info("x", kind, [batch, *shape])
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(
        nodes,
        "graph",
        [given],
        [helper.make_tensor_value_info("out", result, [f"d{axis}" for axis in range(axes)])],
        stored,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def array(tensor):
    return tensor.detach().numpy()


def zeroed(module):
    for parameter in module.parameters():
        parameter.data[torch.rand(parameter.shape) < 0.3] = 0
    return module.eval()


def small():
    """Return the same network in torch and in ONNX."""
    net = zeroed(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(147, 6),
            nn.ReLU(),
            nn.Linear(6, 2, bias=False),
        )
    )
    names = {f"{index}.{kind}": array(value) for index in (0, 2, 5) for kind, value in net[index].named_parameters()}
    names["7.weight"] = array(net[7].weight).T.copy()
    nodes = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"], "0", strides=[2, 2], pads=[1, 1, 1, 1], group=2),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "2.weight", "2.bias"], ["c"], "2", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "5.weight", "5.bias"], ["f"], "5", transB=1),
        helper.make_node("Relu", ["f"], ["g"]),
        helper.make_node("MatMul", ["g", "7.weight"], ["out"], "7"),
    ]
    return net, nodes, names


@pytest.mark.parametrize("batch", ["batch", 1, SAMPLES])
@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_onnx_counts_what_torch_counts(batch, runtime, monkeypatch, tmp_path):
    if runtime == "onnxruntime":
        pytest.importorskip("onnxruntime")
    else:
        real = onnx_file.need

        def absent(module, **words):
            if module == "onnxruntime":
                raise MissingDependency("no onnxruntime")
            return real(module, **words)

        monkeypatch.setattr(onnx_file, "need", absent)
    net, nodes, weights = small()
    x = torch.relu(torch.randn(SAMPLES, 2, 7, 7))
    path = tmp_path / "small.onnx"
    onnx.save(model(nodes, weights, (2, 7, 7), batch=batch), path)
    ours, theirs = count_onnx(path, array(x)), count_module(net, x)
    assert ours.name == "small" and ours.workload.samples == SAMPLES and ours.uncounted == "Relu"
    assert ours.workload.layers == theirs.workload.layers
    assert 0 < ours.zero_share < 1


def test_shapes_alone_give_dense_products():
    net, nodes, weights = small()
    measured = count_module(net, torch.rand(1, 2, 7, 7)).workload
    counted = count_onnx(model(nodes, weights, (2, 7, 7)), name="mine")
    assert [row.dense_macs for row in counted.workload.layers] == [row.dense_macs for row in measured.layers]
    assert [row.neurons for row in counted.workload.layers] == [row.neurons for row in measured.layers]
    assert all(row.effective_macs is None for row in counted.workload.layers)
    assert counted.name == "mine" and counted.zero_share is None


def loops(left, right):
    """Return the products of two matrices whose factors are not zero, one by one."""
    rows, inner = left.shape
    return sum(
        bool(left[i, k]) and bool(right[k, j]) for i in range(rows) for k in range(inner) for j in range(right.shape[1])
    )


def test_products_of_two_activations():
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "y"], ["out"], "scores"),
    ]
    x = (rng.normal(size=(SAMPLES, 4, 5)) * (rng.random((SAMPLES, 4, 5)) < 0.5)).astype(np.float32)
    (row,) = count_onnx(model(nodes, {}, (4, 5), axes=3), x).workload.layers
    assert row.dense_macs == SAMPLES * 4 * 5 * 4 and row.parameters == 0 and row.inputs == 40
    assert row.effective_macs == sum(loops(each, each.T) for each in x)


def test_bias_of_a_matrix_product_and_folded_batch_norm():
    weights = {"w": np.ones((4, 3), np.float32), "b": np.ones(3, np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "fc"), helper.make_node("Add", ["y", "b"], ["out"])]
    (row,) = count_onnx(model(nodes, weights, (4,))).workload.layers
    assert row.update_adds == 2 and row.parameters == 15


@pytest.mark.parametrize("points", ["one", "per channel"])
def test_integers_equal_to_their_zero_point_are_zeros(points):
    rng = np.random.default_rng(1)
    w = rng.integers(-3, 4, (2, 1, 1, 1)).astype(np.int8)
    w[0] = 2
    zero = np.array(2, np.int8) if points == "one" else np.array([2, int(w[1, 0, 0, 0])], np.int8)
    nodes = [helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["out"], "conv")]
    x = rng.integers(0, 4, (SAMPLES, 1, 3, 3)).astype(np.uint8)
    weights = {"w": w, "xz": np.array(1, np.uint8), "wz": zero}
    kept = int((w.ravel() != zero.reshape(-1)).sum()) if points == "one" else 0
    made = model(nodes, weights, (1, 3, 3), kind=onnx.TensorProto.UINT8, result=onnx.TensorProto.INT32, axes=4)
    (row,) = count_onnx(made, x).workload.layers
    assert row.dense_macs == SAMPLES * 9 * 2 and row.effective_macs == int((x != 1).sum()) * kept


def test_quantised_weights_behind_dequantize_linear():
    w = np.array([[0, 3], [5, 0], [7, 1]], np.int8)
    weights = {"w": w, "s": np.float32(0.1), "z": np.array(0, np.int8)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["real"]),
        helper.make_node("MatMul", ["x", "real"], ["out"], "fc"),
    ]
    x = np.array([[0, 1, 2], [1, 0, 0]], np.float32)
    (row,) = count_onnx(model(nodes, weights, (3,)), x).workload.layers
    assert row.effective_macs == loops(x, w) and row.parameters == 6 and row.zero_parameters == 2


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(auto):
    weights = {"w": np.ones((3, 2, 4, 3), np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["out"], "conv", auto_pad=auto, strides=[2, 1])]
    x = np.ones((1, 2, 7, 6), np.float32)
    made = model(nodes, weights, (2, 7, 6), axes=4)
    (row,) = count_onnx(made, x).workload.layers
    # Over ones, the sum of the output counts the products that are not with padding.
    (out,) = pytest.importorskip("onnx.reference").ReferenceEvaluator(made).run(None, {"x": x})
    assert row.dense_macs == row.effective_macs == int(out.sum())
    (shaped,) = count_onnx(made).workload.layers
    assert shaped.dense_macs == row.dense_macs


def test_models_that_cannot_be_counted_are_refused(tmp_path):
    net, nodes, weights = small()
    with pytest.raises(DataError, match="does not take a sample of shape"):
        count_onnx(model(nodes, weights, (2, 7, 7)), np.zeros((2, 3, 7, 7), np.float32))
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["out"], hidden_size=2)
    hidden = {"w": np.zeros((1, 8, 3), np.float32), "r": np.zeros((1, 8, 2), np.float32)}
    with pytest.raises(AshneuroError, match="has LSTM"):
        count_onnx(model([lstm], hidden, (4, 3), axes=4))
    with pytest.raises(AshneuroError, match="has no product"):
        count_onnx(model([helper.make_node("Relu", ["x"], ["out"])], {}, (4,)))
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match="is not an ONNX model"):
        count_onnx(tmp_path / "x.onnx")
    with pytest.raises(DataError, match="cannot read"):
        count_onnx(tmp_path / "absent.onnx")
    assert net is not None


def test_unknown_shapes_ask_for_a_sample():
    weights = {"w": np.ones((4, 3), np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["out"], "fc")]
    made = model(nodes, weights, ("tokens", 4), axes=3)
    with pytest.raises(DataError, match="--ann-sample"):
        count_onnx(made)
    (row,) = count_onnx(made, np.ones((2, 5, 4))).workload.layers
    assert row.dense_macs == 2 * 5 * 12
