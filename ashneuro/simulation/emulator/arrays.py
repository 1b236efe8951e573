"""Array libraries of the emulator: numpy, which is always installed, and torch, for speed and CUDA.

Sums of integers are exact in both: products are added in float32 only if no partial sum can reach
2^24, else in float64, and convolutions are matrix products over unfolded patches. Algorithms with
rounded intermediate values (Winograd, FFT) are not used.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from ashneuro.errors import ConfigError, need
from ashneuro.program.program import Shape, Synapse
from ashneuro.program.synapse import matrix
from ashneuro.simulation.emulator.population import Kernel

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "torch", "numpy"]
FloatType = Literal["float64", "float32"]
CHUNK = 128  # samples computed together on a CPU
Linear = Callable[[Any], Any]  # (M, *in_shape) → (M, *out_shape)


class Arrays(ABC):
    """Operations beyond arithmetic in which array libraries differ."""

    xp: Any
    batch: int  # largest number of samples computed together
    patches: int  # largest number of elements of an intermediate array
    on_cpu: bool  # its arrays can share memory with numpy's

    @abstractmethod
    def put(self, values: NDArray[Any]) -> Any:
        """Return ``values`` as an array of this library, on its device."""

    @abstractmethod
    def get(self, values: Any) -> NDArray[Any]:
        """Return an array of this library as a numpy array."""

    @abstractmethod
    def wrap(self, values: NDArray[Any]) -> Any:
        """Return ``values`` as an array of this library, in the same memory if possible."""

    @abstractmethod
    def cast(self, values: Any, kind: str) -> Any:
        """Return ``values`` as type ``kind``, a name common to both libraries, e.g. ``"int32"``."""

    @abstractmethod
    def zeros(self, shape: Shape, kind: str) -> Any:
        """Return zeros."""

    @abstractmethod
    def strided(self, values: Any, shape: Shape, strides: Shape) -> Any:
        """Return a view of contiguous ``values``; ``strides`` count elements."""

    @abstractmethod
    def sparse(self, weights: csr_matrix) -> Linear:
        """Return the product of rows (M, N_in) with a sparse matrix (N_out, N_in)."""

    @abstractmethod
    def single_threaded(self) -> AbstractContextManager[int]:
        """Keep the library from using threads; give the number that may call it at once."""

    def integer_kernel(self) -> Kernel | None:
        """Return a kernel that computes all steps of integer neurons at once, if there is one."""
        return None

    def linear(self, synapse: Synapse, kind: FloatType) -> Linear:
        """Return ``synapse`` as a function of arrays of type ``kind``."""
        if synapse.kind == "conv":
            return self._conv(synapse, kind)
        if synapse.kind == "sparse":
            product = self.sparse(matrix(synapse).astype(kind))
            return lambda x: product(x.reshape(len(x), -1)).reshape(len(x), *synapse.out_shape)
        weight = self.put(synapse.weight.astype(kind))
        if synapse.kind == "scale":
            return lambda x: x.reshape(len(x), *synapse.in_shape) * weight
        return lambda x: (x.reshape(-1, weight.shape[1]) @ weight.T).reshape(len(x), *synapse.out_shape)

    def _conv(self, synapse: Synapse, kind: FloatType) -> Linear:
        """Return a convolution: per group, patches (M · positions, taps) times weights."""
        groups, kernel, out = synapse.groups, synapse.weight.shape[2:], synapse.out_shape[1:]
        channels, outputs = synapse.in_shape[0] // groups, synapse.out_shape[0] // groups
        sides = [size + sum(pad) for size, pad in zip(synapse.in_shape[1:], synapse.padding, strict=True)]
        inside = tuple(
            slice(pad[0], pad[0] + size) for size, pad in zip(synapse.in_shape[1:], synapse.padding, strict=True)
        )
        steps = [math.prod(sides[axis + 1 :]) for axis in range(len(sides))]
        area, positions = math.prod(sides), math.prod(out)
        strides = (
            channels * area,
            groups * channels * area,
            *(step * stride for step, stride in zip(steps, synapse.stride, strict=True)),
            area,
            *(step * gap for step, gap in zip(steps, synapse.dilation, strict=True)),
        )
        weight = self.put(synapse.weight.astype(kind).reshape(groups, outputs, -1).swapaxes(1, 2))

        def convolve(x: Any) -> Any:
            padded = self.zeros((len(x), synapse.in_shape[0], *sides), kind)
            padded[(slice(None), slice(None), *inside)] = x.reshape(len(x), *synapse.in_shape)
            patches = self.strided(padded, (groups, len(x), *out, channels, *kernel), strides)
            sums = patches.reshape(groups, len(x) * positions, -1) @ weight
            # (group, sample, position, output) → (sample, group, output, position)
            ordered = sums.reshape(groups, len(x), positions, outputs).swapaxes(0, 1).swapaxes(2, 3)
            return ordered.reshape(len(x), *synapse.out_shape)

        return convolve


class NumpyArrays(Arrays):
    """numpy and scipy."""

    xp = np
    batch, patches, on_cpu = CHUNK, 1 << 24, True

    def put(self, values: NDArray[Any]) -> Any:
        """Return ``values``, contiguous."""
        return np.ascontiguousarray(values)

    def get(self, values: Any) -> NDArray[Any]:
        """Return ``values``."""
        return np.asarray(values)

    def wrap(self, values: NDArray[Any]) -> Any:
        """Return ``values``."""
        return values

    def cast(self, values: Any, kind: str) -> Any:
        """Return ``values`` as ``kind``."""
        return values.astype(kind)

    def zeros(self, shape: Shape, kind: str) -> Any:
        """Return zeros."""
        return np.zeros(shape, kind)

    def strided(self, values: Any, shape: Shape, strides: Shape) -> Any:
        """Return a view."""
        return as_strided(values, shape, tuple(step * values.itemsize for step in strides), writeable=False)

    def sparse(self, weights: csr_matrix) -> Linear:
        """Return scipy's product."""
        return lambda x: np.ascontiguousarray((weights @ x.T).T)

    def single_threaded(self) -> AbstractContextManager[int]:
        """Give 1: the steps are Python code, which several threads run no faster."""
        return nullcontext(1)


