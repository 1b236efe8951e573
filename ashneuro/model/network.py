"""The assembled ASH-Net: one explicit reading of the abstract, and the seam between host and chip.

::

    image ─ concrete encoder ─ C ──────────────────────┬─ V = C + r ⊙ A ─ mean ─ linear ─┐
                               └ x = BN(W_in C) ┐      │                                 ├─ cosine
                    deployed:  LIF ─ blocks ─ dense LIF ─ S ─ A = W_o Σ_t ω_t s_t        │
    text  ─ text encoder ────────────────────────────────────────────────────────────────┘

*Host*: everything but the line marked *deployed*. The first current x enters the first neurons directly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ashneuro.config import ModelConfig
from ashneuro.model.abstract import AbstractEncoder
from ashneuro.model.concrete import ConcreteEncoder, halved
from ashneuro.model.text import TextEncoder

Branch = Literal["abstract", "concrete"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """What becomes of a batch of images.

    Args:
        concrete: C (B, D, H, W).
        current: x (B, *in_shape), the first current; ``None`` without an abstract encoder.
        layers: what every deployed population sends, (T, B, ...), by name; the last is S. Empty when spikes came from elsewhere.
        abstract: A (B, D, 1, 1), the same at every place; 0 without an abstract encoder.
        embedding: (B, E), unit length.
    """

    concrete: Tensor
    current: Tensor | None
    layers: dict[str, Tensor]
    abstract: Tensor
    embedding: Tensor


class AshNet(nn.Module):
    """An ASH-Net for retrieval: images and texts meet as unit vectors of ``config.embedding`` numbers.

    Args:
        vocabulary_size: number of word indices, padding included.
        image_size: S, pixels of an image's side.
        max_words: M, longest text in words.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int, image_size: int, max_words: int = 24) -> None:
        super().__init__()
        self.config, self.image_size, self.max_words = config, image_size, max_words
        width, grid = config.concrete.width, halved(image_size, len(config.concrete.channels))
        self.concrete = ConcreteEncoder(config.concrete)
        self.abstract = None if config.abstract.kind == "none" else AbstractEncoder(config.abstract, width, grid)
        if self.abstract is not None:
            steps = self.abstract.timesteps
            self.omega = nn.Parameter(torch.full((steps,), 1 / steps))
            self.readout = nn.Linear(config.abstract.units, width, bias=False)
            self.ratio = nn.Parameter(torch.ones(width, 1, 1))
            self.stua = nn.Linear(width, config.embedding)
            self.view = nn.Linear(self.abstract.in_shape[0], config.embedding)
        self.project = nn.Linear(width, config.embedding)
        self.text = TextEncoder(config.text, vocabulary_size, max_words, config.embedding)
        self.log_scale = nn.Parameter(torch.tensor(14.0).log())

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of the first current of one image; ``()`` without an abstract encoder."""
        return () if self.abstract is None else self.abstract.in_shape

    def encode(self, images: Tensor, *, spikes: NDArray[np.generic] | Tensor | None = None, zero: Branch | None = None) -> Encoded:
        """Return every latent of ``images`` (B, 3, S, S).

        Args:
            spikes: S (T, B, K) from elsewhere (an emulator, Lava), used instead of running the spiking encoder.
            zero: leave this branch out of the fusion: A = 0 or C = 0 in ``V = C + r ⊙ A``.
        """
        concrete, current, layers = self.concrete(images), None, {}
        abstract = concrete.new_zeros(*concrete.shape[:2], 1, 1)
        if self.abstract is not None:
            current = self.abstract.current(concrete)
            if spikes is None:
                layers = self.abstract(current)
                semantic = layers["semantic.lif"]
            else:
                semantic = torch.as_tensor(spikes).to(concrete)
            abstract = self.read_out(semantic)
        return Encoded(concrete, current, layers, abstract, self.fuse(concrete, abstract, zero))

    def read_out(self, spikes: Tensor) -> Tensor:
        """Return ``A = W_o Σ_t ω_t s_t`` (B, D, 1, 1) of spikes (T, B, K)."""
        return self.readout(torch.einsum("t,tbk->bk", self.omega, spikes))[..., None, None]  # type: ignore[no-any-return]

    def currents(self, images: Tensor) -> Tensor:
        """Return the first current x (B, *in_shape) that the host sends to the spiking encoder."""
        if self.abstract is None:
            raise ValueError("a model without an abstract encoder has no input current")
        return self.abstract.current(self.concrete(images))

    def embed_images(self, images: Tensor, *, spikes: NDArray[np.generic] | Tensor | None = None, zero: Branch | None = None) -> Tensor:
        """Return unit vectors (B, E) of images (B, 3, S, S); arguments as `encode`."""
        return self.encode(images, spikes=spikes, zero=zero).embedding

    def embed_texts(self, tokens: Tensor) -> Tensor:
        """Return unit vectors (B, E) of word indices (B, M), 0 = padding."""
        return self.text(tokens)  # type: ignore[no-any-return]

    def abstract_parameters(self) -> list[nn.Parameter]:
        """Return the parameters on the way from C to the text features by way of spikes, what L_STUA trains."""
        if self.abstract is None:
            return []
        return [*self.abstract.parameters(), self.omega, *self.readout.parameters(), *self.stua.parameters()]

    def fuse(self, concrete: Tensor, abstract: Tensor, zero: Branch | None = None) -> Tensor:
        """Return unit vectors (B, E) of ``mean_n V``, ``V = C + r ⊙ A``, of C (B, D, H, W) and A (B, D, 1, 1); ``zero`` as in `encode`."""
        # A is the same at every place, so mean_n(C + r ⊙ A) = mean_n C + r ⊙ A.
        fused = torch.zeros_like(concrete[:, :, 0, 0]) if zero == "concrete" else concrete.mean((2, 3))
        if self.abstract is not None and zero != "abstract":
            fused = fused + (self.ratio * abstract).flatten(1)
        return F.normalize(self.project(fused), dim=-1)
