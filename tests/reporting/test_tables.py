import re
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.cost.estimate import estimate
from ashneuro.cost.measure import Measurement
from ashneuro.cost.profile import Range, load_profile
from ashneuro.cost.terms import KnownError
from ashneuro.cost.workload import count
from ashneuro.program.rules.finding import Finding
from ashneuro.reporting import tables
from ashneuro.reporting.tables.table import Table
from ashneuro.simulation.emulator.run_program import run_program
from tests.cost import networks
from tests.reporting.example import whole_report

REPORT = whole_report()


def cell(table, row, column):
    index = next(i for i, heading in enumerate(table.headings) if heading.startswith(column))
    return next(cells for cells in table.rows if cells[0] == row)[index]


def every_table():
    yield tables.network.activity(REPORT.workload)
    yield tables.network.host(REPORT.workload)
    yield from (tables.energy.terms(cost) for cost in REPORT.estimates)
    yield from (tables.energy.by_layer(cost) for cost in REPORT.estimates)
    yield from (tables.energy.contenders(group) for group in REPORT.comparison.groups)
    yield tables.energy.break_even(REPORT.comparison)
    yield tables.energy.conventions(REPORT.comparison)
    yield tables.network.synops_by_timestep(REPORT.steps, REPORT.step_samples)
    yield from (tables.network.placement(placed) for placed in REPORT.placements)
    yield tables.energy.measurements(REPORT.measurements)
    yield tables.energy.thresholds(REPORT.comparison)
    yield tables.tasks.retrieval(REPORT.evaluations)
    yield from tables.proof.certificate(REPORT.certificate)
    yield tables.profiles.overview(REPORT.profiles)
    yield from (tables.profiles.numbers(profile) for profile in REPORT.profiles)
    yield tables.profiles.used(REPORT.estimates, REPORT.profiles)


@pytest.mark.parametrize("table", list(every_table()), ids=lambda table: table.title)
def test_rows_match_columns_and_show_no_python_values(table):
    assert table.rows
    for row in table.rows:
        assert len(row) == len(table.columns)
        assert all(isinstance(text, str) for text in row)
        assert not re.search(r"\bNone\b|\bnan\b|\binf\b|Range\(|e[+-]\d\d", " ".join(row)), row


@pytest.mark.parametrize(
    "table",
    [
        tables.network.activity(REPORT.workload),
        tables.energy.terms(REPORT.estimates[0]),
        tables.energy.contenders(REPORT.comparison.groups[0]),
    ],
)
def test_tables_of_numbers_have_a_basis(table):
    assert table.basis_text.split()[0] in {"counted", "measured", "estimated"}


def test_activity_shows_the_counts_per_inference():
    table, work = tables.network.activity(REPORT.workload), REPORT.workload
    row = next(layer for layer in work.layers if layer.name == "lif2")
    assert cell(table, "lif2", "synops") == f"{row.effective_acs / work.samples:,.0f}"
    assert cell(table, "lif2", "firing rate") == f"{100 * row.firing_rate:.1f} %"
    assert cell(table, "all", "synops") == f"{sum(r.effective_acs for r in work.layers) / work.samples:,.0f}"
    assert cell(table, "input", "synops") == tables.table.NOTHING
    for heading, field in (("spikes", "spikes"), ("messages", "messages")):
        neurons = sum(getattr(layer, field) for layer in work.layers if layer.kind == "snn")
        assert cell(table, "all", heading) == tables.table.number(neurons / work.samples), (
            "values of a port are no neuron's"
        )


