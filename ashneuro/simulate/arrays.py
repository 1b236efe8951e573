"""Two array libraries behind one small interface: numpy, which is always there, and torch, which is fast and has CUDA.

Sums of integers are exact in both. Products of weights and inputs are added up in float32 only while no partial sum can
reach 2^24, in float64 otherwise, and convolutions are matrix products over unfolded patches: no algorithm that adds and
subtracts its way around products (Winograd, FFT) is ever used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import ConfigError, need
from ashneuro.program.program import Synapse
from ashneuro.program.synapse import matrix

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "torch", "numpy"]
FloatType = Literal["float64", "float32"]
# Takes (M, *in_shape), gives (M, *out_shape).
Linear = Callable[[Any], Any]


class Arrays(ABC):
    """What a simulation needs of an array library beyond arithmetic."""

    xp: Any
    batch: int  # samples that are computed together, at most
    patches: int  # numbers that an intermediate array may have, at most

    @abstractmethod
    def put(self, values: NDArray[Any]) -> Any:
        """Return ``values`` as an array of this library, on its device."""

    @abstractmethod
    def get(self, values: Any) -> NDArray[Any]:
        """Return an array of this library as numpy's."""

    @abstractmethod
    def cast(self, values: Any, kind: str) -> Any:
        """Return ``values`` as ``kind``: a name that numpy and torch share, such as ``"int32"``."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], kind: str) -> Any:
        """Return zeros."""

    @abstractmethod
    def linear(self, synapse: Synapse, kind: FloatType) -> Linear:
        """Return ``synapse`` as a function of arrays of ``kind``."""


class NumpyArrays(Arrays):
    """numpy and scipy; needs nothing else."""

    xp = np
    batch, patches = 16, 1 << 24

    def put(self, values: NDArray[Any]) -> Any:
        """Return ``values``, contiguous."""
        return np.ascontiguousarray(values)

    def get(self, values: Any) -> NDArray[Any]:
        """Return ``values``."""
        return np.asarray(values)

    def cast(self, values: Any, kind: str) -> Any:
        """Return ``values`` as ``kind``."""
        return values.astype(kind)

    def zeros(self, shape: tuple[int, ...], kind: str) -> Any:
        """Return zeros."""
        return np.zeros(shape, kind)

    def linear(self, synapse: Synapse, kind: FloatType) -> Linear:
        """Return a dense product, or one with the synapse's sparse matrix."""
        if synapse.kind == "dense":
            weight = np.ascontiguousarray(synapse.weight.astype(kind).T)
            return lambda x: (x.reshape(-1, len(weight)) @ weight).reshape(len(x), *synapse.out_shape)
        weights = matrix(synapse).astype(kind)
        return lambda x: np.ascontiguousarray((weights @ x.reshape(len(x), -1).T).T).reshape(len(x), *synapse.out_shape)


class TorchArrays(Arrays):
    """torch on a CPU or a CUDA device."""

    def __init__(self, device: str) -> None:
        torch = need("torch", extra="train", purpose="simulating with torch")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._device = torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"device {device!r}", "torch knows no such device", "--device cpu, or --device cuda") from error
        cuda = self._device.type == "cuda"
        if cuda and not torch.cuda.is_available():
            raise ConfigError("device cuda", "torch finds no CUDA device here", "--device cpu")
        self.xp = torch
        self.batch, self.patches = (512, 1 << 28) if cuda else (32, 1 << 24)

    def put(self, values: NDArray[Any]) -> torch.Tensor:
        """Return a tensor on the device."""
        tensor: torch.Tensor = self.xp.tensor(values, device=self._device)
        return tensor

    def get(self, values: torch.Tensor) -> NDArray[Any]:
        """Return a numpy array on the host."""
        return np.asarray(values.cpu().numpy())

    def cast(self, values: torch.Tensor, kind: str) -> torch.Tensor:
        """Return ``values`` as ``kind``."""
        return values.to(getattr(self.xp, kind))

    def zeros(self, shape: tuple[int, ...], kind: str) -> torch.Tensor:
        """Return zeros on the device."""
        tensor: torch.Tensor = self.xp.zeros(shape, dtype=getattr(self.xp, kind), device=self._device)
        return tensor

    def linear(self, synapse: Synapse, kind: FloatType) -> Linear:
        """Return a matrix product for every kind of synapse."""
        if synapse.kind == "conv":
            return self._conv(synapse, kind)
        if synapse.kind == "sparse":
            weights = matrix(synapse).astype(kind).tocoo()
            places = self.put(np.stack([weights.row, weights.col]))
            sparse = self.xp.sparse_coo_tensor(places, self.put(weights.data), weights.shape, check_invariants=False, is_coalesced=True)
            return lambda x: (sparse @ x.reshape(len(x), -1).T).T.reshape(len(x), *synapse.out_shape)
        weight = self.put(synapse.weight.astype(kind))
        if synapse.kind == "scale":
            return lambda x: x.reshape(len(x), *synapse.in_shape) * weight
        return lambda x: (x.reshape(-1, weight.shape[1]) @ weight.T).reshape(len(x), *synapse.out_shape)

    def _conv(self, synapse: Synapse, kind: FloatType) -> Linear:
        functional = self.xp.nn.functional
        # 1-D is 2-D with a height of 1.
        extra = 3 - len(synapse.in_shape)
        kernel = (1,) * extra + synapse.weight.shape[2:]
        stride, dilation = (1,) * extra + synapse.stride, (1,) * extra + synapse.dilation
        sides = [side for pair in reversed(synapse.padding) for side in pair]  # torch pads the last axis first
        channels, groups = synapse.in_shape[0], synapse.groups
        image = (channels, *(1,) * extra, *synapse.in_shape[1:])
        weight = self.put(synapse.weight.astype(kind).reshape(groups, synapse.out_shape[0] // groups, -1))

        def convolve(x: torch.Tensor) -> torch.Tensor:
            padded = functional.pad(x.reshape(len(x), *image), sides)
            patches = functional.unfold(padded, kernel, dilation=dilation, stride=stride)
            sums: torch.Tensor = weight @ patches.reshape(len(x), groups, -1, patches.shape[-1])
            return sums.reshape(len(x), *synapse.out_shape)

        return convolve


def arrays(backend: Backend, device: str = "cpu") -> Arrays:
    """Return the array library: ``"auto"`` takes torch where it is installed, numpy elsewhere.

    Raises:
        MissingDependency: torch was asked for and is not installed.
        ConfigError: the device does not exist.
    """
    if backend == "numpy":
        return NumpyArrays()
    if backend == "auto" and device in {"auto", "cpu"}:
        from importlib.util import find_spec

        if find_spec("torch") is None:
            return NumpyArrays()
    return TorchArrays(device)
