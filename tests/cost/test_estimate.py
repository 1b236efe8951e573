from dataclasses import replace

import pytest

from ashneuro.cost.asic import ac_energy, mac_energy
from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.measure import Measurement
from ashneuro.cost.profile import Range, load_profile
from ashneuro.cost.workload import LayerWorkload, Workload, ann_twin, count
from ashneuro.errors import ProfileError
from ashneuro.reporting.tables.profiles import used
from tests.cost import networks

SNN = LayerWorkload(
    "lif",
    "deployed",
    neurons=10,
    parameters=100,
    dense_macs=8000,
    kind="snn",
    inputs=10,
    effective_macs=0,
    effective_acs=2000,
    updates=80,
    updates_active=50,
    updates_inactive=30,
    update_multiplies=1,
    update_adds=2,
    state_variables=1,
    spikes=40,
    messages=60,
    firing_rate=0.5,
)
WORK = Workload(2, 4, (SNN,))
ANN = Workload(
    2, 1, (LayerWorkload("fc", "host", neurons=10, parameters=100, dense_macs=200, inputs=10, update_adds=2),)
)
P = 1e-12


def test_loihi_is_counts_times_the_table():
    cost = estimate(WORK, load_profile("loihi1"))
    terms = cost.by_term()
    assert terms["synop"].typical == pytest.approx(1000 * 23.6 * P)
    assert terms["synop"].high == pytest.approx(1000 * 35.5 * P)
    assert terms["neuron update"].typical == pytest.approx((25 * 81 + 15 * 52) * P)
    assert terms["neuron update"].low == pytest.approx((25 * 72.8 + 15 * 52) * P)
    assert terms["message within a tile"].typical == pytest.approx(30 * 1.7 * P)
    assert terms["hop"] is None
    assert cost.dynamic_j.typical == pytest.approx((23600 + 25 * 81 + 15 * 52 + 51) * P)
    assert {term.name for term in cost.missing} == {"hop"}
    assert cost.basis == "estimated (loihi1)"


def test_unseen_states_widen_the_update_term_to_all_inactive_and_all_active():
    blind = replace(WORK, layers=(replace(SNN, updates_active=None, updates_inactive=None),))
    term = estimate(blind, load_profile("loihi1")).by_term()["neuron update"]
    assert (term.low, term.typical, term.high) == (pytest.approx(40 * 52 * P), None, pytest.approx(40 * 81 * P))


def test_static_power_counts_for_as_long_as_the_inference_takes():
    cost = estimate(WORK, load_profile("loihi1"), step_time_s=1e-5)
    totals = {total.name: total for total in cost.totals}
    assert totals["chip"].energy_j.typical == pytest.approx(0.1044 * 4e-5)
    assert totals["chip"].total_j.typical == pytest.approx(0.1044 * 4e-5 + cost.dynamic_j.typical)
    assert totals["board_after_run"].power_w.typical == pytest.approx(0.0963 + 0.0098)
    assert totals["board_after_run"].overhead_j.typical == pytest.approx(0.0098 * 4e-5)
    assert totals["board_after_boot"].power_w.typical == pytest.approx(0.0295)
    assert totals["board_after_boot"].overhead_j is None
    unknown = estimate(WORK, load_profile("loihi1"))
    assert unknown.time_s == Range(pytest.approx(4 * 5.8e-6), None, pytest.approx(4 * 875e-6))


def test_a_network_too_large_for_one_chip_pays_for_two():
    large = replace(WORK, layers=(replace(SNN, neurons=131073),))
    cost = estimate(large, load_profile("loihi1"), step_time_s=1e-5)
    assert cost.chips == 2
    assert next(total for total in cost.totals if total.name == "chip").power_w.typical == pytest.approx(2 * 0.1044)


def test_loihi2_says_not_estimable_because():
    cost = estimate(WORK, load_profile("loihi2"))
    assert cost.dynamic_j is None
    assert "no energy per synop has been published" in cost.because
    assert cost.by_term()["synop"] is None
    assert cost.totals and all(total.total_j is None and total.energy_j.low > 0 for total in cost.totals)
    marked = estimate(WORK, load_profile("loihi2"), with_estimates=True)
    assert marked.by_term()["synop"].typical == pytest.approx(1000 * 30 * P)
    assert marked.dynamic_j is None  # neuron updates are still unknown


