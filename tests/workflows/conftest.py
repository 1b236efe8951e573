"""Fixtures of other packages: the command line, training pairs and files of earlier versions."""

from tests.commands.conftest import ashneuro, pairs
from tests.formats.conftest import old

__all__ = ["ashneuro", "old", "pairs"]
