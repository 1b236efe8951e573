from dataclasses import replace

import pytest

from ashneuro.cost.compare import compare, energy_text, scaled
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import Range, load_profile
from ashneuro.cost.workload import ann_twin, count
from tests.cost import networks

CMOS, LOIHI, H100 = (load_profile(name) for name in ("cmos45", "loihi1", "h100"))


def hybrid(samples=4, **options):
    program = networks.tiny_program(**options)
    record = networks.run(program, networks.images(program, samples))
    return count(program, record, networks.HOST), ann_twin(program, host_layers=networks.HOST), program


def test_both_sides_carry_the_same_host_part():
    work, twin, _ = hybrid()
    for group in compare(work, twin, node=CMOS, chips=[LOIHI], machines=[H100]).groups:
        for precision in ("int8", "fp32"):
            hosts = {who.host_j for who in group.contenders if precision in who.name and who.host}
            assert len(hosts) == 1 and hosts.pop().typical > 0


def test_one_node_compares_like_with_like_and_two_machines_do_not():
    work, twin, _ = hybrid()
    result = compare(work, twin, node=CMOS, chips=[LOIHI], machines=[H100])
    first, second = result.groups
    assert first.comparable and {part.profile for who in first.contenders for part in (who.host, who.deployed)} == {
        "cmos45"
    }
    assert not second.comparable and "different boundaries" in second.note
    assert {who.deployed.profile for who in second.contenders} == {"loihi1", "h100"}
    assert [who.name for who in first.contenders] == [
        "hybrid, int8",
        "ANN twin, int8",
        "ANN twin, 3-bit",
        "hybrid, fp32",
        "ANN twin, fp32",
    ]


@pytest.mark.parametrize("timesteps, bits", [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4)])
def test_the_low_bit_twin_has_as_many_levels_as_the_spike_count(timesteps, bits):
    work, twin, _ = hybrid(timesteps=timesteps)
    names = [who.name for who in compare(work, twin, node=CMOS).groups[0].contenders]
    assert f"ANN twin, {bits}-bit" in names


def test_the_snn_may_lose_and_may_win():
    work, twin, _ = hybrid()
    lost = compare(work, twin, node=CMOS)
    assert lost.winner == "ann" and lost.verdict.startswith("The ANN wins")
    assert "estimated from counted events on cmos45" in lost.verdict and "host part" in lost.verdict
    # A twin with a hundred times the products, as a much larger ANN would have.
    large = replace(twin, layers=tuple(replace(row, dense_macs=row.dense_macs * 100) for row in twin.layers))
    won = compare(work, large, node=CMOS)
    assert won.winner == "hybrid" and won.verdict.startswith("The hybrid wins")


def test_undecided_where_the_cases_disagree():
    work, twin, _ = hybrid()
    result = compare(scaled(work, 0.05), twin, node=CMOS)
    mine = result.groups[0].contenders[0].total_j
    theirs = min((who.total_j for who in result.groups[0].contenders[1:3]), key=lambda energy: energy.typical)
    assert mine.low < theirs.low and mine.typical > theirs.typical
    assert result.winner == "undecided" and result.verdict.startswith("Undecided, because it depends on")
    assert "with perfect reuse the hybrid, as usual the ANN" in result.verdict


def test_a_network_that_does_not_spike_wins_nothing():
    work, twin, _ = hybrid()
    quiet = replace(
        work, layers=tuple(replace(row, firing_rate=0.0) if row.name == "lif3" else row for row in work.layers)
    )
    for network in (quiet, scaled(work, 0)):
        result = compare(network, twin, node=CMOS)
        assert result.winner == "undecided" and "lif3" in result.verdict and "never spiked" in result.verdict


def test_at_the_break_even_rate_both_cost_the_same():
    work, twin, _ = hybrid()
    part, checked = work.part("deployed"), 0
    for even in compare(work, twin, node=CMOS, chips=[LOIHI]).break_even:
        spiking, precision = even.spiking.split(", ")
        profile = {"cmos45": CMOS, "loihi1": LOIHI}[spiking]
        ann = estimate(twin.part("deployed"), CMOS, even.ann.split(", ")[1]).dynamic_j
        for case, rate in zip(("low", "typical", "high"), even.rates, strict=True):
            energy = getattr(estimate(scaled(part, rate / work.firing_rate), profile, precision).dynamic_j, case)
            if rate == 0:
                assert energy >= getattr(ann, case)
            elif rate == 1:
                assert energy <= getattr(ann, case)
            else:
                assert energy == pytest.approx(getattr(ann, case), rel=1e-3)
                checked += 1
    assert checked >= 3


