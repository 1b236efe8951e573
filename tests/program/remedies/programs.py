"""Remedies of the rules on float programs, integer programs, and the machine that Lava runs on."""

from dataclasses import replace

import numpy as np

from ashneuro.program.lower import lower
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.quantise import quantise
from ashneuro.spiking.contract import Contract
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.message import Message
from tests.program.remedies import Case
from tests.program.remedies.graphs import SOUND

EVEN = ((2, -4), (6, 8))
ARRAYS = ("du", "dv", "v_threshold", "bias", "v_subtract")
SUBTRACT = Firing(reset="subtract")
SPIKES = Contract(timesteps=8, input_coding="spikes")


def neuron(**more):
    values = {"du": 1.0, "dv": 0.2, "v_threshold": 1.0, "bias": 0.0} | more
    made = {name: np.asarray(value) if name in ARRAYS else value for name, value in values.items()}
    made["parameters"] = {name: np.asarray(value) for name, value in more.get("parameters", {}).items()}
    return Neuron(**made)


def program(*layers, precision="float", timesteps=8, coding="spikes", scale=1.0, limit=1):
    port = InputPort("in", (2,), coding, scale, limit)
    return Program(precision, 1e-3, timesteps, (port,), layers, (layers[-1].name,))


def layer(name="a", *, source="in", weight=EVEN, delay=0, depth=1, exponent=0, direct=False, **parameters):
    synapse = None if direct else Synapse("dense", (2,), (2,), np.asarray(weight))
    return Layer(name, (2,), neuron(**parameters), (Connection(source, synapse, delay, exponent),), depth)


def floats(**parameters):
    return program(layer(**parameters))


def integer(timesteps=8, **parameters):
    fields = {"du": 4095, "dv": 1024, "v_threshold": 100, "bias": 0} | parameters
    return program(layer(**fields), precision="integer", timesteps=timesteps)


def of_float(rule, says, broken, cured):
    return Case("float program", rule, says, (broken,), None if cured is None else (cured,))


QUANTISED = quantise(lower(SOUND, SPIKES), input_peak={}).program  # without scales of one's own


def of_integer(rule, says, broken, cured=QUANTISED):
    return Case("integer program", rule, says, (broken,), None if cured is None else (cured,))


def at_scale(scale, contract=SPIKES):
    """Return a network at a scale that its caller chose."""
    from ashneuro.program.quantise import quantise_unchecked

    return quantise_unchecked(lower(SOUND, contract), {"input": 1.0}, {"n1": scale}).program


def refractory(steps):
    return {"dynamics": "refractory", "parameters": {"refractory_steps": steps}}


def adaptive(step, decay, **more):
    rates = {"d_threshold": decay, "d_refractory": decay}
    return {"dynamics": "adaptive", "parameters": {**rates, "threshold_step": step}, **more}


def graded(limit=None, bits=8, **more):
    return {"message": Message("graded", bits, limit), **more}


def change(shift=0, limit=100, exponent=0, **more):
    message = Message("change", 16, limit, "relu", shift=shift)
    return {"du": -1, "dv": 4095, "bias_exp": exponent, "message": message, **more}


def loop(limit):
    """Return b → a → b, where b sends graded values."""
    first = layer("a", source="b", delay=1)
    return program(first, layer("b", source="a", depth=2, **graded(limit)))


def skip(delay):
    first, second = layer("a", depth=1), layer("b", source="a", depth=2)
    late = Connection("in", Synapse("dense", (2,), (2,), np.asarray(EVEN)), delay)
    return program(first, replace(second, connections=(*second.connections, late)))


def deep(count):
    names = [f"n{i}" for i in range(count)]
    pairs = zip(names, ["in", *names], strict=False)
    return program(*(layer(name, source=source, depth=i + 1) for i, (name, source) in enumerate(pairs)))


def spread(weight, **more):
    return program(layer(weight=weight, **more))


ENDLESS = adaptive(10, 0, dv=0)
UNBOUNDED = {"dv": 0, "spiking": False}

