"""The command line as a fixture, for workflows that are tested through their verb."""

from tests.commands.conftest import ashneuro, pairs  # noqa: F401
