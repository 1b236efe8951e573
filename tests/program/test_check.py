import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.check import RULES, check, rule_table
from ashneuro.program.lower import lower
from ashneuro.program.primitives import PRIMITIVES
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.quantise import quantise
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.support import support_table
from ashneuro.spiking.contract import Contract, read_contract
from tests.program import networks as net


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def sound(rng):
    return net.chain(
        (6,), net.lif((6,), rng, uniform=True), net.affine(6, 4, rng), net.lif((4,), rng, tau=np.full(4, 5e-3))
    )


def levels(findings):
    return {(finding.node, finding.rule): finding.level for finding in findings}


def test_sound_graph_has_no_errors_and_lists_forms(rng):
    findings = check(sound(rng), Contract(), input_peak={"input": 3.0})
    assert all(finding.ok for finding in findings)
    forms = {finding.node: finding.actual for finding in findings if finding.level == "ok"}
    assert forms == {
        "input": "analog, into the neurons",
        "n0": "6 neurons, 0 synapses from the input",
        "n1": "dense synapse n0 → n2",
        "n2": "4 neurons, 1 synapses from the input",
    }


def test_all_findings_are_reported_at_once(rng):
    graph = net.graph_of(
        {
            "input": (6,),
            "a": net.lif((6,), rng, v_reset=np.ones(6)),
            "w": net.affine(6, 4, rng),
            "b": net.lif((4,), rng, tau=np.full(4, 1e-4)),
            "odd": None,
            "alone": net.lif((4,), rng, r=np.full(4, np.nan)),
        },
        [("input", "a"), ("a", "w"), ("w", "b"), ("b", "output"), ("b", "nowhere")],
    )
    found = levels(check(graph, Contract()))
    for key in [
        ("a", "start_value"),
        ("b", "time_constants"),
        ("odd", "known_primitive"),
        ("alone", "fed"),
        ("alone", "finite_numbers"),
        ("b → nowhere", "edge_ends"),
    ]:
        assert found[key] == "error", key


def test_error_has_node_type_sentence_value_and_remedy(rng):
    graph = net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng, v_reset=np.ones(4)), type_check=False)
    (error,) = [finding for finding in check(graph, Contract()) if not finding.ok]
    assert (error.node, error.nir_type, error.rule) == ("n1", "LIF", "start_value")
    assert "starts at v_reset" in error.sentence and "v_reset = 1" in error.actual and "--start" in error.remedy


def test_later_reset_is_an_error_per_neuron(rng):
    findings = check(sound(rng), Contract(reset_delay=2), "nir")
    errors = [finding for finding in findings if not finding.ok]
    assert [(finding.node, finding.rule) for finding in errors] == [("n0", "reset_in_time"), ("n2", "reset_in_time")]
    assert all("2 steps late" in finding.actual and finding.remedy for finding in errors)


def test_unreadable_node_metadata_is_an_error(rng):
    graph = sound(rng)
    graph.nodes["n0"].metadata = {"ashneuro.reset": "sometimes"}
    (error,) = [finding for finding in check(graph, Contract()) if not finding.ok]
    assert (error.node, error.rule) == ("n0", "readable_parameters")
    assert "reset = 'sometimes' in its metadata: it must be one of value, subtract" in error.actual


@pytest.mark.parametrize(
    "metadata, actual, remedy",
    [
        ({"dynamics": ["refractory"]}, "ashneuro.dynamics = ", "correct ashneuro.dynamics"),
        ({"dynamics": np.array(["refractory"])}, "ashneuro.dynamics = ", "correct ashneuro.dynamics"),
        ({"dynamics": np.array(["lif", "refractory"])}, "ashneuro.dynamics = ", "correct ashneuro.dynamics"),
        ({"dynamics": "refractory", "refractory_steps": "two"}, "refractory_steps = 'two'", "correct ashneuro.refrac"),
        ({"refractory_steps": 2}, "lif neurons have no such parameter", "state ashneuro.dynamics = refractory"),
        ({"period": 8e-3}, "lif neurons have no such parameter", "ashneuro.dynamics = resonate or izhikevich"),
        ({"mesage": "count"}, "ashneuro has no such field", "correct or remove ashneuro.mesage"),
    ],
)
def test_metadata_that_nothing_reads_are_an_error(rng, metadata, actual, remedy):
    graph = sound(rng)
    graph.nodes["n0"].metadata = {f"ashneuro.{key}": value for key, value in metadata.items()} | {"other.tool": 1}
    (error,) = [finding for finding in check(graph, Contract()) if not finding.ok]
    assert (error.node, error.rule) == ("n0", "readable_parameters")
    assert actual in error.actual and remedy in error.remedy


