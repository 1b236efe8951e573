"""``ashneuro verify``: prove a bundle again, from the bundle alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ashneuro.commands.targets import load_bundle
from ashneuro.report import terminal


def verify(
    path: Path,
    /,
    *,
    lava: Annotated[bool, Parameter(help="Run Lava too.")] = True,
    json: Annotated[bool, Parameter(help="Print JSON instead of tables.", negative=())] = False,
) -> int:
    """Prove a bundle again, from the bundle alone. Exit code 1 when something differs.

    Args:
        path: a bundle, or a run that was exported.
    """
    from ashneuro.simulate import certificate

    bundle = load_bundle(path)
    with terminal.counting("proving") as tick:
        proof = certificate.verify(bundle, lava=lava, progress=tick)
    if json:
        terminal.json(proof.to_json())
    else:
        terminal.line(f"{bundle.folder}: {len(bundle.files)} files are as they were written")
        terminal.certificate(proof.to_json())
    return 1 if proof.failed else 0