def test_activity_shows_what_numbers_cost_where_layers_send_some():
    program = networks.graded_program()
    x = (np.random.default_rng(1).random((program.timesteps, 2, *program.inputs[0].shape)) < 0.4).astype(float)
    work = count(program, run_program(program, x, rasters=[layer.name for layer in program.layers]))
    table = tables.network.activity(work)
    row = next(layer for layer in work.layers if layer.name == "two")
    assert cell(table, "two", "effective MACs") == tables.table.number(row.effective_macs / 2)
    assert cell(table, "two", "graded messages") == tables.table.number(row.graded_messages / 2)
    assert cell(table, "two", "payload bits") == tables.table.number(row.graded_messages * row.message_bits / 2)
    assert cell(table, "lif", "payload bits") == "0" and cell(table, "input", "payload bits") == tables.table.NOTHING
    total = sum(layer.payload_bits for layer in work.layers) / 2
    assert row.graded_messages and cell(table, "all", "payload bits") == tables.table.number(total)
    spikes_alone = count(
        networks.tiny_program(), networks.run(networks.tiny_program(), networks.images(networks.tiny_program()))
    )
    headings = tables.network.activity(spikes_alone).headings
    assert "messages" in headings and "payload bits" not in headings


def test_spikes_of_a_simulation():
    program = networks.tiny_program()
    record = networks.run(program, networks.images(program))
    table = tables.network.spikes(record)
    assert cell(table, "lif2", "spikes") == f"{record.layers['lif2'].events:,}"
    assert cell(table, "lif2", "firing rate") == f"{100 * record.firing_rate('lif2'):.1f} %"
    assert cell(table, "input", "firing rate") == tables.table.NOTHING
    assert table.basis_text == "counted over 3 samples of 4 steps, torch, float"


def test_terms_that_cannot_be_estimated_have_reasons():
    known, unknown = (tables.energy.terms(cost) for cost in REPORT.estimates)
    assert cell(known, "all events", "µJ") == f"{REPORT.estimates[0].dynamic_j.typical * 1e6:.3g}"
    assert cell(unknown, "all events", "µJ") == "not estimable"
    assert "published" in cell(unknown, "synop", "how")
    assert any(row[0].startswith("static alone") for row in unknown.rows)
    assert all(row[0] != "all events" or row[2] != "0" for row in unknown.rows)
    assert "Left out: " in known.note and "Boundary: " in known.note


def test_contenders_add_up():
    group = REPORT.comparison.groups[0]
    table = tables.energy.contenders(group)
    for row in table.rows:
        host, deployed, total = (float(text) for text in row[1:4])
        assert host + deployed == pytest.approx(total, rel=0.02)


def test_retrieval_in_per_cent_with_chance_per_pool():
    table = tables.tasks.retrieval(REPORT.evaluations)
    assert cell(table, "hybrid", "R@1") == "27.8 / 34.2"
    assert (
        cell(table, "hybrid, spikes from Lava, integer", "basis")
        == "measured, emoji, style split, test: 64 images, 128 texts"
    )
    assert [row[0] for row in table.rows] == [
        "hybrid",
        "hybrid, A zeroed",
        "hybrid, C zeroed",
        "no abstract encoder",
        "quantised-ReLU twin",
        "hybrid, spikes from integer emulator",
        "chance among 160 images",
        "hybrid, spikes from Lava, integer",
        "chance among 64 images",
    ]
    assert cell(table, "chance among 64 images", "R@1") == "0.6 / 0.3"


def test_learned_ratio_is_named_by_network():
    facts = tables.tasks.facts(REPORT.evaluations)
    assert facts["learned fusion ratio r, hybrid"] == "mean 0.83, from 0.31 to 1.42 over 3 channels"
    assert facts["firing rates, hybrid"] == "lif1 26.8 %, lif4 55.0 %"
    assert set(facts) == {
        "learned fusion ratio r, hybrid",
        "learned fusion ratio r, quantised-ReLU twin",
        "firing rates, hybrid",
    }


def test_text_encoder_is_not_in_the_sum():
    table = tables.network.host(REPORT.workload)
    assert cell(table, "all, per image", "MACs") == "65,664"
    assert cell(table, "text, per text", "MACs") == "5,000"


