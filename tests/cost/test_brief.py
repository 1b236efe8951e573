"""A comparison in brief: which networks it shows, and its sentence on the break-even rate."""

from dataclasses import replace

import pytest

from ashneuro.cost.compare import compare
from ashneuro.cost.comparison.accuracy import Accuracy
from ashneuro.cost.comparison.brief import Part
from ashneuro.cost.comparison.contenders import Role
from ashneuro.cost.comparison.sides import OtherNetwork
from tests.cost.test_compare import CMOS, hybrid, small_ann

WORK, TWIN, _ = hybrid()
OTHERS = [
    OtherNetwork("small", small_ann(WORK, 0.5), "42 %", Accuracy(0.42, 0.01), "int3"),
    OtherNetwork("smaller", small_ann(WORK, 0.1), "20 %", Accuracy(0.20, 0.01), "int3"),
]


def test_one_network_stands_for_each_part():
    found = compare(WORK, TWIN, node=CMOS).brief
    assert [part for part, _ in found.rows] == [Part.OURS, Part.TWIN]
    group = compare(WORK, TWIN, node=CMOS).groups[0]
    twins = [who for who in group.contenders if who.is_integer_twin]
    cheapest = min(twins, key=lambda who: who.total_j.typical)
    assert found.rows[1][1].name == cheapest.name and found.names() == ("hybrid, int8", cheapest.name)


def test_other_ann_is_the_cheapest_that_is_as_accurate():
    accuracies = {Role.HYBRID: Accuracy(0.43, 0.01)}
    known = compare(WORK, TWIN, node=CMOS, others=OTHERS, accuracies=accuracies).brief
    assert known.names()[-1] == "other ANN: small, 3-bit"
    unknown = compare(WORK, TWIN, node=CMOS, others=OTHERS).brief
    assert unknown.names()[-1].startswith("other ANN: smaller"), "without our accuracy, the cheapest"
    worse = compare(WORK, TWIN, node=CMOS, others=OTHERS[1:], accuracies=accuracies).brief
    assert Part.OTHER not in {part for part, _ in worse.rows}


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (0.0, "break-even with the twin: at no firing rate"),
        (0.031, "break-even with the twin: 3.1 % of neurons spiking per step; this network: 12 %"),
        (1.0, "break-even with the twin: the spiking part costs less at every firing rate"),
        (None, ""),
    ],
)
def test_sentence_names_break_even_and_own_rate(rate, said):
    found = compare(WORK, TWIN, node=CMOS).brief
    even = replace(found.break_even, rates=(None, rate, None))
    text = replace(found, break_even=even, firing_rate=0.12).sentence()
    assert text.startswith(said) and bool(text) == bool(said)


def test_break_even_is_that_of_the_shown_twin():
    found = compare(WORK, TWIN, node=CMOS).brief
    twin = next(who for part, who in found.rows if part is Part.TWIN)
    assert found.break_even.ann.precision == twin.precision and found.break_even.comparable
    assert replace(found, break_even=None).sentence() == ""
