"""Verification: a bundle's proof again, from the bundle alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.workflows.export import proof_options
from ashneuro.workflows.lava import LOCAL_LAVA, LavaSettings, require_settings
from ashneuro.workflows.networks import open_bundle
from ashneuro.workflows.progress import Progress, silent

if TYPE_CHECKING:
    from ashneuro.program.bundle import Bundle
    from ashneuro.program.certificate import Certificate


def verify(
    source: str | Path | Bundle, *, lava: LavaSettings | None = LOCAL_LAVA, progress: Progress = silent
) -> Certificate:
    """Return the certificate of a bundle, computed again from the bundle alone.

    Args:
        source: a bundle, or a run that was exported.
        lava: settings of Lava; ``None``: the proof does without.
        progress: called with (phase, computations done, computations in all).

    Raises:
        BundleError: there is no bundle, a file of it was changed, or it cannot be read.
        LavaError: Lava started, and failed.
        ConfigError: ``lava`` is something else.
    """
    from ashneuro.simulation.proof import certify

    require_settings(lava)
    bundle = open_bundle(source)
    proof = certify.verify(bundle, **proof_options(lava), progress=partial(progress, "proving"))
    # The module is not in the bundle: its comparison is the one of the export.
    return replace(proof, source=bundle.certificate.source if bundle.certificate else None)
