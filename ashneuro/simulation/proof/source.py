"""Comparison of a module's spikes with those of its graph, population by population.

Spikes are compared exactly. Values (read-outs, graded messages) of the float64 copy may differ by
the rounding of sums in another order, those of the module itself by that of float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ashneuro.program.primitives import READ_OUT
from ashneuro.program.source import SourcePopulation
from ashneuro.program.wiring import Wiring, wire
from ashneuro.simulation.compare import read_outs_differ
from ashneuro.simulation.emulator.run_graph import run_graph
from ashneuro.spiking.contract import Contract

FLOAT32_TOLERANCE = 1e-4  # relative to max(1, |expected|): a float32 sum over hundreds of steps

Rasters = Mapping[str, NDArray[Any]]


def compare_source(
    graph: nir.NIRGraph | Wiring, contract: Contract, inputs: Any, sent: Rasters, exact: Rasters | None = None
) -> tuple[SourcePopulation, ...]:
    """Return the comparison of each population that a module sent values of.

    Args:
        inputs: (T, B, \\*shape), or arrays by input name.
        sent: (T, B, \\*shape) by node, as the module computed them.
        exact: the same of its float64 copy; ``None``: there is no copy, and nothing is a tie.

    Raises:
        GraphError: the graph cannot be simulated.
        DataError: the inputs do not fit.
    """
    wiring = wire(graph)
    record = run_graph(wiring, contract, inputs, rasters=list(sent))
    found = []
    for name, own in sent.items():
        raster = record.layers[name].raster
        assert raster is not None
        expected = np.asarray(raster).reshape(own.shape)
        valued = isinstance(wiring.nodes[name], READ_OUT)
        message = wiring.message(name, contract)
        valued = valued or (message.payload and not message.whole)
        differs = read_outs_differ(expected, own, FLOAT32_TOLERANCE) if valued else expected != own
        wrong = differs
        if exact is not None:
            wrong = read_outs_differ(expected, exact[name]) if valued else expected != exact[name]
        # Samples first: the first mismatch is the earliest in the first bad sample.
        where = np.argwhere(wrong.reshape(*own.shape[:2], -1).swapaxes(0, 1))
        first = (int(where[0][0]), int(where[0][1]), int(where[0][2])) if len(where) else None
        ties = int((differs & ~wrong).sum())
        spikes = 0 if isinstance(wiring.nodes[name], READ_OUT) else int(np.count_nonzero(own))
        found.append(SourcePopulation(name, own.size, spikes, len(where), ties, first))
    return tuple(found)
