"""Estimates at a CMOS node: arithmetic, updates and memory, recomputed from the published table."""

from dataclasses import replace

import pytest

from ashneuro.cost.asic import ac_energy, mac_energy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import load_profile
from ashneuro.errors import ProfileError
from tests.cost.networks import ANN, SNN, WORK

P = 1e-12


def test_published_energies_of_a_mac_and_an_accumulate():
    cmos = load_profile("cmos45")
    assert mac_energy(cmos, "fp32")[0].typical == pytest.approx(4.6 * P)
    assert ac_energy(cmos, "fp32")[0].typical == pytest.approx(0.9 * P)
    int8, high = mac_energy(cmos, "int8")[0], ac_energy(cmos, "int8")[0]
    assert (int8.typical, int8.high) == (pytest.approx(0.23 * P), pytest.approx(0.3 * P))
    assert (high.typical, high.high) == (pytest.approx(0.03 * P), pytest.approx(0.1 * P))


def test_low_bit_products_are_interpolated_below_int8():
    cmos = load_profile("cmos45")
    prices = [mac_energy(cmos, f"int{bits}")[0] for bits in range(1, 9)]
    assert prices[2].typical == pytest.approx((0.2 * 3 / 8 + 0.03) * P)
    assert [price.typical for price in prices] == sorted(price.typical for price in prices)
    assert all(price.high == prices[7].high for price in prices)
    with pytest.raises(ProfileError, match="intB"):
        mac_energy(cmos, "int9")


def test_terms_of_a_spiking_layer():
    terms = estimate(WORK, load_profile("cmos45"), "int8").by_term()
    assert terms["synop"].typical == pytest.approx(1000 * 0.03 * P)
    assert terms["neuron update"].typical == pytest.approx(40 * (2 * 0.1 + 3.1) * P)
    assert terms["neuron update"].low == pytest.approx(40 * (2 * 0.1 + 0.1) * P)
    word = 10 * P / 64  # everything fits 8 KB
    reused = 100 * 8 + 10 * 4 + 10 * 4
    fetched = 1000 * 8 + 2000 * 32 + 2 * 40 * 32 + 2 * 20 * 32
    assert terms["memory"].low == pytest.approx(reused * word)
    assert terms["memory"].typical == terms["memory"].high == pytest.approx(fetched * word)


def test_graded_inputs_are_read_at_activation_width():
    spiking = next(layer for layer in WORK.layers if layer.kind == "snn")
    graded = replace(spiking, inputs=10, graded_inputs=10, graded_events=30)
    few, more = (
        estimate(replace(WORK, layers=(layer,)), load_profile("cmos45"), "int8").by_term()["memory"]
        for layer in (replace(graded, graded_inputs=0, graded_events=0), graded)
    )
    word = load_profile("cmos45").energy["sram_8kb"].range
    assert more.low - few.low == pytest.approx(10 * WORK.timesteps * 7 / 64 * word.low)
    assert more.typical - few.typical == pytest.approx(30 / WORK.samples * 8 / 64 * word.typical)


def test_graded_messages_cost_their_address_and_their_payload():
    graded = replace(SNN, spikes=0, graded_messages=SNN.spikes, message_bits=8)
    spikes, values = (
        estimate(replace(WORK, layers=(layer,)), load_profile("cmos45"), "int8").by_term()["memory"]
        for layer in (SNN, graded)
    )
    word = load_profile("cmos45").energy["sram_8kb"].range
    assert values.low - spikes.low == pytest.approx(SNN.neurons * WORK.timesteps * 7 / 64 * word.low)
    assert values.typical - spikes.typical == pytest.approx(SNN.spikes / WORK.samples * 8 / 64 * word.typical)


def test_perfect_reuse_reads_no_more_weights_than_synops():
    quiet = replace(WORK, layers=(replace(SNN, effective_acs=6, spikes=1),))
    low = estimate(quiet, load_profile("cmos45"), "int8").by_term()["memory"].low
    assert low == pytest.approx((3 * 8 + 10 * 4 + 10 * 4) * 10 * P / 64)


@pytest.mark.parametrize("acs, spikes", [(0, 0), (6, 1), (60, 4), (2000, 40)])
def test_memory_bounds_are_ordered_at_any_activity(acs, spikes):
    wide = replace(WORK, layers=(replace(SNN, inputs=100_000, effective_acs=acs, spikes=spikes),))
    memory = estimate(wide, load_profile("cmos45"), "int8").by_term()["memory"]
    assert memory.low <= memory.typical <= memory.high


def test_terms_of_an_ann_layer():
    terms = estimate(ANN, load_profile("cmos45"), "fp32").by_term()
    assert terms["mac"].typical == pytest.approx(100 * 4.6 * P)
    assert terms["activation"].typical == pytest.approx(10 * 2 * 0.9 * P)
    assert terms["memory"].typical == terms["memory"].low == pytest.approx((100 + 10 + 10) * 0.5 * 10 * P)
    assert terms["memory"].high == pytest.approx((100 + 100 + 10) * 0.5 * 10 * P)
    integer = estimate(ANN, load_profile("cmos45"), "int8").by_term()
    assert integer["activation"].typical == pytest.approx(10 * (2 * 0.1 + 3.1) * P)


@pytest.mark.parametrize(
    "parameters, typical, high",
    [(8192, 10, 10), (8193, 20, 20), (32768, 20, 20), (32769, 100, 100), (2**20, 100, 100), (2**20 + 1, 100, 2600)],
)
def test_data_lie_in_the_smallest_memory_that_holds_them(parameters, typical, high):
    layer = replace(ANN.layers[0], parameters=parameters)
    small = estimate(ANN, load_profile("cmos45"), "int8").by_term()["memory"]
    memory = estimate(replace(ANN, layers=(layer,)), load_profile("cmos45"), "int8").by_term()["memory"]
    assert memory.typical - small.typical == pytest.approx(100 / 8 * (typical - 10) * P, abs=1e-18)
    assert memory.high - small.high == pytest.approx(100 / 8 * (high - 10) * P, abs=1e-18)


def test_7_nm_profile_has_no_usable_price():
    with pytest.raises(ProfileError, match=r"mult_int8 is in the profile, but estimates do not use it \(recalled"):
        estimate(ANN, load_profile("cmos7"), "int8")
