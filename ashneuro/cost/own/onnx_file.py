"""Count the layers of an ONNX model: by its shapes, or with its zeros while it runs on samples.

Operators that multiply: Conv, ConvTranspose, Gemm, MatMul, and their integer forms. Models with
other products (LSTM, Einsum, control flow) are refused, because leaving them out would make the ANN
cheaper than it is. The rest (pooling, normalisation, element-wise operators) has no count on either
side.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.cost.own.network import OwnAnn, Products, matrix_products, transposed_products, window_products
from ashneuro.cost.workload import Workload
from ashneuro.errors import AshneuroError, DataError, need
from ashneuro.files import require_regular
from ashneuro.program.program import Shape, Synapse


@dataclass(frozen=True)
class Operator:
    """Positions of an operator's operands among its inputs; ``None``: it has none such.

    Args:
        left, right: factors; of a convolution activations and weights.
        zeros: zero points of both; integers equal to them stand for 0.
        bias: bias.
    """

    left: int
    right: int
    zeros: tuple[int | None, int | None] = (None, None)
    bias: int | None = None


OPERATORS: Mapping[str, Operator] = {
    "Conv": Operator(0, 1, bias=2),
    "ConvTranspose": Operator(0, 1, bias=2),
    "Gemm": Operator(0, 1, bias=2),
    "MatMul": Operator(0, 1),
    "ConvInteger": Operator(0, 1, (2, 3)),
    "MatMulInteger": Operator(0, 1, (2, 3)),
    "QLinearConv": Operator(0, 3, (2, 5), bias=8),
    "QLinearMatMul": Operator(0, 3, (2, 5)),
}
# Operators with products that are not counted here, and operators without arithmetic.
_PRODUCTS = (
    "LSTM GRU RNN Einsum Attention MultiHeadAttention GroupQueryAttention QAttention FusedConv FusedMatMul "
    "FusedGemm DeformConv If Loop Scan SequenceMap MatMulNBits"
)
_MOVES = (
    "Constant Identity Reshape Flatten Transpose Squeeze Unsqueeze Shape Gather Concat Slice Cast Expand "
    "QuantizeLinear DequantizeLinear ConstantOfShape Dropout"
)
REFUSED, FREE = frozenset(_PRODUCTS.split()), frozenset(_MOVES.split())

Arrays = Mapping[str, NDArray[Any]]


def count_onnx(source: Any, sample: Any = None, *, name: str = "", measured_on: str = "the sample") -> OwnAnn:
    """Return the counts of an ONNX model.

    Args:
        source: path of a .onnx file, or an ``onnx.ModelProto``.
        sample: (B, *shape) of its only input. Default: counted for one inference, by shape
            inference.
        name: name of the ANN. Default: that of the file or graph.
        measured_on: the samples in words; empty: their zeros mean nothing.

    Raises:
        DataError: it is no ONNX model, does not take the sample, or its shapes need one.
        AshneuroError: it has products that are not counted.
        MissingDependency: the package onnx is not installed.
    """
    onnx = need("onnx", extra="ann", purpose="reading an ONNX model")
    model = _load(onnx, source)
    graph = model.graph
    odd = sorted({node.op_type for node in graph.node} & REFUSED)
    if odd:
        raise AshneuroError(
            f"{name or graph.name or 'this model'} has {', '.join(odd)}",
            "its products are not counted, and without them the ANN would look cheaper than it is",
            "give the model as a torch module, whose remaining products torch's flop counter sees",
        )
    constants = _constants(onnx, graph)
    nodes = [node for node in graph.node if node.op_type in OPERATORS]
    if not nodes:
        raise AshneuroError(
            f"{name or graph.name or 'this model'} has no product", "nothing was counted", "export it with weights"
        )
    rows = {_title(node): Products(_title(node)) for node in nodes}
    for node in nodes:
        _store(rows[_title(node)], node, graph, constants)
    if sample is None:
        shapes = _inferred(onnx, model)
        for node in nodes:
            _count(rows[_title(node)], node, constants, {}, shapes, measured=False)
        samples = 1
    else:
        wanted = _operands(nodes, constants)
        samples = len(np.asarray(sample))
        for arrays in _runs(onnx, model, np.asarray(sample), wanted):
            shapes = {key: tuple(value.shape) for key, value in arrays.items()}
            for node in nodes:
                _count(rows[_title(node)], node, constants, arrays, shapes, measured=bool(measured_on))
    others = Counter(node.op_type for node in graph.node if node.op_type not in OPERATORS.keys() | FREE)
    title = name or (Path(source).stem if isinstance(source, str | Path) else graph.name or "ONNX model")
    layers = tuple(row.layer(samples) for row in rows.values())
    uncounted = ", ".join(kind for kind, _ in others.most_common())
    return OwnAnn(title, Workload(samples, 1, layers), measured_on if sample is not None else "", uncounted)


def _load(onnx: Any, source: Any) -> Any:
    if not isinstance(source, str | Path):
        return source
    try:
        require_regular(source)
        model = onnx.load(str(source))
        onnx.checker.check_model(model)
    except OSError as error:
        raise DataError(
            f"cannot read {source}", error.strerror or str(error), "give the path of a .onnx file"
        ) from error
    except Exception as error:  # protobuf and the checker raise classes of their own
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{source} is not an ONNX model", said, "write it with torch.onnx.export") from error
    return model


def _title(node: Any) -> str:
    return str(node.name or node.output[0])


def _constants(onnx: Any, graph: Any) -> dict[str, NDArray[Any]]:
    """Return the constant tensors by name: initialisers, and constants behind nodes that only
    reshape or scale them.
    """
    found: dict[str, NDArray[Any]] = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        values = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        known = [found.get(each) for each in node.input]
        if node.op_type == "Constant" and "value" in values:
            found[node.output[0]] = onnx.numpy_helper.to_array(values["value"])
        elif node.op_type in ("Identity", "Transpose", "DequantizeLinear") and known and known[0] is not None:
            array = known[0]
            if node.op_type == "Transpose":
                array = np.transpose(array, values.get("perm"))
            elif node.op_type == "DequantizeLinear" and len(known) > 2 and known[2] is not None:
                zero = known[2]
                shape = [1] * array.ndim
                if zero.ndim:
                    shape[int(values.get("axis", 1))] = -1
                array = array.astype(np.float32) - zero.reshape(shape).astype(np.float32)  # scales make no zero
            found[node.output[0]] = array
    return found


def _operand(node: Any, position: int | None) -> str:
    return str(node.input[position]) if position is not None and position < len(node.input) else ""


def _operands(nodes: list[Any], constants: Arrays) -> list[str]:
    """Return the tensors that a run has to give: factors that depend on the input, and outputs."""
    names: dict[str, None] = {}
    for node in nodes:
        own = OPERATORS[node.op_type]
        for position in (own.left, own.right, *own.zeros):
            name = _operand(node, position)
            if name and name not in constants:
                names[name] = None
        names[node.output[0]] = None
    return list(names)


def _store(row: Products, node: Any, graph: Any, constants: Arrays) -> None:
    own = OPERATORS[node.op_type]
    bias = constants.get(_operand(node, own.bias))
    behind = [each for each in graph.node if node.output[0] in each.input]
    for each in behind if bias is None else ():
        if each.op_type == "Add":  # of a MatMul
            bias = next((constants[name] for name in each.input if name in constants), bias)
        elif each.op_type == "BatchNormalization":  # folded: its shift is a bias
            bias = constants.get(each.input[2])
    row.bias = bias is not None
    factors = [constants.get(_operand(node, position)) for position in (own.left, own.right)]
    row.store(*factors, bias)


def _inferred(onnx: Any, model: Any) -> dict[str, Shape]:
    """Return the shapes of all tensors for one inference."""
    one = type(model)()
    one.CopyFrom(model)
    stored = {each.name for each in one.graph.initializer}
    for given in one.graph.input:
        dimensions = given.type.tensor_type.shape.dim
        if given.name not in stored and dimensions and not dimensions[0].HasField("dim_value"):
            dimensions[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(one, data_prop=True).graph
    found = {each.name: tuple(each.dims) for each in inferred.initializer}
    for each in (*inferred.input, *inferred.value_info, *inferred.output):
        dimensions = each.type.tensor_type.shape.dim
        if each.type.tensor_type.HasField("shape") and all(item.HasField("dim_value") for item in dimensions):
            found[each.name] = tuple(item.dim_value for item in dimensions)
    return found


def _runs(onnx: Any, model: Any, sample: NDArray[Any], wanted: list[str]) -> Iterator[Arrays]:
    """Yield the wanted tensors of each run: all samples at once, or one by one where the model's
    batch is 1.
    """
    stored = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise DataError(
            f"the model has {len(inputs)} inputs: {names}", "a sample is one array", "export it with one input"
        )
    tensor = inputs[0].type.tensor_type
    first = tensor.shape.dim[0] if tensor.shape.dim else None
    batch = first.dim_value if first is not None and first.HasField("dim_value") else len(sample)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    run = _evaluator(onnx, model, wanted)
    for start in range(0, len(sample), max(batch, 1)):
        part = sample[start : start + max(batch, 1)].astype(kind)
        try:
            values = run({inputs[0].name: part})
        except Exception as error:  # each runtime raises classes of its own
            said = " ".join(str(error).split())[:200]
            raise DataError(
                f"the model does not take a sample of shape {part.shape}",
                said,
                "give (B, *shape) of its input as sample=, or --ann-sample",
            ) from error
        yield dict(zip(wanted, values, strict=True))


def _evaluator(onnx: Any, model: Any, wanted: list[str]) -> Callable[[Arrays], list[NDArray[Any]]]:
    """Return the function that computes the wanted tensors.

    onnxruntime computes them; where it is not installed, or lacks an operator, onnx's reference.
    """
    more = type(model)()
    more.CopyFrom(model)
    known = {each.name for each in more.graph.output}
    given = {each.name for each in more.graph.input}
    inner = [name for name in wanted if name not in given]
    more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in known)

    def by_runtime(feeds: Arrays) -> Any:
        runtime = need("onnxruntime", extra="ann", purpose="running an ONNX model")
        options = runtime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = runtime.InferenceSession(more.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(inner, dict(feeds))

    def by_reference(feeds: Arrays) -> Any:
        reference = need("onnx.reference", extra="ann", purpose="running an ONNX model")
        return reference.ReferenceEvaluator(more).run(inner, dict(feeds))

    def run(feeds: Arrays) -> list[NDArray[Any]]:
        try:
            found = by_runtime(feeds)
        except Exception:  # the reference's error is the user's, if it fails too
            found = by_reference(feeds)
        values = dict(zip(inner, found, strict=True)) | dict(feeds)
        return [np.asarray(values[name]) for name in wanted]

    return run


def _count(
    row: Products, node: Any, constants: Arrays, arrays: Arrays, shapes: Mapping[str, Shape], *, measured: bool
) -> None:
    """Add one run of a node.

    Args:
        constants: constant tensors.
        arrays: the other tensors of the run; empty where only shapes are known.
        shapes: of all tensors.
        measured: zeros are counted.
    """
    own = OPERATORS[node.op_type]
    values = {**constants, **arrays}
    left, right = (_factor(node, values, shapes, side) for side in (0, 1))
    out = shapes.get(node.output[0])
    if left is None or right is None or out is None:
        raise DataError(
            f"the shapes of {_title(node)} do not follow from the model",
            "an axis has no size",
            "give (B, *shape) of its input as sample=, or --ann-sample",
        )
    pairs = ((left, own.left), (right, own.right))
    inputs = sum(value.size for value, position in pairs if _operand(node, position) not in constants)
    settings = _settings(node)
    if "Conv" in node.op_type:
        dense, effective = _windowed(left, right, tuple(out), settings, transposed=node.op_type == "ConvTranspose")
    else:
        left, right = left[None] if left.ndim == 1 else left, right[:, None] if right.ndim == 1 else right
        left = np.swapaxes(left, -1, -2) if settings.get("transA") else left
        right = np.swapaxes(right, -1, -2) if settings.get("transB") else right
        dense, effective = matrix_products(left, right)
    row.add(dense, effective if measured else None, inputs, math.prod(out))


def _settings(node: Any) -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {each.name: get_attribute_value(each) for each in node.attribute}


def _factor(node: Any, values: Arrays, shapes: Mapping[str, Shape], side: int) -> NDArray[np.bool_] | None:
    """Return True where a factor is not zero; everywhere, if only its shape is known."""
    own = OPERATORS[node.op_type]
    name = _operand(node, (own.left, own.right)[side])
    if name not in values:
        return np.broadcast_to(np.True_, shapes[name]) if name in shapes else None
    zero = values.get(_operand(node, own.zeros[side]))
    array = values[name]
    if zero is None or not zero.size:
        return np.asarray(array != 0)
    # One zero point, or one per output channel of the weights.
    first = zero.ndim and zero.size > 1 and node.op_type in ("ConvInteger", "QLinearConv")
    return np.asarray(array != (zero.reshape(-1, *[1] * (array.ndim - 1)) if first else zero))


def _windowed(
    left: NDArray[np.bool_], weight: NDArray[np.bool_], out: Shape, settings: Mapping[str, Any], *, transposed: bool
) -> tuple[int, int]:
    axes = weight.ndim - 2
    into, outputs = tuple(left.shape[1:]), out[1:]
    stride = tuple(settings.get("strides", (1,) * axes))
    dilation = tuple(settings.get("dilations", (1,) * axes))
    kernel = weight.shape[2:]
    wide, narrow = (outputs, into) if transposed else (into, outputs)
    padding = _padding(settings, stride, dilation, kernel, wide[1:], narrow[1:])
    synapse = Synapse(
        "conv", wide, narrow, weight.astype(np.int8), stride, padding, dilation, int(settings.get("group", 1))
    )
    active = left.sum(axis=0, dtype=np.int64)
    dense, effective = (transposed_products if transposed else window_products)(synapse, active)
    return dense * len(left), effective


def _padding(
    settings: Mapping[str, Any], stride: Shape, dilation: Shape, kernel: Shape, wide: Shape, narrow: Shape
) -> tuple[tuple[int, int], ...]:
    """Return (before, after) per spatial axis."""
    auto = settings.get("auto_pad", b"NOTSET").decode()
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((few - 1) * step + gap * (taps - 1) + 1 - many, 0)
            for few, step, gap, taps, many in zip(narrow, stride, dilation, kernel, wide, strict=True)
        ]
        less = [(size // 2, size - size // 2) for size in total]
        return tuple(less if auto == "SAME_UPPER" else [pair[::-1] for pair in less])
    pads = list(settings.get("pads", (0,) * 2 * len(kernel)))
    return tuple(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
