"""Predictions beside measurements, recomputed from the published constants, misses included."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ashneuro.cost.blank_profile import new_profile
from ashneuro.cost.cases import load_case, load_cases, measured_folder, outline_program, outline_workloads
from ashneuro.cost.cores import core_limits
from ashneuro.cost.fitting import refit
from ashneuro.cost.profile import list_profiles, load_profile
from ashneuro.cost.validate import energy_rows, known_error, score, validate
from ashneuro.errors import ProfileError
from ashneuro.program.placement.place import place

RESULT = validate()


def row(case, quantity, profile="loihi1"):
    return next(
        r for r in RESULT.energies if r.case.startswith(case) and r.quantity == quantity and r.profile == profile
    )


def davies(rate, synapses, neurons, steps, active):
    """Return joules by the published table, with one message within a tile per spike."""
    update = 81e-12 if active else 52e-12
    return steps * (rate * synapses * 23.6e-12 + neurons * update + rate * neurons * 1.7e-12)


def test_keyword_spotting_is_published_energies_times_bracketed_activity():
    found = row("Keyword spotting, 390", "above idle after a run").predicted_j
    synapses = 390 * 256 + 256 * 256 + 256 * 29
    low = davies(0.02, synapses, 541, 10, active=False)
    assert found.low == pytest.approx(low, rel=0.01)
    high = davies(0.20, synapses, 541, 10, active=True) + 0.2 * 10 * synapses * (35.5 - 23.6) * 1e-12
    assert found.high == pytest.approx(high, rel=0.01)
    assert f"{1e6 * found.low:.1f}–{1e6 * found.high:.1f} µJ" in load_profile("loihi1").reads


def test_slope_is_inside_and_absolute_value_is_not():
    assert row("Keyword spotting, one more", "slope: energy of one more branch").verdict == "inside"
    assert row("Keyword spotting, 390", "above idle after a run").verdict == "too low"
    assert row("Keyword spotting, 390", "above idle after boot").verdict == "too low"


def test_overhead_is_not_shown_on_the_experiment_it_was_fitted_on():
    bare, whole = (
        row("Keyword spotting, 390", name)
        for name in ("above idle after a run", "above idle after a run, with the running overhead")
    )
    overhead = load_profile("loihi1").overhead["board_after_run"]
    assert whole.predicted_j.low - bare.predicted_j.low == pytest.approx(9.7e-3 * 0.003378)
    assert whole.predicted_j.high - bare.predicted_j.high == pytest.approx(9.85e-3 * 0.003378)
    fitted_on = overhead.locator
    assert "branches" in fitted_on
    shown_on = {r.case for r in RESULT.energies if any(term.startswith("overhead") for term in r.terms)}
    assert shown_on and not any("branch" in case for case in shown_on)


def test_no_case_predicts_its_own_source():
    """A static power taken from a workload's own measurement would predict itself."""
    used = {
        (case.title.partition(",")[0], term, load_profile(name).quantity(term).source)
        for case in load_cases()
        for item in case.measured
        for name in item.profiles
        for term in item.predict
        if term not in ("events", "ann") and not load_profile(name).quantity(term).fitted_on
    }
    assert used == {("MatMul-free language model", "static.board_16_chips", "vpx2026")}


NAMES = {case.title: case.name for case in load_cases()}
LEFT_OUT = validate(leave_one_out=True)


@pytest.mark.parametrize("result", [RESULT, LEFT_OUT], ids=["all", "leave one out"])
def test_no_fitted_price_is_shown_on_a_workload_that_it_was_fitted_on(result):
    rows = [r for r in result.energies if r.fits]
    assert rows
    for found in rows:
        for path, fit in found.fits.items():
            assert fit.cases and NAMES[found.case] not in fit.cases, (found.case, path)


def test_every_fitted_price_names_its_workloads_and_only_fitted_prices_do():
    for name in list_profiles():
        for path, quantity in load_profile(name).quantities():
            assert set(quantity.fitted_on) <= set(NAMES.values()), (name, path)


