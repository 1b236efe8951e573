"""Remedies of the rules on NIR graphs."""

import copy
import itertools

import nir
import numpy as np

from ashneuro.spiking.contract import PREFIX, Contract
from tests.program.remedies import Case

CONTRACT = Contract(timesteps=8)
rng = np.random.default_rng(0)
SQUARE = rng.uniform(-1, 1, (4, 4))
WIDE = rng.uniform(-1, 1, (4, 6))


def full(value, shape=4):
    return np.full(shape, float(value))


def lif(shape=4, metadata=None, **more):
    values = {"tau": 5e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.3, "v_reset": 0.0} | more
    values = {name: full(value, shape) if np.ndim(value) == 0 else np.asarray(value) for name, value in values.items()}
    return nir.LIF(**values, metadata=metadata or {})


def changed(node, **fields):
    """Return a copy of a node with fields that its constructor would refuse."""
    node = copy.copy(node)
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def graph(nodes, edges):
    made = nir.NIRGraph({"x": nir.Input(None)}, [], type_check=False)
    made.nodes, made.edges = dict(nodes), list(edges)
    return made


def chain(*nodes, shape=(4,), out=None, **ends):
    """Return Input → n0 → n1 … → Output."""
    names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    made = [ends.get("input", nir.Input(shape)), *nodes, nir.Output(out)]
    return graph(zip(names, made, strict=True), itertools.pairwise(names))


def linear(weight=SQUARE):
    return nir.Linear(weight)


def conv(shape=(6, 6), weight=(3, 2, 3, 3), **more):
    fields = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(weight[0])} | more
    return changed(nir.Conv2d(shape, np.ones(weight), 1, 0, 1, 1, np.zeros(weight[0])), **fields)


def again(node):
    """Return Input → node → Output, where the node feeds itself."""
    nodes = {"input": nir.Input((4,)), "n0": node, "back": linear(SQUARE / 4), "output": nir.Output(None)}
    return graph(nodes, [("input", "n0"), ("n0", "back"), ("back", "n0"), ("n0", "output")])


IMAGE = (2, 6, 6)
SOUND = chain(linear(), lif())


def case(rule, says, broken, cured, contract=CONTRACT, afterwards=None):
    """Return a case; `contract` of the specimen, and `afterwards` with the option that the remedy
    names.
    """
    after = None if cured is None else (cured, afterwards or contract)
    return Case("graph", rule, says, (broken, contract), after)


def inner(*kinds):
    nodes = {"in": nir.Input((4,)), "lif": lif(), "out": nir.Output((4,)), "out2": nir.Output((4,))}
    edges = [("in", "lif"), ("lif", "out"), ("lif", "out2")]
    kept = {name: nodes[name] for name in kinds}
    return graph(kept, [edge for edge in edges if set(edge) <= set(kept)])


def two(first, second, *edges):
    """Return Input → a → b → Output, and further edges."""
    nodes = {"input": nir.Input((4,)), "a": first, "b": second, "output": nir.Output((4,))}
    return graph(nodes, [("input", "a"), ("a", "b"), ("b", "output"), *edges])


def without(base, *edges, add=()):
    return graph(base.nodes, [*(edge for edge in base.edges if edge not in edges), *add])


def dynamics(name, base=None, **parameters):
    stated = {PREFIX + "dynamics": name} | {PREFIX + key: value for key, value in parameters.items()}
    return lif(metadata=stated) if base is None else changed(base, metadata=stated)


def adaptive(base=None, own=(), **more):
    stated = {"tau_threshold": 8e-3, "tau_refractory": 4e-3, "threshold_step": 0.1} | more
    node = dynamics("adaptive", base, **stated)
    return changed(node, metadata=node.metadata | {PREFIX + key: value for key, value in own})


def counting(base=None, **stated):
    values = {"message": "count", "reset": "subtract"} | stated
    return changed(base or lif(), metadata={PREFIX + key: value for key, value in values.items()})


