"""SANA-FE's estimate beside ours: parts, boundary, events; shown and never added."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ashneuro.cost.cores import core_limits
from ashneuro.cost.deployment import deploy
from ashneuro.cost.profile import load_profile
from ashneuro.cost.second_opinion import NETWORK, NEURONS, SYNAPSES, parts, sanafe_opinion
from ashneuro.program.placement.place import place
from ashneuro.reporting import tables
from ashneuro.reporting.html import render
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.sanafe.netlist import write_network
from ashneuro.simulation.sanafe.run import SanafeRun, run
from tests.simulation.sanafe import nets

PROGRAM = nets.program()
INPUTS = nets.inputs()
LAYERS = [layer.name for layer in PROGRAM.layers]
SAMPLES, STEPS, DEPTH = 3, 7, PROGRAM.depth
RUN_STEPS = SAMPLES * STEPS + DEPTH


@pytest.fixture(scope="module")
def record():
    return run_program(PROGRAM, INPUTS, rasters=LAYERS)


@pytest.fixture
def found(record):
    """A result of SANA-FE with round numbers, and the record's own spikes."""
    return SanafeRun(
        version="9.9",
        samples=SAMPLES,
        timesteps=STEPS,
        steps=RUN_STEPS,
        layers=record.layers,
        energy_j={"synapse": 3e-9, "dendrite": 6e-9, "soma": 12e-9, "network": 30e-9, "total": 51e-9},
        injected_j=9e-9,
        injected_messages=300,
        synops=1200,
        updates=600,
        spikes=sum(own.events for own in record.layers.values()) + 30,
        traffic=deploy(PROGRAM, record, load_profile("loihi1")).traffic,
        time_s=RUN_STEPS * 1e-6,
    )


@pytest.fixture
def opinion(record, found):
    return sanafe_opinion(PROGRAM, record, found)


def test_parts_are_per_inference_and_inside_our_boundary(opinion):
    # The messages that bring the inputs' spikes are outside of ours, so they are in no part.
    assert dict(opinion.parts_j) == pytest.approx({SYNAPSES: 1e-9, NEURONS: 6e-9, NETWORK: 7e-9})
    assert opinion.dynamic_j == pytest.approx(14e-9) and opinion.injected_j == pytest.approx(3e-9)
    assert opinion.time_s == pytest.approx(STEPS * 1e-6)
    assert opinion.latency_s == pytest.approx((STEPS + DEPTH) * 1e-6)
    assert opinion.fill == pytest.approx(DEPTH / RUN_STEPS)


def test_inputs_alone_send_messages_leaves_no_rounding(record, found):
    sums = found.energy_j | {"network": 0.1 + 0.2}
    rounded = sanafe_opinion(PROGRAM, record, replace(found, energy_j=sums, injected_j=0.3))
    assert rounded.parts_j[NETWORK] == 0.0


def test_our_parts_add_up_to_our_energy(opinion):
    for cost in (opinion.ours, opinion.same_prices):
        own = parts(cost)
        assert set(own) == {SYNAPSES, NEURONS, NETWORK}
        assert sum(part.typical for part in own.values()) == pytest.approx(cost.dynamic_j.typical)
    assert (opinion.ours.profile, opinion.same_prices.profile) == ("loihi1", "loihi1-sanafe")


def test_events_and_spikes_of_both_stand_side_by_side(opinion, record, found):
    assert opinion.events["synops"][1] == 400
    spikes = sum(record.layers[name].events for name in LAYERS if PROGRAM.layer(name).neuron.spiking) / SAMPLES
    assert opinion.events["spikes of neurons"] == (spikes, spikes) and opinion.mismatches == 0
    # SANA-FE counts the 30 spikes of the inputs as updates, too.
    assert opinion.events["active neuron updates"][1] == (600 - 30) / SAMPLES
    assert opinion.events["messages of inputs"] == (0, 100)
    ours, theirs = opinion.events["messages"]
    assert ours == theirs > 0
    changed = record.layers["a"].raster.copy()
    changed[3, 1, 0, 0, 0] ^= 1
    other = replace(found, layers={**record.layers, "a": record.layers["a"].with_raster(changed)})
    differing = sanafe_opinion(PROGRAM, record, other)
    assert differing.mismatches == 1
    assert next(layer.first for layer in differing.spikes if layer.layer == "a") == (1, 3, 0)