@pytest.mark.parametrize("name", ["loihi1", "loihi1-sanafe", "loihi2"])
def test_fitted_prices_are_what_the_fit_gives(name):
    profile, cases = load_profile(name), load_cases()
    fitted = [(path, quantity) for path, quantity in profile.quantities() if quantity.fitted_on]
    assert fitted
    for path, quantity in fitted:
        fit = refit(profile, path, [case for case in cases if case.name in quantity.fitted_on])
        assert fit.cases == tuple(sorted(quantity.fitted_on))
        assert quantity.range.low == pytest.approx(fit.price.low, rel=2e-3), path
        assert quantity.range.high == pytest.approx(fit.price.high, rel=2e-3), path
        assert quantity.range.typical == pytest.approx(fit.price.typical, rel=2e-3), path


def test_fit_recovers_the_prices_that_made_the_energies():
    """Energies computed from an update of 60 pJ and 0.5 µJ per core give these prices back."""
    case, profile = load_case(measured_folder() / "quartz_mnist_18.toml"), load_profile("loihi1")
    made = []
    for item in case.measured:
        if item.predict == ("events", "inference.core"):
            # One synop price and one message within a tile per spike, as the profile prices them.
            work = outline_workloads(case, item.steps)[0]
            synops = work.total("effective_acs") * 23.6e-12 + work.total("spikes") * 1.7e-12
            joules = synops + work.total("updates") * 60e-12 + 18 * 0.5e-6
            item = replace(item, value=joules * 1e6, unit="µJ", high=None)
        made.append(item)
    fit = refit(profile, "inference.core", [replace(case, measured=tuple(made))])
    assert fit.price.typical == pytest.approx(0.5e-6) and fit.update_j == pytest.approx(60e-12)
    assert refit(profile, "inference.core", []) is None


def test_overhead_is_the_power_without_branches():
    """From 3 mW + 2 mW per branch; the slope needs more than two numbers of branches."""
    case, profile = load_case(measured_folder() / "keyword_branches.toml"), load_profile("loihi1")
    made = [replace(item, value=3 + 2 * item.branches) for item in case.measured if item.branches]
    fit = refit(profile, "overhead.board_after_run", [replace(case, measured=tuple(made))])
    assert [fit.price.low, fit.price.typical, fit.price.high] == pytest.approx([3e-3] * 3)
    assert refit(profile, "overhead.board_after_run", [replace(case, measured=tuple(made[:2]))]) is None


def test_layouts_of_one_network_predict_each_other():
    rows = [r for r in LEFT_OUT.energies if r.case.startswith("Quartz MNIST") and r.quantity.startswith("cores,")]
    fits = {(NAMES[r.case], fit.cases) for r in rows for fit in r.fits.values()}
    assert fits == {("quartz_mnist_11", ("quartz_mnist_18",)), ("quartz_mnist_18", ("quartz_mnist_11",))}
    assert all(r.verdict == "inside" for r in rows if r.profile == "loihi1")


def test_x86_cores_are_what_the_absolute_energy_of_ntidigits_lacked():
    bare, whole = row("NTIDIGITS", "dynamic"), row("NTIDIGITS", "dynamic, with x86")
    assert bare.verdict == "too low" and not bare.whole
    assert whole.verdict == "inside" and whole.whole
    # One x86 core without code, and three that run it all the time, shared by 20 copies.
    seconds = 3000 * 17.625e-6 / 20
    assert whole.predicted_j.low - bare.predicted_j.low == pytest.approx(seconds * 18e-3)
    assert whole.predicted_j.high - bare.predicted_j.high == pytest.approx(seconds * 3 * 24e-3)


def test_score_counts_only_predictions_with_every_term():
    rows = [r for r in RESULT.energies if r.case.startswith("NTIDIGITS") and r.profile == "loihi1"]
    assert len(rows) == 2
    found = score(rows)
    assert (found.values, found.inside, found.workloads, found.share) == (1, 1, 1, 1.0)
    assert found.median_width == pytest.approx(rows[1].width)
    assert score(rows[:1]).median_width is None
    both = [*rows, *(r for r in RESULT.energies if r.case.startswith("MatMul"))]
    assert score(both).share == 0.5


@pytest.mark.parametrize(("result", "name"), [(RESULT, "measured values"), (LEFT_OUT, "values")])
def test_opening_of_the_page_has_the_score(result, name):
    page = (Path(__file__).parents[2] / "docs" / "validation.md").read_text(encoding="utf-8")
    opening = " ".join(page.partition("<!-- generated")[0].split())
    found = score([r for r in result.energies if not r.is_ann])
    share = 100 * found.inside / found.values
    assert f"{found.inside} of {found.values} {name} lie inside, {share:.0f} %" in opening
    if result is RESULT:
        assert f"the upper end is {found.median_width:.1f} times the lower" in opening
        assert f"The {found.values - found.inside} misses" in opening
        anns = [r for r in result.energies if r.is_ann]
        assert f"{sum(r.verdict == 'inside' for r in anns)} of {len(anns)} values lie inside" in opening