def test_relevant_assumptions_are_notes(rng):
    findings = check(sound(rng), read_contract({}))
    notes = [finding for finding in findings if finding.rule == "assumed_contract"]
    assert all(finding.level == "note" for finding in notes)
    text = " ".join(finding.actual for finding in notes)
    assert "dt_s = 0.001 for n0, n2" in text and "if_convention" not in text
    assert not [
        finding
        for finding in check(sound(rng), read_contract(Contract().to_metadata()))
        if finding.rule == "assumed_contract"
    ]


@pytest.mark.parametrize(("r", "said"), [(1e4, "--dt 0.0001"), (1.0, None), (np.nan, None), (np.inf, None)])
def test_gain_that_may_be_per_second_is_named(rng, r, said):
    neurons = nir.IF(np.full(4, r), np.ones(4), np.zeros(4))
    findings = check(net.chain((6,), net.affine(6, 4, rng), neurons), read_contract({}))
    (note,) = (each for each in findings if each.rule == "assumed_contract" and "if_convention" in each.actual)
    ending = f"; R = 10000 may be 1/dt, as SpikingJelly writes it: --if-convention per-second {said}" if said else ""
    assert note.remedy == f"--if-convention per-step{ending}"


def test_integer_limits_apply_to_lava_only(rng):
    graph = net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng, tau=np.full(4, 100.0)))
    assert all(finding.ok for finding in check(graph, Contract(), "nir"))
    errors = [finding for finding in check(graph, Contract(), "lava") if not finding.ok]
    assert [(finding.node, finding.nir_type, finding.rule) for finding in errors] == [("n1", "LIF", "fast_enough")]
    with pytest.raises(GraphError, match="known targets"):
        check(graph, Contract(), "abacus")


def test_unknown_peak_is_noted(rng):
    assert levels(check(sound(rng), Contract()))["input", "known_peak"] == "note"
    assert ("input", "known_peak") not in levels(check(sound(rng), Contract(), input_peak={"input": 2.0}))


def test_recurrence_gives_a_note(rng):
    nodes = {
        "input": (6,),
        "in": net.affine(6, 4, rng),
        "r": net.lif((4,), rng, **net.population(rng, net.lif, 4)),
        "w": net.affine(4, 4, rng),
    }
    graph = net.graph_of(nodes, [("input", "in"), ("in", "r"), ("r", "w"), ("w", "r"), ("r", "output")])
    findings = check(graph, Contract())
    assert all(finding.ok for finding in findings) and levels(findings)["r", "samples_apart"] == "note"


def integer(weight=((2, -4), (6, 8)), exponent=0, delay=0, **neuron):
    """Return a small integer program."""
    values = {"du": 4095, "dv": 1024, "v_threshold": 100, "bias": 0} | neuron
    bias_exp = values.pop("bias_exp", 0)
    arrays = {name: np.asarray(value) for name, value in values.items()}
    synapse = Synapse("dense", (2,), (2,), np.asarray(weight, np.int32))
    layer = Layer(
        "a", (2,), Neuron(**arrays, bias_exp=bias_exp), (Connection("in", synapse, delay, exponent),), 1 + delay
    )
    return Program("integer", 1e-3, 4, (InputPort("in", (2,), "spikes", 1.0, 1),), (layer,), ("a",))


def errors(program):
    return [finding.rule for finding in check_program(program) if not finding.ok]