def test_products_with_graded_inputs_do_not_scale_with_the_firing_rate():
    work, _, _ = hybrid(coding="graded")
    assert work.total("effective_macs") > 0
    for factor in (0, 0.5, 3):
        more = scaled(work, factor)
        assert more.total("effective_macs") == work.total("effective_macs")
        assert more.total("effective_acs") == pytest.approx(factor * work.total("effective_acs"), abs=3)


def test_synops_of_input_spikes_do_not_scale_with_the_firing_rate():
    program = networks.tiny_program(coding="spikes")
    work = count(program, networks.run(program, (networks.images(program) > 0.5).astype(float)))
    fed = next(layer for layer in work.layers if layer.acs_from_ports)
    still, double = (next(row for row in scaled(work, factor).layers if row.name == fed.name) for factor in (0, 2))
    assert still.effective_acs == sum(still.acs_by_kind.values()) == sum(fed.acs_from_ports.values()) > 0
    assert double.effective_acs == 2 * fed.effective_acs - still.effective_acs


def test_break_even_says_why_there_is_none():
    work, twin, _ = hybrid()
    even = compare(work, twin, node=CMOS, chips=[load_profile("loihi2")]).break_even[-1]
    assert even.rates == (None, None, None)
    assert "published" in even.sentence()
    dead = compare(scaled(work, 0), twin, node=CMOS).break_even[0]
    assert dead.sentence() == "nothing spiked"


def test_thresholds_hold_this_networks_own_numbers():
    work, twin, _ = hybrid()
    density, rate = compare(work, twin, node=CMOS).thresholds
    assert density.value == work.part("deployed").spikes_per_synapse
    assert rate.value == work.firing_rate
    quiet = compare(scaled(work, 0.05), twin, node=CMOS).thresholds
    assert quiet[0].reading == "below the whole band"
    assert quiet[1].reading.startswith("below")


def test_a_zero_skipping_twin_joins_when_its_activations_were_seen():
    program = networks.tiny_program(timesteps=1)
    seen = networks.run(program, networks.images(program))
    work, _, _ = hybrid()
    result = compare(work, ann_twin(program, seen, networks.HOST), node=CMOS)
    rows = {who.name: who for who in result.groups[0].contenders}
    assert rows["ANN twin, int8, zero-skipping"].total_j.typical < rows["ANN twin, int8"].total_j.typical


def test_the_control_without_a_spiking_part_joins():
    work, twin, _ = hybrid()
    rows = {
        who.name: who
        for who in compare(work, twin, node=CMOS, machines=[H100], others={"no abstract encoder": work.part("host")})
        .groups[0]
        .contenders
    }
    alone = rows["no abstract encoder, int8"]
    assert alone.deployed is None and alone.total_j == alone.host_j == rows["hybrid, int8"].host_j


@pytest.mark.parametrize(
    "energy, text",
    [
        (Range(1.1e-6, 1.3e-6, 2e-6), "1.3 µJ (1.1–2)"),
        (Range(1e-9, None, 2.5e-6), "0.001–2.5 µJ"),
        (Range(2e-3, 2e-3, 2e-3), "2 mJ"),
        (Range(0.0, 0.0, 0.0), "0 pJ"),
        (None, "unknown"),
    ],
)
def test_joules_in_words(energy, text):
    assert energy_text(energy) == text


