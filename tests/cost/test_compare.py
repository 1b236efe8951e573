"""Comparisons with ANN twins: rows, verdict, break-even rates, and words that decide nothing."""

from collections import Counter
from dataclasses import replace

import pytest

from ashneuro.cost.compare import compare
from ashneuro.cost.comparison import contenders, conventions, sides
from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.comparison.break_even import Hardware, scaled
from ashneuro.cost.comparison.contenders import Role
from ashneuro.cost.comparison.sides import OtherNetwork
from ashneuro.cost.comparison.verdict import VerdictCase
from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import CASES, Range, load_profile
from ashneuro.cost.terms import energy_text
from ashneuro.cost.workload import ann_twin, count
from ashneuro.reporting.tables import energy
from ashneuro.simulation.emulator.run_program import run_program
from tests.cost import networks

CMOS, LOIHI, H100 = (load_profile(name) for name in ("cmos45", "loihi1", "h100"))


def hybrid(samples=4, **options):
    program = networks.tiny_program(**options)
    record = networks.run(program, networks.images(program, samples))
    return count(program, record, networks.HOST), ann_twin(program, host_layers=networks.HOST), program


def test_both_sides_have_the_same_host_energy():
    work, twin, _ = hybrid()
    for group in compare(work, twin, node=CMOS, chips=[LOIHI], machines=[H100]).groups:
        for precision in ("int8", "fp32"):
            hosts = {who.host_j for who in group.contenders if who.host and who.host.precision == precision}
            assert len(hosts) == 1 and hosts.pop().typical > 0


def test_only_one_node_is_comparable():
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
def test_low_bit_twin_has_as_many_levels_as_the_spike_count(timesteps, bits):
    work, twin, _ = hybrid(timesteps=timesteps)
    low_bit = compare(work, twin, node=CMOS).groups[0].find(Role.LOW_BIT_TWIN, f"int{bits}")
    assert low_bit.name == f"ANN twin, {bits}-bit"


def test_snn_can_lose_and_win():
    work, twin, _ = hybrid()
    lost = compare(work, twin, node=CMOS)
    assert lost.winner == "ann" and lost.verdict.startswith("The ANN wins")
    assert "estimated from counted events on cmos45" in lost.verdict and "host part" in lost.verdict
    # A twin with a hundred times the products, as a much larger ANN would have.
    large = replace(twin, layers=tuple(replace(row, dense_macs=row.dense_macs * 100) for row in twin.layers))
    won = compare(work, large, node=CMOS)
    assert won.winner == "hybrid" and won.verdict.startswith("The hybrid wins")


def test_undecided_if_cases_disagree():
    work, twin, _ = hybrid()
    result = compare(scaled(work, 0.05), twin, node=CMOS)
    mine = result.groups[0].contenders[0].total_j
    theirs = min((who.total_j for who in result.groups[0].contenders[1:3]), key=lambda energy: energy.typical)
    assert mine.low < theirs.low and mine.typical > theirs.typical
    assert result.winner == "undecided" and result.verdict.startswith("Undecided, because it depends on")
    assert "with perfect reuse the hybrid, in the typical case the ANN" in result.verdict


def test_silent_layers_leave_it_undecided():
    work, twin, _ = hybrid()
    quiet = replace(
        work, layers=tuple(replace(row, firing_rate=0.0) if row.name == "lif3" else row for row in work.layers)
    )
    for network in (quiet, scaled(work, 0)):
        result = compare(network, twin, node=CMOS)
        assert result.winner == "undecided" and "lif3" in result.verdict and "never spiked" in result.verdict


def test_energies_are_equal_at_the_break_even_rate():
    work, twin, _ = hybrid()
    part, checked = work.part("deployed"), 0
    for even in compare(work, twin, node=CMOS, chips=[LOIHI]).break_even:
        profile = {"cmos45": CMOS, "loihi1": LOIHI}[even.spiking.profile]
        ann = estimate(twin.part("deployed"), CMOS, even.ann.precision).dynamic_j
        for case, rate in zip(("low", "typical", "high"), even.rates, strict=True):
            more = scaled(part, rate / work.firing_rate)
            energy = getattr(estimate(more, profile, even.spiking.precision).dynamic_j, case)
            if rate == 0:
                assert energy >= getattr(ann, case)
            elif rate == 1:
                assert energy <= getattr(ann, case)
            else:
                assert energy == pytest.approx(getattr(ann, case), rel=1e-3)
                checked += 1
    assert checked >= 3