def test_a_recalled_number_is_not_used():
    profile = load_profile("loihi1")
    recalled = replace(profile, energy={**profile.energy, "synop": replace(profile.energy["synop"], check="R")})
    cost = estimate(WORK, recalled)
    assert cost.dynamic_j is None
    assert "not seen in any source" in cost.because


def test_recalled_times_overheads_and_powers_are_not_used_either():
    loihi, gpu = load_profile("loihi1"), load_profile("h100")
    recalled = replace(
        loihi,
        time={"step": replace(loihi.time["step"], check="R")},
        overhead={name: replace(value, status="estimate") for name, value in loihi.overhead.items()},
    )
    assert estimate(WORK, recalled).time_s is None
    assert all(whole.overhead_j is None for whole in estimate(WORK, recalled, step_time_s=1e-5).totals)
    for changes in (
        {"power": {"tdp": replace(gpu.power["tdp"], check="R")}},
        {"peak": {"fp32": replace(gpu.peak["fp32"], check="R")}},
    ):
        with pytest.raises(ProfileError, match="recalled"):
            estimate(ANN, replace(gpu, **changes), "fp32")


def test_graded_synapses_and_ann_layers_have_no_price_on_loihi():
    graded = replace(WORK, layers=(replace(SNN, effective_macs=10),))
    assert "multiplies a graded value" in estimate(graded, load_profile("loihi1")).because
    with pytest.raises(ProfileError, match="ANN layers cannot be priced"):
        estimate(ANN, load_profile("loihi1"))


def test_nothing_to_spike_costs_no_synops_but_every_update():
    quiet = replace(SNN, effective_acs=0, spikes=0, messages=0, updates_active=0, updates_inactive=80)
    cost = estimate(replace(WORK, layers=(quiet,)), load_profile("loihi1"))
    assert cost.dynamic_j.typical == pytest.approx(40 * 52 * P)


def test_the_two_published_conventions():
    cmos = load_profile("cmos45")
    assert mac_energy(cmos, "fp32")[0].typical == pytest.approx(4.6 * P)
    assert ac_energy(cmos, "fp32")[0].typical == pytest.approx(0.9 * P)
    int8, high = mac_energy(cmos, "int8")[0], ac_energy(cmos, "int8")[0]
    assert (int8.typical, int8.high) == (pytest.approx(0.23 * P), pytest.approx(0.3 * P))
    assert (high.typical, high.high) == (pytest.approx(0.03 * P), pytest.approx(0.1 * P))


def test_low_bit_products_are_interpolated_never_above_int8():
    cmos = load_profile("cmos45")
    prices = [mac_energy(cmos, f"int{bits}")[0] for bits in range(1, 9)]
    assert prices[2].typical == pytest.approx((0.2 * 3 / 8 + 0.03) * P)
    assert [price.typical for price in prices] == sorted(price.typical for price in prices)
    assert all(price.high == prices[7].high for price in prices)
    with pytest.raises(ProfileError, match="intB"):
        mac_energy(cmos, "int9")


def test_cmos_terms_of_a_spiking_layer():
    terms = estimate(WORK, load_profile("cmos45"), "int8").by_term()
    assert terms["synop"].typical == pytest.approx(1000 * 0.03 * P)
    assert terms["neuron update"].typical == pytest.approx(40 * (2 * 0.1 + 3.1) * P)
    assert terms["neuron update"].low == pytest.approx(40 * (2 * 0.1 + 0.1) * P)
    word = 10 * P / 64  # everything fits 8 KB
    reused = 100 * 8 + 10 * 4 + 10 * 4
    fetched = 1000 * 8 + 2000 * 32 + 2 * 40 * 32 + 2 * 20 * 32
    assert terms["memory"].low == pytest.approx(reused * word)
    assert terms["memory"].typical == terms["memory"].high == pytest.approx(fetched * word)


def test_graded_inputs_are_read_in_the_bits_of_an_activation():
    spiking = next(layer for layer in WORK.layers if layer.kind == "snn")
    graded = replace(spiking, inputs=10, graded_inputs=10, graded_events=30)
    few, more = (
        estimate(replace(WORK, layers=(layer,)), load_profile("cmos45"), "int8").by_term()["memory"]
        for layer in (replace(graded, graded_inputs=0, graded_events=0), graded)
    )
    word = load_profile("cmos45").energy["sram_8kb"].range
    assert more.low - few.low == pytest.approx(10 * WORK.timesteps * 7 / 64 * word.low)
    assert more.typical - few.typical == pytest.approx(30 / WORK.samples * 8 / 64 * word.typical)


