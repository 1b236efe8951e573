"""Fixtures of other packages: the command line, training pairs and files of earlier versions."""

import nir
import numpy as np
import pytest

from tests.commands.conftest import ashneuro, pairs
from tests.formats.conftest import old
from tests.program import networks

__all__ = ["ashneuro", "graph", "old", "pairs"]


@pytest.fixture
def graph() -> nir.NIRGraph:
    """A dense layer of 4 LIF neurons behind 3 inputs."""
    rng = np.random.default_rng(0)
    return networks.chain((3,), networks.affine(3, 4, rng), networks.lif((4,), rng, uniform=True))
