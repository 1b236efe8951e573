"""Text of a valid profile without numbers, to be filled in."""

from __future__ import annotations

import re

from ashneuro.cost.profile import EVENTS, LIMITS, TIMES
from ashneuro.errors import ProfileError

BLANK_NUMBER = """\
# [{path}]{comment}
# value =\x20
# unit = "{unit}"
# covers = ""
# boundary = "op"   # op, core, chip, board or system
# basis = "measured"   # simulated, measured, model or specification
# status = "published"   # published, derived or estimate
# check = "V"   # V opened, Q quoted, S seen elsewhere, R recalled
# source = "paper"
# locator = ""   # table, page or file
"""


def new_profile(name: str, kind: str) -> str:
    """Return the TOML text of a valid profile without numbers; the keys of its kind are comments.

    Raises:
        ProfileError: the name is not made of lower-case letters, digits and hyphens.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ProfileError(
            f"{name!r} cannot name a profile", "names are lower-case letters, digits and hyphens", "choose another name"
        )
    tables = {
        "neuromorphic": {
            "energy": (
                "synop",
                "neuron_update_active",
                "neuron_update_inactive",
                "spike_out",
                "axon_out",
                "hop_ew",
                "hop_ns",
                "io_byte",
            ),
            "time": TIMES,
            "limits": tuple(LIMITS),
        },
        "asic": {"energy": tuple(key for key in EVENTS if key.startswith(("add_", "mult_", "sram_", "dram")))},
        "gpu": {"energy": ("mac",), "power": ("tdp",), "peak": ("fp32", "fp16", "int8")},
        "cpu": {"energy": ("mac",), "power": ("tdp",), "peak": ("fp32", "int8")},
    }[kind]
    units = {"energy": "pJ", "time": "ns", "limits": "1", "power": "W", "peak": "Top/s"}
    blocks = [
        BLANK_NUMBER.format(
            path=f"{table}.{key}", comment=f"   # {EVENTS[key]}" if table == "energy" else "", unit=units[table]
        )
        for table, keys in tables.items()
        for key in keys
    ]
    head = (
        f'schema = 1\nname = "{name}"\ntitle = "{name}"\nkind = "{kind}"\nboundary = "what is in the numbers"\n'
        'excludes = ["what is not"]\nreads = """\nHow to read what this profile gives."""\n\n'
        "# An unknown number stays a comment: it is never 0. low and high are given where the source has them.\n\n"
    )
    return (
        head
        + "\n".join(blocks)
        + '\n[sources.paper]\ntitle = "authors, title, venue, year"\nlink = "https://doi.org/"\n'
    )