def test_large_factors_are_written_out():
    work, twin, _ = hybrid()
    tiny = replace(
        twin, layers=tuple(replace(row, dense_macs=max(1, row.dense_macs // 5000), parameters=1) for row in twin.layers)
    )
    part = replace(work, layers=tuple(row for row in work.layers if row.place == "deployed"))
    bare = replace(tiny, layers=tuple(row for row in tiny.layers if row.place == "deployed"))
    verdict = compare(part, bare, node=CMOS).verdict
    assert verdict.startswith("The ANN wins by ") and "e+" not in verdict


def test_three_conventions_say_what_they_count():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program, 4))
    work, twin = count(program, record, networks.HOST), ann_twin(program, host_layers=networks.HOST)
    result = compare(work, twin, node=CMOS, chips=[LOIHI, load_profile("loihi2")], machines=[H100])
    lines = {line.name: line for line in result.conventions}
    assert [name[:5].rstrip() for name in lines] == ["(i) a", "(i) a", "(ii)", "(ii)", "(iii)", "(ii)", "(iii)"]
    rows = {who.name: who for who in result.groups[0].contenders}
    arithmetic = lines["(i) arithmetic only, fp32"]
    assert arithmetic.ours_j == rows["hybrid, fp32"].arithmetic_j and arithmetic.comparable
    macs = twin.per_inference("dense_macs") - 5000  # the text is encoded once for a collection
    assert 4.6e-12 * macs <= arithmetic.theirs_j.typical <= 1.05 * 4.6e-12 * macs
    node = lines["(ii) events with memory, one node"]
    assert (
        node.note == "what the verdict rests on"
        and node.theirs == "ANN twin, 3-bit"
        and "its 3-bit ANN twin" in result.verdict
    )
    low, high = node.ratio
    assert (
        low
        == min(getattr(node.ours_j, case) / getattr(node.theirs_j, case) for case in ("low", "typical", "high"))
        <= high
    )
    whole = lines["(iii) total with host and static, loihi1"]
    assert not whole.comparable and whole.ours_j.low > lines["(ii) chip dynamic, loihi1"].ours_j.low
    unknown = lines["(ii) chip dynamic, loihi2"]
    assert unknown.ours_j is None and unknown.ratio is None and "published" in unknown.note


def test_every_chip_and_machine_has_its_place():
    work, twin, _ = hybrid()
    cpu = load_profile("cpu")
    result = compare(work, twin, node=CMOS, chips=[LOIHI, load_profile("loihi1-sanafe")], machines=[H100, cpu])
    assert len(result.groups) == 3
    names = [who.name for group in result.groups[1:] for who in group.contenders]
    assert "ANN twin on cpu, fp32" in names and "ANN twin on cpu, int8" not in names  # its price was measured in fp32
    assert sum("deployed on loihi1-sanafe" in name for name in names) == 2
    hosted = [who.name for who in compare(work, twin, node=CMOS, chips=[LOIHI], machines=[cpu]).groups[1].contenders]
    assert hosted == ["hybrid: host on cpu (fp32), deployed on loihi1", "ANN twin on cpu, fp32"]
    assert {(even.spiking, even.ann) for even in result.break_even if not even.comparable} >= {
        ("loihi1, native", "cmos45, int8"),
        ("loihi1-sanafe, native", "cpu, fp32"),
    }


@pytest.mark.parametrize(("kept", "shown"), [(("int8",), "int8"), (("fp16",), "fp16"), ((), None)])
def test_a_machine_is_shown_in_what_its_profile_prices_and_says_what_it_does_not(kept, shown):
    work, twin, _ = hybrid()
    machine = replace(H100, peak={key: H100.peak[key] for key in kept})
    result = compare(work, twin, node=CMOS, chips=[LOIHI], machines=[machine])
    group = result.groups[1]
    ours, theirs = group.contenders
    assert theirs.name == f"ANN twin on h100, {shown or 'fp32'}"
    assert (theirs.total_j is not None) == (ours.host_j is not None) == bool(shown)
    assert "h100 cannot price fp32: the profile has peak rates for" in group.note
    last = result.conventions[-1]
    assert last.name.startswith("(iii)") and (last.theirs_j is not None) == bool(shown)
    assert shown or ("cannot price fp32" in last.note and "cannot price fp32" in result.break_even[-1].because)


def test_metrics_stand_beside_energy_and_in_the_verdict():
    work, twin, _ = hybrid()
    metrics = {"hybrid": "31.5 %", "quantised-relu": "36.3 %", "no abstract encoder": "13.6 %"}
    result = compare(work, twin, node=CMOS, others={"no abstract encoder": work.part("host")}, metrics=metrics)
    rows = {who.name: who.metric for who in result.groups[0].contenders}
    assert rows == {
        "hybrid, int8": "31.5 %",
        "ANN twin, int8": "",
        "ANN twin, 3-bit": "36.3 %",
        "no abstract encoder, int8": "13.6 %",
        "hybrid, fp32": "31.5 %",
        "ANN twin, fp32": "",
    }
    assert "task metric: hybrid 31.5 %" in result.verdict


def test_no_verdict_rests_on_sources_that_nobody_opened():
    work, twin, _ = hybrid()
    quoted = replace(CMOS, energy={key: replace(quantity, check="S") for key, quantity in CMOS.energy.items()})
    result = compare(work, twin, node=quoted)
    assert result.winner == "undecided" and "were not opened" in result.verdict


def test_another_hybrid_joins_by_its_name():
    work, twin, _ = hybrid()
    other, _, _ = hybrid(seed=3)
    result = compare(work, twin, node=CMOS, chips=[LOIHI], machines=[H100], others={"runs/b": other})
    assert "runs/b, int8" in [who.name for who in result.groups[0].contenders]
    assert not any("runs/b" in who.name for who in result.groups[1].contenders)  # it spikes: a GPU is not its place
