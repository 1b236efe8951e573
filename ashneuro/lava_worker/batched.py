"""Lava's Dense and Sparse for samples side by side: a matrix of samples in place of a vector.

The values of ``width`` samples are one flat array (neurons · width), ordered by neuron, then by
sample. For neurons that is a larger population; for a synapse it is one product with a matrix
(inputs, width) instead of ``width`` products. Lava's own models run; only the shapes at their ports
change. A step costs Lava the same at any width (0.45 ms per layer), so a sample costs less.
"""

from __future__ import annotations

import numpy as np
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.variable import Var
from lava.proc.dense.models import PyDenseModelBitAcc, PyDenseModelFloat
from lava.proc.dense.process import Dense
from lava.proc.sparse.models import PySparseModelBitAcc, PySparseModelFloat
from lava.proc.sparse.process import Sparse
from scipy.sparse import csr_matrix

EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53


def _widen(process, width: int, largest: int) -> None:
    """Give a synapse ports for ``width`` samples; ``largest``: input magnitude, 0 if unknown."""
    outputs, inputs = process.weights.shape
    process.s_in = InPort(shape=(inputs * width,))
    process.a_out = OutPort(shape=(outputs * width,))
    process.a_buff = Var(shape=(outputs * width,), init=0)
    process.proc_params["width"], process.proc_params["largest"] = width, largest


class BatchedDense(Dense):
    """A `Dense` for ``width`` samples side by side."""

    def __init__(self, *, weights: np.ndarray, width: int, largest: int, **parameters) -> None:
        super().__init__(weights=weights, **parameters)
        _widen(self, width, largest)


class BatchedSparse(Sparse):
    """A `Sparse` for ``width`` samples side by side."""

    def __init__(self, *, weights: csr_matrix, width: int, largest: int, **parameters) -> None:
        super().__init__(weights=weights, **parameters)
        _widen(self, width, largest)


class _Columns:
    """A port that receives (neurons, width), and sends it as a flat array."""

    def __init__(self, port, width: int) -> None:
        self.port, self.width = port, width

    def recv(self) -> np.ndarray:
        return self.port.recv().reshape(-1, self.width)

    def send(self, values: np.ndarray) -> None:
        self.port.send(values.ravel())


class _Exact:
    """Integer weights, multiplied in floating point: exact here, and several times as fast."""

    def __init__(self, weights: np.ndarray, largest: int) -> None:
        most = int(np.abs(weights.astype(np.int64)).sum(axis=1).max(initial=0)) * (largest or 1 << 31)
        if most >= EXACT_FLOAT64:
            raise OverflowError(f"sums of up to {most} are not exact")
        self.weights = weights.astype(np.float32 if most < EXACT_FLOAT32 else np.float64)

    def dot(self, values: np.ndarray) -> np.ndarray:
        return (self.weights @ values.astype(self.weights.dtype)).astype(np.int32)


class _BatchedModel:
    def run_spk(self) -> None:
        if not isinstance(self.s_in, _Columns):
            width = self.proc_params["width"]
            self.s_in, self.a_out = _Columns(self.s_in, width), _Columns(self.a_out, width)
        super().run_spk()


class BatchedDenseModelFloat(_BatchedModel, PyDenseModelFloat):
    """Lava's float product."""

    # Protocol, resources and tag are inherited; the decorator `implements` cannot replace this.
    implements_process = BatchedDense


class BatchedDenseModelFixed(_BatchedModel, PyDenseModelBitAcc):
    """Lava's bit-accurate weights and exponents; only the product is in floating point."""

    implements_process = BatchedDense

    def run_spk(self) -> None:
        """Run Lava's step; in the first one it clips and truncates the weights as the hardware."""
        super().run_spk()
        if not isinstance(self.weights, _Exact):
            self.weights = _Exact(self.weights, self.proc_params["largest"])


class BatchedSparseModelFloat(_BatchedModel, PySparseModelFloat):
    """Lava's float product."""

    implements_process = BatchedSparse


class BatchedSparseModelFixed(_BatchedModel, PySparseModelBitAcc):
    """Lava's bit-accurate product."""

    implements_process = BatchedSparse