def test_certificate_shows_mismatches_and_skipped_comparisons():
    summary, layers, accuracy = tables.proof.certificate(REPORT.certificate)
    assert summary.title == "Certificate: incomplete (not run: graph, float64 – Lava, floating_pt)"
    assert cell(summary, "integer program – Lava, fixed_pt", "mismatches") == "0"
    assert cell(summary, "graph, float64 – Lava, floating_pt", "result") == "not run"
    assert cell(summary, "graph, float64 – Lava, floating_pt", "first") == "no Python 3.10 was found"
    assert cell(summary, "graph, float64 – integer program", "mismatches") == "84"
    assert cell(summary, "graph, float64 – integer program", "first") == "lif1: sample 1, step 2, neuron 7"
    assert "silicon" in summary.note
    assert cell(layers, "lif2", "graph, float64 – integer program") == "21"
    assert cell(accuracy, "integer", "R@1") == "27.2 %"


def test_findings_are_sorted_and_passed_ones_counted():
    items = [
        Finding("a", "Conv2d", "r1", "Fits.", "ok"),
        Finding("b", "LIF", "r2", "Assumed dt.", "note", "dt = 1 ms", "--dt"),
        Finding("c", "LI", "r3", "Must spike.", "error", "LI", "remove"),
    ]
    table = tables.network.findings(items)
    assert [row[0] for row in table.rows] == ["c", "b"]
    assert table.note == "1 error(s), 1 note(s), 1 check(s) passed"


def test_profile_numbers_have_source_and_locator():
    table = tables.profiles.numbers(load_profile("loihi1"))
    assert cell(table, "energy.synop", "source") == "davies2018: Table 2, p. 96 (printed as a minimum)"
    assert "10.1109/MM.2018.112130359" in table.note
    assert cell(table, "time.step", "value") == tables.table.NOTHING


def test_used_numbers_are_those_of_the_estimates():
    cost = estimate(REPORT.workload.part("deployed"), load_profile("loihi1"))
    paths = {row[1] for row in tables.profiles.used([cost], REPORT.profiles).rows}
    assert {"energy.synop", "static.chip", "time.step", "overhead.board_after_run"} <= paths
    assert not paths & {"energy.hop_ew", "energy.learning_update", "limits.neurons_per_chip"}


def test_measurements_have_their_own_table():
    item = Measurement("H100", "board", "NVML", 1.5e-3, 2e-3, 1.4e-3, 1.6e-3, 64, "fp16", 80.0)
    table = tables.energy.measurements([item])
    assert table.basis_text == "measured"
    assert cell(table, "–", "energy") == "1.5 mJ" and cell(table, "–", "device") == "H100"


def test_missing_measurement_has_a_reason():
    table = tables.energy.measurements(REPORT.measurements)
    assert cell(table, "ANN twin", "with idle") == "3 mJ"
    assert table.note == "ANN twin on cpu: not measured, because there is no counter."


def test_synops_by_timestep_add_up_to_the_inference():
    table = tables.network.synops_by_timestep(REPORT.steps, REPORT.step_samples)
    whole = {layer.name: layer.effective_acs / REPORT.workload.samples for layer in REPORT.workload.layers}
    for row in table.rows:
        assert sum(float(cell.replace(",", "")) for cell in row[1:]) == pytest.approx(whole[row[0]], rel=0.02)
    long = [replace(step, effective_acs=np.arange(40)) for step in REPORT.steps]
    table = tables.network.synops_by_timestep(long, 1)
    assert len(table.columns) == 17 and "first 16 of 40" in table.note


def test_conventions_and_placements():
    lines = {row[0]: row for row in tables.energy.conventions(REPORT.comparison).rows}
    assert "×" in lines["(i) arithmetic only, fp32"][3] and lines["(i) arithmetic only, fp32"][4] == "one node"
    assert lines["(ii) chip dynamic, loihi1"][4] == "different boundaries"
    placed = REPORT.placements[1]
    table = tables.network.placement(placed)
    assert [int(row[2].replace(",", "")) for row in table.rows] == [layer.cores for layer in placed.layers]
    assert f"{placed.cores} cores of 128 a chip" in table.note


@pytest.mark.parametrize(
    "value, text", [(None, "–"), (0, "0"), (3.0, "3"), (1234567, "1,234,567"), (0.12345, "0.123"), (1234.6, "1,235")]
)
def test_number_format(value, text):
    assert tables.table.number(value) == text


