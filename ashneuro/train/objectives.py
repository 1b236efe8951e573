"""What training minimises: one function per objective, each with its equation and shapes.

B pairs in a batch. Embeddings are unit vectors, so products are cosines. ``scale`` is the inverse temperature 1/τ.
``concepts`` (B,) holds equal numbers where two pairs show the same thing: such pairs are neither positives nor negatives of
each other, unless they are the same pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def itc(images: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float, smoothing: float = 0.0) -> Tensor:
    """Return the image–text contrast (scalar) of images (B, E) and texts (B, E), in both directions.

    ::

        p_ij  = e^{s·u_i·t_j} / Σ_{k ∈ N(i)} e^{s·u_i·t_k}        q_ij likewise from text to image
        L_ITC = −1/(2B) Σ_i [ (1 − ε) (log p_ii + log q_ii)  +  ε/|N(i)| Σ_{j ∈ N(i)} (log p_ij + log q_ij) ]

    N(i): pair i itself, and all pairs of other concepts. ε (``smoothing``) keeps small data from being learned by heart.
    """
    logits = (scale * images @ texts.T).masked_fill(_same_concept(concepts), -math.inf)
    return (_smoothed(logits, smoothing) + _smoothed(logits.T, smoothing)) / 2


def contrast(first: Tensor, second: Tensor, concepts: Tensor, scale: float, beta: float) -> Tensor:
    """Return L_CL (scalar): two views of an image, z_i and z'_i (B, E), come together; hard negatives weigh more.

    ::

        L_CL = −1/B Σ_i log  e^{s·z_i·z'_i} / ( e^{s·z_i·z'_i} + Σ_{j ∈ N(i)} w_ij e^{s·z_i·z'_j} )
        w_ij = |N(i)| e^{β z_i·z'_j} / Σ_{k ∈ N(i)} e^{β z_i·z'_k}        (no gradient; β = 0: w_ij = 1, plain InfoNCE)

    N(i): pairs of other concepts. Read at the spiking encoder's input: similar images shall cause similar currents.
    """
    similarity = first @ second.T
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    excluded = itself | _same_concept(concepts)
    tilt = (beta * similarity.detach()).masked_fill(excluded, -math.inf)
    count = (~excluded).sum(1, keepdim=True).clamp(min=1).log()
    log_weight = (tilt - tilt.logsumexp(1, keepdim=True) + count).masked_fill(excluded, 0.0)
    logits = (scale * similarity + log_weight).masked_fill(_same_concept(concepts), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def stua(abstract: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float) -> Tensor:
    """Return L_STUA (scalar), Spiking-to-Text Uni-Alignment: the abstract read-out a (B, E) moves to the text, never the reverse.

    ::

        L_STUA = −1/B Σ_i log  e^{s·a_i·sg(t_i)} / Σ_{j ∈ N(i)} e^{s·a_i·sg(t_j)}

    sg: stop-gradient. N(i): pair i itself, and all pairs of other concepts. There is no text-to-spike term.
    """
    logits = (scale * abstract @ texts.detach().T).masked_fill(_same_concept(concepts), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def firing_rate_penalty(layers: Iterable[Tensor], target: float) -> Tensor:
    """Return how far populations fire above ``target`` spikes per neuron and step (scalar).

    ::

        L_rate = mean over layers of max(0, mean(s_l) / target − 1)²        s_l: (T, B, ...)
    """
    excess = [F.relu(spikes.mean() / target - 1) ** 2 for spikes in layers]
    return torch.stack(excess).mean()


def _smoothed(logits: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of rows whose target is the diagonal, smoothed over the finite entries."""
    log_share = logits.log_softmax(1)
    finite = log_share.isfinite()
    even = log_share.masked_fill(~finite, 0.0).sum(1) / finite.sum(1)
    return -((1 - smoothing) * log_share.diagonal() + smoothing * even).mean()


def _same_concept(concepts: Tensor) -> Tensor:
    """Return (B, B): True for two different pairs of one concept."""
    same = concepts[:, None] == concepts[None, :]
    return same & ~torch.eye(len(concepts), dtype=torch.bool, device=concepts.device)
