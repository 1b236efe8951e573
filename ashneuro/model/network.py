"""The assembled ASH-Net: one explicit reading of the abstract, and the seam between host and chip.

::

    image ─ concrete encoder ─ C ──────────────────────┬─ V = C + r ⊙ A ─ mean ─ linear ─┐
                               └ x = BN(W_in C) ┐      │                                 ├─ cosine
                    deployed:  LIF ─ blocks ─ dense LIF ─ S ─ A = W_o Σ_t ω_t s_t        │
    text  ─ text encoder ────────────────────────────────────────────────────────────────┘
                  └ words + places of V ─ cross-attention transformer ─ ITM, MLM, VQA, entailment, NLVR2

*Host*: everything but the line marked *deployed*. The first current x enters the first neurons directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ashneuro.config import AbstractConfig, ModelConfig
from ashneuro.errors import ConfigError
from ashneuro.model.abstract import AbstractEncoder
from ashneuro.model.codebook import Codebook, Codes
from ashneuro.model.concrete import ConcreteEncoder
from ashneuro.model.multimodal import AnswerHead, MultimodalEncoder
from ashneuro.model.spatial import mean_over_places
from ashneuro.model.text import TextEncoder

Branch = Literal["abstract", "concrete", "both"]
TWO_PICTURES = ("nlvr2",)


@dataclass(frozen=True, eq=False)
class Encoded:
    """What becomes of a batch of images.

    Args:
        concrete: C (B, D, H, W).
        current: x (B, *in_shape), the first current; ``None`` without an abstract encoder.
        layers: what every deployed population sends, (T, B, ...), by name; the last is S. Empty when spikes came from elsewhere.
        rates: mean firing rates (scalars) of those layers where kernels gave them by the way.
        abstract: A (B, D, 1, 1), the same at every place; 0 without an abstract encoder.
        embedding: (B, E), unit length.
        codes: what the codebook chose; ``None`` where there is none.
    """

    concrete: Tensor
    current: Tensor | None
    layers: dict[str, Tensor]
    abstract: Tensor
    embedding: Tensor
    codes: Codes | None = None
    rates: Mapping[str, Tensor] = field(default_factory=dict)


class AshNet(nn.Module):
    """An ASH-Net: for retrieval images and texts meet as unit vectors of ``config.embedding`` numbers; a multimodal transformer answers.

    Args:
        vocabulary_size: number of word indices, padding included.
        image_size: S, pixels of an image's side.
        max_words: M, longest text in words.
        labels: number of answers or labels of each task that has a head.
        load: read the pretrained weights that the settings name; a checkpoint brings its own.

    Raises:
        ConfigError: a task without the multimodal transformer, or semantic units that do not divide among the codebook's groups.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocabulary_size: int,
        image_size: int,
        max_words: int = 24,
        labels: Mapping[str, int] | None = None,
        load: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.image_size, self.max_words = config, image_size, max_words
        self.concrete = ConcreteEncoder(config.concrete, image_size, load)
        width, grid = config.concrete.width, self.concrete.grid
        self.abstract = None if config.abstract.kind == "none" else AbstractEncoder(config.abstract, width, grid)
        if self.abstract is not None:
            steps = self.abstract.timesteps
            self.omega = nn.Parameter(torch.full((steps,), 1 / steps))
            self.readout = nn.Linear(config.abstract.units, width, bias=False)
            self.ratio = nn.Parameter(torch.ones(width, 1, 1))
            self.stua = nn.Linear(width, config.embedding)
            self.view = nn.Linear(self.abstract.in_shape[0], config.embedding)
        self.project = nn.Linear(width, config.embedding)
        self.text = TextEncoder(config.text, vocabulary_size, max_words, config.embedding, load)
        self.log_scale = nn.Parameter(torch.tensor(14.0).log())
        self.codebook = _codebook(config.abstract)
        if config.multimodal.layers:
            wide = config.multimodal.width
            self.multimodal = MultimodalEncoder(config.multimodal, self.text.width, width, grid * grid)
            self.itm = nn.Linear(wide, 2)
            self.mlm = nn.Linear(wide, vocabulary_size)
            self.heads = nn.ModuleDict(
                {
                    task: AnswerHead(wide, 2 if task in TWO_PICTURES else 1, count, config.multimodal.dropout)
                    for task, count in (labels or {}).items()
                }
            )
        elif labels:
            raise ConfigError(
                f"a head for {', '.join(labels)} without a multimodal transformer",
                "model.multimodal.layers is 0",
                "set it to 2, say",
            )

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of the first current of one image; ``()`` without an abstract encoder."""
        return () if self.abstract is None else self.abstract.in_shape

    def encode(
        self, images: Tensor, *, spikes: NDArray[np.generic] | Tensor | None = None, zero: Branch | None = None
    ) -> Encoded:
        """Return every latent of ``images`` (B, 3, S, S).

        Args:
            spikes: S (T, B, K) from elsewhere (an emulator, Lava), used instead of running the spiking encoder.
            zero: leave this branch out of the fusion: A = 0 or C = 0 in ``V = C + r ⊙ A``.
        """
        concrete, current, codes = self.concrete(images), None, None
        layers: dict[str, Tensor] = {}
        rates: dict[str, Tensor] = {}
        abstract = concrete.new_zeros(*concrete.shape[:2], 1, 1)
        if self.abstract is not None:
            current = self.abstract.current(concrete)
            if spikes is None:
                layers, rates = self.abstract.with_rates(current)
                semantic = layers["semantic.lif"]
            else:
                semantic = torch.as_tensor(spikes).to(concrete)
            abstract, codes = self.read_out(semantic)
        return Encoded(concrete, current, layers, abstract, self.fuse(concrete, abstract, zero), codes, rates)

    def read_out(self, spikes: Tensor) -> tuple[Tensor, Codes | None]:
        """Return ``A = W_o Σ_t ω_t s_t`` (B, D, 1, 1) of spikes (T, B, K); the sum is quantised first where there is a codebook."""
        read, codes = torch.einsum("t,tbk->bk", self.omega, spikes), None
        if self.codebook is not None:
            read, codes = self.codebook(read)
        return self.readout(read)[..., None, None], codes

    def currents(self, images: Tensor) -> Tensor:
        """Return the first current x (B, *in_shape) that the host sends to the spiking encoder."""
        if self.abstract is None:
            raise ValueError("a model without an abstract encoder has no input current")
        return self.abstract.current(self.concrete(images))

    def embed_images(
        self, images: Tensor, *, spikes: NDArray[np.generic] | Tensor | None = None, zero: Branch | None = None
    ) -> Tensor:
        """Return unit vectors (B, E) of images (B, 3, S, S); arguments as `encode`."""
        return self.encode(images, spikes=spikes, zero=zero).embedding

    def embed_texts(self, tokens: Tensor) -> Tensor:
        """Return unit vectors (B, E) of word indices (B, M), 0 = padding."""
        return self.text(tokens)  # type: ignore[no-any-return]

    def abstract_parameters(self) -> list[nn.Parameter]:
        """Return the parameters on the way from C to the text features by way of spikes, what L_STUA trains."""
        if self.abstract is None:
            return []
        codes = [] if self.codebook is None else [*self.codebook.parameters()]
        return [*self.abstract.parameters(), self.omega, *self.readout.parameters(), *self.stua.parameters(), *codes]

    def fuse(self, concrete: Tensor, abstract: Tensor, zero: Branch | None = None) -> Tensor:
        """Return unit vectors (B, E) of ``mean_n V``, ``V = C + r ⊙ A``, of C (B, D, H, W) and A (B, D, 1, 1); ``zero`` as in `encode`."""
        # A is the same at every place, so mean_n(C + r ⊙ A) = mean_n C + r ⊙ A.
        fused = torch.zeros_like(concrete[:, :, 0, 0]) if zero in ("concrete", "both") else mean_over_places(concrete)
        if self.abstract is not None and zero not in ("abstract", "both"):
            fused = fused + (self.ratio * abstract).flatten(1)
        return F.normalize(self.project(fused), dim=-1)

    def places(self, encoded: Encoded, zero: Branch | None = None) -> Tensor:
        """Return V (B, N, D), ``V = C + r ⊙ A``, at all N = H·W places; ``zero`` as in `encode`."""
        fused = torch.zeros_like(encoded.concrete) if zero in ("concrete", "both") else encoded.concrete
        if self.abstract is not None and zero not in ("abstract", "both"):
            fused = fused + self.ratio * encoded.abstract
        return fused.flatten(2).transpose(1, 2)

    def read(self, places: Tensor, tokens: Tensor) -> Tensor:
        """Return multimodal features (B, 1 + M, W) of word indices (B, M) beside V (B, N, D); the first one is the summary."""
        return self.multimodal(self.text.features(tokens), tokens == 0, places)  # type: ignore[no-any-return]

    def answer(self, task: str, places: Tensor, tokens: Tensor) -> Tensor:
        """Return scores (B, L) of the task's answers, from V (B, P, N, D) of P pictures each and word indices (B, M)."""
        pictures = places.shape[1]
        summaries = self.read(places.flatten(0, 1), tokens.repeat_interleave(pictures, 0))[:, 0]
        return self.heads[task](summaries.reshape(len(places), -1))  # type: ignore[no-any-return]

    def part(self, name: str) -> list[nn.Parameter]:
        """Return the parameters of a part that a stage can train: see `ashneuro.config.StageConfig`."""
        if name == "abstract":
            return self.abstract_parameters()
        if name == "fusion":
            return [*self.project.parameters(), self.log_scale, *([self.ratio] if self.abstract is not None else [])]
        if name in ("multimodal", "heads"):
            found = {"multimodal": ("multimodal", "itm", "mlm"), "heads": ("heads",)}[name]
            return [
                parameter for part in found if hasattr(self, part) for parameter in getattr(self, part).parameters()
            ]
        return list(getattr(self, name).parameters())


def _codebook(config: AbstractConfig) -> Codebook | None:
    if not config.codebook or config.kind == "none":
        return None
    if config.units % config.codebook_groups:
        raise ConfigError(
            f"model.abstract.codebook_groups = {config.codebook_groups}",
            f"{config.units} semantic units do not divide among them",
            "choose a divisor of model.abstract.units",
        )
    return Codebook(config.units, config.codebook, config.codebook_groups)