def test_energies_alone_are_those_of_the_whole_validation():
    assert energy_rows() == RESULT.energies


def test_partitions_agree_except_for_known_misses():
    cores = {r.case: (r.cores, r.printed_cores) for r in RESULT.partitions if r.is_total}
    assert cores["PilotNet-LIF"] == (74, 74)
    assert cores["PilotNet-SDNN"] == (61, 61)
    assert cores["MNIST, 784-128-64-10"] == (5, 5)
    assert cores["YOLO-KP"] == (574, 574)
    assert cores["Oxford, 200-256-200"] == (4, 5)
    assert cores["NTIDIGITS, 64-256-256-242 with axonal delays"] == (4, 6)
    layers = [r for r in RESULT.partitions if not r.is_total and r.case.startswith(("PilotNet", "MNIST", "YOLO"))]
    assert all(r.cores == r.printed_cores for r in layers)


def test_partition_depends_on_limits():
    case = load_case(measured_folder() / "pilotnet_snn.toml")
    limits = core_limits(load_profile("loihi2"))
    assert place(outline_program(case.network), replace(limits, neurons=8192)).cores < 74
    assert place(outline_program(case.network), replace(limits, synapse_words=24000)).cores < 74


def test_outlines_have_the_published_shapes_and_products():
    case = load_case(measured_folder() / "pilotnet_snn.toml")
    program = outline_program(case.network)
    assert [layer.shape for layer in program.layers][1:6] == [
        (24, 32, 99),
        (36, 15, 49),
        (48, 7, 24),
        (64, 4, 22),
        (64, 2, 20),
    ]
    assert sum(layer.size for layer in program.layers) == 118_909 + 39_600
    assert program.inputs[0].coding == "current"
    low, high = outline_workloads(case)
    assert low.total("effective_acs") < high.total("effective_acs")
    assert low.total("updates") == high.total("updates") == 16 * 158_509


def test_step_time_is_busiest_core_plus_barrier():
    found = next(r for r in RESULT.steps if r.case.startswith("NTIDIGITS") and r.profile == "loihi1")
    synops = 6057337 / 3000  # the last layer, all of it on one core
    assert found.predicted_s.low == pytest.approx((synops * 3.5 + 242 * 5.3 + 113) * 1e-9)
    assert found.predicted_s.high == pytest.approx((synops * 3.5 + 242 * 8.4 + 465) * 1e-9)
    assert found.ratio == pytest.approx((found.predicted_s.low / 17.625e-6, found.predicted_s.high / 17.625e-6))
    waiting = next(r for r in RESULT.steps if r.case.startswith("Keyword") and r.profile == "loihi1")
    assert waiting.ratio[1] < 0.3


def test_skipped_measurements_have_reasons():
    assert len(RESULT.skipped) >= 6
    assert all(item.reason for item in RESULT.skipped)
    assert any("waited for its input" in item.reason for item in RESULT.skipped)


def test_predictions_of_one_profile():
    assert {r.profile for r in validate(["loihi1-sanafe"]).energies} == {"loihi1-sanafe"}
    assert not validate(["loihi1"]).partitions or {r.chip for r in validate(["loihi1"]).partitions} == {"loihi1"}


