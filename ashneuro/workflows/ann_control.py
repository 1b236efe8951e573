"""Runs whose abstract encoder is an ANN, or absent: their work, and the bits that price it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ashneuro.config import AbstractConfig, ModelConfig, relu_bits, with_encoder
from ashneuro.cost.comparison.contenders import Role
from ashneuro.cost.comparison.sides import twin_bits
from ashneuro.cost.workload import ann_twin, host_workload
from ashneuro.errors import need

if TYPE_CHECKING:
    from ashneuro.cost.workload import Workload
    from ashneuro.program.program import Program
    from ashneuro.training.checkpoint import Run

PRECISION = "int8"
# Controls that a comparison prices from the topology alone, by the kind of their abstract encoder.
TWINS = {"relu": Role.ANN_TWIN, "quantised-relu": Role.LOW_BIT_TWIN}


def control_workload(run: Run) -> Workload:
    """Return the work of one image of a run without spikes, its host part included."""
    from ashneuro.model.deploy import host_layers

    host = host_layers(run.model)
    if run.config.model.abstract.kind == "none":
        return host_workload(host)
    return ann_twin(_same_topology(run), host_layers=host)


def deployed_precision(settings: AbstractConfig) -> str:
    """Return the precision at which an abstract encoder is priced, ``"intB"``.

    Weights have 8 bits; B bits are those of the values between layers: a quantised ReLU's, a graded
    message's (8 at most), else 8.
    """
    if settings.kind == "quantised-relu":
        return f"int{min(8, relu_bits(settings))}"
    if settings.graded:
        return f"int{min(8, settings.message_bits)}"
    return PRECISION


def same_layers(one: ModelConfig, other: ModelConfig) -> bool:
    """Return True if two models do the same work on an image but for their neurons."""

    def layers(model: ModelConfig) -> tuple[object, ...]:
        encoder = model.abstract
        shape = (encoder.channels, encoder.block, encoder.units, encoder.codebook, encoder.codebook_groups)
        return (model.concrete, model.embedding, *shape)

    return layers(one) == layers(other)


def twin_role(run: Run, program: Program, other: Run) -> Role | None:
    """Return the twin of ``run`` that ``other`` is: an ANN of its layers and its twin's bits.

    Args:
        program: integer program of ``run``.
    """
    settings = other.config.model.abstract
    if settings.kind not in TWINS or not same_layers(run.config.model, other.config.model):
        return None
    payload = max((layer.neuron.message.bits for layer in program.layers if layer.neuron.payload), default=0)
    if settings.kind != "relu" and deployed_precision(settings) != f"int{twin_bits(program.timesteps or 1, payload)}":
        return None
    return TWINS[settings.kind]


def _same_topology(run: Run) -> Program:
    """Return a spiking program of the run's topology: an ANN control is priced by its layers,
    whatever its weights.
    """
    from ashneuro.model.deploy import deployed_graph
    from ashneuro.program.lower import lower
    from ashneuro.spiking.contract import read_contract

    build_model = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run").build_model
    spiking = with_encoder(run.config, replace(run.config.model.abstract, kind="spiking"))
    graph = deployed_graph(build_model(spiking, run.vocabulary, run.labels, load=False).eval())
    return lower(graph, read_contract(graph.metadata).contract)
