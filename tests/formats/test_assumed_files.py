"""Files of schema 2, which record assumptions, open and give the numbers that were printed then."""

from __future__ import annotations

import json
from pathlib import Path

from ashneuro.program.bundle import read_bundle
from ashneuro.simulation.record import load_counts
from tests.commands.conftest import Command

FIELDS = ("reset", "reset_delay", "comparison", "integration")
SPIKES = 26
VERDICT = "passed, assuming reset = value, reset_delay = 0, comparison = strict, integration = euler"


def test_bundle_names_its_assumptions(ashneuro: Command, assumed: Path) -> None:
    bundle = read_bundle("leaky.bundle")
    assert bundle.assumptions is not None and tuple(item.field for item in bundle.assumptions) == FIELDS
    assert {item.nodes for item in bundle.assumptions} == {("leaky",)}
    assert bundle.certificate is not None and bundle.certificate.verdict == VERDICT
    said = ashneuro("verify", "leaky.bundle", "--no-lava", "--json")
    assert said.code == 0 and json.loads(said.out)["verdict"].endswith(VERDICT.removeprefix("passed"))
    counted = json.loads(ashneuro("simulate", "leaky.bundle", "--on", "loihi", "--json").out)
    assert counted["layers"]["leaky"]["spikes"] == SPIKES


def test_counts_name_their_assumptions(assumed: Path) -> None:
    record = load_counts("leaky-counts.npz")
    assert record.assumptions is not None and tuple(item.field for item in record.assumptions) == FIELDS
    assert record.layers["leaky"].events == SPIKES
