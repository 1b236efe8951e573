"""Verification: a bundle's proof again, from the bundle alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.errors import ConfigError, ProofError
from ashneuro.program.bundle import bundle_digest
from ashneuro.workflows.export import proof_options
from ashneuro.workflows.lava import LOCAL_LAVA, LavaSettings, require_settings
from ashneuro.workflows.networks import bundle_folder, open_bundle
from ashneuro.workflows.progress import Progress, silent

if TYPE_CHECKING:
    from ashneuro.program.bundle import Bundle
    from ashneuro.program.certificate import Certificate, Check


def verify(
    source: str | Path | Bundle,
    *,
    digest: str | None = None,
    lava: LavaSettings | None = LOCAL_LAVA,
    progress: Progress = silent,
) -> Certificate:
    """Return the certificate of a bundle, computed again from the bundle alone.

    A bundle that passes is consistent: its programs, its script and its answers follow from its
    network. That it is the one that somebody exported, only its ``digest`` shows.

    Args:
        source: a bundle, or a run that was exported.
        digest: SHA-256 that `export` printed for the bundle, as 64 hexadecimal digits. Compared
            before any other file is read.
        lava: settings of Lava; ``None``: the proof runs without Lava.
        progress: called with (phase, computations done, computations in all).

    Raises:
        BundleError: there is no bundle, a file of it was changed, or it cannot be read.
        ProofError: it has another digest.
        LavaError: Lava started, and failed.
        ConfigError: ``lava`` or ``digest`` is something else.
    """
    from ashneuro.simulation.proof import certify

    require_settings(lava)
    if digest is not None:
        require_digest(source, digest)
    bundle = open_bundle(source)
    proof = certify.verify(bundle, **proof_options(lava), progress=partial(progress, "proving"))
    recorded = bundle.certificate
    if recorded is None:
        return proof
    # Neither the module nor the task is in the bundle: these numbers are those of the export.
    said = [f"{recorded.source.module}: its row is that of certificate.json"] if recorded.source else []
    said += ["task metrics in certificate.json"] if recorded.accuracy else []
    return replace(proof, source=recorded.source, taken_over=tuple(said))


def require_digest(source: str | Path | Bundle, digest: str) -> None:
    """Raise unless a bundle has the ``digest`` that somebody else gave for it.

    Raises:
        ConfigError: ``digest`` is not a SHA-256.
        ProofError: the bundle has another one.
    """
    wanted = digest.strip().lower().removeprefix("sha256:")
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        why = "a digest is a SHA-256: 64 hexadecimal digits"
        raise ConfigError(f"--digest {digest}", why, "give the digest that `ashneuro export` printed, whole")
    folder = bundle_folder(source)
    if (found := bundle_digest(folder)) != wanted:
        why = f"its manifest.json has the digest {found}, not {wanted}"
        raise ProofError(f"{folder} is another bundle", why, "get the bundle again from whoever gave you the digest")


def certified(bundle: Bundle, run: Path | None = None) -> Certificate | None:
    """Return a bundle's certificate, to be shown elsewhere, if its files are consistent.

    Nothing is simulated: the numbers of the comparisons remain those of the export.

    Args:
        run: the run whose bundle it is; where it recorded the digest, the bundle must have it.

    Raises:
        ProofError: the bundle has another digest, or its files do not belong together.
    """
    from ashneuro.simulation.proof.consistency import check_bundle, check_certificate
    from ashneuro.training.provenance import recorded_digest

    recorded = None if run is None else recorded_digest(run, bundle.folder)
    if recorded is not None and recorded != bundle.digest:
        why = f"its digest is {bundle.digest}; when it was exported it was {recorded}"
        raise ProofError(f"{bundle.folder} is not the bundle of {run}", why, f"ashneuro export {run}")
    if bundle.certificate is None:
        return None
    checked = replace(bundle.certificate, checks=(*check_bundle(bundle), *check_certificate(bundle)))
    for error in differences(bundle, checked):
        raise error
    said = "the numbers were computed at export: `ashneuro verify` computes them again"
    return replace(bundle.certificate, taken_over=(said,))


def differences(bundle: Bundle, proof: Certificate) -> tuple[ProofError, ...]:
    """Return an error for each part of a bundle that a proof found to differ."""
    return tuple(
        ProofError(f"{bundle.folder} does not verify: {check.what}", _why(check), check.do)
        for check in proof.checks
        if check.status == "different"
    )


def _why(check: Check) -> str:
    counted = f"{check.differing:,} of {check.compared:,} values differ, " if check.compared else ""
    return f"{counted}{check.detail}"
