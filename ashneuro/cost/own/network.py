"""The counts of a user's own ANN, and how a layer's products are counted.

The definitions are those of `ashneuro.cost.workload.LayerWorkload`: dense MACs without products
with padding; effective MACs are products of a non-zero activation with a non-zero weight.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.cost.workload import FLOAT_BYTES, LayerWorkload, Workload
from ashneuro.program.program import Synapse
from ashneuro.program.synapse import dense_macs, fan_out, signed_sums


@dataclass(frozen=True)
class OwnAnn:
    """A user's own ANN, counted.

    Args:
        name: name of the file or module.
        workload: its layers; `LayerWorkload.effective_macs` is ``None`` where zeros were not
            measured.
        measured_on: samples that zeros were measured on, in words; empty: they were not.
        uncounted: operations without a count on either side, in words.
    """

    name: str
    workload: Workload
    measured_on: str = ""
    uncounted: str = ""

    @property
    def zero_share(self) -> float | None:
        """Share of the dense MACs with a zero activation or a zero weight; ``None`` if nothing was
        measured.
        """
        measured = [layer for layer in self.workload.layers if layer.effective_macs is not None]
        dense = sum(layer.dense_macs for layer in measured)
        return 1 - sum(layer.effective_macs or 0 for layer in measured) / dense if dense else None

    def sentence(self) -> str:
        """Return layers, MACs and zeros in words."""
        work = self.workload
        text = f"{len(work.layers)} layers, {work.per_inference('dense_macs'):,.0f} MACs per inference"
        share = self.zero_share
        if share is None:
            return f"{text}; zeros not measured: no sample of its input was given (--ann-sample)"
        return f"{text}, {100 * share:.1f} % of them with a zero; measured on {self.measured_on}"


@dataclass
class Products:
    """Products of one layer, summed over its calls.

    Args:
        name: layer name.
        dense, effective: products over all samples; ``effective`` is ``None`` where not measured.
        inputs, neurons: elements read and written, over all samples.
        parameters, zeros: stored weights and biases, and those that are zero.
        bias: True if a bias is added.
    """

    name: str
    dense: int = 0
    effective: int | None = 0
    inputs: int = 0
    neurons: int = 0
    parameters: int = 0
    zeros: int = 0
    bias: bool = False
    calls: int = field(default=0)

    def add(self, dense: int, effective: int | None, inputs: int, neurons: int) -> None:
        """Add one call of the layer."""
        self.dense += dense
        self.effective = None if effective is None or self.effective is None else self.effective + effective
        self.inputs += inputs
        self.neurons += neurons
        self.calls += 1

    def store(self, *arrays: NDArray[Any] | None) -> None:
        """Count the parameters of the layer."""
        given = [np.asarray(array) for array in arrays if array is not None]
        self.parameters = sum(array.size for array in given)
        self.zeros = sum(int((array == 0).sum()) for array in given)

    def layer(self, samples: int) -> LayerWorkload:
        """Return the counts, as the twin has them."""
        return LayerWorkload(
            name=self.name,
            place="deployed",
            kind="ann",
            neurons=round(self.neurons / samples),
            parameters=self.parameters,
            parameter_bytes=self.parameters * FLOAT_BYTES,
            zero_parameters=self.zeros,
            inputs=round(self.inputs / samples),
            dense_macs=self.dense,
            effective_macs=self.effective,
            update_adds=1 + self.bias,
        )


def matrix_products(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> tuple[int, int]:
    """Return (dense, effective) products of a matrix product (…, M, K) · (…, K, N).

    Args:
        left, right: True where a value is not zero; leading axes broadcast.
    """
    rows, columns, inner = left.shape[-2], right.shape[-1], left.shape[-1]
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    dense = int(np.prod(batch, dtype=np.int64)) * rows * columns * inner
    # Of each k: non-zero values in its column on the left, times those in its row on the right.
    pairs = left.sum(axis=-2, dtype=np.int64) * right.sum(axis=-1, dtype=np.int64)
    return dense, int(np.broadcast_to(pairs, (*batch, inner)).sum())


def window_products(synapse: Synapse, active: NDArray[np.int64]) -> tuple[int, int]:
    """Return (dense products of one call, effective products) of a convolution.

    Args:
        synapse: kind ``"conv"``.
        active: calls in which an element of the input is not zero; shape ``in_shape``.
    """
    return dense_macs(synapse), int((active * fan_out(synapse)).sum())


def transposed_products(synapse: Synapse, active: NDArray[np.int64]) -> tuple[int, int]:
    """Return the same of a transposed convolution.

    Args:
        synapse: the convolution that it transposes, from its outputs to its inputs.
        active: calls in which an element of its input is not zero; shape ``out_shape``.
    """
    nonzero = Synapse(
        "conv",
        synapse.in_shape,
        synapse.out_shape,
        (synapse.weight != 0).astype(np.int64),
        synapse.stride,
        synapse.padding,
        synapse.dilation,
        synapse.groups,
    )
    _, fan_in = signed_sums(nonzero)
    return dense_macs(synapse), int((active.ravel() * fan_in).sum())
