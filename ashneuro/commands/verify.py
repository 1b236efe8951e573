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
    from ashneuro.simulate.certificate import certify

    bundle = load_bundle(path)
    programs = {program.precision: program for program in (bundle.float_program, bundle.integer_program) if program is not None}
    with terminal.counting("proving") as tick:
        certificate = certify(bundle.graph, bundle.contract, programs, bundle.reference.inputs, lava=lava, progress=tick)
    stored = _stored_spikes_differ(bundle)
    if json:
        terminal.json({**certificate.to_json(), "reference_spikes_differ": stored})
    else:
        terminal.line(f"{bundle.folder}: {len(bundle.files)} files are as they were written")
        terminal.certificate(certificate.to_json())
        if stored:
            terminal.line(f"the stored reference spikes differ from those computed now in {stored} values", "red")
    return 1 if certificate.failed or stored else 0
