"""Bundles: deployed networks in a folder, with the proof that they compute the same elsewhere.

network.nir        the graph, with its contract in the metadata; or network.net, the lava-dl file
                   that the integer program was read from
program.json/.npz  the float and the integer program (`ashneuro.program.serialise`)
reference.npz      ``inputs/NAME``: samples; ``spikes/NAME``: answers of the graph's neurons in
                   float64; ``integer/NAME``: answers of the integer program's layers
certificate.json   the comparisons that were made; absent before the first
manifest.json      schema, SHA-256 and size of every other file, versions, quantisation errors, and
                   the contract: the fields that the source or the user stated apart from those
                   that were assumed

Bundles of schema 1 give the contract without that distinction: their assumptions were not recorded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

import ashneuro
from ashneuro.arrays import load_npz
from ashneuro.display import Brief
from ashneuro.errors import BundleError, GraphError
from ashneuro.files import LARGEST_JSON, is_file, read_json, reason_of, require_regular
from ashneuro.program.assumption import Assumptions
from ashneuro.program.certificate import Certificate
from ashneuro.program.nir_file import read_graph, write_graph
from ashneuro.program.program import Precision, Program
from ashneuro.program.quantise import LayerCost
from ashneuro.program.serialise import NUMBERS, STRUCTURE, load_programs, save_programs
from ashneuro.program.wiring import Wiring
from ashneuro.schemas import Format, remedy_of
from ashneuro.spiking.contract import Contract, ReadContract, as_read

NETWORK, NETX, REFERENCE, CERTIFICATE, MANIFEST = (
    "network.nir",
    "network.net",
    "reference.npz",
    "certificate.json",
    "manifest.json",
)
Value = bool | float | int | str | None


@dataclass(frozen=True)
class HashEntry:
    """Hash of a file of a bundle."""

    sha256: str
    bytes: int = 0


@dataclass(frozen=True)
class ManifestFile:
    """``manifest.json`` of a bundle.

    Args:
        contract: by origin, then by field; in version 1 by field.
    """

    files: dict[str, HashEntry]
    versions: dict[str, str]
    contract: dict[str, Value | dict[str, Value]]
    costs: tuple[LayerCost, ...]
    script_template: str | None = None


BUNDLE = Format("ashneuro-bundle", ManifestFile, version=2)
BEFORE_ASSUMPTIONS = 1
"""Version whose bundles did not record their assumptions."""

OWN_FILES = (NETWORK, NETX, STRUCTURE, NUMBERS, REFERENCE, CERTIFICATE, MANIFEST)


@dataclass(frozen=True, eq=False)
class Reference:
    """Samples, and the answers of the float64 graph and of the integer program.

    Args:
        inputs: (T, B, \\*shape) by input name, in the graph's own units.
        spikes: (T, B, \\*shape) by layer name: uint8 spikes, or float64 membrane potentials of
            read-outs.
        integer: the same for the layers of the integer program.
    """

    inputs: Mapping[str, NDArray[Any]]
    spikes: Mapping[str, NDArray[Any]]
    integer: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Bundle(Brief):
    """The content of a bundle's folder, whose files have the hashes of its manifest.

    Args:
        wiring, contract, float_program: ``None`` in a bundle of a lava-dl network, which was
            integers from the start.
        integer_program: ``None`` where a network was written without one.
        versions: of ashneuro and of the packages that wrote it, by name.
        files: SHA-256 of every file but the manifest, by name.
        digest: SHA-256 of the manifest, and with it of all files, see `bundle_digest`.
        script_template: SHA-256 of the template of the Lava script; ``None``: not recorded.
    """

    folder: Path
    wiring: Wiring | None
    contract: Contract | None
    float_program: Program | None
    integer_program: Program | None
    reference: Reference
    certificate: Certificate | None
    costs: tuple[LayerCost, ...]
    versions: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    script_template: str | None = None

    @property
    def graph(self) -> nir.NIRGraph | None:
        """The NIR graph as written, with its nested graphs."""
        return None if self.wiring is None else self.wiring.graph

    def program(self, precision: str) -> Program:
        """Return the program of ``precision`` (``"float"`` or ``"integer"``).

        Raises:
            BundleError: the bundle has none.
        """
        program = self.float_program if precision == "float" else self.integer_program
        if program is None and self.wiring is None:
            why = "a lava-dl network is integers alone"
            raise BundleError(f"{self.folder} has no {precision} program", why, "--on loihi, or --on lava")
        if program is None:
            raise BundleError(
                f"{self.folder} has no {precision} program",
                "it was exported for another target",
                "ashneuro export --target lava",
            )
        return program

    @property
    def assumptions(self) -> Assumptions:
        """Fields that the source of the network left open, and the values taken."""
        return self.preferred_program.assumptions

    @property
    def preferred_program(self) -> Program:
        """The integer program, or the float program if there is no other."""
        return self.program("float" if self.integer_program is None else "integer")


def write_bundle(
    folder: str | Path,
    network: nir.NIRGraph | Wiring | Path,
    contract: Contract | ReadContract | None,
    float_program: Program | None,
    integer_program: Program | None,
    reference: Reference,
    certificate: Certificate | None = None,
    *,
    costs: Sequence[LayerCost] = (),
    extra: Mapping[str, str] | None = None,
    script_template: str | None = None,
) -> Bundle:
    """Write a bundle to ``folder`` and return it as read back.

    A bundle that is there already is replaced, all at once or not at all.

    Args:
        folder: created with its parents.
        network: written as ``network.nir``, with ``contract`` in its metadata; or a lava-dl file,
            copied as ``network.net``, which has neither contract nor float program.
        contract: the fields that a `ReadContract` assumes are kept apart from the stated ones.
        float_program, integer_program: both with the assumptions that they rest on.
        certificate: ``None`` if nothing was compared yet.
        costs: quantisation errors, per layer.
        extra: further text files, by name, e.g. a script that runs the program without ashneuro.
        script_template: SHA-256 of what such a script was made from.

    Raises:
        BundleError: ``folder`` holds something that is not a bundle, or cannot be written.
    """
    folder = Path(folder)
    require_free(folder)
    clash = set(extra or {}) & set(OWN_FILES)
    if clash or any(Path(name).name != name for name in extra or {}):
        why = "a file of a bundle has that name, or it is a path"
        raise BundleError(f"extra files {', '.join(extra or {})}", why, "rename them")
    # On the same file system as the target, so that moving it there is one rename.
    fresh = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        if isinstance(network, Path):
            shutil.copyfile(network, fresh / NETX)
        else:
            assert contract is not None
            write_graph(fresh / NETWORK, network, contract)
        programs: dict[Precision, Program | None] = {"float": float_program, "integer": integer_program}
        save_programs(fresh, {name: program for name, program in programs.items() if program is not None})
        arrays = {f"inputs/{name}": np.asarray(array) for name, array in reference.inputs.items()}
        arrays |= {f"spikes/{name}": np.asarray(array) for name, array in reference.spikes.items()}
        arrays |= {f"integer/{name}": np.asarray(array) for name, array in reference.integer.items()}
        np.savez_compressed(fresh / REFERENCE, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        if certificate is not None:
            _write_json(fresh / CERTIFICATE, certificate.to_json())
        for name, text in (extra or {}).items():
            (fresh / name).write_text(text, encoding="utf-8")
        manifest = {
            "schema": BUNDLE.schema,
            "files": {
                path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in sorted(fresh.iterdir())
            },
            "versions": {
                "ashneuro": ashneuro.__version__,
                "python": platform.python_version(),
                **{package: version(package) for package in ("nir", "numpy", "scipy", "h5py")},
            },
            "contract": _origins(None if contract is None else as_read(contract), float_program or integer_program),
            "costs": [asdict(cost) for cost in costs],
            **({"script_template": script_template} if script_template else {}),
        }
        _write_json(fresh / MANIFEST, manifest)
        _swap(fresh, folder)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        do = "make room, or choose another disk with --out" if full else "choose a folder that you may write to"
        raise BundleError(f"cannot write {folder}", f"{error.strerror or error}", do) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return read_bundle(folder)


def read_bundle(folder: str | Path) -> Bundle:
    """Return the bundle in ``folder``.

    Raises:
        BundleError: it is not a bundle, or a file is missing, was changed, or does not make sense.
    """
    folder = Path(folder)
    digest = bundle_digest(folder)
    manifest = _manifest(folder)
    _verify(folder, manifest)
    programs = load_programs(folder)
    from_graph = NETWORK in manifest["files"]
    if (needed := "float" if from_graph else "integer") not in programs:
        raise BundleError(
            f"{folder} has no {needed} program", "every bundle of this kind has one", "export the network again"
        )
    try:
        wiring, read = read_graph(folder / NETWORK) if from_graph else (None, None)
        arrays = load_npz(folder / REFERENCE)
        certificate = (
            Certificate.from_json(read_json(folder / CERTIFICATE)) if CERTIFICATE in manifest["files"] else None
        )
        parts = {
            part: {key.removeprefix(f"{part}/"): array for key, array in arrays.items() if key.startswith(f"{part}/")}
            for part in ("inputs", "spikes", "integer")
        }
        costs = tuple(LayerCost(**cost) for cost in manifest["costs"])
        contract = Contract(**_fields(manifest)) if from_graph else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, GraphError) as error:
        raise BundleError(f"{folder} is damaged", reason_of(error), "export the network again") from error
    # Both files are hashed, but a graph with a foreign contract would be simulated by other rules.
    # A field that came later is in neither, and has its default in both.
    assumed = set(manifest["contract"].get("assumed", ()))
    known = set(_fields(manifest))
    if read is not None and (read.contract != contract or set(read.assumed) & known != assumed):
        raise BundleError(
            f"{folder}: {NETWORK} and {MANIFEST} say different things of time and reset",
            f"{read.contract} and {contract}",
            "export the network again",
        )
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    reference = Reference(parts["inputs"], parts["spikes"], parts["integer"])
    return Bundle(
        folder,
        wiring,
        contract,
        programs.get("float"),
        programs.get("integer"),
        reference,
        certificate,
        costs,
        manifest["versions"],
        hashes,
        digest,
        manifest.get("script_template"),
    )


def bundle_digest(folder: str | Path) -> str:
    """Return the SHA-256 of a bundle's manifest, which holds those of all its other files.

    ``sha256sum BUNDLE/manifest.json`` prints the same 64 hexadecimal digits.

    Raises:
        BundleError: it is not a bundle.
    """
    folder = Path(folder)
    _manifest(folder)
    return _sha256(folder / MANIFEST)


def _origins(read: ReadContract | None, program: Program | None) -> dict[str, dict[str, Any]]:
    """Return the fields of a contract by their origin: stated, assumed, or not recorded."""
    if read is None:  # a lava-dl network leaves open what its program assumes, and nothing else
        found = (program.assumptions if program else None) or ()
        return {"stated": {}, "assumed": {item.field: item.value for item in found}}
    values = {name: value for name, value in asdict(read.contract).items() if value is not None}
    assumed = {name: values.pop(name) for name in read.assumed}
    return {"stated" if read.recorded else "not recorded": values, "assumed": assumed}


def _fields(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the contract in a manifest, whatever their origin."""
    contract = manifest["contract"]
    if BUNDLE.version_of(manifest) == BEFORE_ASSUMPTIONS:
        return dict(contract)
    return {name: value for part in contract.values() for name, value in part.items()}


