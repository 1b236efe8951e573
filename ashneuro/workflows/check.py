"""Check: every finding about running a network on a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ashneuro.program.check import check as check_graph
from ashneuro.program.check import sanafe_findings
from ashneuro.program.netx.read import netx_findings
from ashneuro.program.rules.finding import Findings
from ashneuro.program.rules.loihi import check_program
from ashneuro.workflows.networks import Network, Overrides, named_inputs, open_network
from ashneuro.workflows.sanafe import sanafe_limits

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.program.bundle import Bundle
    from ashneuro.training.checkpoint import Run


def check(
    source: str | Path | nir.NIRGraph | Network | Bundle | Run,
    target: Literal["lava", "nir", "sanafe"] = "lava",
    *,
    inputs: str | Path | NDArray[np.generic] | Mapping[str, NDArray[np.generic]] | None = None,
    contract: Overrides | None = None,
) -> Findings:
    """Return every finding about running a network on a target: errors first, then notes.

    Args:
        source: a run, a bundle, a NIR graph or file, or a lava-dl file.
        target: ``"lava"``; ``"nir"`` for a graph that is only to be valid and runnable in float;
            ``"sanafe"`` for one that SANA-FE's model of Loihi computes.
        inputs: samples (T, B, *shape), whose magnitude the integers have to hold. Default: the
            sample of a module.
        contract: fields of `Contract` that win over the source's.

    Raises:
        AshneuroError: the source or the inputs cannot be read.
    """
    network = open_network(source, contract)
    inputs = network.sample if inputs is None else inputs
    if network.is_netx:
        assert network.path is not None
        findings = netx_findings(network.path, network.reading)
        sound = all(finding.ok for finding in findings)
        findings += check_program(network.program) if sound else []
        findings += sanafe_findings(network.program, sanafe_limits()) if sound and target == "sanafe" else []
        return Findings(findings)
    peaks = _peaks(network, inputs) if inputs is not None and target != "nir" else None
    limits = sanafe_limits() if target == "sanafe" else None
    assert network.contract_read is not None
    return check_graph(network.wiring, network.contract_read, target, input_peak=peaks, limits=limits)


def _peaks(network: Network, inputs: Any) -> dict[str, float]:
    """Return the largest magnitude of each analog input; nothing where the graph does not give its
    inputs' shapes.
    """
    from ashneuro.simulation.emulator.run_graph import graph_ports
    from ashneuro.simulation.inputs import check_inputs, input_peaks

    names, wiring = network.input_names, network.wiring
    given = named_inputs(inputs, names)
    if not names or any(wiring.in_shapes[name] is None for name in names):
        return {}
    ports = graph_ports(wiring, network.contract)
    return input_peaks(ports, check_inputs(ports, network.contract.timesteps, given))