def test_perfect_reuse_never_reads_a_weight_that_no_spike_meets():
    quiet = replace(WORK, layers=(replace(SNN, effective_acs=6, spikes=1),))
    low = estimate(quiet, load_profile("cmos45"), "int8").by_term()["memory"].low
    assert low == pytest.approx((3 * 8 + 10 * 4 + 10 * 4) * 10 * P / 64)


@pytest.mark.parametrize("acs, spikes", [(0, 0), (6, 1), (60, 4), (2000, 40)])
def test_low_is_never_above_high_however_little_spikes(acs, spikes):
    wide = replace(WORK, layers=(replace(SNN, inputs=100_000, effective_acs=acs, spikes=spikes),))
    memory = estimate(wide, load_profile("cmos45"), "int8").by_term()["memory"]
    assert memory.low <= memory.typical <= memory.high


def test_cmos_terms_of_an_ann_layer():
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


def test_a_gpu_does_dense_macs_at_its_nominal_best():
    h100 = load_profile("h100")
    assert estimate(ANN, h100, "fp32").dynamic_j.typical == pytest.approx(2 * 100 * 700 / 66.9e12)
    assert estimate(ANN, h100, "int3").dynamic_j.typical == pytest.approx(2 * 100 * 700 / 1978.9e12)
    assert estimate(WORK, h100, "fp16").dynamic_j.typical == pytest.approx(2 * 4000 * 700 / 989.4e12)
    with pytest.raises(ProfileError, match="cannot price fp64"):
        estimate(ANN, h100, "fp64")
    with pytest.raises(ProfileError, match="no precision was given"):
        estimate(ANN, h100)


def test_layers_and_terms_sum_to_the_whole():
    program = networks.tiny_program()
    work = count(program, networks.run(program, networks.images(program)), networks.HOST)
    for cost in (
        estimate(work.part("deployed"), load_profile("loihi1")),
        estimate(work, load_profile("cmos45"), "int8"),
        estimate(ann_twin(program), load_profile("cmos45"), "int3"),
    ):
        for parts in (cost.by_term(), cost.by_layer()):
            for case in ("low", "typical", "high"):
                whole = sum(getattr(energy, case) for energy in parts.values() if energy)
                assert whole == pytest.approx(getattr(cost.dynamic_j, case))


def test_every_estimate_names_the_numbers_it_used():
    for cost, profile in (
        (estimate(WORK, load_profile("loihi1")), load_profile("loihi1")),
        (estimate(WORK, load_profile("cmos45"), "int8"), load_profile("cmos45")),
        (estimate(ANN, load_profile("h100"), "int8"), load_profile("h100")),
    ):
        for term in cost.terms:
            assert (term.energy_j is None) == bool(term.because)
            assert term.energy_j is None or all(profile.quantity(path) for path in term.quantities)


def test_a_measurement_never_adds_to_an_estimate():
    measured = Measurement("H100", "board", "NVML, 5 windows of 10 s", 1e-3, 1e-3, 0.9e-3, 1.1e-3, 1, "fp16", 80.0)
    assert measured.basis == "measured (H100; NVML, 5 windows of 10 s)"
    energy = estimate(WORK, load_profile("loihi1")).dynamic_j
    for sum_ in (lambda: energy + measured, lambda: measured + energy, lambda: energy + measured.energy_j):
        with pytest.raises(TypeError):
            sum_()


FITTED = replace(SNN, acs_by_kind={"conv": 1500, "scale": 300, "dense": 200})


def test_the_fitted_set_prices_synops_by_kind_and_spikes_where_they_are_made():
    terms = estimate(replace(WORK, layers=(FITTED,)), load_profile("loihi1-sanafe")).by_term()
    assert terms["synop"].typical == pytest.approx((750 * 24.0 + 150 * 33.6 + 100 * 35.5) * P)
    assert terms["neuron update"].typical == pytest.approx((25 * 72.8 + 15 * 51.2) * P)
    assert terms["spike"].typical == pytest.approx(20 * 69.3 * P)
    assert terms["message"].typical == pytest.approx(30 * 111 * P)
    assert "message within a tile" not in terms