def is_bundle(path: str | Path) -> bool:
    """Return True for a folder that `write_bundle` wrote, even if files were changed since."""
    try:
        manifest = read_json(Path(path) / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("schema", "")).startswith(f"{BUNDLE.name}/")


def records_assumptions(folder: Path) -> bool:
    """Return False for a bundle of an earlier version, which stated what it had assumed."""
    return BUNDLE.version_of(_manifest(folder)) != BEFORE_ASSUMPTIONS


def _manifest(folder: Path) -> dict[str, Any]:
    if not is_bundle(folder):
        found = "there is no such folder" if not folder.exists() else f"it has no {MANIFEST} of a bundle"
        raise BundleError(f"{folder} is not a bundle", found, "name a folder that `ashneuro export` wrote")
    manifest: dict[str, Any] = read_json(folder / MANIFEST)
    try:
        BUNDLE.check(manifest)
    except ValueError as error:
        do = remedy_of(error, "export the network again")
        raise BundleError(f"{folder / MANIFEST} cannot be read", str(error), do) from error
    return manifest


def _verify(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise if a file differs from its hash, is missing, or is unknown to the manifest."""
    problems = []
    for name, entry in manifest["files"].items():
        path = folder / name
        if Path(name).name != name or not is_file(path):  # a manifest must not lead out of the folder
            problems.append(f"{name} is missing")
        elif _grown(path, entry.get("bytes")) or _sha256(path) != entry.get("sha256"):
            problems.append(f"{name} was changed after export")
    known = {*manifest["files"], MANIFEST}
    problems += [
        f"{name} does not belong to it" for name in OWN_FILES if name not in known and (folder / name).exists()
    ]
    problems += [f"{name} is missing" for name in (STRUCTURE, NUMBERS, REFERENCE) if name not in known]
    problems += [f"{NETWORK} is missing"] if not known & {NETWORK, NETX} else []
    if problems:
        raise BundleError(
            f"{folder} is damaged or stale",
            "; ".join(problems),
            "export the network again, or copy the whole folder again",
        )


def require_free(folder: Path) -> None:
    """Raise a `BundleError` if ``folder`` holds something that a bundle must not replace."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BundleError(
            f"{folder} exists and is not a folder", "a bundle is a folder", "choose another folder with --out"
        )
    if folder.exists() and any(folder.iterdir()) and not is_bundle(folder):
        raise BundleError(
            f"{folder} holds something that is not a bundle",
            "it is never overwritten",
            "choose another folder with --out",
        )


def _swap(fresh: Path, folder: Path) -> None:
    """Move ``fresh`` to ``folder``; delete the old content once the new one is in place."""
    old = fresh.with_name(fresh.name + ".old")
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(fresh, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _grown(path: Path, stated: int | None) -> bool:
    """Return True if a file is larger than its manifest states, and takes long to hash."""
    return stated is not None and stated > 0 and path.stat().st_size > max(stated, LARGEST_JSON)


def _sha256(path: Path) -> str:
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
