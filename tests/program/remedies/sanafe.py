"""Remedies of the rules on programs for SANA-FE."""

from dataclasses import replace

from ashneuro.spiking.firing import Firing
from tests.program.placement.test_place import dense_program, limits
from tests.program.remedies import Case
from tests.program.remedies.programs import SUBTRACT, deep, floats, graded, integer, layer, program, refractory, skip

CHIP = limits()
SOUND = floats()
LATE = Firing(reset_delay=1)
INCLUSIVE = Firing(comparison="inclusive", reset="subtract")
SUBTRACTED = {"v_subtract": 1.0}


def case(rule, says, broken, cured=SOUND, chip=CHIP, afterwards=None):
    return Case("SANA-FE", rule, says, (broken, chip), None if cured is None else (cured, afterwards or chip))


def elsewhere(rule, broken):
    """Return the case of a network that the emulator computes instead."""
    return case(rule, "ashneuro simulate FILE --on loihi", broken, None)


def over(count):
    """Return a chain of layers with a skip from the input to the last, in step with it."""
    chain = deep(count)
    last = chain.layers[-1]
    first = chain.layers[0].connections[0]
    both = replace(last, connections=(*last.connections, replace(first, delay=count - 1)))
    return replace(chain, layers=(*chain.layers[:-1], both))


def wide(size):
    """Return a layer of size × size weights that are not zero."""
    return dense_program(size, size)


CASES = [
    elsewhere("sanafe_dynamics", integer(**refractory(2))),
    elsewhere("sanafe_messages", integer(**graded(4.0))),
    case("sanafe_reset", "in the same step", floats(firing=LATE)),
    case(
        "sanafe_subtraction",
        "compare the spikes",
        floats(firing=INCLUSIVE, **SUBTRACTED),
        floats(firing=SUBTRACT, **SUBTRACTED),
    ),
    case("sanafe_inputs", "encode the input as spikes", program(layer(), coding="graded")),
    case(
        "sanafe_inputs",
        "the first weights on the host",
        program(layer(), coding="graded"),
        program(layer(direct=True), coding="current"),
    ),
    case(
        "sanafe_current",
        "begin with LIF neurons",
        program(layer(direct=True, du=0.5), coding="current"),
        program(layer(direct=True), coding="current"),
    ),
    elsewhere("sanafe_lag", skip(3)),
    case("sanafe_delay", "shorten the skip", over(7), over(6)),
    case("sanafe_chip", "make the network smaller", dense_program(20, 800), dense_program(20, 80)),
    case("sanafe_chip", "make those layers narrower", dense_program(900, 4), dense_program(700, 4)),
    case("sanafe_rounding", "compare the spikes", floats(du=0.5)),
    case("sanafe_rounding", "compare the spikes", integer(exponent=-1), integer()),
    case("sanafe_memory", "as much memory", wide(1500), wide(40), limits(in_axons=None, synapse_words=10**6)),
]
