"""Properties of estimates on all kinds of hardware."""

import pytest

from ashneuro.cost.estimate import estimate
from ashneuro.cost.measure import Measurement
from ashneuro.cost.profile import load_profile
from ashneuro.cost.workload import ann_twin, count
from tests.cost import networks
from tests.cost.networks import ANN, WORK


def test_layers_and_terms_sum_to_the_dynamic_energy():
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


def test_terms_name_the_quantities_they_use():
    for cost, profile in (
        (estimate(WORK, load_profile("loihi1")), load_profile("loihi1")),
        (estimate(WORK, load_profile("cmos45"), "int8"), load_profile("cmos45")),
        (estimate(ANN, load_profile("h100"), "int8"), load_profile("h100")),
    ):
        for term in cost.terms:
            assert (term.energy_j is None) == bool(term.because)
            assert term.energy_j is None or all(profile.quantity(path) for path in term.quantities)


def test_measurements_and_estimates_do_not_add():
    measured = Measurement("H100", "board", "NVML, 5 windows of 10 s", 1e-3, 1e-3, 0.9e-3, 1.1e-3, 1, "fp16", 80.0)
    assert measured.basis == "measured (H100; NVML, 5 windows of 10 s)"
    energy = estimate(WORK, load_profile("loihi1")).dynamic_j
    for sum_ in (lambda: energy + measured, lambda: measured + energy, lambda: energy + measured.energy_j):
        with pytest.raises(TypeError):
            sum_()


def test_headline_needs_opened_sources_for_every_quantity():
    assert not estimate(WORK, load_profile("loihi1")).headline
    assert estimate(WORK, load_profile("loihi1-sanafe")).headline
    assert estimate(ANN, load_profile("cmos45"), "int8").headline
    assert not estimate(ANN, load_profile("h100"), "int8").headline
