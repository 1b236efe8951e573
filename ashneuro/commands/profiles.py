"""``ashneuro profiles``: hardware profiles, their sources, and their error on measured chips."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ashneuro.commands.options import AsJson
from ashneuro.cost.blank_profile import new_profile
from ashneuro.cost.profile import list_profiles, load_profile
from ashneuro.errors import ProfileError
from ashneuro.files import write_text
from ashneuro.reporting import explain as explaining
from ashneuro.reporting import terminal

profiles = App(name="profiles")


@profiles.default
@profiles.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List the profiles that come with ashneuro."""
    known = [load_profile(name) for name in list_profiles()]
    if json:
        found = []
        for profile in known:
            checks = Counter(quantity.check for _, quantity in profile.quantities())
            found.append(
                {key: getattr(profile, key) for key in ("name", "title", "kind", "boundary")} | {"checks": dict(checks)}
            )
        terminal.json(found)
        return
    terminal.profile_list(known)
    terminal.next_steps("ashneuro profiles show loihi1", "ashneuro profiles validate")


@profiles.command
def show(name: str, *, json: AsJson = False) -> None:
    """Show every number of a profile, with its range, boundary, basis and source.

    Args:
        name: a profile's name, or the path of a .toml.
    """
    profile = load_profile(name)
    if json:
        terminal.json(asdict(profile))
    else:
        terminal.profile_show(profile)


@profiles.command
def explain(name: str, number: str | None = None, /, *, json: AsJson = False) -> None:
    """Explain which costs a profile can price, and which not and why; or one of its numbers.

    Args:
        name: a profile's name, or the path of a .toml.
        number: its path in the profile, e.g. energy.synop.
    """
    profile = load_profile(name)
    lines = explaining.number(profile, number) if number else explaining.profile(profile)
    if json:
        terminal.json({"profile": profile.name, "number": number, "says": list(lines)})
        return
    for text in lines:
        terminal.line(text)


@profiles.command
def new(
    name: str, /, *, kind: Literal["neuromorphic", "asic", "gpu", "cpu"] = "neuromorphic", out: Path | None = None
) -> None:
    """Write an empty profile to fill in: valid, without a single number.

    Args:
        name: name of the chip: lower case letters, digits and hyphens.
        kind: kind of machine, which decides the units of its prices.
        out: file to write. Default: NAME.toml.
    """
    path = out or Path(f"{name}.toml")
    if path.exists():
        raise ProfileError(f"{path} exists", "an existing profile is never overwritten", "choose another --out")
    text = new_profile(name, kind)
    try:
        write_text(path, text)
    except OSError as error:
        raise ProfileError(
            f"cannot write {path}", error.strerror or str(error), "--out PATH in a folder that exists"
        ) from error
    terminal.wrote(path)
    terminal.next_steps(f"ashneuro profiles show {path}", f"ashneuro report RUN --profile {path}")


@profiles.command
def validate(
    *names: str,
    leave_one_out: Annotated[bool, Parameter(negative="")] = False,
    json: AsJson = False,
) -> None:
    """Compare predictions with published measurements of chips, misses included.

    Args:
        names: profiles to predict with: names, or paths of .toml files. Default: all with a name.
        leave_one_out: predict each workload that needs fitted prices with those of all others.
    """
    from ashneuro.cost.validate import score
    from ashneuro.cost.validate import validate as run
    from ashneuro.reporting.tables import validation as tables

    known = list_profiles()
    for name in names:
        if name not in known and not name.endswith(".toml"):
            raise ProfileError(
                f"there is no hardware profile {name!r}", f"known are {', '.join(known)}", "ashneuro profiles list"
            )
    result = run(names or None, leave_one_out=leave_one_out)
    if json:
        energies = [
            {**asdict(row), "ratio": row.ratio, "width": row.width, "verdict": row.verdict} for row in result.energies
        ]
        steps = [{**asdict(row), "ratio": row.ratio} for row in result.steps]
        partitions, skipped = ([asdict(row) for row in rows] for rows in (result.partitions, result.skipped))
        terminal.json(
            {
                "schema": "ashneuro.validation/1",
                "energies": energies,
                "score": asdict(score(row for row in result.energies if not row.is_ann)),
                "score_anns": asdict(score(row for row in result.energies if row.is_ann)),
                "steps": steps,
                "partitions": partitions,
                "skipped": skipped,
            }
        )
        return
    for table in (
        tables.left_out(result) if leave_one_out else tables.energies(result),
        tables.anns(result),
        tables.step_times(result),
        tables.partition_totals(result),
        tables.partitions(result),
        tables.skipped(result),
    ):
        if table.rows:
            terminal.show(table)
