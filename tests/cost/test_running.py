"""Costs besides events: x86 cores, energy per inference and core, static power in use."""

from dataclasses import replace

import pytest

from ashneuro.cost.profile import Range, load_profile
from ashneuro.cost.running import Usage, additions, term

LOIHI = load_profile("loihi1")
MILLISECOND = Range(1e-3, 1e-3, 1e-3)


def exactly(number):
    return Range(number, number, number)


def test_stated_x86_cores_take_clock_and_code_over_time():
    usage = Usage(MILLISECOND, exactly(10), x86_cores=exactly(2), x86_active=exactly(0.5))
    assert term(LOIHI, "x86.clock", usage).low == pytest.approx(2 * 18e-6)
    code = term(LOIHI, "x86.code", usage)
    # One of the two runs code, or both.
    assert (code.low, code.high) == pytest.approx((0.5 * 6e-6, 2 * 0.5 * 6e-6))


def test_unknown_x86_cores_are_one_to_three_per_chip_with_any_share_of_code():
    usage = Usage(MILLISECOND, chips=2)
    clock, code = (term(LOIHI, f"x86.{key}", usage) for key in ("clock", "code"))
    assert (clock.low, clock.high) == pytest.approx((2 * 18e-6, 6 * 18e-6))
    assert (code.low, code.high) == pytest.approx((0, 6 * 6e-6))


def test_copies_share_what_is_per_chip_but_not_their_cores():
    one, twenty = (Usage(MILLISECOND, exactly(6), x86_cores=exactly(1), copies=copies) for copies in (1, 20))
    for path in ("x86.clock", "x86.code", "powered.chip", "static.chip"):
        assert 20 * term(LOIHI, path, twenty).high == pytest.approx(term(LOIHI, path, one).high), path
    for path in ("powered.core", "inference.core"):
        assert term(LOIHI, path, twenty) == term(LOIHI, path, one), path


def test_static_power_is_chips_and_cores_times_time():
    usage = Usage(MILLISECOND, exactly(100), chips=3)
    assert term(LOIHI, "powered.core", usage).typical == pytest.approx(100 * 0.476e-6)
    assert term(LOIHI, "powered.chip", usage).typical == pytest.approx(3 * 26.72e-6)
    assert term(LOIHI, "static.chip", usage).typical == pytest.approx(3 * 104.4e-6)
    # A running overhead is that of a board, whatever its chips.
    assert term(LOIHI, "overhead.board_after_run", usage).typical == pytest.approx(9.8e-6)


def test_unknown_time_cores_or_prices_add_nothing():
    assert term(LOIHI, "x86.clock", Usage(None, exactly(1))) is None
    assert term(LOIHI, "inference.core", Usage(MILLISECOND)) is None
    assert [item.name for item in additions(LOIHI, Usage(MILLISECOND))] == ["x86 clock", "x86 code"]
    bare = replace(LOIHI, x86={}, inference={})
    assert list(additions(bare, Usage(MILLISECOND, exactly(1)))) == []


def test_additions_name_their_numbers_and_the_workloads_they_were_fitted_on():
    found = {item.name: item for item in additions(LOIHI, Usage(MILLISECOND, exactly(1)))}
    assert found["x86 clock"].quantities == ("x86.clock", "usage.x86_cores")
    assert found["per inference"].quantities == ("inference.core",)
    assert all(item.fitted_on == ("quartz_mnist_18",) for item in found.values())
    stated = Usage(MILLISECOND, exactly(1), x86_cores=exactly(1))
    assert all("usage.x86_cores" not in item.quantities for item in additions(LOIHI, stated))
