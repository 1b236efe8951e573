"""Ways to tamper with a bundle, with all its hashes written again."""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ashneuro.errors import BundleError, ProofError
from ashneuro.program.bundle import CERTIFICATE, MANIFEST, NETWORK, REFERENCE, bundle_digest, read_bundle
from ashneuro.program.serialise import NUMBERS, STRUCTURE
from ashneuro.simulation.lava.script import SCRIPT
from ashneuro.workflows.export import export
from ashneuro.workflows.verify import certified, differences, verify
from tests.simulation import graphs
from tests.simulation.proof.tampering import rehash, rewrite_arrays, rewrite_json

FIELDS = {"dt_s": 1e-3, "reset": "value", "comparison": "strict", "integration": "euler", "reset_delay": 0}


def _export(folder: Path, seed: int) -> Path:
    fields = {**FIELDS, "input_coding": "current", "timesteps": 6}
    x = np.random.default_rng(seed).normal(0.4, 0.8, (6, 3, 4, 6, 6))
    return export(graphs.deployable(1 + seed), folder, inputs=x, contract=fields, lava=None).bundle.folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("exported")
    return _export(folder / "net.bundle", 0), _export(folder / "other.bundle", 1)


Attack = Callable[[Path, Path], None]


def list_file(folder: Path, name: str, content: bytes = b"") -> None:
    """Enter a file in the manifest, whether or not it can be there."""
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    rewrite_json(folder / MANIFEST, lambda values: values["files"].update({name: entry}))


def permute_weights(folder: Path, other: Path) -> None:
    """Permute the weights of both programs alike, and of the network's file not."""

    def permute(arrays: dict[str, np.ndarray]) -> None:
        for key in [key for key in arrays if key.endswith("/weight") and arrays[key].ndim > 1]:
            arrays[key] = np.roll(arrays[key], 1, axis=0)

    rewrite_arrays(folder / NUMBERS, permute)


def permute_network(folder: Path, other: Path) -> None:
    with h5py.File(folder / NETWORK, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if name.endswith("/weight") else None)
        file[names[0]][...] = file[names[0]][()][::-1]


def drop_reference(folder: Path, other: Path) -> None:
    (folder / REFERENCE).unlink()
    rewrite_json(folder / MANIFEST, lambda values: values["files"].pop(REFERENCE))


def no_samples(folder: Path, other: Path) -> None:
    rewrite_arrays(folder / REFERENCE, lambda arrays: arrays.update({k: v[:, :0] for k, v in arrays.items()}))


def silent_samples(folder: Path, other: Path) -> None:
    """Replace the samples by zeros and all answers by silence: a proof that shows nothing."""
    rewrite_arrays(folder / REFERENCE, lambda arrays: arrays.update({k: v * 0 for k, v in arrays.items()}))


def other_shape(folder: Path, other: Path) -> None:
    """Give the answers of the integer program another axis."""

    def widen(arrays: dict[str, np.ndarray]) -> None:
        for key in [key for key in arrays if key.startswith("integer/")]:
            arrays[key] = np.stack([arrays[key]] * 2, -1)

    rewrite_arrays(folder / REFERENCE, widen)


def unknown_messages(folder: Path, other: Path) -> None:
    def change(values: dict) -> None:
        values["programs"]["integer"]["layers"][0]["neuron"]["message"]["kind"] = None

    rewrite_json(folder / STRUCTURE, change)


def foreign(name: str) -> Attack:
    def take(folder: Path, other: Path) -> None:
        shutil.copy(other / name, folder / name)

    return take


def drop_certificate(folder: Path, other: Path) -> None:
    (folder / CERTIFICATE).unlink()
    rewrite_json(folder / MANIFEST, lambda values: values["files"].pop(CERTIFICATE))


def one_byte(folder: Path, other: Path) -> None:
    data = bytearray((folder / SCRIPT).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / SCRIPT).write_bytes(data)


def unlisted_script(folder: Path, other: Path) -> None:
    """Change the script, and take it off the list of what is compared."""
    one_byte(folder, other)
    rewrite_json(folder / MANIFEST, lambda values: values["files"].pop(SCRIPT))


def listed_module(folder: Path, other: Path) -> None:
    (folder / "numpy.py").write_text("raise SystemExit")
    list_file(folder, "numpy.py")


def module_in_folder(folder: Path, other: Path) -> None:
    (folder / "lava").mkdir()
    (folder / "lava" / "magma.py").write_text("raise SystemExit")


def without_script(folder: Path, other: Path) -> None:
    """Take the script out, so that nobody looks for modules beside it."""
    (folder / SCRIPT).unlink()
    rewrite_json(folder / MANIFEST, lambda values: values["files"].pop(SCRIPT))
    (folder / "lava.py").write_text("raise SystemExit")


