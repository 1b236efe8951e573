"""Errors that a user can cause or fix, in three parts.

    AshneuroError
    ├── ConfigError        a setting is unknown, or its value cannot be used
    ├── DataError          images, captions or a data pack cannot be read
    ├── GraphError         a NIR graph cannot be read, lowered or deployed
    ├── BundleError        a bundle is damaged, stale, or does not verify
    │   └── ProofError     computations that must agree differ
    ├── ProfileError       a hardware profile is not valid
    ├── LavaError          the Lava process could not start, or failed while it ran
    ├── MissingDependency  an optional package is not installed
    └── Fault              an exception that nobody foresaw: a bug of ashneuro

The command line prints the three parts and exits with ``exit_code``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
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


def install_command(extra: str = "") -> str:
    """Return the pip command that installs ashneuro again, with an extra, from where it came.

    A checkout is installed from its folder, a wheel or repository from its address (PEP 610), and
    what came from a package index by its name.
    """
    import importlib.metadata
    import json

    wanted = f"[{extra}]" if extra else ""
    folder = Path(__file__).parents[1]
    if (folder / "pyproject.toml").is_file():
        return f"pip install -e '{'.' if folder == Path.cwd() else folder}{wanted}'"
    try:
        origin = json.loads(importlib.metadata.distribution("ashneuro").read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, json.JSONDecodeError):
        origin = {}
    if "url" not in origin:
        return f"pip install 'ashneuro{wanted}'"
    address = origin["url"]
    if commit := origin.get("vcs_info"):
        address = f"{commit['vcs']}+{address}@{commit['commit_id']}"
    return f"pip install 'ashneuro{wanted} @ {address}'"


class Fault(AshneuroError):
    """An exception that nobody foresaw; the command line writes its traceback to a file."""

    exit_code = 4


def words_of(error: BaseException) -> str:
    """Return the first line of a library's error, or its type if it says nothing.

    torch answers a pickle that it does not load with the advice to load it with weights_only=False,
    which runs the code in it; that advice is not passed on.
    """
    if "weights_only" in str(error):
        return "it is damaged, or it holds more than weights, which could run code and is not loaded"
    return next(iter(str(error).splitlines()), type(error).__name__)


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
            install_command(extra),
        ) from error
