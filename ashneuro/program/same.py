"""Comparison of two programs, number by number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ashneuro.program.program import Program
from ashneuro.program.serialise import entry_of

ROUNDING = 1e-10
"""Relative difference of two floats up to which a program counts as the same. exp and log differ
among processors and versions of numpy in their last bits, and bundles of before 2026-11 had no
margin of 2^-36 for ties in v_threshold. Integers are compared bit for bit.
"""


@dataclass(frozen=True)
class ProgramDifference:
    """Numbers in which two programs differ.

    Args:
        compared: number of values compared: elements of arrays, and single fields.
        differing: number of them that differ, floats by more than `ROUNDING`.
        first: the first that differs, and both values, in words; empty if none does.
        rounding: largest relative difference of the floats that do not differ by more.
    """

    compared: int
    differing: int
    first: str
    rounding: float


def compare_programs(one: Program, other: Program) -> ProgramDifference:
    """Compare everything that two programs compute with; remarks for users are left out."""
    parts = []
    for program in (one, other):
        arrays: dict[str, Any] = {}
        # Through JSON and back: tuples become lists, as in a program that was read.
        entry = json.loads(json.dumps(entry_of(program, arrays) | {"notes": []}))
        parts.append(dict(_leaves(entry, arrays, "")))
    left, right = parts
    compared = differing = 0
    first, rounding = "", 0.0
    for place in dict.fromkeys([*left, *right]):
        if place not in left or place not in right:
            size, wrong, near, values = 1, 1, 0.0, f"only in the {'first' if place in left else 'second'}"
        else:
            size, wrong, near, values = _compare(left[place], right[place])
        compared, differing, rounding = compared + size, differing + wrong, max(rounding, near)
        if wrong and not first:
            first = f"{_words(place, one)}: {values}"
    return ProgramDifference(compared, differing, first, rounding)


def _leaves(value: Any, arrays: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) for all values of a program's entry, with its arrays in their places."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, arrays, f"{place}/{key}")
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        for index, item in enumerate(value):
            yield from _leaves(item, arrays, f"{place}/{index}")
    else:
        # A key of an array is the only text that begins with "/", see `entry_of`.
        yield place, arrays[value] if isinstance(value, str) and value in arrays else value


def _compare(a: Any, b: Any) -> tuple[int, int, float, str]:
    """Return (values compared, values that differ, rounding of the others, the first in words)."""
    if type(a) is not type(b) and not (isinstance(a, int | float) and isinstance(b, int | float)):
        return 1, 1, 0.0, f"{_short(a)} and {_short(b)}"
    if isinstance(a, bool | str | list) or a is None:
        return 1, int(a != b), 0.0, f"{_short(a)} and {_short(b)}"
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        return max(a.size, b.size), max(a.size, b.size), 0.0, f"shapes {a.shape} and {b.shape}"
    if a.dtype.kind != b.dtype.kind and a.ndim != 0:
        return a.size, a.size, 0.0, f"{a.dtype} and {b.dtype}"
    wrong = a != b
    rounding = 0.0
    if a.dtype.kind == b.dtype.kind == "f" and wrong.any():
        with np.errstate(invalid="ignore"):
            gap = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
        near = gap <= ROUNDING
        rounding = float(gap[near].max(initial=0.0))
        wrong &= ~near
    count = int(np.count_nonzero(wrong))
    values = f"{a[wrong][0]} and {b[wrong][0]}" if count else ""
    return a.size, count, rounding, values


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _words(place: str, program: Program) -> str:
    """Return a place such as ``/layers/1/connections/0/synapse/weight`` with the layer's name."""
    parts = place.strip("/").split("/")
    if len(parts) > 2 and parts[0] == "layers" and int(parts[1]) < len(program.layers):
        layer = program.layers[int(parts[1])]
        parts = [layer.name, *parts[2:]]
        if len(parts) > 3 and parts[1] == "connections" and int(parts[2]) < len(layer.connections):
            parts = [layer.name, f"from {layer.connections[int(parts[2])].source}", *parts[3:]]
    return ", ".join(part for part in parts if part not in ("neuron", "synapse"))
