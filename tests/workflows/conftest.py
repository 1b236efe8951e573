"""Fixtures of the command line, for workflows that are tested through their command."""

from tests.commands.conftest import ashneuro, pairs  # noqa: F401
