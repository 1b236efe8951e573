"""Interpreters of their own, in which Lava and SANA-FE run."""

from __future__ import annotations

import os


def clean_environment() -> dict[str, str]:
    """Return the environment variables without those of this interpreter."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
