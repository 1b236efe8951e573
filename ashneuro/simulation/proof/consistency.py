"""Checks that the files of a bundle belong together.

Hashes in a manifest show that a file was damaged, not that it was replaced: whoever changes a file
can write its hash again. So everything that follows from the network file is made again from it and
compared: the programs, the script for Lava, the names and shapes of the recorded answers. What does
not follow from it, as the network itself, only a digest from elsewhere vouches for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import ashneuro
from ashneuro.errors import AshneuroError
from ashneuro.program.bundle import (
    CERTIFICATE,
    MANIFEST,
    NETWORK,
    NETX,
    OWN_FILES,
    REFERENCE,
    Bundle,
    records_assumptions,
)
from ashneuro.program.certificate import PAIRS, Certificate, Check, Computation
from ashneuro.program.lower import lower
from ashneuro.program.netx.read import read_netx, reading_of
from ashneuro.program.program import Program
from ashneuro.program.quantise import LayerCost
from ashneuro.program.requantise import quantise_again
from ashneuro.program.same import compare_programs
from ashneuro.schemas import ORIGIN_NAME
from ashneuro.simulation.lava.script import SCRIPT, lava_script, template_sha256
from ashneuro.spiking.contract import read_contract

IMPORTABLE = (".py", ".pyc", ".pyd", ".so")  # suffixes of what Python imports
COST_ROUNDING = 1e-6  # of errors of quantisation, which are differences of nearly equal numbers


def check_bundle(bundle: Bundle) -> tuple[Check, ...]:
    """Return everything that follows from a bundle's network, compared with what the bundle has.

    Nothing is simulated.
    """
    return (*_programs(bundle), _answers(bundle), *_script(bundle), *_beside(bundle))


def _programs(bundle: Bundle) -> Iterator[Check]:
    if bundle.wiring is None:
        what = f"integer program – {NETX}, read again"
        integer = bundle.program("integer")
        try:
            again = read_netx(bundle.folder / NETX, reading_of(integer))
        except (AshneuroError, ValueError) as error:
            yield _impossible(bundle, what, error)
        else:
            yield _same(bundle, what, integer, again)
        return
    what = f"float program – {NETWORK}, lowered again"
    program = bundle.program("float")
    try:
        again = lower(bundle.wiring, read_contract(bundle.wiring.graph.metadata))
    except (AshneuroError, ValueError) as error:
        yield _impossible(bundle, what, error)
        return
    if program.assumptions is None and not records_assumptions(bundle.folder):
        again = replace(again, assumptions=None)
    yield _same(bundle, what, program, again)
    if bundle.integer_program is None:
        return
    what = "integer program – float program, quantised again at the recorded scales"
    try:
        quantised = quantise_again(program, bundle.integer_program)
    except (AshneuroError, ValueError, ArithmeticError) as error:
        yield _impossible(bundle, what, error)
        return
    yield _same(bundle, what, bundle.integer_program, quantised.program)
    if bundle.costs:
        yield _costs(bundle, quantised.costs)


def _same(bundle: Bundle, what: str, recorded: Program, again: Program) -> Check:
    found = compare_programs(recorded, again)
    if found.differing:
        return Check(
            what,
            "different",
            found.compared,
            found.differing,
            f"first in {found.first} (in the bundle, and made again)",
            _again(bundle),
        )
    detail = f"floats to {found.rounding:.1g} of their size, integers bit for bit" if found.rounding else "bit for bit"
    return Check(what, "consistent", found.compared, 0, detail)


def _impossible(bundle: Bundle, what: str, error: Exception) -> Check:
    why = error.why or error.what if isinstance(error, AshneuroError) else str(error)
    return Check(what, "different", 1, 1, f"it cannot be made again: {' '.join(why.split())}", _again(bundle))


def _again(bundle: Bundle) -> str:
    """Return the remedy of a program that is not that of the network."""
    written = bundle.versions.get("ashneuro")
    other = f"; it says that ashneuro {written} wrote it, this is {ashneuro.__version__}"
    return "export the network again from its source, and do not use this bundle" + (
        other if written != ashneuro.__version__ else ""
    )


def _costs(bundle: Bundle, again: tuple[LayerCost, ...]) -> Check:
    what = f"quantisation errors in {MANIFEST} – those of the integer program"
    recorded = {cost.layer: asdict(cost) for cost in bundle.costs}
    made = {cost.layer: asdict(cost) for cost in again}
    compared = sum(len(values) - 1 for values in made.values())
    wrong = [
        f"{layer}, {name}"
        for layer, values in made.items()
        for name, value in values.items()
        if not _close(recorded.get(layer, {}).get(name), value)
    ]
    if wrong or set(recorded) != set(made) or len(bundle.costs) != len(made):
        where = ", ".join(wrong[:3]) or "other layers"
        return Check(what, "different", compared, max(1, len(wrong)), where, _again(bundle))
    return Check(what, "consistent", compared, 0, "made again")


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return bool(np.isclose(one, other, rtol=COST_ROUNDING, atol=1e-9))
    return bool(one == other)


def _answers(bundle: Bundle) -> Check:
    """Check that the reference has inputs, and answers of every computation, in their shapes."""
    what = f"{REFERENCE} – the samples, and answers of every layer to each"
    reference = bundle.reference
    wanted: dict[str, tuple[Program, Mapping[str, Any]]] = {}
    if bundle.float_program is not None:
        wanted[Computation.GRAPH] = (bundle.float_program, reference.spikes)
    if bundle.integer_program is not None:
        wanted[Computation.INTEGER] = (bundle.integer_program, reference.integer)
    sizes = {np.shape(values)[:2] for values in reference.inputs.values()}
    problems = [] if len(sizes) == 1 and min(next(iter(sizes)), default=0) > 0 else ["its inputs have no samples"]
    compared = 0
    for name, (program, answers) in wanted.items():
        layers = {layer.name: layer.shape for layer in program.layers}
        if missing := [layer for layer in layers if layer not in answers]:
            problems.append(f"it has no answers of {', '.join(missing)} by the {name}")
        if unknown := [layer for layer in answers if layer not in layers]:
            problems.append(f"{', '.join(unknown)} is no layer of the {name}")
        for layer in layers.keys() & answers.keys():
            compared += answers[layer].size
            if not any(answers[layer].shape == (*size, *layers[layer]) for size in sizes):
                problems.append(f"the answers of {layer} by the {name} have the shape {answers[layer].shape}")
    if not wanted or (bundle.integer_program is None and reference.integer):
        problems.append("it has answers of a program that the bundle lacks")
    if problems:
        return Check(what, "different", compared, len(problems), "; ".join(problems), _again(bundle))
    return Check(what, "consistent", compared, 0, "names and shapes; the values are compared below")


def check_certificate(bundle: Bundle) -> tuple[Check, ...]:
    """Return the comparison of a bundle's certificate with the rest of the bundle.

    Compared are the pairs and assumptions that it lists, the spikes of the graph and of the
    integer program, and where these two differ. Nothing is simulated.
    """
    certificate, reference = bundle.certificate, bundle.reference
    if certificate is None:
        return ()
    what = f"{CERTIFICATE} – the answers in {REFERENCE}"
    answers = {Computation.GRAPH: reference.spikes, Computation.INTEGER: reference.integer}
    wrong, compared = certificate_problems(bundle, certificate), 0
    for pair in certificate.comparisons:
        for layer in pair.layers:
            one = answers.get(pair.left, {}).get(layer.layer)
            if one is None or one.dtype != np.uint8:
                continue  # values of read-outs are compared up to rounding, by `verify`
            compared += 1
            differ = layer.mismatches
            if pair.right is Computation.INTEGER:
                other = reference.integer.get(layer.layer)
                if other is None or other.dtype != np.uint8:
                    continue
                differ = int(np.count_nonzero(one != other)) if one.shape == other.shape else -1
            if (int(np.count_nonzero(one)), differ) != (layer.spikes, layer.mismatches):
                wrong.append(f"{layer.layer} in {pair.left} – {pair.right}")
    if wrong:
        return (Check(what, "different", compared, len(wrong), ", ".join(wrong), _again(bundle)),)
    return (Check(what, "consistent", compared, 0, "spikes and differences of every layer"),)


def certificate_problems(bundle: Bundle, certificate: Certificate) -> list[str]:
    """Return the differences between a certificate of ``bundle`` and its programs and samples.

    Without this, a certificate without comparisons would have passed, and one without assumptions
    would hold for every network.
    """
    problems = []
    sizes = {np.shape(values)[:2] for values in bundle.reference.inputs.values()}
    if sizes != {(certificate.timesteps, certificate.samples)}:
        problems.append("the number of samples or steps")
    if certificate.assumptions != (bundle.float_program or bundle.preferred_program).assumptions:
        problems.append("the assumptions")
    wanted = {
        (left, right): required
        for left, right, required in PAIRS
        if bundle.wiring is not None or left is Computation.INTEGER
    }
    stated = [(pair.left, pair.right) for pair in certificate.comparisons]
    problems += [f"{left} – {right} is absent" for left, right in wanted if (left, right) not in stated]
    for pair in certificate.comparisons:
        name = f"{pair.left} – {pair.right}"
        if stated.count((pair.left, pair.right)) > 1 or wanted.get((pair.left, pair.right)) is not pair.required:
            problems.append(f"{name} is listed twice, or as another kind of comparison")
        program = bundle.integer_program if Computation.INTEGER in (pair.left, pair.right) else bundle.float_program
        steps = certificate.timesteps * certificate.samples
        sound = [] if program is None or pair.reason else [(layer.name, steps * layer.size) for layer in program.layers]
        # Earlier versions listed layers in another order.
        if sorted((layer.layer, layer.compared) for layer in pair.layers) != sorted(sound):
            problems.append(f"the layers of {name}")
        elif program is None and not pair.reason:
            problems.append(f"{name} was not run, and it does not say why")
    return problems


def _script(bundle: Bundle) -> Iterator[Check]:
    if SCRIPT not in bundle.files:
        return
    what = f"{SCRIPT} – the script of this version for this program"
    text = (bundle.folder / SCRIPT).read_text(encoding="utf-8", errors="replace")
    if text == lava_script(bundle.preferred_program):
        yield Check(what, "consistent", 0, 0, "byte for byte")
        return
    written = bundle.versions.get("ashneuro", "an unknown version")
    here = ashneuro.__version__
    renew = f"do not run it; `ashneuro export {bundle.folder} --out NEW` writes the script of this version"
    if bundle.script_template is None:
        yield Check(what, "not checked", 0, 0, "the bundle does not record the version of its script", renew)
    elif bundle.script_template != template_sha256() and written != here:
        why = f"ashneuro {written} wrote it, this is {here}: pip install ashneuro=={written} to check it"
        yield Check(what, "not checked", 0, 0, why, renew)
    else:
        yield Check(what, "different", 0, 0, "it was changed after export", renew)


def _beside(bundle: Bundle) -> Iterator[Check]:
    """Check that the folder holds no module that Python would import in place of a package, listed
    in the manifest or not, and name what else is not part of a bundle.
    """
    own = {*OWN_FILES, ORIGIN_NAME, *({SCRIPT} & set(bundle.files))}
    beside = [path for path in sorted(bundle.folder.iterdir()) if path.name not in own and path.name != "__pycache__"]
    if modules := [path.name for path in beside if _importable(path)]:
        why = (
            f"{MANIFEST} does not list the script: it was changed, or is of another bundle"
            if SCRIPT in modules
            else "Python would import it in place of a package of that name"
        )
        what = f"files beside those of {MANIFEST}"
        yield Check(what, "different", 0, 0, f"{', '.join(modules)}: {why}", "move it out of the bundle")
    others = [path.name for path in beside if not _importable(path)]
    links = [path.name for path in sorted(bundle.folder.iterdir()) if path.name in own and path.is_symlink()]
    said = [f"{', '.join(others)}: not of a bundle; nothing vouches for it"] if others else []
    said += [f"{', '.join(links)}: a link to a file elsewhere, which may change after this"] if links else []
    if said:
        yield Check(f"files beside those of {MANIFEST}", "consistent", 0, 0, "; ".join(said))


def _importable(path: Path) -> bool:
    """Return True for a module, and for a folder with one: lava has no __init__.py."""
    if path.is_dir():
        return any(_importable(inner) for inner in path.iterdir())
    return path.suffix in IMPORTABLE
