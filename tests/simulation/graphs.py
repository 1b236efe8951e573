"""Typical NIR graphs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np

DT = 1e-3


def lif(rng: np.random.Generator, shape: tuple[int, ...], v_leak: float = 0.0) -> nir.LIF:
    leak = np.full(shape, v_leak)
    threshold = v_leak + rng.uniform(0.2, 0.5, shape)
    return nir.LIF(
        tau=rng.uniform(2e-3, 6e-3, shape),
        r=rng.uniform(0.8, 1.5, shape),
        v_leak=leak,
        v_threshold=threshold,
        v_reset=leak,
    )


def cuba(rng: np.random.Generator, shape: tuple[int, ...]) -> nir.CubaLIF:
    one = np.ones(shape)
    tau_syn, tau_mem = rng.uniform(1.5e-3, 4e-3, shape), rng.uniform(2e-3, 6e-3, shape)
    return nir.CubaLIF(
        tau_syn, tau_mem, r=1.3 * one, v_leak=0 * one, v_threshold=0.3 * one, v_reset=0 * one, w_in=1.2 * one
    )


def affine(rng: np.random.Generator, out: int, size: int) -> nir.Affine:
    return nir.Affine(rng.normal(0.1, 1.5 / np.sqrt(size), (out, size)), rng.normal(0.1, 0.2, out))


def conv(rng: np.random.Generator, out: int, shape: tuple[int, int, int], **kwargs: Any) -> nir.Conv2d:
    groups = kwargs.get("groups", 1)
    weight = rng.normal(0.05, 0.4, (out, shape[0] // groups, 3, 3))
    settings = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, **kwargs}
    return nir.Conv2d(shape[1:], weight, bias=rng.normal(0.1, 0.2, out), **settings)


def graph(nodes: dict[str, nir.NIRNode], *chains: str) -> nir.NIRGraph:
    """Return a graph; the chain "a b c" has the edges a → b → c."""
    names = [chain.split() for chain in chains]
    edges = [edge for chain in names for edge in pairwise(chain)]
    return nir.NIRGraph(nodes, edges, type_check=False)


def ends(shape: tuple[int, ...], out: tuple[int, ...]) -> dict[str, nir.NIRNode]:
    return {"input": nir.Input({"input": np.array(shape)}), "output": nir.Output({"output": np.array(out)})}


def dense(seed: int) -> nir.NIRGraph:
    rng = np.random.default_rng(seed)
    nodes = {
        "fc1": affine(rng, 8, 6),
        "lif1": lif(rng, (8,), v_leak=0.1),
        "fc2": nir.Linear(rng.normal(0.3, 0.5, (7, 8))),
        "cuba": cuba(rng, (7,)),
        "gain": nir.Scale(rng.uniform(0.5, 1.0, 7)),
        "if": nir.IF(r=np.full(7, 0.7), v_threshold=np.ones(7), v_reset=np.zeros(7)),
        "fc3": affine(rng, 3, 7),
        "li": nir.LI(tau=np.full(3, 4e-3), r=np.ones(3), v_leak=np.zeros(3)),
    }
    return graph({**ends((6,), (3,)), **nodes}, "input fc1 lif1 fc2 cuba gain if fc3 li output")


def residual(seed: int) -> nir.NIRGraph:
    """Analog input directly into neurons, convolutions, a skip over two layers, a bare read-out."""
    rng = np.random.default_rng(seed)
    nodes = {
        "lif0": lif(rng, (4, 6, 6)),
        "conv1": conv(rng, 6, (4, 6, 6), stride=2),
        "lif1": lif(rng, (6, 3, 3)),
        "conv2": conv(rng, 6, (6, 3, 3), groups=2),
        "lif2": lif(rng, (6, 3, 3)),
        "conv3": conv(rng, 6, (6, 3, 3)),
        "lif3": lif(rng, (6, 3, 3)),
        "flat": nir.Flatten({"input": np.array([6, 3, 3])}, start_dim=0, end_dim=-1),
        "fc": affine(rng, 5, 54),
    }
    both = {**ends((4, 6, 6), (5,)), **nodes}
    return graph(both, "input lif0 conv1 lif1 conv2 lif2 conv3 lif3 flat fc output", "lif1 lif3")


def deployable(seed: int) -> nir.NIRGraph:
    """Like `residual`, with equal neurons within a layer, and neurons behind the dense synapse."""
    rng = np.random.default_rng(seed)

    def alike(shape: tuple[int, ...], threshold: float) -> nir.LIF:
        one = np.ones(shape)
        return nir.LIF(tau=2e-3 * one, r=one, v_leak=0 * one, v_threshold=threshold * one, v_reset=0 * one)

    graph_ = residual(seed)
    nodes = {**graph_.nodes, "lif4": alike((5,), 0.3)}
    nodes |= {
        name: alike(node.tau.shape, rng.uniform(0.2, 0.4))
        for name, node in graph_.nodes.items()
        if isinstance(node, nir.LIF)
    }
    return graph(nodes, "input lif0 conv1 lif1 conv2 lif2 conv3 lif3 flat fc lif4 output", "lif1 lif3")


GRAPHS = {"dense": (dense, (6,)), "residual": (residual, (4, 6, 6))}
