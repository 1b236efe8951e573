"""Skip tests whose environment is missing, with the command that sets it up."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {"lava": _no_lava(), "gpu": _no_gpu(), "sanafe": _no_sanafe()}
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _no_lava() -> str:
    from ashneuro.errors import LavaError
    from ashneuro.simulation.lava.environment import find_interpreter

    # Where Lava is expected, its tests fail instead of being skipped.
    if os.environ.get("ASHNEURO_REQUIRE_LAVA"):
        return ""
    try:
        find_interpreter()
    except LavaError as error:
        return f"{error.what}; run: {error.do}"
    return ""


def _no_gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else "no NVIDIA GPU here; run `make test-gpu` on a machine that has one"


def _no_sanafe() -> str:
    from ashneuro.errors import MissingDependency
    from ashneuro.simulation.sanafe.environment import find_environment

    try:
        find_environment()
    except MissingDependency as error:
        return f"{error.what}; run: {error.do}"
    return ""
