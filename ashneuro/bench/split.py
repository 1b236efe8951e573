"""Time of a run by kind of operator: products of synapses, neurons, norms, and the rest."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

RUNS = 5
WAITING = "no kernel runs"
# Prefixes of operator names in a profile.
PARTS: dict[str, tuple[str, ...]] = {
    "products": (
        *(
            "aten::mm",
            "aten::addmm",
            "aten::bmm",
            "aten::baddbmm",
            "aten::_scaled_dot_product",
            "aten::mkldnn_convolution",
        ),
        *("aten::cudnn_convolution", "aten::convolution_backward", "aten::_conv_depthwise2d", "aten::_slow_conv2d"),
        *("_Currents", "_Weights"),  # `ashneuro.spiking.kernels.sparse_synapses`
    ),
    "neurons": ("MultiStep", "ashneuro::neurons"),
    "norms": (
        "_BatchNorm",  # `ashneuro.spiking.kernels.batch_norm`
        "aten::native_batch_norm",
        "aten::cudnn_batch_norm",
        "aten::_batch_norm",
        "aten::batch_norm",
        "aten::native_layer_norm",
    ),
}


def split(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return seconds per run by `PARTS` and ``"rest"``, medians of `RUNS` runs; on a GPU also
    `WAITING`.

    The time of an operator, or of the GPU kernels that it launches, excludes the operators that it
    calls.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler logs to the terminal
    for _ in range(2):
        run()
    runs = [_once(run, device) for _ in range(RUNS)]
    return {part: sorted(one[part] for one in runs)[RUNS // 2] for part in runs[0]}


def _once(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as made:
        run()
        if cuda:
            torch.cuda.synchronize(device)
    found = dict.fromkeys((*PARTS, "rest"), 0.0)
    # Only the operators' rows: GPU kernels have rows of their own, and would count twice.
    for operator in (row for row in made.key_averages() if row.device_type.name == "CPU"):
        found[part_of(operator.key)] += 1e-6 * (
            operator.self_device_time_total if cuda else operator.self_cpu_time_total
        )
    if cuda:
        found[WAITING] = max(0.0, _elapsed(made) - sum(found.values()))
    return found


def part_of(operator: str) -> str:
    """Return the part of `PARTS` that an operator belongs to, or ``"rest"``."""
    return next((part for part, names in PARTS.items() if operator.startswith(names)), "rest")


def _elapsed(made: Any) -> float:
    """Return seconds from the start of the first operator to the end of the last kernel."""
    events = [event.time_range for event in made.events()]
    return 1e-6 * float(max(event.end for event in events) - min(event.start for event in events))
