"""``ashneuro verify``: prove a bundle again, from the bundle alone."""

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
    lava: Annotated[bool, Parameter(help="Run Lava too.")] = True,
    options: LavaOptions | None = None,
    json: AsJson = False,
) -> int:
    """Prove a bundle again, from the bundle alone; or the emulator, against recorded silicon.

    Exit code 1 when something differs. --silicon fetches the recordings that the lava-dl 0.6.0
    wheel carries (PyPI, BSD-3, 68 MB, once) and replays them.

    Args:
        path: a bundle, or a run that was exported.
    """
    from ashneuro.workflows.networks import open_bundle
    from ashneuro.workflows.verify import verify as run

    if silicon:
        return _replay(json)
    if path is None:
        raise AshneuroError(
            "nothing to verify",
            "neither a bundle nor --silicon was given",
            "ashneuro verify BUNDLE, or ashneuro verify --silicon",
        )
    bundle = open_bundle(path)
    with terminal.progress() as progress:
        proof = run(bundle, lava=(options or LavaOptions()).settings() if lava else None, progress=progress)
    if json:
        terminal.json(proof.to_json())
    else:
        terminal.line(f"{bundle.folder}: {len(bundle.files)} files are as they were written")
        terminal.certificate(proof)
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
