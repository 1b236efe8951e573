"""A bundle whose files do not belong together does not verify, whatever its hashes say."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ashneuro.errors import BundleError, ConfigError, GraphError, ProofError
from ashneuro.program.bundle import CERTIFICATE, MANIFEST, REFERENCE, bundle_digest, read_bundle
from ashneuro.program.lower import lower
from ashneuro.program.program import Layer, Program
from ashneuro.program.quantise import quantise
from ashneuro.program.requantise import quantise_again
from ashneuro.program.same import ROUNDING, compare_programs
from ashneuro.program.serialise import NUMBERS, STRUCTURE, load_programs, save_programs
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.script import SCRIPT
from ashneuro.simulation.proof.consistency import check_bundle
from ashneuro.spiking.contract import Contract
from ashneuro.workflows.export import export
from ashneuro.workflows.verify import differences, verify
from tests.simulation import graphs
from tests.simulation.proof.tampering import rehash, rewrite_arrays, rewrite_json
from tests.simulation.random_graphs import draw, seeded


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "net.bundle"
    fields = {"dt_s": 1e-3, "reset": "value", "comparison": "strict", "integration": "euler", "reset_delay": 0}
    fields |= {"input_coding": "current", "timesteps": 6}
    x = np.random.default_rng(0).normal(0.4, 0.8, (6, 3, 4, 6, 6))
    return export(graphs.deployable(1), folder, inputs=x, contract=fields, lava=None).bundle.folder


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "net.bundle"))


def answer_again(folder: Path) -> None:
    """Write the answers of the integer program as it is now."""
    program, answers = load_programs(folder)["integer"], folder / REFERENCE
    with np.load(answers) as archive:
        inputs = {"input": archive["inputs/input"]}
    record = run_program(program, inputs, rasters=[layer.name for layer in program.layers])
    rewrite_arrays(answers, lambda arrays: arrays.update({f"integer/{k}": v for k, v in record.rasters.items()}))


def reverse_weights(precision: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        def reverse(arrays: dict[str, np.ndarray]) -> None:
            keys = [key for key in arrays if key.startswith(precision) and key.endswith("/weight")]
            keys = [key for key in keys if arrays[key].ndim > 1]
            assert keys
            for key in keys:
                arrays[key] = arrays[key][..., ::-1]

        rewrite_arrays(folder / NUMBERS, reverse)
        answer_again(folder)

    return change


def drop_answers(folder: Path) -> None:
    def drop(arrays: dict[str, np.ndarray]) -> None:
        for key in [key for key in arrays if key.startswith("integer/")]:
            del arrays[key]

    rewrite_arrays(folder / REFERENCE, drop)


def flip_answer(folder: Path) -> None:
    def flip(arrays: dict[str, np.ndarray]) -> None:
        arrays["integer/lif2"].flat[7] ^= 1

    rewrite_arrays(folder / REFERENCE, flip)


def change_step(folder: Path) -> None:
    rewrite_json(folder / STRUCTURE, lambda entry: entry["programs"]["float"].update(dt_s=2e-3))


def edit_certificate(folder: Path) -> None:
    def fewer(values: dict) -> None:
        pair = next(p for p in values["comparisons"] if p["right"] == "integer program")
        assert any(layer["mismatches"] for layer in pair["layers"]), "nothing to hide"
        for layer in pair["layers"]:
            layer["mismatches"] = 0

    rewrite_json(folder / CERTIFICATE, fewer)


def drop_pair(folder: Path) -> None:
    rewrite_json(folder / CERTIFICATE, lambda values: values["comparisons"].pop(0))


def edit_costs(folder: Path) -> None:
    rewrite_json(folder / MANIFEST, lambda values: values["costs"][1].update(weights=0.0))


def edit_script(folder: Path) -> None:
    with (folder / SCRIPT).open("a") as file:
        file.write("import os\n")


def add_module(folder: Path) -> None:
    (folder / "numpy.py").write_text("")


TAMPERED = {
    "weights of the integer program": (reverse_weights("integer"), "integer program – float program, quantised again"),
    "weights of the float program": (reverse_weights("float"), "float program – network.nir, lowered again"),
    "answers dropped": (drop_answers, "reference.npz"),
    "step of the float program": (change_step, "float program – network.nir, lowered again"),
    "certificate": (edit_certificate, "certificate.json"),
    "pair of the certificate": (drop_pair, "certificate.json"),
    "quantisation errors": (edit_costs, "quantisation errors in manifest.json"),
    "script": (edit_script, "run_lava.py"),
    "module beside the script": (add_module, "files beside those of manifest.json"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_bundle_with_its_hashes_does_not_verify(bundle: Path, name: str) -> None:
    change, part = TAMPERED[name]
    change(bundle)
    rehash(bundle)
    read = read_bundle(bundle)
    proof = verify(read, lava=None)
    assert proof.failed and not proof.passed and proof.verdict.startswith("failed")
    (error,) = [error for error in differences(read, proof) if part in error.what]
    assert error.why and error.do and error.exit_code == 1


def test_answers_of_another_program_differ(bundle: Path) -> None:
    flip_answer(bundle)
    rehash(bundle)
    proof = verify(bundle, lava=None)
    (wrong,) = [pair for pair in proof.required if pair.status == "different"]
    assert proof.failed and wrong.mismatches == 1 and wrong.first is not None and wrong.first[0] == "lif2"


def test_exported_bundle_is_consistent(exported: Path) -> None:
    proof = verify(exported, lava=None)
    assert [check.status for check in proof.checks] == ["consistent"] * 6 and not proof.failed
    programs = [check for check in proof.checks if "program – " in check.what]
    assert [check.detail for check in programs[:2]] == ["bit for bit"] * 2
    assert all(check.compared > 500 for check in programs[:2])


def test_script_of_another_version_is_not_checked(bundle: Path) -> None:
    edit_script(bundle)
    rewrite_json(bundle / MANIFEST, lambda values: values.pop("script_template"))
    rehash(bundle)
    proof = verify(bundle, lava=None)
    assert not proof.failed and "not checked: run_lava.py" in proof.verdict
    rewrite_json(bundle / MANIFEST, lambda values: values.update(script_template="0" * 64))
    assert verify(bundle, lava=None).failed, "a template that this version never had"
    rewrite_json(bundle / MANIFEST, lambda values: values["versions"].update(ashneuro="0.0.9"))
    (check,) = [check for check in check_bundle(read_bundle(bundle)) if check.status == "not checked"]
    assert "ashneuro==0.0.9" in check.detail and "do not run it" in check.do


def test_digest_is_that_of_the_manifest(bundle: Path) -> None:
    digest = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    assert read_bundle(bundle).digest == bundle_digest(bundle) == digest
    for given in (digest, digest.upper(), f"sha256:{digest}\n"):
        assert not verify(bundle, digest=given, lava=None).failed
    with pytest.raises(ConfigError, match="--digest abc"):
        verify(bundle, digest="abc", lava=None)
    (bundle / NUMBERS).write_bytes(b"")  # is not read before the digest is known to be right
    with pytest.raises(ProofError, match="another bundle") as caught:
        verify(bundle, digest="0" * 64, lava=None)
    assert digest in caught.value.why and caught.value.do


@pytest.mark.parametrize("null", [CERTIFICATE, STRUCTURE, MANIFEST])
def test_null_is_refused(bundle: Path, null: str) -> None:
    (bundle / null).write_text("null")
    if null != MANIFEST:
        rehash(bundle)
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    assert caught.value.why and caught.value.do


def structure(change: Callable[[dict], object]) -> Callable[[dict], object]:
    return lambda values: change(values["programs"]["integer"])


MEANINGLESS = {
    "unknown synapse": structure(lambda p: p["layers"][1]["connections"][0]["synapse"].update(kind="magic")),
    "other out_shape": structure(lambda p: p["layers"][1]["connections"][0]["synapse"].update(out_shape=[3, 1, 1])),
    "layer twice": structure(lambda p: p["layers"].append(p["layers"][0])),
    "unknown output": structure(lambda p: p["outputs"].append("nowhere")),
    "unknown source": structure(lambda p: p["layers"][1]["connections"][0].update(source="nowhere")),
    "output twice": structure(lambda p: p["outputs"].append(p["outputs"][0])),
    "unknown precision": structure(lambda p: p.update(precision="float")),
    "negative delay": structure(lambda p: p["layers"][1]["connections"][0].update(delay=-1)),
}


@pytest.mark.parametrize("name", MEANINGLESS)
def test_program_without_meaning_is_refused(bundle: Path, name: str) -> None:
    rewrite_json(bundle / STRUCTURE, MEANINGLESS[name])
    rehash(bundle)
    with pytest.raises(BundleError, match="program") as caught:
        read_bundle(bundle)
    assert caught.value.why and caught.value.do


@pytest.mark.parametrize("seed", range(12))
def test_integers_are_made_again_bit_for_bit(seed: int) -> None:
    case = draw(seeded(100 + seed), integers=True)
    program = lower(case.graph, case.contract)
    peak = {"input": float(np.abs(case.inputs["input"]).max())}
    made = []
    for make in (lambda: quantise(program, input_peak=peak), lambda: calibrate(program, case.inputs)):
        try:
            made.append(make().program)
        except GraphError:  # it does not fit
            continue
    for integer in made:
        found = compare_programs(integer, quantise_again(program, integer).program)
        assert (found.differing, found.first, found.rounding) == (0, "", 0.0)
        assert found.compared > sum(layer.size for layer in program.layers)


def test_programs_are_compared_number_by_number(tmp_path: Path) -> None:
    program = lower(graphs.deployable(1), Contract(dt_s=graphs.DT, timesteps=6))
    save_programs(tmp_path, {"float": program})
    found = compare_programs(program, load_programs(tmp_path)["float"])
    assert (found.differing, found.rounding) == (0, 0.0)

    def with_threshold(factor: float) -> Program:
        layer = program.layers[1]
        neuron = replace(layer.neuron, v_threshold=np.asarray(layer.neuron.v_threshold) * factor)
        layers: tuple[Layer, ...] = (program.layers[0], replace(layer, neuron=neuron), *program.layers[2:])
        return replace(program, layers=layers)

    near = compare_programs(program, with_threshold(1 + ROUNDING / 2))
    assert near.differing == 0 and ROUNDING / 4 < near.rounding <= ROUNDING
    far = compare_programs(program, with_threshold(1 + 4 * ROUNDING))
    assert far.differing == program.layers[1].neuron.v_threshold.size
    assert far.first.startswith(f"{program.layers[1].name}, v_threshold: ")
    assert compare_programs(program, replace(program, outputs=())).differing == 1
    assert compare_programs(program, replace(program, layers=program.layers[:-1])).differing > 1
