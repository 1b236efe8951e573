"""``ashneuro doctor``: the state of this installation, and the commands that mend it."""

from __future__ import annotations

import os
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ashneuro.reporting import terminal

if TYPE_CHECKING:
    from ashneuro.workflows.doctor import Check

WIDTH = 110


def doctor(
    *,
    setup: Annotated[
        Literal["lava", "sanafe"] | None,
        Parameter(help="Make an environment: Lava's, of Python 3.10; or SANA-FE's (GPL, optional)."),
    ] = None,
    lava_command: Annotated[
        str | None, Parameter(help="Look at the Lava that this command reaches, e.g. on another host.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print JSON instead of text.", negative=())] = False,
) -> int:
    """List the state of this installation, and the commands that mend what is missing.

    The block can be pasted into a bug report as it is.
    """
    from ashneuro.workflows.doctor import examine

    if setup == "lava":
        return _set_up_lava()
    if setup == "sanafe":
        return _set_up_sanafe()
    checks = [*examine(lava_command), _completion()]
    if json:
        terminal.json([asdict(check) for check in checks])
        return 0
    names = max(len(check.name) for check in checks)
    for check in checks:
        indent = " " * (names + 2)
        first = f"{check.name:<{names}}  "
        for line in textwrap.wrap(
            check.found, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
        ):
            terminal.line(line)
    to_mend = [check for check in checks if check.mend]
    terminal.line()
    terminal.line("to mend:" if to_mend else "nothing is missing")
    for check in to_mend:
        terminal.line(f"  {check.mend}   # {check.name}")
    return 0


def _set_up_lava() -> int:
    from ashneuro.simulation.lava import environment

    with terminal.status("making the Lava environment (Python 3.10)") as say:
        python = environment.set_up(say)
    terminal.line(f"Lava environment ready: {python}")
    return 0


def _set_up_sanafe() -> int:
    from ashneuro.simulation.sanafe import environment

    with terminal.status("making an environment with SANA-FE") as say:
        python = environment.set_up(say)
    terminal.line(f"SANA-FE environment ready: {python}")
    return 0


def _completion() -> Check:
    """Return the state of completions in the user's shell; without them nothing is at fault."""
    from cyclopts.completion.install import get_default_completion_path

    from ashneuro.workflows.doctor import Check

    shells: tuple[Literal["bash", "zsh", "fish"], ...] = ("bash", "zsh", "fish")
    named = Path(os.environ.get("SHELL", "")).name
    shell = next((each for each in shells if each == named), None)
    if shell is None:
        return Check("completion", f"not available for the shell {named or 'of this process'}; for bash, zsh and fish")
    try:
        script = get_default_completion_path(shell, "ashneuro")
    except (OSError, RuntimeError) as error:  # no home folder, or one that cannot be written to
        return Check("completion", f"cannot be installed for {shell}: {error}")
    if not script.exists():
        return Check("completion", f"not installed for {shell} (optional): ashneuro --install-completion")
    return Check("completion", f"{shell}: {script}")