def test_integer_program_within_limits_has_no_findings():
    assert errors(integer()) == []
    assert errors(integer(weight=[[-256, 254], [0, 2]])) == []
    assert errors(integer(weight=[[255, 1], [0, 3]])) == []
    assert errors(integer(weight=[[-255, -1], [0, -3]])) == []
    assert (
        errors(integer(v_threshold=131071, bias=[-4096, 4095], bias_exp=7, du=0, dv=4095, exponent=7, delay=62)) == []
    )


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"weight": [[3, -4], [6, 8]]}, "weights_in_range"),
        ({"weight": [[256, -4], [6, 8]]}, "weights_in_range"),
        ({"weight": [[-258, 4], [6, 8]]}, "weights_in_range"),
        ({"weight": [[256, 4], [6, 8]]}, "weights_in_range"),
        ({"weight": [[-256, -4], [-6, -8]]}, "weights_in_range"),
        ({"exponent": 8}, "weight_exponent"),
        ({"exponent": -9}, "weight_exponent"),
        ({"du": 4096}, "decay_in_range"),
        ({"du": -1}, "decay_in_range"),
        ({"dv": 4096}, "decay_in_range"),
        ({"dv": [1, 4096]}, "decay_in_range"),
        ({"v_threshold": 131072}, "threshold_in_range"),
        ({"v_threshold": 0}, "threshold_in_range"),
        ({"v_threshold": [5, 6]}, "threshold_in_range"),
        ({"bias": [0, 4096]}, "bias_in_range"),
        ({"bias": [0, -4097]}, "bias_in_range"),
        ({"bias": 20000}, "bias_in_range"),
        ({"bias_exp": 8}, "bias_in_range"),
        ({"bias_exp": -1}, "bias_in_range"),
        ({"delay": 63}, "short_delays"),
    ],
)
def test_integer_rule_detects_value_out_of_range(change, rule):
    assert rule in errors(integer(**change))


def test_current_bound_depends_on_decay_and_steps():
    wide = np.full((2, 2), 254)
    base = integer(weight=wide, exponent=5, du=0)
    assert errors(base) == []
    longer = Program(**vars(base) | {"timesteps": 4000})
    assert errors(longer) == ["current_does_not_wrap"]
    assert errors(Program(**vars(base) | {"timesteps": None})) == ["current_does_not_wrap"]


def test_read_out_bound_is_the_largest_threshold():
    calm = integer(dv=0)
    neuron = Neuron(**vars(calm.layers[0].neuron) | {"spiking": False})

    def read_out(timesteps):
        layer = Layer(**vars(calm.layers[0]) | {"neuron": neuron})
        return Program(**vars(calm) | {"layers": (layer,), "timesteps": timesteps})

    assert errors(read_out(100)) == []
    assert errors(read_out(100_000)) == errors(read_out(None)) == ["read_out_in_range"]


def test_wide_sums_give_a_note():
    program = integer(weight=np.full((2, 2), 255), exponent=7)
    notes = [finding for finding in check_program(program) if finding.level == "note"]
    assert [finding.rule for finding in notes] == ["wide_accumulation"] and "65280" in notes[0].actual


def test_rules_have_sentences_and_unique_names():
    table = rule_table()
    assert len(table) == sum(len(rules) for rules in RULES.values())
    assert all(text.endswith(".") and len(text) > 20 for _, _, text in table)
    for where in RULES:
        names = [name for place, name, _ in table if place == where]
        assert len(set(names)) == len(names)


def test_support_table_covers_nir():
    rows = {row.primitive: row for row in support_table()}
    assert set(rows) == set(nir.ir.__dict__["__all_ir"]) == set(PRIMITIVES)
    assert all(row.read == row.float_program == "" for row in rows.values())
    assert all(row.integer_program == row.lava == "" for row in rows.values())


def test_check_agrees_with_lower_and_quantise(rng):
    for graph in (sound(rng), net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng))):
        fits = all(finding.ok for finding in check(graph, Contract(), input_peak={"input": 2.0}))
        try:
            quantise(lower(graph, Contract()), input_peak={"input": 2.0})
        except GraphError:
            assert not fits
        else:
            assert fits
