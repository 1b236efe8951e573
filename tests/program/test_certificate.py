import json
from dataclasses import replace

import pytest

from ashneuro.errors import BundleError
from ashneuro.program.certificate import CERTIFICATE as FORMAT
from ashneuro.program.certificate import Certificate, Comparison, Computation, LayerComparison

LAYERS = (LayerComparison("lif0", 24, 5, 0), LayerComparison("out", 12, 0, 2, (1, 3, 0), 0.5))
CERTIFICATE = Certificate(
    4,
    6,
    (
        Comparison(Computation.GRAPH, Computation.FLOAT, True, LAYERS),
        Comparison(Computation.INTEGER, Computation.LAVA_INTEGER, True, reason="it was not asked for"),
    ),
    {"numpy": "2.0"},
    {"float32": {"R@1": 0.25}},
)


def test_json_round_trip():
    text = json.dumps(CERTIFICATE.to_json(), allow_nan=False)
    assert Certificate.from_json(json.loads(text)) == CERTIFICATE


def test_json_layout():
    """The keys and their order are part of the bundle format."""
    assert list(CERTIFICATE.to_json()) == [
        "schema",
        "verdict",
        "passed",
        "failed",
        "samples",
        "timesteps",
        "assumptions",
        "comparisons",
        "versions",
        "accuracy",
        "not_compared",
    ]
    pair, skipped = json.loads(json.dumps(CERTIFICATE.to_json()))["comparisons"]
    assert list(pair) == [
        "left",
        "right",
        "required",
        "layers",
        "reason",
        "stock_samples",
        "status",
        "mismatches",
        "compared",
    ]
    assert (pair["left"], pair["right"]) == ("graph, float64", "float program")
    assert (pair["status"], pair["mismatches"], pair["compared"]) == ("different", 2, 36)
    assert skipped["right"] == "Lava, fixed_pt" and skipped["status"] == "not run"
    assert pair["layers"][1] == {
        "layer": "out",
        "compared": 12,
        "spikes": 0,
        "mismatches": 2,
        "first": [1, 3, 0],
        "largest": 0.5,
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "else"}, "it has the schema 'else'"),
        ({"schema": "ashneuro-certificate/9"}, "of a later version of ashneuro[^\n]*\ndo:  update ashneuro"),
        ({"comparisons": [{"left": "graph, float64"}]}, r"comparisons.0 has no 'right'"),
        (
            {"comparisons": [{"left": "abacus", "right": "float program", "layers": []}]},
            "comparisons.0.left is 'abacus'",
        ),
        ({"comparisons": [1]}, "comparisons.0 is 1"),
    ],
)
def test_damaged_certificate_is_refused(change, message):
    with pytest.raises(BundleError, match=message):
        Certificate.from_json({**CERTIFICATE.to_json(), **change})


def test_certificate_without_entries_is_refused():
    with pytest.raises(BundleError, match="it has no 'samples'"):
        Certificate.from_json({"schema": FORMAT.schema})


def test_certificate_of_an_early_version_is_read():
    """Early versions knew no stock samples and no largest difference."""
    early = json.loads(json.dumps(CERTIFICATE.to_json()))
    for pair in early["comparisons"]:
        del pair["stock_samples"]
    del early["failed"], early["comparisons"][0]["layers"][0]["largest"]
    assert Certificate.from_json(early) == CERTIFICATE


def test_first_mismatch():
    different, skipped = CERTIFICATE.comparisons
    assert different.first == ("out", (1, 3, 0))
    assert skipped.first is None


def test_batched_samples_are_named_as_not_compared():
    few = Comparison(Computation.INTEGER, Computation.LAVA_INTEGER, True, stock_samples=32)
    found = Certificate(100, 4, (few, replace(few, left=Computation.GRAPH, stock_samples=100)))
    (said,) = [line for line in found.not_compared if "batched" in line]
    assert said.startswith("Lava, fixed_pt: 68 of 100 samples through Lava's own synapses")
    assert "the other 32 alike" in said
    again = Certificate.from_json(json.loads(json.dumps(found.to_json())))
    assert [pair.stock_samples for pair in again.comparisons] == [32, 100]