def test_own_profile_predicts_all_events(tmp_path):
    own = tmp_path / "dear.toml"
    text = list_profiles()["loihi1"].read_text(encoding="utf-8").replace('name = "loihi1"', 'name = "dear"')
    own.write_text(
        text.replace("value = 23.6\nlow = 23.6\nhigh = 35.5", "value = 236\nlow = 236\nhigh = 355"), encoding="utf-8"
    )
    rows = {r.case: r for r in validate([str(own)]).energies}
    assert {r.profile for r in rows.values()} == {"dear"} and len(rows) == 4
    for case, found in rows.items():
        assert found.predicted_j.high > 3 * row(case, found.quantity).predicted_j.high


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (new_profile("mine", "neuromorphic"), "no energy per synop"),
        (list_profiles()["cmos45"].read_text(encoding="utf-8"), "of kind asic"),
    ],
)
def test_own_profile_without_prices_is_skipped_with_a_reason(tmp_path, text, why):
    own = tmp_path / "mine.toml"
    own.write_text(text, encoding="utf-8")
    result = validate([str(own)])
    assert not result.energies
    assert sum(why in item.reason for item in result.skipped) == 5 and validate([str(own), "loihi1"]).energies


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (lambda t: t.replace('unit = "µJ"', 'unit = "ns"'), "'ns' is not a unit of energy or power"),
        (lambda t: t.replace('unit = "µJ"', 'unit = "mW"'), "dynamic: a power needs seconds, or step_us"),
        (
            lambda t: t.replace("cores = [1, 2, 2, 1]", "cores = [2, 2]"),
            "partition.cores has 2 entries, the network 4 layers",
        ),
        (lambda t: t.replace("synops = 10514933", "synop = 10514933"), "activity.synop"),
        (lambda t: t.replace('check = "V"', 'check = "X"'), "check: Input should be"),
        (lambda t: t[: t.index("[activity]")] + t[t.index("[[measured]]") :], "no activity is given"),
        (
            lambda t: t.replace('value = 17.625\nunit = "µs"', 'value = 17.625\nunit = "µJ"'),
            "'µJ' is not a unit of time",
        ),
        (
            lambda t: t.replace("synops_by_layer = [0, 291941, 4165651, 6057337]\n", ""),
            "synops_by_layer for every layer",
        ),
        (lambda t: t + "=", "cannot read"),
    ],
)
def test_faulty_case_is_refused(tmp_path, spoil, fault):
    text = (measured_folder() / "ntidigits.toml").read_text(encoding="utf-8")
    path = tmp_path / "case.toml"
    path.write_text(text, encoding="utf-8")
    assert load_case(path).title.startswith("NTIDIGITS")
    path.write_text(spoil(text), encoding="utf-8")
    with pytest.raises(ProfileError, match=fault):
        load_case(path)


def test_ratios_are_predicted_over_measured():
    one = RESULT.energies[0]
    assert one.ratio == (one.predicted_j.low / one.measured_j.high, one.predicted_j.high / one.measured_j.low)
    assert np.isfinite(one.ratio).all()


def ann(case, device):
    return next(r for r in RESULT.energies if r.case.startswith(case) and r.quantity.startswith(device))


def test_peak_rates_are_a_best_case_of_measured_inferences():
    """2 × products × thermal design power / peak rate, by hand, against whole systems."""
    found = ann("ResNet-50", "A100 SXM")
    products = sum(layer[0] for layer in load_case(measured_folder() / "ann_resnet50.toml").ann.layers)
    assert products == 3_948_251_904  # counted over the layers of torchvision's network, without padding
    assert found.predicted_j.low == pytest.approx(2 * products * 400 / 624e12)
    assert found.verdict == "too low" and 1.7 < 1 / found.ratio[1] < 2.6
    assert ann("ResNet-50", "A100 PCIe").ratio[1] < 0.03


def test_layers_of_measured_anns_have_the_published_products():
    products = {
        name: sum(layer[0] for layer in load_case(measured_folder() / f"ann_{name}.toml").ann.layers)
        for name in ("tiny_ad", "keyword_spotting")
    }
    assert products == {"tiny_ad": 264_192, "keyword_spotting": 172_800}


def test_energy_per_product_of_one_network_predicts_no_other_device_of_that_network():
    shown = {r.profile for r in RESULT.energies if r.case.startswith("Keyword spotting") and r.is_ann}
    assert shown == {"cmos45"}
    assert all(r.verdict == "too high" for r in RESULT.energies if r.profile in ("cpu", "jetson"))


def test_known_errors_span_the_middles_of_measured_predictions():
    found = known_error("loihi1")
    rows = [r for r in RESULT.energies if r.profile == "loihi1" and r.whole and r.fits and "events" in r.terms]
    narrow = [r.centre for r in rows if r.width <= 4]
    assert (found.low, found.high, found.values) == (min(narrow), max(narrow), len(narrow))
    assert not found.ann and "comparable networks were predicted at" in found.sentence
    assert known_error("h100").ann and known_error("h100").low == pytest.approx(ann("ResNet-50", "H100").centre)
    assert known_error("truenorth") is None and known_error("mine.toml") is None
