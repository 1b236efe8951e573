"""Comparison of two simulations of the same samples.

Spikes are compared exactly, and so is everything in integers. Read-outs and graded messages of
float programs are compared up to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.program.certificate import LayerComparison
from ashneuro.simulation.record import Activity, SpikeRecord

READ_OUT_TOLERANCE = 1e-9  # relative to max(1, |expected|): sums in another order differ in their last bits


def compare_records(left: SpikeRecord, right: SpikeRecord) -> tuple[LayerComparison, ...]:
    """Return one comparison per layer of ``left``; both records need rasters of these layers.

    Read-outs and graded messages of two float records may differ by `READ_OUT_TOLERANCE`; all else
    has to be equal.
    """
    exact = "integer" in (left.precision, right.precision)
    return tuple(compare_layer(name, activity, right.layers[name], exact) for name, activity in left.layers.items())


def compare_layer(name: str, left: Activity, right: Activity, exact: bool) -> LayerComparison:
    """Return the comparison of one layer's rasters; ``exact``: without tolerance for read-outs."""
    a, b = (_flat(activity) for activity in (left, right))
    if left.binary and right.binary:
        differ, largest = a != b, None
    else:
        differ = read_outs_differ(a, b, 0.0 if exact else READ_OUT_TOLERANCE)
        gap = np.abs(np.asarray(a, np.float64) - b)
        # JSON has no NaN: the largest finite number stands for it.
        largest = float(np.nan_to_num(gap, nan=np.finfo(np.float64).max).max(initial=0.0))
    # Samples first, (B, T, neurons): the first mismatch is the earliest in the first bad sample.
    mismatches = np.argwhere(differ.swapaxes(0, 1))
    first = (int(mismatches[0][0]), int(mismatches[0][1]), int(mismatches[0][2])) if len(mismatches) else None
    events = 0 if left.read_out else int(np.count_nonzero(a))
    return LayerComparison(name, int(a.size), events, len(mismatches), first, largest)


def read_outs_differ(
    expected: NDArray[Any], found: NDArray[Any], tolerance: float = READ_OUT_TOLERANCE
) -> NDArray[np.bool_]:
    """Return True where |found − expected| > tolerance · max(1, |expected|), or one is NaN."""
    gap = np.abs(np.asarray(expected, np.float64) - found)
    # Not `gap > …`: that is False for NaN, which would then equal everything.
    differ: NDArray[np.bool_] = ~(gap <= tolerance * np.maximum(1.0, np.abs(expected)))
    return differ


def _flat(activity: Activity) -> NDArray[Any]:
    assert activity.raster is not None, "a comparison needs rasters"
    raster = np.asarray(activity.raster)
    return raster.reshape(*raster.shape[:2], -1)
