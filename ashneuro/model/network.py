"""ASH-Net, one explicit reading of the abstract, split between host and chip.

::

    image ─ concrete encoder ─ C ──────────────────────┬─ V = C + r ⊙ A ─ mean ─ linear ─┐
                               └ x = BN(W_in C) ┐      │                                 ├─ cosine
                    deployed:  LIF ─ blocks ─ dense LIF ─ S ─ A = W_o Σ_t ω_t s_t        │
    text  ─ text encoder ────────────────────────────────────────────────────────────────┘
                  └ words + visual tokens of V ─ cross-attention ─ ITM, MLM, VQA, entailment, NLVR2

The line marked *deployed* runs on the chip, everything else on the host. The current x enters the
first neurons directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from ashneuro.model.concrete import ConcreteEncoder, downsampled
from ashneuro.model.multimodal import AnswerHead, MultimodalEncoder
from ashneuro.model.spatial import global_average_pool
from ashneuro.model.text import TextEncoder

Branch = Literal["abstract", "concrete", "both"]
# Tasks that ask about two images.
TWO_IMAGES = ("nlvr2",)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Latents of a batch of images.

    Args:
        concrete: C (B, D, H, W).
        current: x (B, *in_shape), the first current; ``None`` without an abstract encoder.
        layers: spikes (T, B, ...) of every deployed population, by name; the last is S. Empty if
            the spikes came from an emulator or from Lava.
        abstract: A (B, D, 1, 1), spatially constant, or (B, D, H', W') with
            ``model.abstract.positions``; 0 without an abstract encoder.
        embedding: (B, E), unit length.
        codes: entries chosen from the codebook; ``None`` if there is none.
        rates: mean firing rates (scalars) of the layers whose kernels count spikes.
        weighted: the same with the weights of their neurons, see `SpikingEncoder.weigh`.
    """

    concrete: Tensor
    current: Tensor | None
    layers: dict[str, Tensor]
    abstract: Tensor
    embedding: Tensor
    codes: Codes | None = None
    rates: Mapping[str, Tensor] = field(default_factory=dict)
    weighted: Mapping[str, Tensor] = field(default_factory=dict)


def split_encoded(encoded: Encoded, count: int) -> tuple[Encoded, Encoded]:
    """Return the latents of the first ``count`` images, and those of the others."""
    first, rest = (
        Encoded(
            encoded.concrete[part],
            None if encoded.current is None else encoded.current[part],
            {name: spikes[:, part] for name, spikes in encoded.layers.items()},
            encoded.abstract[part],
            encoded.embedding[part],
        )
        for part in (slice(count), slice(count, None))
    )
    return first, rest