def graded_hybrid():
    """Graded messages behind a port with graded values."""
    spikes = networks.graded_program()
    program = replace(spikes, inputs=(replace(spikes.inputs[0], coding="graded"),))
    return program, count(program, run_program(program, networks.images(program)))


def test_graded_messages_have_a_break_even_rate():
    program, work = graded_hybrid()
    twin = ann_twin(program)
    even = compare(work, twin, node=CMOS).break_even[0]
    assert not even.because and 0 < even.rates[0] < 1
    more = scaled(work, even.rates[0] / work.firing_rate)
    ours, theirs = (estimate(side, CMOS, "int8").dynamic_j.low for side in (more, twin))
    assert ours == pytest.approx(theirs, rel=1e-2)


def test_products_of_graded_messages_scale_and_those_of_ports_do_not():
    _, work = graded_hybrid()
    still, double = scaled(work, 0), scaled(work, 2)
    for was, none, twice in zip(work.layers, still.layers, double.layers, strict=True):
        if was.kind == "snn":
            assert (none.effective_macs, none.graded_events) == (was.macs_from_ports, was.graded_from_ports)
            assert twice.effective_macs == 2 * was.effective_macs - was.macs_from_ports
            assert (none.graded_messages, twice.graded_messages) == (0, 2 * was.graded_messages)
    assert 0 < sum(row.macs_from_ports for row in work.layers) < work.total("effective_macs")


def test_products_of_graded_inputs_do_not_scale_with_the_firing_rate():
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


def test_break_even_without_a_rate_has_a_reason():
    work, twin, _ = hybrid()
    even = compare(work, twin, node=CMOS, chips=[load_profile("loihi2")]).break_even[-1]
    assert even.rates == (None, None, None)
    assert "published" in even.sentence()
    dead = compare(scaled(work, 0), twin, node=CMOS).break_even[0]
    assert dead.sentence() == "nothing spiked"


def test_thresholds_read_this_network():
    work, twin, _ = hybrid()
    density, rate = compare(work, twin, node=CMOS).thresholds
    assert density.value == work.part("deployed").spikes_per_synapse
    assert rate.value == work.firing_rate
    quiet = compare(scaled(work, 0.05), twin, node=CMOS).thresholds
    assert quiet[0].reading == "below the whole band"
    assert quiet[1].reading.startswith("below")


def test_a_condition_on_spikes_is_left_out_where_messages_carry_numbers():
    work, twin, _ = hybrid()
    layers = tuple(replace(one, message_bits=8) if one.name == "lif2" else one for one in work.layers)
    units = [one.unit for one in compare(replace(work, layers=layers), twin, node=CMOS).thresholds]
    assert units == ["spikes per synapse and inference"]


def test_zero_skipping_twin_needs_observed_activations():
    program = networks.tiny_program(timesteps=1)
    seen = networks.run(program, networks.images(program))
    work, _, _ = hybrid()
    result = compare(work, ann_twin(program, seen, networks.HOST), node=CMOS)
    skipping, dense = (result.groups[0].find(role, "int8") for role in (Role.ZERO_SKIPPING_TWIN, Role.ANN_TWIN))
    assert skipping.total_j.typical < dense.total_j.typical and skipping.name == "ANN twin, int8, zero-skipping"


def test_control_without_a_spiking_part():
    work, twin, _ = hybrid()
    control = OtherNetwork("no abstract encoder", work.part("host"))
    group = compare(work, twin, node=CMOS, machines=[H100], others=[control]).groups[0]
    alone = group.find(Role.OTHER, "int8")
    assert alone.name == "no abstract encoder, int8" and alone.deployed is None and not alone.spiking
    assert alone.total_j == alone.host_j == group.find(Role.HYBRID, "int8").host_j


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
def test_energy_text(energy, text):
    assert energy_text(energy) == text


