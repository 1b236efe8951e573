"""Errors that a user can cause or fix, in three parts.

    AshneuroError
    ├── ConfigError        a setting is unknown, or its value cannot be used
    ├── DataError          images, captions or a data pack cannot be read
    ├── GraphError         a NIR graph cannot be read, lowered or deployed
    ├── BundleError        a bundle is damaged, stale, or does not verify
    │   └── ProofError     computations that must agree differ
    ├── ProfileError       a hardware profile is not valid
    ├── LavaError          the Lava process could not start, or failed while it ran
    └── MissingDependency  an optional package is not installed

The command line prints the three parts and exits with ``exit_code``. A traceback is a bug.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class AshneuroError(Exception):
    """An error with its cause and its remedy.

    Args:
        what: what failed, in the user's own names.
        why: the rule that was broken, and the value that broke it.
        do: a command to run or an edit to make.
    """

    exit_code = 2

    def __init__(self, what: str, why: str = "", do: str = "") -> None:
        super().__init__(what, why, do)
        self.what, self.why, self.do = what, why, do

    def __str__(self) -> str:
        return "\n".join(
            part for part in (self.what, self.why and f"why: {self.why}", self.do and f"do:  {self.do}") if part
        )


class ConfigError(AshneuroError):
    """A setting is unknown, or its value cannot be used."""


class DataError(AshneuroError):
    """Images, captions or a data pack cannot be read."""


class GraphError(AshneuroError):
    """A NIR graph cannot be read, lowered or deployed."""


class BundleError(AshneuroError):
    """A bundle is damaged, stale, or does not verify."""


class ProofError(BundleError):
    """Computations that must agree differ."""

    exit_code = 1  # a finding about the bundle, not a wrong request


class ProfileError(AshneuroError):
    """A hardware profile is not valid."""


class LavaError(AshneuroError):
    """The Lava process could not start, or failed while it ran."""

    exit_code = 3


class MissingDependency(AshneuroError):
    """An optional package is not installed."""

    exit_code = 3


def need(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import and return an optional ``module``.

    Args:
        extra: extra of ashneuro that installs it.
        purpose: subject of the error message.

    Raises:
        MissingDependency: the module, or one that it imports, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"{purpose} needs the package {(error.name or module).partition('.')[0]!r}",
            f"it cannot be imported here ({error})",
            f"pip install 'ashneuro[{extra}]'",
        ) from error
