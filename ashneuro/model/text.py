"""Text encoder: word embeddings with transformer layers, or a pretrained tower, and pooling."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import TextConfig
from ashneuro.errors import ConfigError
from ashneuro.model.pretrained import TextTower


def check_heads(section: str, width: int, heads: int) -> None:
    """Raise `ConfigError` unless ``heads`` divides ``width``."""
    if width % heads:
        raise ConfigError(
            f"{section}.heads = {heads}",
            f"{width} channels do not divide among them",
            f"choose a divisor of {section}.width",
        )


class TextEncoder(nn.Module):
    """Text embeddings (B, E), unit length, of word indices (B, M) with 0 = padding.

    ::

        h_m = Transformer(word_m + position_m)      without layers: word_m; tower: its features
        t   = norm(W_t · Σ_m weight(word_m) · h_m + b)

    Word weights are learned, so that a rare word can count for more than "with". On short captions
    of names and keywords the bag of words (no layers) learns faster than a transformer; sentences
    need the layers. With a tower the sum is initially a mean.

    Args:
        load: load the pretrained weights that the config names.

    Raises:
        ConfigError: the width does not divide among the heads.

    Attributes:
        width: channels of h.
    """

    def __init__(
        self, config: TextConfig, vocabulary_size: int, max_words: int, embedding: int, load: bool = True
    ) -> None:
        super().__init__()
        width = config.width
        self.tower = TextTower(config, load) if config.tower else None
        self.width = self.tower.width if self.tower is not None else width
        if self.tower is None:
            self.words = nn.Embedding(vocabulary_size, width, padding_idx=0)
            nn.init.normal_(self.words.weight, std=width**-0.5)
        self.weights = nn.Embedding(vocabulary_size, 1, padding_idx=0)
        nn.init.ones_(self.weights.weight[1:])
        layers = config.layers if self.tower is None else 0
        if layers:
            check_heads("model.text", width, config.heads)
        self.positions = nn.Parameter(torch.zeros(max_words, width)) if layers else None
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.heads, 2 * width, config.dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.project = nn.Linear(self.width, embedding)

    def features(self, tokens: Tensor) -> Tensor:
        """Return h (B, M, width) of tokens (B, M)."""
        if self.tower is not None:
            return self.tower(tokens)  # type: ignore[no-any-return]
        padding = tokens == 0
        features: Tensor = self.words(tokens)
        if self.positions is not None:
            # Layer norms expect features of order 1. A text that is all padding attends to it,
            # because a softmax over nothing is NaN.
            features = features * features.shape[-1] ** 0.5 + self.positions[: tokens.shape[1]]
            unattended = padding & ~padding.all(1, keepdim=True)
            for layer in self.layers:
                features = layer(features, src_key_padding_mask=unattended)
        return features

    def pool(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Return embeddings (B, E) of features (B, M, width)."""
        weights = self.weights(tokens).masked_fill((tokens == 0).unsqueeze(-1), 0.0)
        if self.tower is not None:
            weights = weights / (tokens > 0).sum(1).clamp(min=1)[:, None, None]
        return F.normalize(self.project((weights * features).sum(1)), dim=-1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings (B, E) of tokens (B, M)."""
        return self.pool(self.features(tokens), tokens)
