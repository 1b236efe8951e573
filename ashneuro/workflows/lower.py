"""Lowering: a network as an ordered program, in floats or in Loihi's integers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.errors import ConfigError
from ashneuro.program.bundle import Bundle
from ashneuro.program.program import Precision, Program
from ashneuro.workflows.networks import Network, Overrides, named_inputs, open_network
from ashneuro.workflows.progress import Progress, silent

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray


def lower(
    source: str | Path | nir.NIRGraph | Network | Bundle,
    precision: Precision = "float",
    *,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    contract: Overrides | None = None,
    progress: Progress = silent,
) -> Program:
    """Return the program of a network.

    Args:
        source: a run, a bundle (its own programs are taken), a NIR graph or file, or a lava-dl
            file.
        precision: ``"float"``, or ``"integer"`` for Loihi's arithmetic.
        inputs: samples (T, B, *shape) that choose the integer scales of a graph.
        contract: fields of `Contract` that win over the source's.
        progress: called with (phase, done, total).

    Raises:
        GraphError: the graph cannot be lowered, or expressed in integers; every reason at once.
        ConfigError: integers are asked for without samples, or floats of a lava-dl file.
        BundleError: the bundle has no program of this precision.
    """
    if isinstance(source, Bundle):
        return source.program(precision)
    network = open_network(source, contract)
    if network.is_netx:
        if precision == "float":
            raise ConfigError(f"{network.name} as floats", "a lava-dl network is integers alone", 'lower(…, "integer")')
        return network.program
    if precision == "float":
        return network.program
    if inputs is None:
        why = "integer scales are chosen on samples"
        raise ConfigError(f"{network.name} as integers without inputs", why, 'lower(…, "integer", inputs=x)')
    from ashneuro.simulation.calibrate import calibrate

    tick = partial(progress, "choosing integer scales")
    return calibrate(network.program, named_inputs(inputs, network.input_names), progress=tick).program
