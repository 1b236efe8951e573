"""``ashneuro profiles``: which chips are known, and where each number comes from."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from ashneuro.cost.profile import list_profiles, load_profile
from ashneuro.report import terminal

profiles = App(name="profiles", help="Which chips are known, and where does each number come from?")


@profiles.default
@profiles.command(name="list")
def list_() -> None:
    """The profiles that come with ashneuro."""
    terminal.profile_list([load_profile(name) for name in list_profiles()])
    terminal.next_steps("ashneuro profiles show loihi1")


@profiles.command
def show(name: str, *, json: Annotated[bool, Parameter(help="Print JSON instead of a table.", negative=())] = False) -> None:
    """Every number of one profile, with its range, boundary, basis and source.

    Args:
        name: a profile's name, or the path of a .toml.
    """
    profile = load_profile(name)
    if json:
        terminal.json(asdict(profile))
    else:
        terminal.profile_show(profile)