def test_common_unit_fits_the_largest_typical_value():
    assert tables.table.common_unit([Range(1e-9, 2e-9, 5e-3), Range(1e-7, 3e-6, 1)]) == (1e6, "µJ")
    assert tables.table.common_unit([None]) == (1e12, "pJ")
    # A meter's reading minus idle power may fall below 0.
    assert tables.table.common_unit([Range(-3e-3, -2e-3, 1e-4)]) == (1e3, "mJ")


def test_heading_marks_numeric_columns():
    table = Table("t", ("name", ">count"), (("a", "1"),))
    assert table.headings == ("name", "count") and table.numeric == (False, True)


def test_networks_with_the_same_questions_share_a_table():
    (table,) = tables.tasks.by_task(whole_report().tasks)
    assert table.title == "VQA" and table.basis_text == "measured"
    assert table.headings == ("network", "VQA accuracy, %", "yes/no, %")
    assert [row[0] for row in table.rows] == [
        "hybrid",
        "hybrid, A zeroed",
        "hybrid, text alone",
        "no abstract encoder",
        "hybrid, spikes from Lava, integer",
        "most frequent answer",
    ]
    assert table.rows[0][1:] == ("61.0", "30.5") and table.rows[-1][1:] == ("31.0", "15.5")
    assert "40 questions about 20 pictures" in table.note and "95.0 %" in table.note


def test_other_questions_have_another_table():
    first = whole_report().tasks[0]
    few = replace(first, questions=4)
    other = replace(first, task="nlvr2", rows=tuple(replace(row, consistency=0.25) for row in first.rows))
    all_of_them = tables.tasks.by_task([first, few, other])
    assert [table.title for table in all_of_them] == ["VQA", "VQA", "NLVR2"]
    assert all_of_them[2].rows[0][:3] == ("hybrid", "61.0", "25.0") and "consistency, %" in all_of_them[2].headings
    assert (tables.tasks.metric(first), tables.tasks.metric(other)) == ("VQA accuracy 61.0 %", "NLVR2 accuracy 61.0 %")


def test_estimate_shows_costs_besides_events_and_totals_with_and_without_them():
    cost = estimate(networks.WORK, load_profile("loihi1"), step_time_s=1e-5, x86_cores=1)
    names = [row[0] for row in tables.energy.terms(cost).rows]
    assert {"further: x86 clock", "further: x86 code", "events and further costs"} <= set(names)
    assert names.index("the same, with further costs: chip") == names.index("events + static: chip") + 1
    clock = next(row for row in tables.energy.terms(cost).rows if row[0] == "further: x86 clock")
    assert "1 x86 core(s), as stated" in clock[-1] and "fitted on quartz_mnist_18" in clock[-1]
    bare = estimate(networks.WORK, replace(load_profile("loihi1"), x86={}, inference={}), step_time_s=1e-5)
    assert not any("further" in row[0] for row in tables.energy.terms(bare).rows)


def test_estimate_says_how_far_comparable_networks_were_predicted():
    cost = estimate(networks.WORK, load_profile("loihi1"))
    error = KnownError(0.8, 1.9, 5, ("A", "B"))
    said = tables.energy.terms(replace(cost, error=error)).note
    assert "Comparable networks were predicted at 0.8 to 1.9 × of what was measured" in said
    assert "(5 values: A; B)" in said
    assert "omparable networks" not in tables.energy.terms(cost).note


def test_peak_rates_of_a_gpu_carry_their_error_on_measured_inferences():
    notes = {group.title: tables.energy.contenders(group).note for group in REPORT.comparison.groups}
    on_h100 = [note for note in notes.values() if "h100: measured ANNs were predicted at 0.4" in note]
    assert on_h100 and all("profiles validate" in note for note in on_h100)


def test_bracketed_graded_values_have_a_row_of_their_own():
    row = replace(networks.SNN, effective_macs=400, graded_messages=30, messages=30, spikes=0, message_bits=8)
    cost = estimate(replace(networks.WORK, layers=(row,)), load_profile("loihi1"))
    rows = {row[0]: row for row in tables.energy.terms(cost).rows}
    assert rows["all events"][2] == "not estimable"
    assert "our own estimate" in rows["all events, graded values bracketed"][-1]
