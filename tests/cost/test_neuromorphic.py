"""Estimates on neuromorphic chips: events at published energies, static power, placed networks."""

from dataclasses import replace

import numpy as np
import pytest

from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import Range, load_profile
from ashneuro.cost.workload import count
from ashneuro.errors import ProfileError
from ashneuro.reporting.tables.profiles import used
from ashneuro.simulation.emulator.run_program import run_program
from tests.cost import networks
from tests.cost.networks import ANN, SNN, WORK

P = 1e-12


def test_loihi_terms_are_counts_times_published_energies():
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


def test_update_term_without_states_spans_inactive_to_active():
    blind = replace(WORK, layers=(replace(SNN, updates_active=None, updates_inactive=None),))
    term = estimate(blind, load_profile("loihi1")).by_term()["neuron update"]
    assert (term.low, term.typical, term.high) == (pytest.approx(40 * 52 * P), None, pytest.approx(40 * 81 * P))


def test_static_energy_is_power_times_inference_time():
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


def test_static_power_scales_with_chips():
    large = replace(WORK, layers=(replace(SNN, neurons=131073),))
    cost = estimate(large, load_profile("loihi1"), step_time_s=1e-5)
    assert cost.chips == 2
    assert next(total for total in cost.totals if total.name == "chip").power_w.typical == pytest.approx(2 * 0.1044)


def test_loihi2_has_no_dynamic_energy_and_gives_the_reason():
    cost = estimate(WORK, load_profile("loihi2"))
    assert cost.dynamic_j is None
    assert "no energy per synop has been published" in cost.because
    assert cost.by_term()["synop"] is None
    assert cost.totals and all(total.total_j is None and total.energy_j.low > 0 for total in cost.totals)
    marked = estimate(WORK, load_profile("loihi2"), with_estimates=True)
    assert marked.by_term()["synop"].typical == pytest.approx(1000 * 30 * P)
    assert marked.dynamic_j is None  # neuron updates are still unknown


def test_recalled_energy_is_not_used():
    profile = load_profile("loihi1")
    recalled = replace(profile, energy={**profile.energy, "synop": replace(profile.energy["synop"], check="R")})
    cost = estimate(WORK, recalled)
    assert cost.dynamic_j is None
    assert "not seen in any source" in cost.because


def test_recalled_times_and_overheads_are_not_used():
    loihi = load_profile("loihi1")
    recalled = replace(
        loihi,
        time={"step": replace(loihi.time["step"], check="R")},
        overhead={name: replace(value, status="estimate") for name, value in loihi.overhead.items()},
    )
    assert estimate(WORK, recalled).time_s is None
    assert all(whole.overhead_j is None for whole in estimate(WORK, recalled, step_time_s=1e-5).totals)


def test_graded_synapses_and_ann_layers_have_no_price_on_loihi():
    graded = replace(WORK, layers=(replace(SNN, effective_macs=10),))
    assert "multiplies a graded value" in estimate(graded, load_profile("loihi1")).because
    with pytest.raises(ProfileError, match="ANN layers cannot be priced"):
        estimate(ANN, load_profile("loihi1"))


def test_silent_network_pays_for_updates_only():
    quiet = replace(SNN, effective_acs=0, spikes=0, messages=0, updates_active=0, updates_inactive=80)
    cost = estimate(replace(WORK, layers=(quiet,)), load_profile("loihi1"))
    assert cost.dynamic_j.typical == pytest.approx(40 * 52 * P)


FITTED = replace(SNN, acs_by_kind={"conv": 1500, "scale": 300, "dense": 200})


def test_sanafe_prices_synops_by_kind_and_spikes_at_their_source():
    terms = estimate(replace(WORK, layers=(FITTED,)), load_profile("loihi1-sanafe")).by_term()
    assert terms["synop"].typical == pytest.approx((750 * 24.0 + 150 * 33.6 + 100 * 35.5) * P)
    assert terms["neuron update"].typical == pytest.approx((25 * 72.8 + 15 * 51.2) * P)
    assert terms["spike"].typical == pytest.approx(20 * 69.3 * P)
    assert terms["message"].typical == pytest.approx(30 * 111 * P)
    assert "message within a tile" not in terms


def test_loihi_profiles_share_no_source():
    davies, fitted = load_profile("loihi1"), load_profile("loihi1-sanafe")
    for profile in (davies, fitted):
        sources = {quantity.source for quantity in profile.energy.values()}
        assert len(sources) == 1
    assert {q.source for q in davies.energy.values()} != {q.source for q in fitted.energy.values()}


def test_included_terms_are_not_added_again():
    cost = estimate(WORK, load_profile("truenorth"))
    assert cost.dynamic_j.typical == pytest.approx(1000 * 26 * P)
    assert cost.by_term()["neuron update"] == cost.by_term()["hop"] == Range(0, 0, 0)
    assert not cost.totals and any("static power is in the price" in note for note in cost.notes)


def placed(name="loihi1", samples=3):
    program = networks.tiny_program(channels=16, size=16)
    record = networks.run(program, networks.images(program, samples))
    profile = load_profile(name)
    return program, record, profile, deploy(program, record, profile)


def test_placement_adds_hops_cores_and_step_time():
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


def test_step_time_of_a_single_core_is_the_sum_of_its_events():
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


