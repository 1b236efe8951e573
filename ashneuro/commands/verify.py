"""``ashneuro verify``: a bundle, from its own files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ashneuro.commands.options import AsJson, LavaOptions
from ashneuro.errors import AshneuroError
from ashneuro.reporting import terminal


def verify(
    path: Path | None = None,
    /,
    *,
    silicon: Annotated[bool, Parameter(help="Replay recordings of a Loihi chip instead.", negative=())] = False,
    digest: Annotated[
        str | None, Parameter(help="The digest that export printed: fail if the bundle has another.")
    ] = None,
    lava: Annotated[bool, Parameter(help="Run Lava too.")] = True,
    options: LavaOptions | None = None,
    json: AsJson = False,
) -> int:
    """Verify a bundle from its own files alone; or the emulator, against recordings of a chip.

    Programs, script and reference spikes are computed again from the bundle's network and
    compared. A bundle that passes is consistent; --digest also tells whether it is the one that was
    exported. Exit code 1 if something differs. --silicon fetches the recordings in the lava-dl
    0.6.0 wheel (PyPI, BSD-3, 68 MB, once) and replays them.

    Args:
        path: a bundle, or a run that was exported.
    """
    from ashneuro.workflows.networks import open_bundle
    from ashneuro.workflows.verify import differences, require_digest
    from ashneuro.workflows.verify import verify as run

    if silicon:
        return _replay(json)
    if path is None:
        raise AshneuroError(
            "nothing to verify",
            "neither a bundle nor --silicon was given",
            "ashneuro verify BUNDLE, or ashneuro verify --silicon",
        )
    if digest is not None:
        require_digest(path, digest)  # before anything else of the bundle is read
    bundle = open_bundle(path)
    with terminal.progress() as progress:
        settings = (options or LavaOptions()).settings() if lava else None
        proof = run(bundle, lava=settings, progress=progress)
    if json:
        terminal.json({"digest": bundle.digest, **proof.to_json()})
    else:
        known = "which is the one given" if digest is not None else "not compared: give --digest"
        terminal.line(f"{bundle.folder}: digest {bundle.digest}, {known}")
        terminal.certificate(proof)
    for error in differences(bundle, proof):
        terminal.print_error(error)
    return 1 if proof.failed else 0


def _replay(json: bool) -> int:
    """Replay the recordings and print where the emulator differs."""
    from ashneuro.simulation.proof.silicon import verify_silicon

    with terminal.status("replaying recorded silicon") as say:
        report = verify_silicon(say=say)
    if json:
        terminal.json(report.to_json())
    else:
        terminal.silicon(report)
    return 1 if report.mismatches else 0