def test_the_two_sets_of_loihi_share_no_price():
    davies, fitted = load_profile("loihi1"), load_profile("loihi1-sanafe")
    for profile in (davies, fitted):
        sources = {quantity.source for quantity in profile.energy.values()}
        assert len(sources) == 1
    assert {q.source for q in davies.energy.values()} != {q.source for q in fitted.energy.values()}


def test_what_is_in_a_price_is_not_added_again():
    cost = estimate(WORK, load_profile("truenorth"))
    assert cost.dynamic_j.typical == pytest.approx(1000 * 26 * P)
    assert cost.by_term()["neuron update"] == cost.by_term()["hop"] == Range(0, 0, 0)
    assert not cost.totals and any("static power is in the price" in note for note in cost.notes)


def test_a_headline_needs_opened_sources_for_every_number():
    assert not estimate(WORK, load_profile("loihi1")).headline
    assert estimate(WORK, load_profile("loihi1-sanafe")).headline
    assert estimate(ANN, load_profile("cmos45"), "int8").headline
    assert not estimate(ANN, load_profile("h100"), "int8").headline


def test_processors_of_a_measured_workload_are_priced_per_mac():
    cost = estimate(ANN, load_profile("cpu"), "fp32").dynamic_j
    assert (cost.low, cost.typical, cost.high) == (pytest.approx(100 * 2.01e-9), None, pytest.approx(100 * 36.5e-9))


def test_recalled_prices_of_7_nm_leave_it_unpriced():
    with pytest.raises(ProfileError, match=r"mult_int8 is in the profile, but estimates do not use it \(recalled"):
        estimate(ANN, load_profile("cmos7"), "int8")


def placed(name="loihi1", samples=3):
    program = networks.tiny_program(channels=16, size=16)
    record = networks.run(program, networks.images(program, samples))
    profile = load_profile(name)
    return program, record, profile, deploy(program, record, profile)


def test_hops_of_a_placed_network_are_priced_and_its_step_is_timed():
    program, record, profile, deployment = placed()
    work = count(program, record)
    bare, whole = estimate(work, profile), estimate(work, profile, deployment=deployment)
    hops = sum(one.east_west for one in deployment.traffic.values())
    assert hops > 0
    assert whole.by_term()["hop, east–west"].typical == pytest.approx(hops / 3 * 3.0 * P)
    assert "hop" in {term.name for term in bare.missing} and not {"hop", "hop, east–west"} & {
        term.name for term in whole.missing
    }
    assert whole.cores == deployment.placement.cores > 1 and whole.chips == 1
    assert whole.time_s.typical and whole.time_s.low < whole.time_s.typical < bare.time_s.high
    assert whole.latency_s.typical / whole.time_s.typical == pytest.approx((4 + program.depth) / 4)
    assert whole.throughput_per_s.typical == pytest.approx(1 / whole.time_s.typical)
    events = {f"time.{key}" for key in ("synop", "neuron_update_active", "neuron_update_inactive", "barrier")}
    assert bare.time_from == ("time.step",) and set(whole.time_from) == events | {"time.step"}
    listed = {row[1] for row in used([whole], [profile]).rows}
    assert set(whole.time_from) <= listed


def test_the_step_of_a_single_core_is_its_events_one_after_the_other():
    program = networks.tiny_program(channels=2, size=4)
    program = replace(program, layers=program.layers[:2], outputs=("lif2",))
    record = networks.run(program, networks.images(program, 2))
    profile = load_profile("loihi1")
    load = deploy(program, record, profile).loads["lif2"]
    own, row = record.layers["lif2"], count(program, record).layers[-1]
    assert load.neurons == own.neurons and load.synops == pytest.approx(row.effective_acs / 8)
    busy = own.active_updates / (own.neurons * 8)
    second = load.synops * 3.5 + own.neurons * (busy * 8.4 + (1 - busy) * 5.3)
    first = record.layers["lif1"]
    share = first.active_updates / (first.neurons * 8)
    alone = first.neurons * (share * 8.4 + (1 - share) * 5.3)
    time = deploy(program, record, profile).step_time(profile)
    assert time.typical == pytest.approx((max(first_second := (alone, second)) + (113 + 465) / 2) * 1e-9), first_second


def test_a_chip_whose_core_is_unknown_places_nothing():
    program, record, *_ = placed()
    with pytest.raises(ProfileError, match=r"lacks limits\.synapse_words_per_core"):
        deploy(program, record, load_profile("odin"))