def test_placement_needs_core_capacities():
    program, record, *_ = placed()
    with pytest.raises(ProfileError, match=r"lacks limits\.synapse_words_per_core"):
        deploy(program, record, load_profile("odin"))


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
@pytest.mark.parametrize("sends", ["graded", "changes", "count"])
def test_graded_messages_have_no_price_and_make_no_zero(name, sends):
    made = {"graded": networks.graded_program, "changes": networks.change_program, "count": networks.counting_program}
    program = made[sends]()
    x = (np.random.default_rng(1).random((4, 2, *program.inputs[0].shape)) < 0.4).astype(float)
    x = networks.frames(program) if sends == "changes" else x
    record = run_program(program, x, rasters=["one"])
    profile = load_profile(name)
    placed = deploy(program, record, profile)
    assert placed.step_time(profile) is None  # the time of a payload is not known
    for deployment in (None, placed):
        cost = estimate(count(program, record), profile, deployment=deployment)
        assert cost.dynamic_j is None
        assert cost.by_term()["graded message"] is None and cost.by_term()["graded synop"] is None
        missing = {term.layer: term.because for term in cost.terms if term.name == "graded message"}
        last = {"graded": {"out"}, "changes": {"delta"}, "count": set()}[sends]
        assert missing.keys() == {"one", "two"} | last
        assert "no energy for a message with a payload" in missing["one"]
        assert not any(term.layer == "one" and "hop" in term.name for term in cost.terms)
        # Our own bracket stands beside, where the profile has prices of spikes.
        assert (cost.bracketed_j is None) == (name == "loihi2")


def test_totals_are_shown_with_and_without_costs_besides_events():
    cost = estimate(WORK, load_profile("loihi1"), step_time_s=1e-5, x86_cores=2)
    clock, code = (item.energy_j for item in cost.additions)  # without a placement, no cores are known
    assert (clock.typical, code.low, code.high) == pytest.approx((2 * 18e-3 * 4e-5, 0, 2 * 6e-3 * 4e-5))
    assert cost.running_j.high == pytest.approx(cost.dynamic_j.high + clock.high + code.high)
    totals = {total.name: total for total in cost.totals}
    further = {name: total.full_j.high - total.total_j.high for name, total in totals.items() if total.full_j}
    # A static power that holds the x86 cores, or an overhead that holds their code, counts once.
    assert further["chip"] == pytest.approx(clock.high + code.high)
    assert further["board_after_boot"] == pytest.approx(clock.high + code.high)
    assert "board_after_run" not in further and "chip_with_x86" not in further


def test_chip_without_prices_besides_events_has_none():
    cost = estimate(WORK, load_profile("truenorth"))
    assert cost.additions == () and cost.running_j is None
    bare = estimate(WORK, replace(load_profile("loihi1"), x86={}, inference={}), step_time_s=1e-5)
    assert bare.additions == () and bare.dynamic_j and all(total.full_j is None for total in bare.totals)


def test_static_power_of_chips_and_cores_in_use_needs_a_placement():
    program, record, chip, deployment = placed()
    cost = estimate(count(program, record), chip, step_time_s=1e-5, deployment=deployment)
    power = next(total for total in cost.totals if total.name == "chips_and_cores_in_use").power_w
    assert power.typical == pytest.approx(cost.chips * 26.72e-3 + cost.cores * 0.476e-3)
    assert cost.additions[0].energy_j.typical == pytest.approx(cost.cores * 0.681e-6)
    unplaced = estimate(count(program, record), chip, step_time_s=1e-5)
    assert "chips_and_cores_in_use" not in {total.name for total in unplaced.totals}


def graded_work(bits=8):
    """400 products with graded values and 30 messages of ``bits`` bits, per sample."""
    row = replace(SNN, effective_macs=800, graded_messages=60, messages=60, spikes=0, message_bits=bits)
    return replace(WORK, samples=2, layers=(row,))


def test_graded_values_are_bracketed_by_spikes_and_payload_bits():
    cost = estimate(graded_work(), load_profile("loihi1"))
    terms = {term.name: term for term in cost.terms}
    assert cost.dynamic_j is None and terms["graded synop"].energy_j is None
    bracket = terms["graded synop"].bracket_j
    assert (bracket.low, bracket.high) == pytest.approx((400 * 23.6 * P, 8 * 400 * 35.5 * P))
    way = terms["graded message"].bracket_j
    assert (way.low, way.high) == pytest.approx((30 * 1.7 * P, 30 * 1.7 * P * (32 + 8) / 32))
    known = [term.energy_j for term in cost.terms if term.energy_j is not None]
    assert cost.bracketed_j.low == pytest.approx(sum(e.low for e in known) + bracket.low + way.low)
    assert cost.bracketed_j.high == pytest.approx(sum(e.high for e in known) + bracket.high + way.high)
    assert estimate(WORK, load_profile("loihi1")).bracketed_j is None, "nothing is missing"


def test_wider_payloads_widen_the_bracket():
    narrow, wide = (estimate(graded_work(bits), load_profile("loihi1")).bracketed_j for bits in (4, 16))
    assert narrow.low == wide.low and narrow.high < wide.high


def test_prices_per_payload_bit_make_graded_values_estimable():
    profile = load_profile("loihi1")
    one = replace(profile.energy["synop"], value=1.0, low=None, high=None)
    prices = {"synop_payload_bit": one, "message_payload_bit": one}
    cost = estimate(graded_work(), replace(profile, energy={**profile.energy, **prices}))
    terms = cost.by_term()
    assert terms["graded synop"].typical == pytest.approx(400 * (23.6 + 8) * P)
    assert terms["graded message"].typical == pytest.approx((30 * 1.7 + 30 * 8) * P)
    assert cost.dynamic_j is not None and cost.bracketed_j is None


def test_prices_that_hold_a_whole_chip_bracket_no_product():
    cost = estimate(graded_work(), load_profile("truenorth"))
    assert cost.dynamic_j is None and cost.bracketed_j is None
