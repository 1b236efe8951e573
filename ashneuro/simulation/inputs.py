"""Checks of input samples against the ports of a network, and their encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ashneuro.errors import DataError
from ashneuro.program.program import InputPort, Precision

Progress = Callable[[int, int], object]  # called with (samples done, samples in all) from time to time
Inputs = ArrayLike | Mapping[str, ArrayLike]  # (T, B, *shape) of the only port, or arrays by port name


def check_inputs(ports: Sequence[InputPort], timesteps: int | None, inputs: Inputs) -> dict[str, NDArray[Any]]:
    """Return one array (T, B, *shape) per port. A constant port takes no array: it is 1 everywhere.

    Axes of size 1 in front of a shape may be missing, or be there beyond the port's.

    Args:
        timesteps: required T; ``None`` if any will do.

    Raises:
        DataError: a port has no array, or an array has the wrong shape or number of steps, is not
            real, holds NaN or infinity, or something other than 0 and 1 if spikes are expected.
    """
    fed = [port for port in ports if not port.constant]
    given = _by_name(fed, inputs)
    checked = {port.name: _check(port, timesteps, given[port.name]) for port in fed}
    lengths = {name: array.shape[:2] for name, array in checked.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        raise DataError(
            "the inputs do not belong together",
            f"steps and samples (T, B) differ: {said}",
            "give every port the same T and B",
        )
    size = next(iter(lengths.values()))
    return {
        port.name: np.ones((*size, *port.shape), np.uint8) if port.constant else checked[port.name] for port in ports
    }


def input_peaks(ports: Sequence[InputPort], checked: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the largest magnitude of each analog input.

    Args:
        checked: result of `check_inputs`.

    Raises:
        DataError: an analog input is zero everywhere.
    """
    # Not abs(): of an int8, abs(−128) is −128.
    peaks = {
        port.name: max(-float(checked[port.name].min()), float(checked[port.name].max()))
        for port in ports
        if port.coding != "spikes"
    }
    for name, peak in peaks.items():
        if not peak:
            raise DataError(
                f"input {name!r} is 0 everywhere",
                "its range says how fine integers can be",
                "calibrate on real samples",
            )
    return peaks


def encode(port: InputPort, values: NDArray[Any], precision: Precision) -> NDArray[Any]:
    """Return the values that the host sends into ``port``.

    Float programs take x as float64. Integer programs take clip(round(scale·x), ±limit) as int32.
    """
    if precision == "float":
        return values.astype(np.float64)
    if port.coding == "spikes":
        return values.astype(np.int32)
    units: NDArray[np.float64] = np.multiply(values, port.scale, dtype=np.float64)
    np.rint(units, out=units)
    return units.clip(-port.limit, port.limit, out=units).astype(np.int32)


def _by_name(ports: Sequence[InputPort], inputs: Inputs) -> Mapping[str, ArrayLike]:
    names = [port.name for port in ports]
    if not isinstance(inputs, Mapping):
        if len(ports) == 1:
            return {names[0]: inputs}
        raise DataError(
            "one input array",
            f"the network has {len(ports)} inputs: {', '.join(names)}",
            "give an array for each, by name",
        )
    if set(inputs) != set(names):
        raise DataError(
            f"inputs {', '.join(inputs)}",
            f"the network's inputs are {', '.join(names)}",
            "give exactly one array for each",
        )
    return inputs


def _check(port: InputPort, timesteps: int | None, given: ArrayLike) -> NDArray[Any]:
    array = np.asarray(given)
    name, shape = f"input {port.name!r}", ", ".join(str(size) for size in port.shape)
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name} is {array.dtype}", "a simulation takes real numbers", "convert it: x.astype('float32')"
        )
    # A leading axis of size 1 that the port or the samples have beyond the other: a batch, or one
    # channel.
    sample = array.shape[2:]
    extra = len(sample) - len(port.shape)
    more = sample if extra > 0 else port.shape if sample else ()
    if more == (1,) * abs(extra) + (port.shape if extra > 0 else sample) and array.shape[1:] != port.shape:
        array = array.reshape(*array.shape[:2], *port.shape)
    if array.ndim != 2 + len(port.shape) or array.shape[2:] != port.shape or 0 in array.shape:
        remedy = "give an array of that shape, time first"
        if array.shape[1:] == port.shape and array.shape[0]:
            remedy = "add the time axis, e.g. numpy.repeat(x[None], T, axis=0)"
        raise DataError(
            f"{name} has shape {array.shape}", f"it must be (T, B, {shape}), with T and B at least 1", remedy
        )
    if timesteps is not None and array.shape[0] != timesteps:
        raise DataError(
            f"{name} has {array.shape[0]} time steps",
            f"a sample of this network lasts {timesteps}",
            f"give T = {timesteps}",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        step, sample = np.argwhere(~np.isfinite(array))[0][:2]
        raise DataError(
            f"{name} is not finite",
            f"first at step {step} of sample {sample}",
            "find where the NaN or infinity comes from",
        )
    bits = array.dtype.kind in "bu" and array.max() <= 1  # the usual case, several times as fast
    if port.coding == "spikes" and not bits and (others := (array != 0) & (array != 1)).any():
        raise DataError(
            f"{name} holds {array[others].flat[0]}", "this input takes spikes: 0 or 1", "encode it as spikes"
        )
    return array
