"""Hashes that tie bundles and results to the weights they were made with, and runs to their
bundles.

Imports no torch: commands check a bundle before they load anything.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ashneuro import schemas
from ashneuro.files import read_text, reason_of, require_regular, write_text

ORIGIN = schemas.ORIGIN_NAME
WEIGHTS = "model.safetensors"
CARD = "README.md"
EXPORTS = "exports.json"
CARD_SECTION = "\n## Deployed bundles\n"


def run_origin(run: Path) -> dict[str, str]:
    """Return the file, as name and text, that records a run's current weights in a bundle."""
    return {ORIGIN: json.dumps(schemas.ORIGIN.stamped({"run": run.name, "weights_sha256": weights_sha256(run)}))}


def same_weights(bundle: Path, run: Path) -> bool | None:
    """Return True if the bundle has the run's current weights, None if it does not say.

    See `origin_problem` for why it may not.
    """
    file = bundle / ORIGIN
    if origin_problem(bundle) or not file.exists():
        return None
    return bool(schemas.ORIGIN.load(file)["weights_sha256"] == weights_sha256(run))


def origin_problem(bundle: Path) -> str:
    """Return why the origin of a bundle cannot be read; empty if it can, or if it has none."""
    file = bundle / ORIGIN
    try:
        if file.exists():
            schemas.ORIGIN.load(file)
    except (OSError, ValueError) as error:
        return reason_of(error)
    return ""


def record_export(run: Path, bundle: Path, digest: str) -> None:
    """Record the digest of a bundle in ``exports.json`` of its run, and in the run's card.

    A card that is no text stays as it is.
    """
    known = recorded_exports(run) | {_name(run, bundle): digest}
    content = json.dumps(schemas.EXPORTS.stamped({"digests": known}), indent=1) + "\n"
    write_text(run / EXPORTS, content)
    card = run / CARD
    try:
        text = read_text(card) if card.exists() else f"# {run.name}\n"
    except (OSError, ValueError):
        return
    lines = [f"- `{name}`: digest (SHA-256 of its manifest.json) `{value}`" for name, value in known.items()]
    how = "`ashneuro verify BUNDLE --digest DIGEST` compares it.\n"
    text = "\n".join([text.partition(CARD_SECTION)[0] + CARD_SECTION, *lines, "", how])
    write_text(card, text)


def recorded_exports(run: Path) -> dict[str, str]:
    """Return the digests of a run's bundles, by their folder; none where it cannot be read."""
    try:
        return dict(schemas.EXPORTS.load(run / EXPORTS)["digests"])
    except (OSError, ValueError):
        return {}


def recorded_digest(run: Path, bundle: Path) -> str | None:
    """Return the digest that a run recorded for a bundle at export; ``None``: it has none."""
    return recorded_exports(run).get(_name(run, bundle))


def _name(run: Path, bundle: Path) -> str:
    """Return the folder of a bundle relative to its run, so that both can be moved together."""
    inside = bundle.resolve().is_relative_to(run.resolve())
    return bundle.resolve().relative_to(run.resolve()).as_posix() if inside else str(bundle.resolve())


def weights_sha256(run: Path) -> str:
    """Return the SHA-256 of a run's current weights as hexadecimal digits."""
    require_regular(run / WEIGHTS)
    with (run / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
