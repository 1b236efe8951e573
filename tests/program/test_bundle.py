import json
import os
import stat
from dataclasses import replace

import nir
import numpy as np
import pytest

from ashneuro.errors import BundleError
from ashneuro.program.bundle import (
    CERTIFICATE,
    MANIFEST,
    NETWORK,
    NETX,
    OWN_FILES,
    REFERENCE,
    Reference,
    is_bundle,
    read_bundle,
    write_bundle,
)
from ashneuro.program.certificate import Certificate, Comparison, Computation
from ashneuro.program.lower import lower
from ashneuro.program.nir_file import read_graph
from ashneuro.program.quantise import quantise
from ashneuro.program.serialise import NUMBERS, STRUCTURE
from ashneuro.spiking.contract import Contract
from tests.program import networks as net

CONTRACT = Contract(dt_s=5e-4, timesteps=6, input_coding="constant-current")
NOT_RUN = Comparison(Computation.GRAPH, Computation.FLOAT, True, reason="this is a test of files")
PROVED = Certificate(2, 6, (NOT_RUN,), {"numpy": "2.0"}, {"float32": {"R@1": 0.25}})


def parts(seed=0):
    rng = np.random.default_rng(seed)
    conv = net.conv2d(2, 3, None, rng)  # input_shape left open
    flat = nir.Flatten(None, 0, -1)
    graph = net.chain(
        (2, 4, 4), net.lif((2, 4, 4), rng, uniform=True), conv, net.lif((3, 4, 4), rng, uniform=True), flat
    )
    program = lower(graph, CONTRACT)
    x = net.analog(rng, 6, 2, (2, 4, 4))
    quantised = quantise(program, input_peak={"input": 3.0})
    spikes = {name: raster.astype(np.uint8) for name, raster in net.run_program(program, {"input": x}).items()}
    return graph, program, quantised, Reference({"input": x}, spikes)


def write(folder, certificate=None, seed=0, **more):
    graph, program, quantised, reference = parts(seed)
    return write_bundle(
        folder, graph, CONTRACT, program, quantised.program, reference, certificate, costs=quantised.costs, **more
    )


def test_round_trip(tmp_path):
    _, program, quantised, reference = parts()
    write(tmp_path / "deep" / "bundle", PROVED, extra={"run_on_lava.py": "print()\n"})
    bundle = read_bundle(tmp_path / "deep" / "bundle")
    assert bundle.contract == CONTRACT and bundle.certificate == PROVED and bundle.costs == quantised.costs
    np.testing.assert_array_equal(bundle.reference.inputs["input"], reference.inputs["input"])
    assert set(bundle.reference.spikes) == {"n0", "n2"}
    for saved, original in ((bundle.program("float"), program), (bundle.program("integer"), quantised.program)):
        inputs = {"input": reference.inputs["input"]}
        for name, raster in net.run_program(original, inputs).items():
            np.testing.assert_array_equal(net.run_program(saved, inputs)[name], raster)
    again = lower(bundle.graph, bundle.contract)
    np.testing.assert_array_equal(net.run_program(again, bundle.reference.inputs)["n2"], reference.spikes["n2"])
    assert {"ashneuro", "nir", "numpy", "python"} <= set(bundle.versions)
    assert (tmp_path / "deep" / "bundle" / "run_on_lava.py").read_text() == "print()\n"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["bundle"]  # nothing temporary is left


def test_network_file_is_valid_nir_with_contract(tmp_path):
    write(tmp_path / "bundle")
    graph = nir.read(tmp_path / "bundle" / NETWORK)
    assert list(graph.nodes["n1"].input_shape) == [4, 4]
    _, contract = read_graph(tmp_path / "bundle" / NETWORK)
    assert contract.contract == CONTRACT and contract.assumed == ()


def test_equal_networks_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name)
    for file in (NETWORK, STRUCTURE, NUMBERS, REFERENCE, MANIFEST):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_bundle_without_integer_program(tmp_path):
    graph, program, _, reference = parts()
    bundle = write_bundle(tmp_path / "bundle", graph, CONTRACT, program, None, reference)
    assert bundle.integer_program is None and bundle.certificate is None
    with pytest.raises(BundleError, match="no integer program"):
        bundle.program("integer")


@pytest.mark.parametrize("file", [name for name in OWN_FILES if name not in (MANIFEST, NETX)])
@pytest.mark.parametrize("damage", ["changed", "missing", "grown"])
def test_damaged_bundle_error_names_the_file(tmp_path, file, damage):
    write(tmp_path / "bundle", PROVED)
    path = tmp_path / "bundle" / file
    if damage == "missing":
        path.unlink()
    elif damage == "grown":
        os.truncate(path, 1 << 40)  # to hash it would take an hour
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    with pytest.raises(BundleError, match=file) as caught:
        read_bundle(tmp_path / "bundle")
    assert caught.value.why and caught.value.do
    assert is_bundle(tmp_path / "bundle")


def test_foreign_certificate_is_refused(tmp_path):
    write(tmp_path / "bundle")
    (tmp_path / "bundle" / CERTIFICATE).write_text('{"mismatches": 0}')
    with pytest.raises(BundleError, match=r"certificate\.json does not belong"):
        read_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / CERTIFICATE).unlink()
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    read_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest | {"schema": "ashneuro-bundle/99"},
        lambda manifest: {key: value for key, value in manifest.items() if key != "files"},
        lambda manifest: manifest | {"files": {}},
        lambda manifest: manifest | {"files": {"../x": {}}},
        lambda manifest: manifest | {"contract": {"stated": manifest["contract"]["stated"] | {"dt_s": 1.0}}},
        lambda manifest: manifest | {"contract": {"stated": {}, "assumed": manifest["contract"]["stated"]}},
        lambda manifest: manifest | {"contract": {"colour": 1}},
        lambda manifest: manifest | {"costs": [1]},
        lambda manifest: {},
    ],
)
def test_inconsistent_manifest_is_refused(tmp_path, change):
    write(tmp_path / "bundle")
    path = tmp_path / "bundle" / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(BundleError) as caught:
        read_bundle(tmp_path / "bundle")
    assert caught.value.what and caught.value.why and caught.value.do


def test_other_folders_are_not_bundles(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("years of work")
    for path in ("nothing", "file", "folder"):
        assert not is_bundle(tmp_path / path)
        with pytest.raises(BundleError, match="not a bundle"):
            read_bundle(tmp_path / path)
    for path in ("file", "folder"):
        with pytest.raises(BundleError, match=r"exists and is not|not a bundle"):
            write(tmp_path / path)
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_write_replaces_older_bundle_and_fills_empty_folder(tmp_path):
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle", PROVED, extra={"old.txt": "x"})
    write(tmp_path / "bundle", seed=1)
    assert read_bundle(tmp_path / "bundle").certificate is None
    assert not (tmp_path / "bundle" / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_failed_write_keeps_older_bundle(tmp_path):
    write(tmp_path / "bundle", PROVED)
    with pytest.raises((TypeError, ValueError)):
        write(tmp_path / "bundle", replace(PROVED, accuracy={"float32": {"R@1": float("nan")}}))
    assert read_bundle(tmp_path / "bundle").certificate == PROVED
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_bundle_has_ordinary_permissions(tmp_path):
    write(tmp_path / "bundle")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o777 & ~mask


def test_extra_files_cannot_replace_own_files(tmp_path):
    for name in (MANIFEST, "../escape.txt"):
        with pytest.raises(BundleError, match="extra files"):
            write(tmp_path / "bundle", extra={name: "x"})
    assert not list(tmp_path.iterdir())