class TorchArrays(Arrays):
    """torch on a CPU or a CUDA device."""

    def __init__(self, device: str) -> None:
        torch = need("torch", extra="train", purpose="simulating with torch")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        from ashneuro.spiking.kernels.dispatch import find_device

        self._device = find_device(device)
        cuda = self._device.type == "cuda"
        self.on_cpu = self._device.type == "cpu"
        if not cuda and not self.on_cpu:
            raise ConfigError(
                f"device {device!r}",
                "float64 and integers are computed on cpu and cuda",
                "--device cpu, or --device cuda",
            )
        self.xp = torch
        self.batch, self.patches = (512, 1 << 28) if cuda else (CHUNK, 1 << 24)

    def put(self, values: NDArray[Any]) -> torch.Tensor:
        """Return a tensor on the device."""
        tensor: torch.Tensor = self.xp.tensor(values, device=self._device)
        return tensor

    def get(self, values: torch.Tensor) -> NDArray[Any]:
        """Return a numpy array on the host."""
        return np.asarray(values.cpu().numpy())

    def wrap(self, values: NDArray[Any]) -> torch.Tensor:
        """Return a tensor in the same memory, or on the device."""
        tensor: torch.Tensor = self.xp.from_numpy(values).to(self._device)
        return tensor

    def cast(self, values: torch.Tensor, kind: str) -> torch.Tensor:
        """Return ``values`` as ``kind``."""
        return values.to(getattr(self.xp, kind))

    def zeros(self, shape: Shape, kind: str) -> torch.Tensor:
        """Return zeros on the device."""
        tensor: torch.Tensor = self.xp.zeros(shape, dtype=getattr(self.xp, kind), device=self._device)
        return tensor

    def strided(self, values: torch.Tensor, shape: Shape, strides: Shape) -> torch.Tensor:
        """Return a view."""
        return values.as_strided(shape, strides)

    def sparse(self, weights: csr_matrix) -> Linear:
        """Return torch's product."""
        parts = weights.tocoo()
        indices = self.put(np.stack([parts.row, parts.col]))
        tensor = self.xp.sparse_coo_tensor(
            indices, self.put(parts.data), parts.shape, check_invariants=False, is_coalesced=True
        )
        return lambda x: (tensor @ x.T).T

    def integer_kernel(self) -> Kernel | None:
        """Return the Triton kernel on a GPU, see `ashneuro.spiking.kernels.dispatch`."""
        from ashneuro.spiking.kernels.dispatch import choose_backend

        asked = choose_backend("auto", self._device)
        if asked != "triton":
            return None
        from ashneuro.simulation.emulator import backend_triton

        return backend_triton.run

    @contextmanager
    def single_threaded(self) -> Iterator[int]:
        """Give the number of torch's threads; 1 on a GPU, which runs one kernel after another."""
        before = self.xp.get_num_threads()
        if self._device.type != "cpu":
            yield 1
            return
        self.xp.set_num_threads(1)
        try:
            yield before
        finally:
            self.xp.set_num_threads(before)


def arrays(backend: Backend, device: str = "cpu") -> Arrays:
    """Return the array library; ``"auto"``: torch if it is installed, else numpy.

    Raises:
        MissingDependency: torch was asked for and is not installed.
        ConfigError: the device does not exist.
    """
    if backend == "numpy" or (backend == "auto" and device in {"auto", "cpu"} and find_spec("torch") is None):
        return NumpyArrays()
    return TorchArrays(device)
