"""``ashneuro verify`` and what export, runs and reports say of a bundle's digest."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import Command

CONTRACT = ("--dt", 1e-3, "--reset", "value", "--reset-delay", 0, "--comparison", "strict", "--integration", "euler")


@pytest.fixture
def bundle(ashneuro: Command, foreign: Path, spikes: Path, tmp_path: Path) -> tuple[Path, str]:
    """A bundle, and the digest that export printed."""
    folder = tmp_path / "net.bundle"
    words = (*CONTRACT, "--inputs", spikes, "--no-lava", "--accept-assumptions", "--out", folder, "--json")
    said = ashneuro("export", foreign, *words)
    assert said.code == 0, said.err
    return folder, json.loads(said.out)["digest"]


def reverse_weights(folder: Path) -> None:
    """Reverse the integer weights, and write their hash into the manifest."""
    with np.load(folder / "program.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name in arrays:
        if name.startswith("integer/") and name.endswith("/weight") and arrays[name].ndim > 1:
            arrays[name] = arrays[name][::-1]
    np.savez_compressed(folder / "program.npz", **arrays)
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / "program.npz").read_bytes()
    manifest["files"]["program.npz"] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_verify_says_consistent_and_compares_the_digest(ashneuro: Command, bundle: tuple[Path, str]) -> None:
    folder, digest = bundle
    assert digest == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    said = ashneuro("verify", folder, "--no-lava")
    assert said.code == 0 and "The files of this bundle are consistent" in said.out
    assert f"digest {digest}, not compared: give --digest" in said.out and "as they were written" not in said.out
    said = ashneuro("verify", folder, "--no-lava", "--digest", digest)
    assert said.code == 0 and "which is the one given" in said.out
    said = ashneuro("verify", folder, "--no-lava", "--digest", "f" * 64)
    assert said.code == 1 and digest in said.err and "another bundle" in said.err and "do:" in said.err
    assert ashneuro("verify", folder, "--digest", "12").code == 2
    found = json.loads(ashneuro("verify", folder, "--no-lava", "--json").out)
    assert found["digest"] == digest and {check["status"] for check in found["checks"]} == {"consistent"}


def test_tampered_bundle_is_refused_with_the_reason(ashneuro: Command, bundle: tuple[Path, str]) -> None:
    folder, _ = bundle
    reverse_weights(folder)
    said = ashneuro("verify", folder, "--no-lava")
    assert said.code == 1 and "Certificate: failed" not in said.out and "passed" not in said.out
    assert "do not belong together: nothing was run" in said.out
    for part in ("error: ", "integer program – float program, quantised again", "why: ", "values differ", "do:  "):
        assert part in said.err
    # A report does not show what such a bundle claims of itself.
    said = ashneuro("report", folder, "--profile", "loihi1")
    assert said.code == 1 and "does not verify" in said.err


def test_run_records_the_digests_of_its_bundles(ashneuro: Command, task_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(task_run, tmp_path / "run"))
    said = ashneuro("export", run, "--samples", 2, "--no-lava", "--json")
    assert said.code == 0, said.err
    digest = json.loads(said.out)["digest"]
    assert json.loads((run / "exports.json").read_text())["digests"] == {"bundle": digest}
    card = (run / "README.md").read_text()
    assert (
        card.count("## Deployed bundles") == 1 and f"`bundle`: digest (SHA-256 of its manifest.json) `{digest}`" in card
    )
    assert ashneuro("report", run, "--profile", "loihi1").code == 0
    # Another bundle in its place is consistent, and not the one that was exported.
    manifest = json.loads((run / "bundle/manifest.json").read_text())
    manifest["versions"]["numpy"] = "0.1"
    (run / "bundle/manifest.json").write_text(json.dumps(manifest))
    assert ashneuro("verify", run, "--no-lava").code == 0
    said = ashneuro("report", run, "--profile", "loihi1")
    assert said.code == 1 and "is not the bundle of" in said.err and digest in said.err
    assert ashneuro("export", run, "--samples", 2, "--no-lava").code == 0
    assert (run / "README.md").read_text().count("## Deployed bundles") == 1
