"""The user's own ANN in a report: a torch module, or an ONNX model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.errors import ConfigError, DataError
from ashneuro.workflows.networks import named_inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.cost.own.network import OwnAnn


@dataclass(frozen=True, eq=False)
class Sample:
    """One input of the ANN per inference.

    Args:
        values: (B, *shape).
        source: where they come from, in words.
        real: False for noise, whose zeros mean nothing.
    """

    values: NDArray[np.generic]
    source: str
    real: bool = True


def mean_sample(inputs: dict[str, Any], source: str, *, real: bool) -> Sample | None:
    """Return the mean over time of a network's only input; ``None`` where it has several."""
    import numpy as np

    if len(inputs) != 1:
        return None
    (values,) = inputs.values()
    return Sample(np.asarray(values, np.float64).mean(axis=0), f"{source}, mean over time", real)


def count_own_ann(ann: Any, sample: Any = None, default: Sample | None = None) -> OwnAnn:
    """Return the counts of the user's ANN.

    Args:
        ann: a ``torch.nn.Module``, the path of a .onnx file, or an ``onnx.ModelProto``.
        sample: (B, *shape) as an array, a tensor, or the path of a .npy.
        default: what to take where no sample is given. An ONNX model that does not take it is
            counted by its shapes.

    Raises:
        ConfigError: it is none of these, or a module without a sample.
        DataError: it does not take the sample, or a file cannot be read.
        AshneuroError: it has products that are not counted.
        MissingDependency: torch, or onnx, is not installed.
    """
    given = default
    if sample is not None:
        is_file = isinstance(sample, str | Path)
        values = named_inputs(sample, ["input"])["input"] if is_file else sample
        given = Sample(values, str(sample) if is_file else "the given sample")
    measured_on = given.source if given is not None and given.real else ""
    if hasattr(ann, "named_modules"):
        from ashneuro.cost.own.torch_module import count_module

        if given is None:
            what = f"ann={type(ann).__name__} without a sample"
            raise ConfigError(what, "a torch module's shapes are those of its input", "sample=x, of shape (B, *shape)")
        return count_module(ann, given.values, measured_on=measured_on)
    if isinstance(ann, str | Path) and Path(ann).suffix != ".onnx":
        why = "a file of an ANN is an ONNX model; a pickle runs code of its own, and is not opened"
        raise ConfigError(f"--ann {ann}", why, "torch.onnx.export(model, x, 'model.onnx')")
    if not isinstance(ann, str | Path) and not hasattr(ann, "graph"):
        what = f"ann is a {type(ann).__name__}"
        raise ConfigError(what, "it is a torch.nn.Module, a .onnx file or an onnx.ModelProto", "give one of these")
    from ashneuro.cost.own.onnx_file import count_onnx

    try:
        return count_onnx(ann, None if given is None else given.values, measured_on=measured_on)
    except DataError:
        if sample is not None or given is None:
            raise
        return count_onnx(ann)