def threshold(value, **stated):
    node = nir.Threshold(full(value))
    return changed(node, metadata={PREFIX + key: each for key, each in stated.items()})


def looped(*back):
    """Return a ⇄ b through weights, with `back` on the edge that leads back."""
    nodes = {"input": nir.Input((4,)), "a": lif(), "w": linear(), "b": lif(), "v": linear(), "output": nir.Output((4,))}
    edges = [("input", "a"), ("a", "w"), ("w", "b"), ("b", "output"), ("b", "v")]
    if not back:
        return graph(nodes, [*edges, ("v", "a")])
    return graph(nodes | {"late": back[0]}, [*edges, ("v", "late"), ("late", "a")])


def endless(base):
    """Return a graph without its Output."""
    kept = {name: node for name, node in base.nodes.items() if name != "output"}
    return graph(kept, [edge for edge in base.edges if "output" not in edge])


LOOP = looped(nir.Delay(full(2e-3)))  # of two populations: either could be the last


def delayed_bias(first, second):
    return chain(first, second, lif())


INCLUSIVE = Contract(timesteps=8, comparison="inclusive")

CASES = [
    case(
        "free_names",
        "rename",
        graph(
            {"input": nir.Input((4,)), "always-on": lif(), "output": nir.Output((4,))},
            [("input", "always-on"), ("always-on", "output")],
        ),
        SOUND,
    ),
    case("known_primitive", "replace the module by layers", chain(None, lif()), SOUND),
    case("known_primitive", "remove it", two(nir.ir.graph.Identity({"input": np.array([4])}), lif()), chain(lif())),
    # readable_parameters
    case(
        "readable_parameters",
        "give weight as an array of numbers",
        chain(changed(linear(), weight="text"), lif()),
        SOUND,
    ),
    case(
        "readable_parameters",
        "give stride as a whole number",
        chain(conv(stride=1.5), lif(()), shape=IMAGE),
        chain(conv(stride=2), lif(()), shape=IMAGE),
    ),
    case(
        "readable_parameters",
        'or as "same" or "valid"',
        chain(conv(padding="full"), lif(()), shape=IMAGE),
        chain(conv(padding="same"), lif(()), shape=IMAGE),
    ),
    case(
        "readable_parameters",
        "whole numbers above 0, or no shape",
        chain(linear(), lif(), shape=(-4,)),
        chain(linear(), lif(), shape=None),
    ),
    case(
        "readable_parameters",
        "correct ashneuro.comparison, or remove it",
        chain(linear(), lif(metadata={PREFIX + "comparison": "soft"})),
        SOUND,
    ),
    case(
        "readable_parameters",
        "correct ashneuro.reset_delay",
        chain(linear(), lif(metadata={PREFIX + "reset_delay": 0.5})),
        chain(linear(), lif(metadata={PREFIX + "reset_delay": 1})),
    ),
    case(
        "readable_parameters",
        "correct ashneuro.message_bits",
        chain(linear(), threshold(0, message="graded", message_bits=20)),
        chain(linear(), threshold(0, message="graded", message_bits=8)),
    ),
    case(
        "readable_parameters",
        "correct ashneuro.message, or remove it",
        chain(linear(), lif(metadata={PREFIX + "message": "graded"})),
        SOUND,
    ),
    case(
        "readable_parameters",
        "correct ashneuro.message, or remove it",
        chain(linear(), threshold(0.1, message="count")),
        chain(linear(), threshold(0.1)),
    ),
    case(
        "readable_parameters",
        "correct ashneuro.message, or remove it",
        chain(linear(), dynamics("ternary", threshold_below=0.3, message="count")),
        chain(linear(), dynamics("ternary", threshold_below=0.3)),
    ),
    case(
        "readable_parameters",
        "correct ashneuro.message_limit",
        chain(linear(), counting(message_limit=2.5)),
        chain(linear(), counting(message_limit=2)),
    ),
    case(
        "readable_parameters", "correct ashneuro.dynamics, or remove it", chain(linear(), dynamics("bursting")), SOUND
    ),
    case(
        "readable_parameters",
        "add ashneuro.refractory_steps",
        chain(linear(), dynamics("refractory")),
        chain(linear(), dynamics("refractory", refractory_steps=2)),
    ),
    case(
        "readable_parameters",
        "correct ashneuro.refractory_steps",
        chain(linear(), dynamics("refractory", refractory_steps="two")),
        chain(linear(), dynamics("refractory", refractory_steps=2)),
    ),
    case(
        "readable_parameters",
        "state ashneuro.dynamics = refractory",
        chain(linear(), dynamics("lif", refractory_steps=2)),
        chain(linear(), dynamics("refractory", refractory_steps=2)),
    ),
    case("readable_parameters", "correct or remove ashneuro.steps", chain(linear(), dynamics("lif", steps=2)), SOUND),
    case(
        "readable_parameters",
        "correct ashneuro.imaginary",
        chain(linear(), dynamics("resonate", period=8e-3, imaginary=3.0)),
        chain(linear(), dynamics("resonate", period=8e-3, imaginary="n0")),
    ),
    # edges and ends
    case("edge_ends", "name an existing node", without(SOUND, add=[("n1", "ghost")]), SOUND),
    case("single_edges", "keep one edge", without(SOUND, add=[("n0", "n1")]), SOUND),
    case(
        "single_edges",
        "put a Scale between",
        without(SOUND, add=[("n0", "n1")]),
        chain(linear(), nir.Scale(full(2)), lif()),
    ),
    case(
        "subgraph_ends",
        "one Input and one Output",
        chain(inner("in", "lif", "out", "out2")),
        chain(inner("in", "lif", "out")),
    ),
    case(
        "ends",
        "add a nir.Input",
        graph({"a": lif(), "b": lif(), "output": nir.Output((4,))}, [("a", "output"), ("b", "output")]),
        graph(
            {"input": nir.Input((4,)), "a": lif(), "b": lif(), "output": nir.Output((4,))},
            [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")],
        ),
    ),
    case("ends", "add a nir.Output", endless(LOOP), LOOP),
    case("fed", "add the edge that feeds it", without(SOUND, ("input", "n0")), SOUND),
    case("fed", "or remove the node", graph(SOUND.nodes | {"odd": linear()}, [*SOUND.edges, ("odd", "n1")]), SOUND),
    case("fed", "the node behind the Input", without(SOUND, add=[("n1", "input")]), without(SOUND, add=[("n1", "n0")])),
    case(
        "fed",
        "the node in front of the Output",
        without(SOUND, add=[("output", "n0")]),
        without(SOUND, add=[("n1", "n0")]),
    ),
    case(
        "used",
        "connect it",
        graph(SOUND.nodes | {"more": nir.Input((4,))}, SOUND.edges),
        graph(SOUND.nodes | {"more": nir.Input((4,))}, [*SOUND.edges, ("more", "n1")]),
    ),
    case(
        "used", "remove it from the graph", graph(SOUND.nodes | {"odd": linear()}, [*SOUND.edges, ("n1", "odd")]), SOUND
    ),
    case(
        "input_is_computed",
        "put a layer between",
        graph({"input": nir.Input((4,)), "output": nir.Output((4,))}, [("input", "output")]),
        SOUND,
    ),
    case(
        "input_is_computed",
        "or remove the Output",
        graph(SOUND.nodes | {"copy": nir.Output((4,))}, [*SOUND.edges, ("input", "copy")]),
        SOUND,
    ),
    # shapes
    case("follows_from_graph", "nothing to do", chain(linear(), lif(())), None),
    case("population_shape", "one value per neuron", chain(lif(()), shape=None), chain(lif(), shape=None)),
    case("population_shape", "give the Input the shape", chain(lif(()), shape=None), chain(lif(()))),
    case(
        "known_shapes",
        "give it the shape of one sample",
        chain(nir.AvgPool2d(2, 2, 0), lif(()), shape=None),
        chain(nir.AvgPool2d(2, 2, 0), lif(()), shape=IMAGE),
    ),
    case("known_shapes", r"shape \(out, in\)", chain(changed(linear(), weight=full(1)), lif()), SOUND),
    case(
        "known_shapes",
        "set start_dim and end_dim",
        chain(nir.Flatten(None, -5, -1), lif(()), shape=IMAGE),
        chain(nir.Flatten(None, 0, -1), lif(()), shape=IMAGE),
    ),
    case(
        "known_shapes",
        "correct its kernel",
        chain(nir.AvgPool2d(9, 9, 0), lif(()), shape=IMAGE),
        chain(nir.AvgPool2d(3, 3, 0), lif(()), shape=IMAGE),
    ),
    case(
        "known_shapes",
        "write input_shape",
        graph(
            {"input": nir.Input(IMAGE), "w": conv(None), "lif": lif(()), "output": nir.Output(None)},
            [("w", "lif"), ("input", "lif"), ("lif", "output")],
        ),
        graph(
            {"input": nir.Input(IMAGE), "w": conv(), "lif": lif(()), "output": nir.Output(None)},
            [("input", "w"), ("w", "lif"), ("lif", "output")],
        ),
    ),
    case("agreeing_shapes", "axis of batch or time, remove it", chain(linear(), lif(), shape=(10, 4)), SOUND),
    case(
        "agreeing_shapes",
        "put a Flatten between n0 and n1",
        chain(nir.AvgPool2d(1, 1, 0), linear(), lif(), shape=(1, 2, 2)),
        chain(nir.AvgPool2d(1, 1, 0), nir.Flatten(None, 0, -1), linear(), lif(), shape=(1, 2, 2)),
    ),
    case("agreeing_shapes", "correct the shape of n0 or n1", chain(linear(), lif(3)), SOUND),
    case(
        "agreeing_shapes",
        "give input the shape 1×6×6",
        chain(conv(weight=(3, 1, 3, 3)), lif((3, 4, 4)), shape=(6, 6)),
        chain(conv(weight=(3, 1, 3, 3)), lif((3, 4, 4)), shape=(1, 6, 6)),
    ),
    case(
        "agreeing_shapes",
        "set start_dim of n0 to 0 and end_dim to -1",
        chain(nir.Flatten(None, -2, -1), linear(), lif(), shape=(2, 1, 2)),
        chain(nir.Flatten(None, 0, -1), linear(), lif(), shape=(2, 1, 2)),
    ),
    case(
        "agreeing_shapes",
        "give its parameters the shape 3×1×1",
        chain(conv(), lif(3), shape=IMAGE),
        chain(conv(), lif((3, 1, 1)), shape=IMAGE),
    ),
    case("agreeing_shapes", "give the parameters of n1 the shape 4", chain(linear(), lif((2, 2)), out=(4,)), SOUND),
    case("agreeing_shapes", "give output the shape 4", chain(linear(), lif(), out=(4, 1)), SOUND),
    # numbers
    case(
        "numbers_fit",
        "kernel and a stride of at least 1",
        chain(nir.AvgPool2d(2, 0, 0), lif(()), shape=IMAGE),
        chain(nir.AvgPool2d(2, 1, 0), lif(()), shape=IMAGE),
    ),
    case(
        "numbers_fit",
        "channels with two spatial axes",
        chain(nir.AvgPool2d(2, 2, 0), lif(()), shape=(6, 6)),
        chain(nir.AvgPool2d(2, 2, 0), lif(()), shape=(1, 6, 6)),
    ),
    case(
        "numbers_fit",
        "one bias per output",
        chain(nir.Affine(SQUARE, full(1, 3)), lif()),
        chain(nir.Affine(SQUARE, full(1)), lif()),
    ),
    case(
        "numbers_fit",
        "one value, or one per neuron",
        chain(linear(), changed(lif(), tau=full(5e-3, 3))),
        chain(linear(), changed(lif(), tau=full(5e-3, ()))),
    ),
    case(
        "numbers_fit",
        "one per spatial axis",
        chain(conv(stride=(1, 1, 1)), lif(()), shape=IMAGE),
        chain(conv(stride=(1, 2)), lif(()), shape=IMAGE),
    ),
    case(
        "numbers_fit",
        "give the weight the axes",
        chain(changed(conv(), weight=np.ones((3, 2, 3))), lif(()), shape=IMAGE),
        chain(conv(), lif(()), shape=IMAGE),
    ),
    case(
        "numbers_fit",
        "divides the output channels",
        chain(conv(groups=2), lif(()), shape=(4, 6, 6)),
        chain(conv(groups=3), lif(()), shape=(6, 6, 6)),
    ),
    case(
        "numbers_fit",
        "stride and a dilation of at least 1",
        chain(conv(dilation=0), lif(()), shape=IMAGE),
        chain(conv(dilation=2), lif(()), shape=IMAGE),
    ),
    case(
        "numbers_fit",
        "padding as numbers, or stride 1",
        chain(conv(padding="same", stride=2), lif(()), shape=IMAGE),
        chain(conv(padding=1, stride=2), lif(()), shape=IMAGE),
    ),
    case(
        "numbers_fit",
        "one bias per output channel",
        chain(conv(bias=full(1, 5)), lif(()), shape=IMAGE),
        chain(conv(bias=full(1, 3)), lif(()), shape=IMAGE),
    ),
    case(
        "numbers_fit",
        "as many channels as come in",
        chain(conv(None, (3, 4, 3, 3)), lif(()), shape=IMAGE),
        chain(conv(None), lif(()), shape=IMAGE),
    ),
    case("finite_numbers", "replace the values", chain(linear(SQUARE * np.nan), lif()), SOUND),
    case(
        "finite_numbers",
        "write neurons that do not leak as an IF",
        chain(linear(), lif(tau=np.inf)),
        chain(linear(), nir.IF(full(1.0), full(0.3), full(0.0))),
    ),
    case("time_constants", "above 0", chain(linear(), lif(tau=-1e-3)), SOUND),
    case(
        "time_constants",
        "--dt SECONDS",
        chain(linear(), lif(tau=5e-4)),
        chain(linear(), lif(tau=5e-4)),
        afterwards=Contract(timesteps=8, dt_s=5e-4),
    ),
    case(
        "reset_in_time",
        "or in the next one",
        SOUND,
        SOUND,
        Contract(timesteps=8, reset_delay=2),
        Contract(timesteps=8, reset_delay=1),
    ),
    case(
        "dynamics_parameters",
        "one number, or as one per neuron",
        chain(linear(), dynamics("refractory", refractory_steps=full(2, 3))),
        chain(linear(), dynamics("refractory", refractory_steps=full(2))),
    ),
    case(
        "dynamics_parameters",
        "whole steps from 1 on",
        chain(linear(), dynamics("refractory", refractory_steps=0)),
        chain(linear(), dynamics("refractory", refractory_steps=1)),
    ),
    case(
        "dynamics_parameters",
        "a time constant of at least dt",
        chain(linear(), adaptive(tau_threshold=1e-4)),
        chain(linear(), adaptive(tau_threshold=1e-3)),
    ),
    case(
        "dynamics_parameters",
        "at least 0",
        chain(linear(), adaptive(threshold_step=-0.1)),
        chain(linear(), adaptive(threshold_step=0.0)),
    ),
    case(
        "dynamics_parameters",
        "a period of at least 4 steps",
        chain(linear(), dynamics("resonate", period=2e-3)),
        chain(linear(), dynamics("resonate", period=4e-3)),
    ),
    case(
        "dynamics_firing",
        "write it as a LIF or an IF",
        chain(linear(), dynamics("resonate", nir.CubaLIF(*map(full, (5e-3, 5e-3, 1, 0, 0.3))), period=8e-3)),
        chain(linear(), dynamics("resonate", period=8e-3)),
    ),
    case(
        "imaginary_input",
        "remove ashneuro.imaginary",
        chain(linear(), dynamics("refractory", refractory_steps=2, imaginary="n0")),
        chain(linear(), dynamics("refractory", refractory_steps=2)),
    ),
    case(
        "imaginary_input",
        "correct ashneuro.imaginary",
        chain(linear(), dynamics("resonate", period=8e-3, imaginary="n7")),
        chain(linear(), dynamics("resonate", period=8e-3, imaginary="n0")),
    ),
    case(
        "dynamics_firing",
        "--comparison strict --reset value --reset-delay 0",
        chain(linear(), dynamics("refractory", refractory_steps=2)),
        chain(linear(), dynamics("refractory", refractory_steps=2)),
        INCLUSIVE,
        Contract(timesteps=8),
    ),
    case(
        "dynamics_firing",
        "remove ashneuro.reset from the node's metadata",
        chain(
            linear(),
            changed(
                lif(),
                metadata={
                    PREFIX + "dynamics": "refractory",
                    PREFIX + "refractory_steps": 2,
                    PREFIX + "reset": "subtract",
                },
            ),
        ),
        chain(linear(), dynamics("refractory", refractory_steps=2)),
    ),
    case(
        "dynamics_firing",
        "else train LIF neurons",
        chain(linear(), dynamics("refractory", refractory_steps=2)),
        SOUND,
        INCLUSIVE,
    ),
    case(
        "dynamics_firing",
        "so that v_leak is 0",
        chain(linear(), adaptive(lif(v_leak=0.1, v_reset=0.1, v_threshold=0.4))),
        chain(linear(), adaptive()),
    ),
    case(
        "dynamics_firing",
        "so that v_reset is 0",
        chain(linear(), adaptive(lif(v_leak=0.1, v_reset=0.1, v_threshold=0.4))),
        chain(linear(), adaptive()),
    ),
    case(
        "dynamics_firing",
        "v_threshold > 0",
        chain(linear(), adaptive(lif(v_threshold=0.0))),
        chain(linear(), adaptive()),
    ),
    case(
        "dynamics_firing",
        "remove ashneuro.comparison",
        chain(linear(), adaptive(own=[("comparison", "strict")])),
        chain(linear(), adaptive()),
    ),
    case(
        "start_value",
        "--start v_reset",
        chain(linear(), lif(v_reset=-0.1)),
        chain(linear(), lif(v_reset=-0.1)),
        afterwards=Contract(timesteps=8, start="v_reset"),
    ),
    case(
        "start_value",
        "train with v_reset = v_leak",
        chain(linear(), lif(v_reset=-0.1)),
        chain(linear(), lif(v_reset=-0.1, v_leak=-0.1)),
    ),
    case(
        "dynamics_firing",
        "else train LIF neurons",
        chain(linear(), dynamics("ternary", threshold_below=0.3)),
        SOUND,
        INCLUSIVE,
    ),
    case(
        "dynamics_firing",
        "v_threshold > v_reset",
        chain(linear(), dynamics("ternary", lif(v_threshold=0.0), threshold_below=0.3)),
        chain(linear(), dynamics("ternary", threshold_below=0.3)),
    ),
    case(
        "count_firing",
        "write ashneuro.message = spike",
        chain(linear(), dynamics("refractory", refractory_steps=2, message="count")),
        chain(linear(), dynamics("refractory", refractory_steps=2, message="spike")),
    ),
    case(
        "count_firing",
        "--reset subtract --reset-delay 0",
        SOUND,
        SOUND,
        Contract(timesteps=8, message="count"),
        Contract(timesteps=8, message="count", reset="subtract"),
    ),
    case(
        "count_firing",
        "write ashneuro.reset = subtract into the node's metadata",
        chain(linear(), counting(reset="value")),
        chain(linear(), counting()),
    ),
    case("count_firing", "one spike per step", chain(linear(), counting(reset="value")), SOUND),
    case(
        "count_firing",
        "v_threshold > 0",
        chain(linear(), counting(lif(v_threshold=0.0))),
        chain(linear(), counting()),
    ),
    case(
        "graded_threshold",
        "thresholds of at least 0",
        chain(linear(), threshold(-0.1, message="graded")),
        chain(linear(), threshold(0.0, message="graded")),
    ),
    # loops and delays
    case(
        "loops_through_neurons",
        "put a neuron into the loop",
        graph(
            {"input": nir.Input((4,)), "a": linear(), "w": linear(), "b": lif(), "output": nir.Output((4,))},
            [("input", "a"), ("a", "w"), ("w", "a"), ("a", "b"), ("b", "output")],
        ),
        graph(
            {
                "input": nir.Input((4,)),
                "a": linear(),
                "n": lif(),
                "w": linear(),
                "b": lif(),
                "output": nir.Output((4,)),
            },
            [("input", "a"), ("a", "n"), ("n", "w"), ("w", "a"), ("n", "b"), ("b", "output")],
        ),
    ),
    case("loops_through_neurons", "a nir.Delay of one step or more", looped(), looped(nir.Delay(full(2e-3)))),
    case(
        "whole_delays",
        "--dt SECONDS",
        chain(lif(), nir.Delay(full(1.5e-3)), linear(), lif()),
        chain(lif(), nir.Delay(full(1.5e-3)), linear(), lif()),
        afterwards=Contract(timesteps=8, dt_s=5e-4),
    ),
    case(
        "whole_delays",
        "multiples of dt",
        chain(lif(), nir.Delay(full(1.5e-3)), linear(), lif()),
        chain(lif(), nir.Delay(full(2e-3)), linear(), lif()),
    ),
    case(
        "whole_delays",
        "delays of at least 0",
        chain(lif(), nir.Delay(full(-1e-3)), linear(), lif()),
        chain(lif(), nir.Delay(full(0)), linear(), lif()),
    ),
    case(
        "undelayed_bias",
        "in front of the layer with the bias",
        delayed_bias(nir.Affine(SQUARE, full(1)), nir.Delay(full(1e-3))),
        delayed_bias(nir.Delay(full(1e-3)), nir.Affine(SQUARE, full(1))),
    ),
    case(
        "readable_parameters",
        "correct ashneuro.message_bits, or remove it",
        chain(linear(), nir.LI(full(5e-3), full(1), full(0), metadata={f"{PREFIX}message_bits": 17})),
        chain(linear(), nir.LI(full(5e-3), full(1), full(0), metadata={f"{PREFIX}message_bits": 16})),
    ),
    case("read_outs_end", "nothing to do", chain(nir.LI(full(5e-3), full(1), full(0)), lif()), None),
    case(
        "undelayed_bias",
        "train with v_leak = 0",
        chain(nir.LI(full(5e-3), full(1), full(0.1)), nir.Delay(full(1e-3)), lif()),
        chain(nir.LI(full(5e-3), full(1), full(0)), nir.Delay(full(1e-3)), lif()),
    ),
    case(
        "undelayed_bias",
        "train with v_leak = 0",
        again(nir.LI(full(5e-3), full(1), full(0.1))),
        again(nir.LI(full(5e-3), full(1), full(0))),
    ),
    case(
        "undelayed_bias",
        "put the Delay in front of the read-out",
        chain(nir.LI(full(5e-3), full(1), full(0.1)), nir.Delay(full(1e-3)), lif()),
        chain(nir.Delay(full(1e-3)), nir.LI(full(5e-3), full(1), full(0.1)), lif()),
    ),
]
