"""From a module in memory to a network whose graph spikes as the module does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ashneuro.errors import ProofError, need
from ashneuro.program.source import Source
from ashneuro.spiking.contract import ReadContract
from ashneuro.workflows.networks import Network

if TYPE_CHECKING:
    from torch import nn

    from ashneuro.frameworks.run import Traced


def from_torch(module: nn.Module, sample: Any, *, dt: float | None = None) -> Network:
    """Return the network of a module with spiking neurons, proved equal to the module.

    The module runs over the sample as its framework runs it, from a reset state and in evaluation;
    every population's spikes are compared with those of the graph in float64. The module stays as
    it is. What can be read: docs/from_torch.md.

    Args:
        module: neurons of Norse, snnTorch, sinabs, SpikingJelly, Rockpool or ashneuro, with layers
            of torch.nn around them.
        sample: inputs (T, B, *shape), a tensor or an array: steps, samples, and the shape that the
            first layer takes. They choose nothing in the graph but its input coding.
        dt: duration of a step, seconds, for modules that count steps. Default: 1 ms.

    Raises:
        GraphError: something in the module has no NIR form; it is named, with the reason.
        DataError: the sample does not fit.
        ProofError: the graph spikes otherwise than the module.
        MissingDependency: torch is not installed.
    """
    traced = need("ashneuro.frameworks.run", extra="train", purpose="reading a module").trace_module(
        module, sample, dt_s=dt
    )
    source = source_of(traced)
    if source.first is not None:
        name, (which, step, neuron) = source.first
        caveat, do = traced.caveats.get(name, ("", ""))
        raise ProofError(
            f"the graph of {traced.module} does not spike as the module does",
            f"{source.mismatches} of {source.compared} values differ, first in {name}, sample {which}, step {step},"
            f" neuron {neuron}" + (f"; {caveat}" if caveat else ""),
            do or "look there for what changes with time or with values: a graph has one set of weights for all steps",
        )
    return Network(
        traced.module,
        None,
        traced.graph,
        ReadContract(traced.contract, ()),
        source=source,
        sample=traced.inputs,
    )


def source_of(traced: Traced) -> Source:
    """Return the comparison of a module with its graph."""
    from ashneuro.simulation.proof.source import compare_source

    populations = compare_source(traced.graph, traced.contract, traced.inputs, traced.sent, traced.exact)
    timesteps, samples = traced.inputs.shape[:2]
    return Source(traced.module, traced.frameworks, samples, timesteps, populations)