FLOAT = [
    of_float("full_decay", "τ_mem of at least dt", floats(dv=1.5), floats(dv=0.9)),
    of_float("full_decay", "nothing to do", floats(dv=1.0), None),
    of_float("fast_enough", "at most 6000 steps", floats(du=1e-5), floats(du=1 / 6000)),
    of_float("fast_enough", "a shorter τ_mem", floats(dv=1e-5), floats(dv=1 / 4096)),
    of_float("fast_enough", "or IF neurons", floats(dv=1e-5), floats(dv=0.0)),
    of_float("fast_enough", "a shorter τ_mem", floats(dv=1.3 / 4096), floats(dv=13 / 4096)),
    of_float("positive_threshold", "v_threshold > v_leak", floats(v_threshold=0.0), floats(v_threshold=0.1)),
    of_float(
        "uniform_threshold",
        "one v_threshold, R and τ",
        program(layer(direct=True, v_threshold=(1.0, 2.0)), coding="current"),
        program(layer(direct=True, v_threshold=1.0), coding="current"),
    ),
    of_float(
        "uniform_threshold",
        "a layer with weights in front",
        program(layer(direct=True, v_threshold=(1.0, 2.0)), coding="current"),
        program(layer(v_threshold=(1.0, 2.0)), coding="graded"),
    ),
    of_float(
        "uniform_graded_threshold",
        "one threshold per layer",
        floats(**graded(1.0, v_threshold=(0.1, 0.2))),
        floats(**graded(1.0, v_threshold=0.1)),
    ),
    of_float("limit_in_loops", "ashneuro.message_limit", loop(None), loop(4.0)),
    of_float(
        "uniform_subtraction",
        "one v_leak",
        floats(firing=SUBTRACT, v_threshold=(1.0, 2.0), v_subtract=(1.0, 1.0)),
        floats(firing=SUBTRACT, v_threshold=(1.0, 2.0), v_subtract=(1.0, 2.0)),
    ),
    of_float("uniform_parameters", "one value", floats(**refractory((2, 3))), floats(**refractory(2))),
    of_float(
        "uniform_parameters",
        "split it into layers",
        floats(**refractory((2, 3))),
        program(layer(**refractory(2)), layer("b", **refractory(3))),
    ),
    of_float("short_delays", "shorten the skip or the Delay", skip(63), skip(1)),
    of_float("samples_apart", "nothing to do", skip(3), None),
]

INTEGER = [
    of_integer("weights_in_range", "quantise the float network again", integer(weight=((3, -4), (6, 8)))),
    of_integer("weights_in_range", "quantise the float network again", integer(weight=((300, 4), (6, 8)))),
    of_integer("weight_exponent", "another scale", integer(exponent=9)),
    of_integer("decay_in_range", "quantise the float network again", integer(dv=4096)),
    of_integer("uniform_decay", "nothing to do", integer(dv=(1, 2)), None),
    of_integer("threshold_in_range", "a larger scale", at_scale(1e-3)),
    of_integer("threshold_in_range", "a smaller scale", integer(v_threshold=200_000)),
    of_integer("bias_in_range", "a smaller scale", integer(bias=5000)),
    of_integer("subtraction_in_range", "a smaller scale", integer(firing=SUBTRACT, v_subtract=200_000)),
    of_integer(
        "subtraction_in_range",
        "quantise the float network again",
        integer(message=Message("count", 8, 3), firing=SUBTRACT),
    ),
    of_integer("message_in_range", "quantise the float network again", integer(**graded(300.0))),
    of_integer("message_in_range", "quantise the float network again", integer(**graded(3.0, bits=16))),
    of_integer("message_in_range", "quantise the float network again", integer(**change(shift=8))),
    of_integer("message_in_range", "quantise the float network again", integer(**change(limit=1 << 15))),
    of_integer("parameters_in_range", "a smaller scale", integer(**refractory(0))),
    of_integer("current_does_not_wrap", "without scales of your own", at_scale(1e7)),
    of_integer(
        "current_does_not_wrap",
        "train a lava-dl network with smaller weights",
        integer(weight=((254, 254), (254, 254)), exponent=7, du=0, timesteps=100),
        integer(weight=((2, 2), (2, 2)), exponent=0, du=0, timesteps=100),
    ),
    of_integer("adaptation_in_range", "a smaller scale", integer(v_threshold=131071, **adaptive(131071, 1000))),
    of_integer("adaptation_in_range", "--timesteps N", integer(None, **ENDLESS), integer(8, **ENDLESS)),
    of_integer("read_out_in_range", "a smaller scale", integer(None, **UNBOUNDED)),
    of_integer("read_out_in_range", "--timesteps N", integer(None, **UNBOUNDED), integer(100, **UNBOUNDED)),
    of_integer(
        "input_in_range",
        "a smaller scale",
        program(layer(du=4095, dv=1024, v_threshold=100), precision="integer", coding="graded", limit=1 << 20),
    ),
    of_integer("wide_accumulation", "", integer(weight=((254, 254), (254, 254)), exponent=7), None),
    of_integer("wide_changes", "nothing to do", integer(1 << 20, **change()), None),
    of_integer("wide_changes", "nothing to do", integer(**change(limit=None)), None),
    of_integer("short_delays", "shorten the skip or the Delay", integer(delay=63), integer(delay=0)),
    of_integer("samples_apart", "nothing to do", replace(skip(3), precision="integer"), None),
]

CASES = [*FLOAT, *INTEGER]
DEEP, SHALLOW = deep(101), deep(3)
