"""Prices fitted on measured workloads, and fitted again without one of them. Start at `refit`.

Only measurements that say ``fit = true`` are used. A power is fitted as the range of its
observations, each being what is left of a measurement without its other terms, per core, chip or
second. The energy per inference and core is fitted by least squares on relative errors, together
with the price of a neuron update::

    E_i − synops·e_synop − spikes·e_spike = updates_i · e_update + cores_i · e_core

A running overhead is the power at 0 branches, on a line through the power of networks that differ
in their number of branches alone. The bounds of both are those of the fits that leave out one
measurement each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from ashneuro.cost.cases import Case, MeasuredEnergy, outline_workloads
from ashneuro.cost.profile import UNITS, HardwareProfile, Range
from ashneuro.cost.running import coefficient, term

PER_INFERENCE = "inference.core"
OVERHEAD = "overhead."


@dataclass(frozen=True)
class Fit:
    """A fitted price.

    Args:
        price: joules or watts.
        cases: names of the workloads behind it.
        update_j: price of a neuron update that was fitted with it; ``None`` where it was not.
    """

    price: Range
    cases: tuple[str, ...]
    update_j: float | None = None


def fittable(cases: Iterable[Case], path: str) -> tuple[Case, ...]:
    """Return the cases that the price at ``path`` can be fitted on."""
    return tuple(case for case in cases if any(True for _ in _items(case, path)))


def refit(profile: HardwareProfile, path: str, cases: Sequence[Case]) -> Fit | None:
    """Return the price at ``path`` fitted on ``cases``; ``None`` where they do not determine it."""
    used = fittable(cases, path)
    names = tuple(case.name for case in used)
    if path == PER_INFERENCE:
        rows = [_balance(profile, case, item) for case in used for item in _items(case, path)]
        fit = _least_squares(rows)
        if fit is None:
            return None
        parts = [_least_squares(rows[:left] + rows[left + 1 :]) for left in range(len(rows))]
        # A price below 0 has no meaning; the fit of a few runs can give one.
        known = [max(0.0, part[1]) for part in parts if part is not None]
        return Fit(Range(min(known, default=fit[1]), fit[1], max(known, default=fit[1])), names, fit[0])
    if path.startswith(OVERHEAD):
        return _intercept(profile, path, used)
    seen = [left for case in used for item in _items(case, path) for left in _observed(profile, path, case, item)]
    return Fit(Range(min(seen), fmean(seen), max(seen)), names) if seen else None


def refitted(profile: HardwareProfile, fits: dict[str, Fit]) -> HardwareProfile:
    """Return the profile with the fitted prices in place of its own."""
    for path, fit in fits.items():
        table, _, key = path.partition(".")
        old = getattr(profile, table)[key]
        factor = UNITS[old.unit][1]
        low, value, high = (
            None if number is None else number / factor for number in (fit.price.low, fit.price.typical, fit.price.high)
        )
        new = replace(old, low=low, value=value, high=high, fitted_on=fit.cases)
        tables: dict[str, Any] = {table: {**getattr(profile, table), key: new}}
        profile = replace(profile, **tables)
    return profile


def _items(case: Case, path: str) -> Iterator[MeasuredEnergy]:
    for item in case.measured:
        # A power is fitted where it is named first, the energy per inference beside events.
        if item.fit and (item.predict == ("events", path) if path == PER_INFERENCE else item.predict[0] == path):
            yield item


def _observed(profile: HardwareProfile, path: str, case: Case, item: MeasuredEnergy) -> Iterator[float]:
    """Yield the price that a measurement shows, at its lowest and its highest value."""
    usage, measured = item.usage(case), item.range_j(case)
    factor = coefficient(profile, path, usage)
    if factor is None:
        return
    rest = 0.0
    for other in item.predict:
        if other != path:
            part = term(profile, other, usage)
            rest += 0.0 if part is None else _middle(part)
    yield from ((value - rest) / _middle(factor) for value in dict.fromkeys((measured.low, measured.high)))


def _intercept(profile: HardwareProfile, path: str, cases: Sequence[Case]) -> Fit | None:
    """Return the power at 0 branches, watts; ``None`` from fewer than three numbers of branches."""
    points = np.array(
        [
            (item.branches, left)
            for case in cases
            for item in _items(case, path)
            if item.branches is not None
            for left in _observed(profile, path, case, item)
        ]
    )
    if len(points) < 3 or len(set(points[:, 0])) < 3:
        return None
    found, *parts = (
        float(np.polynomial.Polynomial.fit(rows[:, 0], rows[:, 1], 1)(0.0))
        for rows in (points, *(np.delete(points, left, axis=0) for left in range(len(points))))
    )
    return Fit(Range(min(parts), found, max(parts)), tuple(case.name for case in cases))


def _middle(number: Range) -> float:
    return number.typical if number.typical is not None else (number.low + number.high) / 2


@dataclass(frozen=True)
class _Row:
    """One equation: ``left = updates · e_update + cores · e_core``; of ``whole`` joules."""

    updates: float
    cores: float
    left: float
    whole: float


def _balance(profile: HardwareProfile, case: Case, item: MeasuredEnergy) -> _Row:
    work, _ = outline_workloads(case, item.steps)
    kinds = {name: count for layer in work.layers for name, count in layer.acs_by_kind.items()}
    synops = sum(
        count * _middle(profile.energy[f"synop_{kind}" if f"synop_{kind}" in profile.energy else "synop"].range)
        for kind, count in kinds.items()
    )
    spikes = [profile.energy[key].range for key in ("spike_out", "axon_out", "spike_local") if key in profile.energy]
    sent = sum(layer.spikes for layer in work.layers) * sum(_middle(price) for price in spikes)
    whole = _middle(item.range_j(case))
    cores = item.usage(case).cores
    assert cores is not None
    return _Row(work.total("updates"), _middle(cores), whole - synops - sent, whole)


def _least_squares(rows: Sequence[_Row]) -> tuple[float, float] | None:
    """Return the prices of an update and of a core that fit best; ``None`` if undetermined."""
    if len(rows) < 2:
        return None
    terms = np.array([(row.updates / row.whole, row.cores / row.whole) for row in rows])
    if np.linalg.matrix_rank(terms) < 2:
        return None
    found, *_ = np.linalg.lstsq(terms, np.array([row.left / row.whole for row in rows]), rcond=None)
    return float(found[0]), float(found[1])
