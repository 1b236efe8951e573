"""Linear sums: the input of every NIR node in terms of the neurons and inputs that reach it.

All linear nodes between two populations become one synapse per path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import block_diag, csr_matrix

from ashneuro.program.primitives import delay_steps, numbers, window
from ashneuro.program.program import Shape, Synapse
from ashneuro.program.synapse import compose, matrix, sparse
from ashneuro.program.wiring import Wiring


@dataclass(frozen=True, eq=False)
class Contribution:
    """The values of one source, ``lag`` steps ago, through ``synapse`` (``None``: identity).

    Args:
        source: name of a neuron or an Input.
        synapse: product of the linear nodes on the path.
        lag: sum of the delays on the path, in steps.
        nir: names of the nodes on the path.
        imaginary: it enters the imaginary part of neurons that resonate.
    """

    source: str
    synapse: Synapse | None = None
    lag: int = 0
    nir: tuple[str, ...] = ()
    imaginary: bool = False


@dataclass(frozen=True, eq=False)
class LinearSum:
    """The value of a node: contributions of sources, and a constant from biases.

    Args:
        terms: contributions of the sources.
        constant: flat; ``None`` for zero.
        nir: names of the nodes whose biases make the constant.
    """

    terms: tuple[Contribution, ...] = ()
    constant: NDArray[np.float64] | None = None
    nir: tuple[str, ...] = ()


def linear_sums(
    wiring: Wiring, dt_s: float, resting: Mapping[str, NDArray[np.float64]] | None = None
) -> dict[str, LinearSum]:
    """Return the values of the nodes between neurons: linear nodes, delays, ends of subgraphs.

    Args:
        resting: potentials v_leak of read-outs that send only what differs from them; flat.
    """
    # In topological order: a node is ready once all its linear sources are done. Sound graphs have
    # no linear loops.
    between = set(wiring.named("linear", "pass", "delay"))
    waiting = {
        name: sum(source in between for source in wiring.sources(name)) for name in wiring.nodes if name in between
    }
    ready = [name for name, sources in waiting.items() if sources == 0]
    at_rest = (resting or {}).items()
    sums = {name: LinearSum((Contribution(name),), value, (name,)) for name, value in at_rest}
    while ready:
        name = ready.pop(0)
        sums[name] = _through(wiring, name, incoming_sum(wiring, sums, name), dt_s)
        for target in wiring.targets(name):
            if target in waiting:
                waiting[target] -= 1
                if waiting[target] == 0:
                    ready.append(target)
    return sums


def incoming_sum(wiring: Wiring, sums: dict[str, LinearSum], name: str, imaginary: bool = False) -> LinearSum:
    """Return the sum over the edges that lead to ``name``, or to its imaginary part."""
    terms: list[Contribution] = []
    constant = None
    origin: dict[str, None] = {}
    turned = wiring.imaginary(name)
    for source in wiring.sources(name):
        if (source in turned) != imaginary:
            continue
        if source not in sums:  # a neuron or an Input: its own values
            terms.append(Contribution(source))
            continue
        value = sums[source]
        terms.extend(value.terms)
        if value.constant is not None:
            constant = value.constant if constant is None else constant + value.constant
            origin |= dict.fromkeys(value.nir)
    return LinearSum(tuple(terms), constant, tuple(origin))


def linear_synapse(node: Any, in_shape: Shape, out_shape: Shape) -> Synapse:
    """Return the linear part of a NIR node."""
    if isinstance(node, nir.Affine | nir.Linear):
        weight = numbers(node, "weight")
        if weight.ndim == 2:
            return Synapse("dense", in_shape, out_shape, weight)
        # A batch of matrices (…, out, in), one per element of the leading axes.
        blocks = weight.reshape(-1, *weight.shape[-2:])
        return sparse(csr_matrix(block_diag(list(blocks), format="csr")), in_shape, out_shape)
    if isinstance(node, nir.Scale):
        return Synapse("scale", in_shape, out_shape, numbers(node, "scale"))
    slide = window(node)
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        weight, groups = numbers(node, "weight"), int(node.groups)
    else:
        value = 1.0 if isinstance(node, nir.SumPool2d) else 1.0 / math.prod(slide.kernel)
        # Pooling is a convolution of each channel with a constant kernel.
        weight, groups = np.full((in_shape[0], 1, *slide.kernel), value), in_shape[0]
    return Synapse("conv", in_shape, out_shape, weight, slide.stride, slide.padding, slide.dilation, groups)


def _through(wiring: Wiring, name: str, value: LinearSum, dt_s: float) -> LinearSum:
    node, in_shape, out_shape = wiring.nodes[name], wiring.in_shapes[name], wiring.out_shapes[name]
    assert in_shape is not None and out_shape is not None
    if isinstance(node, nir.Delay):
        steps = np.broadcast_to(delay_steps(node, dt_s), in_shape)
        # A constant passes as it is: the rule `undelayed_bias` refuses those that would start late.
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
    return LinearSum(terms, constant, origin)


def _delayed(term: Contribution, steps: NDArray[np.float64], name: str) -> list[Contribution]:
    """Return ``term`` delayed by ``steps``, with one term per length of delay."""
    lengths = np.unique(steps)
    if len(lengths) == 1:
        return [replace(term, lag=term.lag + int(lengths[0]), nir=(*term.nir, name))]
    return [
        Contribution(
            term.source,
            compose(term.synapse, Synapse("scale", steps.shape, steps.shape, (steps == length).astype(float))),
            term.lag + int(length),
            (*term.nir, name),
        )
        for length in lengths
    ]


def _merged(terms: tuple[Contribution, ...], shape: Shape) -> list[Contribution]:
    """Return ``terms`` with those of equal source and lag added up.

    Otherwise parallel paths would double their number at every node.
    """
    groups: dict[tuple[str, int], list[Contribution]] = {}
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
        merged.append(Contribution(source, sparse(total, synapses[0].in_shape, shape), lag, nodes))
    return merged
