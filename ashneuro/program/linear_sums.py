"""What reaches each node of a NIR graph, as a sum over the neurons and inputs that it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_matrix

from ashneuro.program.program import Shape, Synapse
from ashneuro.program.synapse import compose, matrix, sparse
from ashneuro.program.wiring import Wiring, delay_steps, numbers, window


@dataclass(frozen=True, eq=False)
class Term:
    """What one source contributes: ``synapse`` (``None``: the identity) of its values ``lag`` steps ago, through nodes ``nir``."""

    source: str
    synapse: Synapse | None = None
    lag: int = 0
    nir: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Sum:
    """The value of a node: terms, and a constant (flat; ``None`` for zero) that stems from the biases of nodes ``nir``."""

    terms: tuple[Term, ...] = ()
    constant: NDArray[np.float64] | None = None
    nir: tuple[str, ...] = ()


def linear_sums(wiring: Wiring, dt_s: float) -> dict[str, Sum]:
    """Return the value of every node between neurons (linear nodes, delays, ends of nested graphs) in a graph without findings."""
    between = set(wiring.named("linear", "pass", "delay"))
    waiting = {
        name: sum(source in between for source in wiring.sources(name)) for name in wiring.nodes if name in between
    }
    ready = [name for name, sources in waiting.items() if sources == 0]
    sums: dict[str, Sum] = {}
    while ready:
        name = ready.pop(0)
        sums[name] = _through(wiring, name, incoming(wiring, sums, name), dt_s)
        for target in wiring.targets(name):
            if target in waiting:
                waiting[target] -= 1
                if waiting[target] == 0:
                    ready.append(target)
    return sums


def incoming(wiring: Wiring, sums: dict[str, Sum], name: str) -> Sum:
    """Return the sum of everything that the edges bring to ``name``."""
    terms: list[Term] = []
    constant = None
    origin: dict[str, None] = {}
    for source in wiring.sources(name):
        if source not in sums:
            terms.append(Term(source))
            continue
        value = sums[source]
        terms.extend(value.terms)
        if value.constant is not None:
            constant = value.constant if constant is None else constant + value.constant
            origin |= dict.fromkeys(value.nir)
    return Sum(tuple(terms), constant, tuple(origin))


def linear_synapse(node: Any, in_shape: Shape, out_shape: Shape) -> Synapse:
    """Return the linear part of a NIR node."""
    if isinstance(node, nir.Affine | nir.Linear):
        weight = numbers(node, "weight")
        if weight.ndim == 2:
            return Synapse("dense", in_shape, out_shape, weight)
        blocks = weight.reshape(-1, *weight.shape[-2:])
        return sparse(csr_matrix(block_diag(list(blocks), format="csr")), in_shape, out_shape)
    if isinstance(node, nir.Scale):
        return Synapse("scale", in_shape, out_shape, numbers(node, "scale"))
    slide = window(node)
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        weight, groups = numbers(node, "weight"), int(node.groups)
    else:
        value = 1.0 if isinstance(node, nir.SumPool2d) else 1.0 / math.prod(slide.kernel)
        weight, groups = np.full((in_shape[0], 1, *slide.kernel), value), in_shape[0]
    return Synapse("conv", in_shape, out_shape, weight, slide.stride, slide.padding, slide.dilation, groups)


def _through(wiring: Wiring, name: str, value: Sum, dt_s: float) -> Sum:
    node, in_shape, out_shape = wiring.nodes[name], wiring.in_shapes[name], wiring.out_shapes[name]
    assert in_shape is not None and out_shape is not None
    if isinstance(node, nir.Delay):
        steps = np.broadcast_to(delay_steps(node, dt_s), in_shape)
        return replace(value, terms=tuple(late for term in value.terms for late in _delayed(term, steps, name)))
    if wiring.roles[name] == "pass" or isinstance(node, nir.Flatten):
        return value
    step = linear_synapse(node, in_shape, out_shape)
    terms = tuple(
        replace(term, synapse=compose(term.synapse, step), nir=(*term.nir, name))
        for term in _merged(value.terms, in_shape)
    )
    constant, origin = value.constant, value.nir
    if constant is not None:
        constant = matrix(step) @ constant
    bias = numbers(node, "bias") if isinstance(node, nir.Affine | nir.Conv1d | nir.Conv2d) else np.zeros(1)
    if bias.any():
        per_channel = isinstance(node, nir.Conv1d | nir.Conv2d) and bias.ndim == 1
        bias = bias.reshape(-1, *[1] * (len(out_shape) - 1)) if per_channel else bias
        spread = np.broadcast_to(bias, out_shape).ravel()
        constant = spread if constant is None else constant + spread
        origin = (*origin, name)
    return Sum(terms, constant, origin)


def _delayed(term: Term, steps: NDArray[np.float64], name: str) -> list[Term]:
    """Return ``term`` later by ``steps``: one term for each length of delay, with the elements that have it."""
    lengths = np.unique(steps)
    if len(lengths) == 1:
        return [replace(term, lag=term.lag + int(lengths[0]), nir=(*term.nir, name))]
    return [
        Term(
            term.source,
            compose(term.synapse, Synapse("scale", steps.shape, steps.shape, (steps == length).astype(float))),
            term.lag + int(length),
            (*term.nir, name),
        )
        for length in lengths
    ]


def _merged(terms: tuple[Term, ...], shape: Shape) -> list[Term]:
    """Return ``terms`` with those of the same source and lag added up, so that their number cannot explode."""
    groups: dict[tuple[str, int], list[Term]] = {}
    for term in terms:
        groups.setdefault((term.source, term.lag), []).append(term)
    identity = Synapse("scale", shape, shape, np.ones(()))
    merged = []
    for (source, lag), group in groups.items():
        if len(group) == 1:
            merged.append(group[0])
            continue
        synapses = [term.synapse or identity for term in group]
        total = sum((matrix(synapse) for synapse in synapses[1:]), start=matrix(synapses[0]))
        nodes = tuple(dict.fromkeys(name for term in group for name in term.nir))
        merged.append(Term(source, sparse(total, synapses[0].in_shape, shape), lag, nodes))
    return merged
