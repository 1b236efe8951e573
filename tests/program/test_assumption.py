"""Assumptions in files: graph, program, manifest and certificate, apart from what was stated."""

import hashlib
import json
from dataclasses import replace

import nir
import numpy as np
import pytest

from ashneuro.errors import BundleError
from ashneuro.program.assumption import Assumption, assuming
from ashneuro.program.bundle import (
    CERTIFICATE,
    MANIFEST,
    NETWORK,
    Reference,
    read_bundle,
    records_assumptions,
    write_bundle,
)
from ashneuro.program.certificate import Certificate, Comparison, Computation
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import read_graph, write_graph
from ashneuro.program.quantise import quantise
from ashneuro.program.serialise import STRUCTURE
from ashneuro.spiking.contract import Contract, read_contract
from tests.program import networks as net

STATED = {"dt_s": 5e-4, "timesteps": 6, "input_coding": "spikes"}
OPEN = ("reset", "reset_delay", "comparison", "integration")
EQUAL = Comparison(Computation.GRAPH, Computation.FLOAT, True)


def exported(folder, **stated):
    """Return a bundle of a graph that states dt, and a contract that states ``stated`` too."""
    rng = np.random.default_rng(0)
    graph = net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng, uniform=True))
    graph.metadata = {"ashneuro.dt_s": STATED["dt_s"]}
    read = read_contract(graph.metadata, **{**STATED, **stated})
    program = lower(graph, read)
    certificate = Certificate(2, 6, (EQUAL,), assumptions=program.assumptions)
    x = (rng.random((6, 2, 6)) < 0.5).astype(np.uint8)
    integer = quantise(program, input_peak={}).program
    return write_bundle(folder, graph, read, program, integer, Reference({"input": x}, {}), certificate)


def test_bundle_keeps_assumed_apart_from_stated(tmp_path):
    bundle = exported(tmp_path / "bundle")
    assert tuple(item.field for item in bundle.assumptions) == OPEN
    assert bundle.float_program.assumptions == bundle.integer_program.assumptions == bundle.assumptions
    assert bundle.certificate.assumptions == bundle.assumptions
    assert bundle.contract == Contract(**STATED)
    manifest = json.loads((bundle.folder / MANIFEST).read_text())["contract"]
    assert manifest["stated"] == STATED
    assert set(manifest["assumed"]) == {*OPEN, "start", "if_convention", "message"}
    assert manifest["assumed"]["reset"] == "value"
    structure = json.loads((bundle.folder / STRUCTURE).read_text())
    assert [item["field"] for item in structure["programs"]["integer"]["assumptions"]] == list(OPEN)
    certificate = json.loads((bundle.folder / CERTIFICATE).read_text())
    assert certificate["passed"] and certificate["verdict"].startswith(
        "passed, assuming reset = value, reset_delay = 0"
    )
    assert certificate["assumptions"][0] == {"field": "reset", "value": "value", "nodes": ["n1"], "spikes": True}


def test_graph_of_a_bundle_shows_what_was_assumed(tmp_path):
    bundle = exported(tmp_path / "bundle")
    metadata = nir.read(bundle.folder / NETWORK).metadata
    assert not {f"ashneuro.{field}" for field in OPEN} & set(metadata)
    wiring, read = read_graph(bundle.folder / NETWORK)
    assert (read.contract, set(read.assumed)) == (bundle.contract, {*OPEN, "start", "if_convention", "message"})
    notes = [finding.actual for finding in check(wiring, read) if finding.rule == "assumed_contract"]
    assert [note.split()[1] for note in notes] == list(OPEN)


def test_stated_contract_leaves_nothing_assumed(tmp_path):
    fields = {"reset": "subtract", "reset_delay": 0, "comparison": "inclusive", "integration": "euler"}
    fields["message"] = "count"
    bundle = exported(tmp_path / "bundle", **fields)
    assert bundle.assumptions == () and bundle.certificate.verdict == "passed"
    wiring, read = read_graph(bundle.folder / NETWORK)
    assert not [finding for finding in check(wiring, read) if finding.rule == "assumed_contract"]


