"""Text features that images are aligned to: a momentum text tower's, and a queue of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ashneuro.model.text import TextEncoder

QUEUE = 4096
"""Text features that the queue holds; the emoji have 3,052 training texts."""


class MomentumText(nn.Module):
    """Exponential moving average of a text encoder, which gives text features without gradient.

    ::

        θ̄ ← d θ̄ + (1 − d) θ        d = min(m, n / (n + 9))

    n is the number of updates so far. The first one copies the weights; later ones average over
    more and more steps, up to 1/(1 − m). Source: He et al., Momentum Contrast, arXiv 1911.05722.

    A frozen pretrained tower is shared, not copied: it does not move.

    Args:
        text: the text encoder θ.
        momentum: m.
    """

    updates: Tensor

    def __init__(self, text: TextEncoder, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        frozen = text.tower is not None and not any(weight.requires_grad for weight in text.tower.parameters())
        shared = {id(text.tower): text.tower} if frozen else {}
        self.average = copy.deepcopy(text, shared).requires_grad_(False)
        self.register_buffer("updates", torch.zeros(()))

    @torch.no_grad()
    def update(self, text: TextEncoder) -> None:
        """Move the average toward the present weights of ``text``."""
        new = 1 - (self.updates / (self.updates + 9)).clamp(max=self.momentum)
        for own, weight in zip(self.average.parameters(), text.parameters(), strict=True):
            if own is not weight:
                own.lerp_(weight.detach(), new.to(own.dtype))
        self.updates += 1

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings (B, E) of tokens (B, M), without dropout."""
        self.average.eval()
        return self.average(tokens).float()  # type: ignore[no-any-return]


class TextQueue(nn.Module):
    """The newest `QUEUE` text features, first in, first out.

    Args:
        embedding: E, width of the features.
        size: maximum number of features.
    """

    features: Tensor
    filled: Tensor

    def __init__(self, embedding: int, size: int = QUEUE) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(size, embedding))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, features: Tensor) -> Tensor:
        """Put features (B, E) in front, and return all that are held, (≤ size, E)."""
        size = len(self.features)
        # In place: DDP keeps the buffers that it found.
        self.features.copy_(torch.cat([features.to(self.features), self.features])[:size])
        self.filled.add_(len(features)).clamp_(max=size)
        return self.features[: int(self.filled)].clone()