class AshNet(nn.Module):
    """Dual encoder for retrieval, with an optional multimodal transformer for other tasks.

    Args:
        vocabulary_size: number of word indices, padding included.
        image_size: S, side of an image in pixels.
        max_words: M, maximum number of words of a text.
        labels: number of answers or labels, for each task with a head.
        load: load the pretrained weights that the config names; a checkpoint brings its own.

    Raises:
        ConfigError: a task without the multimodal transformer, or a number of semantic units that
            the codebook's groups do not divide.
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
        blocks = len(config.abstract.channels) - 1
        self.side = downsampled(grid, blocks) if config.abstract.positions else grid  # of V
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
            self.multimodal = MultimodalEncoder(config.multimodal, self.text.width, width, self.side**2, max_words)
            wide = config.multimodal.width
            self.mlm = nn.Linear(wide, vocabulary_size)
            wide += config.embedding * config.multimodal.similarity  # of `summarise`
            self.itm = nn.Linear(wide, 2)
            self.heads = nn.ModuleDict(
                {
                    task: AnswerHead(wide, 2 if task in TWO_IMAGES else 1, count, config.multimodal.dropout)
                    for task, count in (labels or {}).items()
                }
            )
        elif labels:
            raise ConfigError(
                f"a head for {', '.join(labels)} without a multimodal transformer",
                "model.multimodal.layers is 0",
                "set it to 2, say",
            )

    def use_neurons(self, config: AbstractConfig) -> None:
        """Replace the abstract encoder's neurons by those of ``config``; see
        `AbstractEncoder.use_neurons`. ω becomes 1/T if T changes.
        """
        if self.abstract is None:
            raise ValueError("a model without an abstract encoder has no neurons")
        self.abstract.use_neurons(config)
        self.config = replace(self.config, abstract=config)
        steps = self.abstract.timesteps
        if len(self.omega) != steps:
            self.omega = nn.Parameter(self.omega.new_full((steps,), 1 / steps))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of the first current of one image; ``()`` without an abstract encoder."""
        return () if self.abstract is None else self.abstract.in_shape

    def encode(
        self, images: Tensor, *, spikes: NDArray[np.generic] | Tensor | None = None, zero: Branch | None = None
    ) -> Encoded:
        """Return all latents of images (B, 3, S, S).

        Args:
            spikes: S (T, B, *out_shape) from an emulator or Lava; the spiking encoder is then not
                run.
            zero: branch to leave out of the fusion: A = 0 or C = 0 in ``V = C + r ⊙ A``.
        """
        concrete = self.concrete(images)
        current = None if self.abstract is None else self.abstract.current(concrete)
        return self.latents(concrete, current, spikes=spikes, zero=zero)

    def latents(
        self,
        concrete: Tensor,
        current: Tensor | None,
        *,
        spikes: NDArray[np.generic] | Tensor | None = None,
        zero: Branch | None = None,
    ) -> Encoded:
        """Return all latents of images, given C (B, D, H, W) and x (B, *in_shape).

        Arguments as `encode`. Random numbers are not drawn.
        """
        codes = None
        layers: dict[str, Tensor] = {}
        rates: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        abstract = concrete.new_zeros(*concrete.shape[:2], 1, 1)
        if self.abstract is not None and current is not None:
            if spikes is None:
                layers, rates, weighted = self.abstract.with_rates(current)
                semantic = layers["semantic.lif"]
            else:
                semantic = torch.as_tensor(spikes).to(concrete)
            abstract, codes = self.read_out(semantic)
        embedding = self.fuse(concrete, abstract, zero)
        return Encoded(concrete, current, layers, abstract, embedding, codes, rates, weighted)

    def read_out(self, spikes: Tensor) -> tuple[Tensor, Codes | None]:
        """Return ``A = W_o Σ_t ω_t s_t`` (B, D, 1, 1) of spikes (T, B, K).

        Of spikes (T, B, K, H', W') it is (B, D, H', W'). A codebook quantises the sum before W_o.
        """
        places = spikes.shape[3:] or (1, 1)
        read, codes = torch.einsum("t,tb...->b...", self.omega, spikes), None
        read = read.reshape(*read.shape[:2], -1).transpose(1, 2)  # (B, N, K)
        if self.codebook is not None:
            rows, codes = self.codebook(read.flatten(0, 1))
            read = rows.unflatten(0, read.shape[:2])
        return self.readout(read).transpose(1, 2).unflatten(2, places), codes

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
        """Return the parameters on the spiking path from C to the text, which L_STUA trains."""
        if self.abstract is None:
            return []
        codes = [] if self.codebook is None else [*self.codebook.parameters()]
        return [*self.abstract.parameters(), self.omega, *self.readout.parameters(), *self.stua.parameters(), *codes]

    def fuse(self, concrete: Tensor, abstract: Tensor, zero: Branch | None = None) -> Tensor:
        """Return unit vectors (B, E) of ``mean_n V``, ``V = C + r ⊙ A``.

        Args:
            concrete: C (B, D, H, W).
            abstract: A (B, D, 1, 1), or (B, D, H', W').
            zero: as in `encode`.
        """
        # mean_n(C + r ⊙ A) = mean_n C + r ⊙ mean_n A, with one position of A where it is constant.
        fused = (
            torch.zeros_like(concrete[:, :, 0, 0]) if zero in ("concrete", "both") else global_average_pool(concrete)
        )
        if self.abstract is not None and zero not in ("abstract", "both"):
            fused = fused + (self.ratio * abstract).mean((2, 3))
        return F.normalize(self.project(fused), dim=-1)

    def align(self, abstract: Tensor) -> Tensor:
        """Return the STUA head's unit vectors a (B, E) of read-outs A (B, D, ·, ·), without C.

        Comparable with text embeddings once L_STUA has trained the head on images.
        """
        return F.normalize(self.stua(abstract.mean((2, 3))).float(), dim=-1)

    def visual_tokens(self, encoded: Encoded, zero: Branch | None = None) -> Tensor:
        """Return ``V = C + r ⊙ A`` as N = H·W tokens (B, N, D); ``zero`` as in `encode`.

        With ``model.abstract.positions`` N = H'·W', the positions of A, to which C is averaged.
        """
        concrete = encoded.concrete
        if self.side != concrete.shape[-1]:
            concrete = F.adaptive_avg_pool2d(concrete, self.side)
        fused = torch.zeros_like(concrete) if zero in ("concrete", "both") else concrete
        if self.abstract is not None and zero not in ("abstract", "both"):
            fused = fused + self.ratio * encoded.abstract
        return fused.flatten(2).transpose(1, 2)

    def multimodal_features(self, visual: Tensor, tokens: Tensor) -> Tensor:
        """Return features (B, 1 + M, W) of word indices (B, M) that attend to V (B, N, D).

        The first one is the summary token.
        """
        return self.multimodal(self.text.features(tokens), tokens == 0, visual)  # type: ignore[no-any-return]

    def summarise(self, visual: Tensor, tokens: Tensor) -> Tensor:
        """Return the heads' input (B, W), or (B, W + E) with ``model.multimodal.similarity``.

        ::

            [summary token; E · v ⊙ t]        v, t: unit vectors (E) of the image and of the text

        The sum of v ⊙ t is the cosine that L_ITC trains, so a head starts from what retrieval
        knows. E gives products of independent vectors the variance 1.

        Args:
            visual: V (B, N, D), whose mean is embedded as `fuse` does.
            tokens: word indices (B, M).
        """
        words = self.text.features(tokens)
        summary = self.multimodal(words, tokens == 0, visual)[:, 0]
        if not self.config.multimodal.similarity:
            return summary  # type: ignore[no-any-return]
        image = F.normalize(self.project(visual.mean(1)), dim=-1)
        return torch.cat([summary, image.shape[1] * image * self.text.pool(words, tokens)], 1)

    def match(self, visual: Tensor, tokens: Tensor) -> Tensor:
        """Return the scores of L_ITM (B, 2): the text belongs to another image, or to this one.

        Arguments as `summarise`.
        """
        return self.itm(self.summarise(visual, tokens))  # type: ignore[no-any-return]

    def answer(self, task: str, visual: Tensor, tokens: Tensor) -> Tensor:
        """Return scores (B, L) of the task's answers.

        Args:
            visual: V (B, P, N, D) of P images each.
            tokens: word indices (B, M).
        """
        images = visual.shape[1]
        summaries = self.summarise(visual.flatten(0, 1), tokens.repeat_interleave(images, 0))
        return self.heads[task](summaries.reshape(len(visual), -1))  # type: ignore[no-any-return]

    def parameters_of(self, name: str) -> list[nn.Parameter]:
        """Return the parameters of a trainable part; see `ashneuro.config.StageConfig`."""
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
