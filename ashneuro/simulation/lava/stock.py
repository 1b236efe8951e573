"""Lava's own ("stock") processes as the reference of batched synapses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ashneuro.errors import ConfigError, LavaError
from ashneuro.program.program import Layer
from ashneuro.simulation.compare import read_outs_differ

# Batched synapses are not Lava's own. In every run that uses them, some samples go through Lava's
# own processes first, and every layer has to send the same.
RUN_STOCK = 8  # in an ordinary run: enough to find a wrong shape or a wrong sum
PROOF_STOCK = 32  # in a certificate, which names the other samples as not compared


def require_stock(stock: int | None) -> None:
    """Raise `ConfigError` if no sample would check the batched synapses; ``None``: all samples."""
    if stock is not None and stock < 1:
        raise ConfigError(
            f"--stock {stock}",
            "batched synapses are proved on at least one sample",
            f"--stock {RUN_STOCK}, or --stock all",
        )


def require_equal(layer: Layer, expected: NDArray[np.generic], found: NDArray[np.generic], width: int) -> None:
    """Raise `LavaError` if a layer of the batched network sends other values than of the stock one.

    Args:
        expected, found: (T, B, *shape), the same samples in stock and in batched processes.
        width: number of samples side by side in the batched network.
    """
    differ = found != expected if layer.neuron.binary else read_outs_differ(expected, found)
    if differ.any():
        raise LavaError(
            f"layer {layer.name!r} answers otherwise with {width} samples side by side",
            f"{int(differ.sum())} of {differ.size} values differ from what Lava's own processes sent for the same"
            " samples",
            "--stock all runs every sample through Lava's own processes",
        )