def test_report_shows_it_and_adds_it_to_nothing(opinion, tmp_path):
    from ashneuro.workflows.report import report

    alone = report(nir_file(tmp_path), profiles=["loihi1", "cmos45"], contract=CONTRACT)
    beside = replace(alone, comparison=replace(alone.comparison, second_opinions=(opinion,)))
    content, page = beside.to_json(), render(beside)
    shown = content["comparison"].pop("second_opinions")
    bare = alone.to_json()
    assert bare["comparison"].pop("second_opinions") == []
    assert json.dumps(content) == json.dumps(bare)  # no other number changed
    assert shown[0]["basis"] == "estimated by another model (SANA-FE 9.9, its Loihi)"
    assert shown[0]["dynamic_j"] == pytest.approx(14e-9) and shown[0]["events"]["synops"]["theirs"] == 400
    assert "What does another model say?" in page and "SANA-FE 9.9" in page
    assert "What does another model say?" not in render(alone)
    costs, events, spikes = tables.opinion.second_opinion(opinion)
    assert "neither averaged nor added" in costs.how and "3 nJ" in costs.note
    assert events.rows[0][0] == "synops" and len(spikes.rows) == len(LAYERS)


CONTRACT = {"dt_s": 1e-3, "input_coding": "spikes"}


def nir_file(folder):
    import nir

    from tests.program import networks

    rng = np.random.default_rng(0)
    graph = networks.chain((8,), networks.affine(8, 6, rng), networks.lif((6,), rng, uniform=True))
    nir.write(folder / "small.nir", graph)
    return folder / "small.nir"


def test_missing_sanafe_is_an_error_before_the_work(monkeypatch, tmp_path):
    from ashneuro.errors import MissingDependency
    from ashneuro.simulation.sanafe.environment import PYTHON_VARIABLE, SETUP
    from ashneuro.workflows.report import report

    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(MissingDependency) as error:
        report(nir_file(tmp_path), second_opinion="sanafe", contract=CONTRACT)
    assert SETUP in error.value.do


def test_network_beyond_the_model_gives_the_reason(monkeypatch, tmp_path):
    from ashneuro.errors import GraphError
    from ashneuro.workflows import report as workflow

    monkeypatch.setattr(workflow, "find_environment", lambda: None)
    file, late = nir_file(tmp_path), CONTRACT | {"reset_delay": 1}
    result = workflow.report(file, profiles=["loihi1"], second_opinion="sanafe", contract=late)
    assert result.comparison.second_opinions == () and "step of the spike" in result.missing["second opinion"]
    with pytest.raises(GraphError, match="step of the spike"):
        workflow.compare(file, profiles=["loihi1"], second_opinion="sanafe", contract=late)


@pytest.mark.sanafe
def test_same_prices_give_the_same_energy(record, tmp_path):
    placement = place(PROGRAM, core_limits(load_profile("loihi1-sanafe")))
    write_network(tmp_path, PROGRAM, placement, INPUTS)
    opinion = sanafe_opinion(PROGRAM, record, run(tmp_path, PROGRAM))
    own = parts(opinion.same_prices)
    # A netlist has one kind of synapse per neuron: the skip's are priced as a convolution's.
    assert opinion.parts_j[SYNAPSES] == pytest.approx(own[SYNAPSES].typical, rel=0.02)
    assert opinion.parts_j[NETWORK] == pytest.approx(own[NETWORK].typical)
    # Idle updates while the network fills and empties are in SANA-FE's energy alone.
    assert own[NEURONS].typical < opinion.parts_j[NEURONS] < own[NEURONS].typical / (1 - opinion.fill)
    for name in ("synops", "spikes of neurons", "messages", "hops, east–west", "hops, north–south"):
        assert opinion.events[name][0] == pytest.approx(opinion.events[name][1]), name
    assert opinion.mismatches == 0 and opinion.injected_j > 0
