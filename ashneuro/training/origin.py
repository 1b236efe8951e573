"""Which weights a bundle was exported from, or a result computed with, so that it is not passed off as that of others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ORIGIN = "origin.json"
WEIGHTS = "model.safetensors"


def run_origin(run: Path) -> dict[str, str]:
    """Return the file of a bundle, by name, that ties it to the weights that ``run`` has now."""
    return {ORIGIN: json.dumps({"run": run.name, "weights_sha256": weights_sha256(run)})}


def same_weights(bundle: Path, run: Path) -> bool | None:
    """Whether ``bundle`` was exported from the weights that ``run`` has now; ``None`` when it does not say."""
    file = bundle / ORIGIN
    return bool(json.loads(file.read_text())["weights_sha256"] == weights_sha256(run)) if file.exists() else None


def weights_sha256(run: Path) -> str:
    """Return the SHA-256 of the weights that ``run`` has now, in hexadecimal digits."""
    return hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()
