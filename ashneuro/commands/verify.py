"""``ashneuro verify``: prove a bundle again, from the bundle alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ashneuro.commands.lava_options import LavaOptions
from ashneuro.commands.targets import load_bundle
from ashneuro.errors import AshneuroError
from ashneuro.reporting import terminal


def verify(
    path: Path | None = None,
    /,
    *,
    silicon: Annotated[
        bool, Parameter(help="Replay what was recorded from a Loihi chip instead.", negative=())
    ] = False,
    lava: Annotated[bool, Parameter(help="Run Lava too.")] = True,
    options: LavaOptions | None = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of tables.", negative=())] = False,
) -> int:
    """Prove a bundle again, from the bundle alone; or the emulator, against recorded silicon. Exit code 1 when something differs.

    --silicon fetches the recordings that the lava-dl 0.6.0 wheel carries (PyPI, BSD-3, 68 MB, once) and replays them.

    Args:
        path: a bundle, or a run that was exported.
    """
    from ashneuro.simulation.lava.stock import PROOF_STOCK
    from ashneuro.simulation.proof import certify

    if silicon:
        return replay(json)
    if path is None:
        raise AshneuroError(
            "nothing to verify",
            "neither a bundle nor --silicon was given",
            "ashneuro verify BUNDLE, or ashneuro verify --silicon",
        )

    bundle = load_bundle(path)
    with terminal.counting("proving") as tick:
        how = options or LavaOptions()
        stock = how.stock_samples(PROOF_STOCK)
        certificate = certify.verify(bundle, lava=lava, worker=how.opened, stock=stock, progress=tick)
    if json:
        terminal.json(certificate.to_json())
    else:
        terminal.line(f"{bundle.folder}: {len(bundle.files)} files are as they were written")
        terminal.certificate(certificate)
    return 1 if certificate.failed else 0


def replay(json: bool) -> int:
    """Replay the recordings and print where the emulator differs."""
    from ashneuro.simulation.proof.silicon import verify_silicon

    with terminal.status("replaying recorded silicon") as say:
        report = verify_silicon(say=say)
    if json:
        terminal.json(report.to_json())
    else:
        terminal.silicon(report)
    return 1 if report.mismatches else 0
