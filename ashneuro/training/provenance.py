"""Hash of a run's weights, which ties bundles and results to the weights they were made with.

Imports no torch: commands check a bundle before they load anything.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ORIGIN = "origin.json"
WEIGHTS = "model.safetensors"


def run_origin(run: Path) -> dict[str, str]:
    """Return the file, as name and text, that records a run's current weights in a bundle."""
    return {ORIGIN: json.dumps({"run": run.name, "weights_sha256": weights_sha256(run)})}


def same_weights(bundle: Path, run: Path) -> bool | None:
    """Return True if the bundle has the run's current weights, None if it does not say."""
    file = bundle / ORIGIN
    return bool(json.loads(file.read_text())["weights_sha256"] == weights_sha256(run)) if file.exists() else None


def weights_sha256(run: Path) -> str:
    """Return the SHA-256 of a run's current weights as hexadecimal digits."""
    return hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()