def test_large_factors_have_no_exponent():
    work, twin, _ = hybrid()
    tiny = replace(
        twin, layers=tuple(replace(row, dense_macs=max(1, row.dense_macs // 5000), parameters=1) for row in twin.layers)
    )
    part = replace(work, layers=tuple(row for row in work.layers if row.place == "deployed"))
    bare = replace(tiny, layers=tuple(row for row in tiny.layers if row.place == "deployed"))
    verdict = compare(part, bare, node=CMOS).verdict
    assert verdict.startswith("The ANN wins by ") and "e+" not in verdict


def test_conventions():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program, 4))
    work, twin = count(program, record, networks.HOST), ann_twin(program, host_layers=networks.HOST)
    result = compare(work, twin, node=CMOS, chips=[LOIHI, load_profile("loihi2")], machines=[H100])
    lines = {line.name: line for line in result.conventions}
    assert [name[:5].rstrip() for name in lines] == ["(i) a", "(i) a", "(ii)", "(ii)", "(iii)", "(ii)", "(iii)"]
    arithmetic = lines["(i) arithmetic only, fp32"]
    hybrid_fp32 = result.groups[0].find(Role.HYBRID, "fp32")
    assert arithmetic.ours_j == hybrid_fp32.arithmetic_j and arithmetic.comparable
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


def test_every_chip_and_machine_is_shown():
    work, twin, _ = hybrid()
    cpu = load_profile("cpu")
    result = compare(work, twin, node=CMOS, chips=[LOIHI, load_profile("loihi1-sanafe")], machines=[H100, cpu])
    assert len(result.groups) == 3
    names = [who.name for group in result.groups[1:] for who in group.contenders]
    assert "ANN twin on cpu, fp32" in names and "ANN twin on cpu, int8" not in names  # its price was measured in fp32
    assert sum(who.chip == "loihi1-sanafe" for group in result.groups for who in group.contenders) == 2
    hosted = [who.name for who in compare(work, twin, node=CMOS, chips=[LOIHI], machines=[cpu]).groups[1].contenders]
    assert hosted == ["hybrid: host on cpu (fp32), deployed on loihi1", "ANN twin on cpu, fp32"]
    assert {(even.spiking, even.ann) for even in result.break_even if not even.comparable} >= {
        (Hardware("loihi1", "native"), Hardware("cmos45", "int8")),
        (Hardware("loihi1-sanafe", "native"), Hardware("cpu", "fp32")),
    }


@pytest.mark.parametrize(("kept", "shown"), [(("int8",), "int8"), (("fp16",), "fp16"), ((), None)])
def test_machine_shows_its_priced_precision_and_names_gaps(kept, shown):
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


def test_metrics_are_in_rows_and_verdict():
    work, twin, _ = hybrid()
    metrics = {Role.HYBRID: "31.5 %", Role.LOW_BIT_TWIN: "36.3 %"}
    control = OtherNetwork("no abstract encoder", work.part("host"), "13.6 %")
    result = compare(work, twin, node=CMOS, others=[control], metrics=metrics)
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


def small_ann(work, share):
    """An ANN with a ``share`` of the hybrid's host and of its twin's layers."""
    _, twin, _ = hybrid()
    layers = tuple(
        replace(row, dense_macs=int(share * row.dense_macs), parameters=int(share * row.parameters))
        for row in twin.layers
    )
    return replace(twin, layers=layers)


def test_verdict_is_against_the_cheapest_ann_that_is_as_accurate():
    work, twin, _ = hybrid()
    mine = {Role.HYBRID: Accuracy(0.43, 0.01), Role.LOW_BIT_TWIN: Accuracy(0.45, 0.01)}
    others = [
        OtherNetwork("small", small_ann(work, 0.5), "42 %", Accuracy(0.42, 0.01), "int3"),
        OtherNetwork("smaller", small_ann(work, 0.1), "40 %", Accuracy(0.40, 0.01), "int3"),
        OtherNetwork("unmeasured", small_ann(work, 0.01)),
    ]
    result = compare(work, twin, node=CMOS, others=others, accuracies=mine)
    (found,) = result.matches
    assert (found.ann.name, found.reached) == ("small, 3-bit", True), "within a deviation of the difference"
    assert "small, 3-bit, the cheapest ANN here that is as accurate," in result.verdict
    energies = found.spiking.total_j, found.ann.total_j
    assert found.ratios == {case: getattr(energies[0], case) / getattr(energies[1], case) for case in CASES}
    assert result.case is VerdictCase.ANN_WINS
    (second,) = (line for line in result.conventions if line.name.startswith("(ii)"))
    assert second.theirs == "small, 3-bit"
    # A twin that was not trained decides, and the verdict says that nobody measured it.
    untrained = compare(work, twin, node=CMOS, accuracies={Role.HYBRID: Accuracy(0.43, 0.01)})
    assert "its 3-bit ANN twin, the cheapest ANN here and of unmeasured accuracy," in untrained.verdict
    # Without the hybrid's accuracy the twins decide, as for a network without a task.
    plain = compare(work, twin, node=CMOS, others=others)
    assert plain.matches == () and "its 3-bit ANN twin" in plain.verdict


def test_a_less_accurate_ann_wins_nothing():
    work, twin, _ = hybrid()
    worse = {
        Role.HYBRID: Accuracy(0.43, 0.01),
        Role.LOW_BIT_TWIN: Accuracy(0.33, 0.01),
        Role.ANN_TWIN: Accuracy(0.3, 0.01),
    }
    result = compare(work, twin, node=CMOS, accuracies=worse)
    assert result.case is VerdictCase.MORE_ACCURATE and result.winner == "undecided"
    assert "no ANN here is as accurate as the hybrid" in result.verdict
    assert "its 3-bit ANN twin, the most accurate ANN here," in result.verdict
    large = replace(twin, layers=tuple(replace(row, dense_macs=row.dense_macs * 100) for row in twin.layers))
    assert compare(work, large, node=CMOS, accuracies=worse).case is VerdictCase.HYBRID_WINS


def test_every_hybrid_meets_the_anns_whose_accuracy_is_known():
    work, twin, _ = hybrid()
    other, _, _ = hybrid(seed=3)
    others = [
        OtherNetwork("second", other, "35 %", Accuracy(0.35, 0.01)),
        OtherNetwork("small", small_ann(work, 0.5), "36 %", Accuracy(0.36, 0.01), "int3"),
    ]
    result = compare(work, twin, node=CMOS, others=others, accuracies={Role.HYBRID: Accuracy(0.43, 0.01)})
    assert [(found.spiking.name, found.ann.name, found.reached) for found in result.matches] == [
        ("hybrid, int8", "ANN twin, 3-bit", True),
        ("second, int8", "small, 3-bit", True),
    ]
    text = energy.matches(result)
    assert [row[0] for row in text.rows] == ["hybrid", "second"] and text.rows[1][1] == "35.0 ± 1.0"


def test_accuracy_of_queries_has_the_binomial_deviation():
    found = Accuracy.of_queries(0.2, 100)
    assert (found.value, found.deviation) == (0.2, pytest.approx(0.04))
    assert Accuracy(0.40, 0.03).reaches(Accuracy(0.45, 0.04)) and not Accuracy(0.39, 0.03).reaches(Accuracy(0.45, 0.04))


def test_undecided_without_opened_sources():
    work, twin, _ = hybrid()
    quoted = replace(CMOS, energy={key: replace(quantity, check="S") for key, quantity in CMOS.energy.items()})
    result = compare(work, twin, node=quoted)
    assert result.winner == "undecided" and "were not opened" in result.verdict


def test_another_hybrid_is_shown_on_the_node_only():
    work, twin, _ = hybrid()
    other, _, _ = hybrid(seed=3)
    result = compare(work, twin, node=CMOS, chips=[LOIHI], machines=[H100], others=[OtherNetwork("runs/b", other)])
    shown = result.groups[0].find(Role.OTHER, "int8")
    assert shown.name == "runs/b, int8" and shown.spiking
    # It spikes, and a GPU would run it as a dense network.
    assert Role.OTHER not in {who.role for who in result.groups[1].contenders}


def numbers(result):
    """Everything in a comparison but its words."""
    shown = [
        (who.role, who.precision, who.host_j, who.deployed_j, who.total_j, who.arithmetic_j)
        for group in result.groups
        for who in group.contenders
    ]
    lines = [(line.counting, line.of, line.ours_j, line.theirs_j, line.ratio) for line in result.conventions]
    even = [(each.spiking, each.ann, each.rates) for each in result.break_even]
    return result.winner, result.case, shown, lines, even, result.firing_rate


@pytest.mark.parametrize("factor, products", [(1, 1), (0.05, 1), (0, 1), (1, 100)])
def test_shown_words_decide_nothing(monkeypatch, factor, products):
    work, twin, _ = hybrid()
    work = scaled(work, factor)
    twin = replace(twin, layers=tuple(replace(row, dense_macs=row.dense_macs * products) for row in twin.layers))
    others = [OtherNetwork("ANN twin, nobody's", work), OtherNetwork("no abstract encoder", work.part("host"))]

    def run(names):
        named = [replace(other, name=name) for other, name in zip(others, names, strict=True)]
        return compare(work, twin, node=CMOS, chips=[LOIHI], machines=[H100], others=named)

    before = run(("a", "b"))
    for number, role in enumerate(contenders.ROLE_WORDS):
        monkeypatch.setitem(contenders.ROLE_WORDS, role, f"fp32 {number}")
    for counting in conventions.COUNTING_WORDS:
        monkeypatch.setitem(conventions.COUNTING_WORDS, counting, "ANN twin, int8 {}")
    after = run(("ANN twin, int3", "hybrid, int8"))
    assert "ANN twin" not in after.groups[0].contenders[1].name
    assert numbers(before) == numbers(after)


def test_verdict_cases():
    work, twin, _ = hybrid()
    large = replace(twin, layers=tuple(replace(row, dense_macs=row.dense_macs * 100) for row in twin.layers))
    quoted = replace(CMOS, energy={key: replace(quantity, check="S") for key, quantity in CMOS.energy.items()})
    found = {
        compare(work, twin, node=CMOS).case: VerdictCase.ANN_WINS,
        compare(work, large, node=CMOS).case: VerdictCase.HYBRID_WINS,
        compare(scaled(work, 0.05), twin, node=CMOS).case: VerdictCase.DEPENDS_ON_REUSE,
        compare(scaled(work, 0), twin, node=CMOS).case: VerdictCase.SILENT_LAYERS,
        compare(work, twin, node=quoted).case: VerdictCase.SOURCES_NOT_OPENED,
    }
    assert all(case is expected for case, expected in found.items())


@pytest.mark.parametrize("given", [True, False])
def test_each_estimate_is_made_once(monkeypatch, given):
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    work, twin = count(program, record, networks.HOST), ann_twin(program, host_layers=networks.HOST)
    chips = [LOIHI, load_profile("loihi2")]
    part = work.part("deployed")
    placed = {chip.name: estimate(part, chip, deployment=deploy(program, record, chip)) for chip in chips}
    made = Counter()

    def counted(part, profile, precision):
        made[id(part), profile.name, precision] += 1
        return estimate(part, profile, precision)

    # The bisection of break_even has its own `estimate`: it asks for other rates.
    monkeypatch.setattr(sides, "estimate", counted)
    result = compare(work, twin, node=CMOS, chips=chips, machines=[H100], estimates=placed if given else None)
    assert set(made.values()) == {1}
    # Once per chip: without hops, for the break-even rates. Given estimates are not made again.
    by_profile = Counter(profile for _, profile, _ in made)
    assert by_profile == {"cmos45": 9, "loihi1": 1, "loihi2": 1, "h100": 6}
    on_chips = [group.contenders[0].deployed for group in result.groups[1:]]
    assert [cost is placed[chip.name] for cost, chip in zip(on_chips, chips, strict=True)] == [given, given]