def scales_and_program(folder: Path, other: Path) -> None:
    """Double the weights of the integer program, its biases, thresholds and scales."""

    def double(arrays: dict[str, np.ndarray]) -> None:
        for key in [key for key in arrays if key.startswith("integer/")]:
            arrays[key] = arrays[key] * 2

    rewrite_arrays(folder / NUMBERS, double)

    def scales(values: dict) -> None:
        for layer in values["programs"]["integer"]["layers"]:
            for key in [key for key in layer if "scale" in key and isinstance(layer[key], int | float)]:
                layer[key] = layer[key] * 2

    rewrite_json(folder / STRUCTURE, scales)


def extra_text(folder: Path, other: Path) -> None:
    (folder / "weights-v2.npz").write_bytes(b"x")


def listed_text(folder: Path, other: Path) -> None:
    (folder / "notes.md").write_text("proved on Loihi")
    list_file(folder, "notes.md")


def twice(folder: Path, other: Path) -> None:
    with zipfile.ZipFile(folder / NUMBERS) as archive:
        name = archive.namelist()[0]
        data = archive.read(name)
    with warnings.catch_warnings(), zipfile.ZipFile(folder / NUMBERS, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(name, data)


def link_outside(folder: Path, other: Path) -> None:
    shutil.move(folder / NUMBERS, folder.parent / "elsewhere.npz")
    (folder / NUMBERS).symlink_to(folder.parent / "elsewhere.npz")


def link_to_device(folder: Path, other: Path) -> None:
    (folder / REFERENCE).unlink()
    (folder / REFERENCE).symlink_to("/dev/zero")


def named(name: str) -> Attack:
    return lambda folder, other: list_file(folder, name)


def composed(folder: Path, other: Path) -> None:
    """List a name that looks like another, in its decomposed form."""
    name = unicodedata.normalize("NFD", "résumé.py")
    (folder / name).write_bytes(b"")
    list_file(folder, name)


def same_key_twice(folder: Path, other: Path) -> None:
    """Give the list of files two entries of the script, of which JSON keeps the last."""
    text = (folder / MANIFEST).read_text()
    entry = f'"{SCRIPT}": {{"sha256": "{"0" * 64}", "bytes": 1}}, '
    (folder / MANIFEST).write_text(text.replace('"files": {', f'"files": {{{entry}', 1))


def later_schema(folder: Path, other: Path) -> None:
    rewrite_json(folder / MANIFEST, lambda values: values.update(schema="ashneuro-bundle/3"))


def earlier_schema(folder: Path, other: Path) -> None:
    """Say that the bundle is of a version that recorded less."""
    one_byte(folder, other)

    def change(values: dict) -> None:
        values.pop("script_template")
        values["versions"]["ashneuro"] = "0.0.1"

    rewrite_json(folder / MANIFEST, change)


def claims_verified(folder: Path, other: Path) -> None:
    """Write a certificate that passed everything, Lava included."""

    def change(values: dict) -> None:
        values.update(verdict="passed", failed=False)
        for pair in values["comparisons"]:
            pair["status"] = "equal"

    rewrite_json(folder / CERTIFICATE, change)


def edit_certificate(change: Callable[[dict], object]) -> Attack:
    return lambda folder, other: rewrite_json(folder / CERTIFICATE, change)


def each_comparison(**values: object) -> Attack:
    return edit_certificate(lambda content: [pair.update(values) for pair in content["comparisons"]])


def each_layer(**values: object) -> Attack:
    def change(content: dict) -> None:
        for pair in content["comparisons"]:
            for layer in pair["layers"]:
                layer.update(values)

    return edit_certificate(change)


def lava_claimed(content: dict) -> None:
    """State for Lava, which did not run, what was found for the programs."""
    for pair in content["comparisons"]:
        if pair["right"].startswith("Lava"):
            pair.update(reason="", layers=content["comparisons"][0]["layers"][:1])


def other_contract(folder: Path, other: Path) -> None:
    def change(values: dict) -> None:
        for part in values["contract"].values():
            if "reset" in part:
                part["reset"] = "subtract"

    rewrite_json(folder / MANIFEST, change)


NAMES = ("../../passwd", "/etc/passwd", "a/../network.nir", "x" * 300, "", ".", "a\0b", "a\x1b[31mb", "ｒun_lava.py")
UNREADABLE: dict[str, tuple[Attack, str]] = {
    "reference dropped": (drop_reference, "reference.npz is missing"),
    "a member of an archive twice": (twice, "it holds float/0/du.npy twice"),
    "a link to a device": (link_to_device, "reference.npz is missing"),
    "a later version": (later_schema, "of a later version"),
    "messages of no kind": (unknown_messages, "unknown messages None"),
    "another contract": (other_contract, "reset='subtract'"),
} | {f"a file {name[:20]!r}": (named(name), "is missing") for name in NAMES}
DIFFERENT: dict[str, tuple[Attack, str]] = {
    "weights of both programs permuted": (permute_weights, "float program – network.nir"),
    "weights of the network permuted": (permute_network, "float program – network.nir"),
    "scales changed together with the program": (scales_and_program, "integer program – float program"),
    "no samples": (no_samples, "reference.npz"),
    "answers of another shape": (other_shape, "reference.npz"),
    "samples without spikes": (silent_samples, "certificate.json"),
    "certificate of another bundle": (foreign(CERTIFICATE), "certificate.json"),
    "samples of another bundle": (foreign(REFERENCE), "certificate.json"),
    "programs of another bundle": (foreign(NUMBERS), "float program – network.nir"),
    "network of another bundle": (foreign(NETWORK), "float program – network.nir"),
    "one byte of the script": (one_byte, "run_lava.py"),
    "script taken off the list": (unlisted_script, "files beside"),
    "certificate without comparisons": (edit_certificate(lambda v: v.update(comparisons=[])), "certificate.json"),
    "certificate that requires nothing": (each_comparison(required=False), "certificate.json"),
    "certificate of comparisons that were not run": (each_comparison(reason=""), "certificate.json"),
    "certificate of runs of Lava that were not": (edit_certificate(lava_claimed), "certificate.json"),
    "certificate without its assumptions": (edit_certificate(lambda v: v.update(assumptions=None)), "certificate.json"),
    "certificate of other layers": (each_layer(layer="another"), "certificate.json"),
    "certificate of more values": (each_layer(compared=10**12), "certificate.json"),
    "a module on the list": (listed_module, "files beside"),
    "a module in a folder": (module_in_folder, "files beside"),
    "a module without a script": (without_script, "files beside"),
    "a module with a composed name": (composed, "files beside"),
}
SAID: dict[str, tuple[Attack, str]] = {
    "another file": (extra_text, "weights-v2.npz: not of a bundle; nothing vouches for it"),
    "another file on the list": (listed_text, "notes.md: not of a bundle"),
    "a link out of the bundle": (link_outside, "program.npz: a link to a file elsewhere"),
    "the script of an earlier version": (earlier_schema, "not record the version of its script"),
}
HARMLESS: dict[str, Attack] = {
    "certificate dropped": drop_certificate,
    "certificate that claims more": claims_verified,
    "certificate of an unknown process": edit_certificate(lambda v: v.update(own_processes={"lif2": "Unheard"})),
    "a file twice on the list": same_key_twice,
}


@pytest.fixture
def tampered(request: pytest.FixtureRequest, exported: tuple[Path, Path], tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(exported[0], tmp_path / "net.bundle"))
    request.param(folder, exported[1])
    rehash(folder)
    return folder


def cases(attacks: dict[str, tuple[Attack, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("tampered", "reason"), list(attacks.values()), indirect=["tampered"], ids=list(attacks)
    )


@cases(UNREADABLE)
def test_bundle_is_not_read(tampered: Path, reason: str) -> None:
    with pytest.raises(BundleError) as refused:
        read_bundle(tampered)
    assert reason in refused.value.why and refused.value.do


@cases(DIFFERENT)
def test_neither_verify_nor_report_takes_it(tampered: Path, reason: str) -> None:
    bundle = read_bundle(tampered)
    proof = verify(bundle, lava=None)
    assert proof.failed and any(reason in error.what and error.why for error in differences(bundle, proof))
    with pytest.raises(ProofError) as refused:
        certified(bundle)
    assert reason in refused.value.what


@cases(SAID)
def test_verify_says_what_nothing_vouches_for(tampered: Path, reason: str) -> None:
    proof = verify(tampered, lava=None)
    assert not proof.failed and any(reason in check.detail for check in proof.checks)


@pytest.mark.parametrize("tampered", list(HARMLESS.values()), indirect=True, ids=list(HARMLESS))
def test_only_the_digest_changes(tampered: Path, exported: tuple[Path, Path]) -> None:
    """Claims of the certificate and of the list do not reach the result of `verify`."""
    before, proof = verify(exported[0], lava=None), verify(tampered, lava=None)
    assert proof.comparisons == before.comparisons and proof.verdict == before.verdict and not proof.passed
    assert bundle_digest(tampered) != bundle_digest(exported[0])