def test_assumed_value_is_kept_when_the_default_differs(tmp_path):
    rng = np.random.default_rng(0)
    graph = net.chain((6,), net.affine(6, 4, rng), net.lif((4,), rng, uniform=True))
    read = read_contract({})
    later = replace(read, contract=replace(read.contract, reset="subtract", dt_s=2e-3))
    write_graph(tmp_path / "a.nir", graph, later)
    _, again = read_graph(tmp_path / "a.nir")
    assert again.contract == later.contract and set(again.assumed) == set(read.assumed)
    # Once it is stated, nothing of the assumption is left.
    wiring, stated = read_graph(tmp_path / "a.nir", reset="value")
    write_graph(tmp_path / "b.nir", wiring, stated)
    assert "ashneuro.assumed.reset" not in nir.read(tmp_path / "b.nir").metadata
    assert read_graph(tmp_path / "b.nir")[1].contract.reset == "value"


def test_bundle_opens_without_a_field_that_came_later(tmp_path):
    folder = exported(tmp_path / "bundle").folder
    wiring, read = read_graph(folder / NETWORK)
    metadata = {key: value for key, value in wiring.graph.metadata.items() if not key.endswith(".message")}
    nir.write(folder / NETWORK, nir.NIRGraph(wiring.graph.nodes, wiring.graph.edges, metadata))
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["contract"]["assumed"]["message"]
    manifest["files"][NETWORK]["sha256"] = hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert "message" in read.assumed and read_bundle(folder).contract == read.contract


def test_tampered_origin_is_refused(tmp_path):
    bundle = exported(tmp_path / "bundle")
    path = bundle.folder / MANIFEST
    manifest = json.loads(path.read_text())
    contract = manifest["contract"]
    manifest["contract"] = {"stated": contract["stated"] | contract["assumed"], "assumed": {}}
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="say different things"):
        read_bundle(bundle.folder)


def test_bundle_of_the_schema_before_has_no_record(tmp_path):
    """Schema 1 as it was written: a flat contract, and no assumptions in any file."""
    folder = exported(tmp_path / "bundle").folder
    structure, certificate, manifest = (
        json.loads((folder / name).read_text()) for name in (STRUCTURE, CERTIFICATE, MANIFEST)
    )
    for program in structure["programs"].values():
        del program["assumptions"]
    del certificate["assumptions"], certificate["verdict"]
    structure["schema"], certificate["schema"] = "ashneuro-program/1", "ashneuro-certificate/1"
    wiring, read = read_graph(folder / NETWORK)
    write_graph(folder / NETWORK, replace_metadata(wiring, {}), read.contract)
    manifest |= {"schema": "ashneuro-bundle/1", "contract": vars(read.contract)}
    for name, content in ((STRUCTURE, structure), (CERTIFICATE, certificate)):
        (folder / name).write_text(json.dumps(content))
    for name in (STRUCTURE, CERTIFICATE, NETWORK):
        manifest["files"][name]["sha256"] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))

    bundle = read_bundle(folder)
    assert not records_assumptions(folder)
    assert bundle.assumptions is None and bundle.float_program.assumptions is None
    assert bundle.certificate.passed and bundle.certificate.verdict == "passed, assumptions not recorded"


def replace_metadata(wiring, metadata):
    wiring.graph.metadata = metadata
    return wiring


def test_verdict_names_what_was_not_run():
    lava = Comparison(Computation.INTEGER, Computation.LAVA_INTEGER, True, reason="it was not asked for")
    assert Certificate(2, 6, (EQUAL, lava)).verdict == "incomplete (not run: integer program – Lava, fixed_pt)"
    item = Assumption("dt_s", 1e-3, ("lif",))
    assert Certificate(2, 6, (EQUAL,), assumptions=(item,)).verdict == "passed, assuming dt = 0.001 s"
    assert Certificate(2, 6, (EQUAL,), assumptions=(item,)).passed
    assert assuming(()) == ""
