"""Count the layers of a torch module with hooks, while it runs on samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.cost.flops import count_flops
from ashneuro.cost.own.network import OwnAnn, Products, matrix_products, transposed_products, window_products
from ashneuro.cost.workload import Workload
from ashneuro.errors import DataError, need
from ashneuro.program.program import Synapse

OTHER = "products outside layers"


def count_module(module: Any, sample: Any, *, measured_on: str = "the sample") -> OwnAnn:
    """Return the counts of a torch module on ``sample``.

    Linear layers and (transposed) convolutions are seen by hooks, in every call; batch norms behind
    them are folded. Products that no such layer computes, e.g. attention's, are those that torch's
    flop counter sees beyond, in one row of dense MACs. The module runs in evaluation mode.

    Args:
        module: a ``torch.nn.Module`` of one pass.
        sample: (B, *shape): one input per inference.
        measured_on: the samples in words; empty: the zeros of the sample mean nothing.

    Raises:
        DataError: the module does not take the sample.
        MissingDependency: torch is not installed.
    """
    torch = need("torch", extra="train", purpose="counting a torch module")
    parameters = next(module.parameters(), None)
    values = torch.as_tensor(np.asarray(sample) if not torch.is_tensor(sample) else sample)
    if parameters is not None:
        kind = parameters.dtype if values.is_floating_point() or values.dtype in (torch.bool, torch.uint8) else None
        values = values.to(parameters.device, kind)
    reader = _Reader(torch)
    was_training = module.training
    module.eval()
    handles = [each.register_forward_hook(reader.seen(name), with_kwargs=True) for name, each in module.named_modules()]
    try:
        with torch.no_grad():
            module(values)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        said = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{type(module).__name__} does not take a sample of shape {tuple(values.shape)}",
            said,
            "give sample=x, of shape (B, *shape): one input of your ANN per inference",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    try:
        flops = count_flops(lambda: module(values))
    finally:
        module.train(was_training)
    rows = list(reader.rows.values())
    if flops.macs > reader.by_torch:
        rest = Products(OTHER)
        rest.add(flops.macs - reader.by_torch, None, 0, 0)
        rows.append(rest)
    if not measured_on:
        for row in rows:
            row.effective = None
    samples = len(values)
    uncounted = ", ".join(sorted(flops.uncounted, key=lambda name: -flops.uncounted[name]))
    layers = tuple(row.layer(samples) for row in rows)
    return OwnAnn(type(module).__name__, Workload(samples, 1, layers), measured_on, uncounted)


class _Reader:
    """Products of the layers that were called so far.

    Args:
        rows: by the path of the module.
        by_torch: MACs of these layers as torch's flop counter has them, padding included.
    """

    def __init__(self, torch: Any) -> None:
        self.torch, nn = torch, torch.nn
        self.rows: dict[str, Products] = {}
        self.by_torch = 0
        self._outputs: list[tuple[Any, Products]] = []
        self._convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        self._transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        self._norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

    def seen(self, name: str) -> Callable[..., None]:
        """Return the forward hook of the module called ``name``."""

        def hook(module: Any, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            value = next(iter((*inputs, *named.values())), None)
            if isinstance(module, self._norms):
                self._fold(value)
            elif isinstance(module, self.torch.nn.Linear):
                self._linear(self._row(name, module), module, value, output)
            elif isinstance(module, (*self._convolutions, *self._transposed)):
                self._windowed(self._row(name, module), module, value, output)

        return hook

    def _row(self, name: str, module: Any) -> Products:
        if name not in self.rows:
            row = self.rows[name] = Products(name or type(module).__name__, bias=module.bias is not None)
            row.store(_array(module.weight), None if module.bias is None else _array(module.bias))
        return self.rows[name]

    def _fold(self, value: Any) -> None:
        """Give the layer whose output a batch norm takes the bias that folding leaves."""
        for output, row in self._outputs:
            if output is value and not row.bias:
                row.bias = True
                row.parameters += int(value.shape[1])

    def _linear(self, row: Products, module: Any, value: Any, output: Any) -> None:
        weight, active = _array(module.weight) != 0, _array(value) != 0
        dense, effective = matrix_products(active.reshape(-1, active.shape[-1]), weight.T)
        row.add(dense, effective, value.numel(), output.numel())
        self.by_torch += dense
        self._outputs.append((output, row))

    def _windowed(self, row: Products, module: Any, value: Any, output: Any) -> None:
        axes = len(module.kernel_size)
        padding = module._reversed_padding_repeated_twice
        if value.ndim == axes + 1:  # without a batch
            value, output = value[None], output[None]
        if module.padding_mode != "zeros":  # what is padded are values then
            value = self.torch.nn.functional.pad(value, padding, mode=module.padding_mode)
            pads: tuple[tuple[int, int], ...] = ((0, 0),) * axes
        elif isinstance(module.padding, str):
            pads = tuple(zip(padding[-2::-2], padding[-1::-2], strict=True))
        else:
            pads = tuple((int(size), int(size)) for size in module.padding)
        transposed = isinstance(module, self._transposed)
        into, out = tuple(value.shape[1:]), tuple(output.shape[1:])
        synapse = Synapse(
            "conv",
            *((out, into) if transposed else (into, out)),
            _array(module.weight),
            tuple(module.stride),
            pads,
            tuple(module.dilation),
            module.groups,
        )
        active = (_array(value) != 0).sum(axis=0, dtype=np.int64)
        dense, effective = (transposed_products if transposed else window_products)(synapse, active)
        calls = len(value)
        row.add(dense * calls, effective, value.numel(), output.numel())
        positions = math.prod((into if transposed else out)[1:])
        self.by_torch += calls * positions * module.weight.numel()
        self._outputs.append((output, row))


def _array(value: Any) -> NDArray[Any]:
    array: NDArray[Any] = value.detach().cpu().float().numpy() if value.is_floating_point() else value.cpu().numpy()
    return array
