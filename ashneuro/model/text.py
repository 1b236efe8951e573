"""Text encoder: word embeddings and transformer layers if any, or a pretrained tower; then a weighted sum over words."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import TextConfig
from ashneuro.errors import ConfigError
from ashneuro.model.pretrained import TextTower


def check_heads(section: str, width: int, heads: int) -> None:
    """Raise `ConfigError` unless ``width`` channels can be shared out among ``heads``."""
    if width % heads:
        raise ConfigError(
            f"{section}.heads = {heads}",
            f"{width} channels do not divide among them",
            f"choose a divisor of {section}.width",
        )


class TextEncoder(nn.Module):
    """Text embeddings (B, E), unit length, of word indices (B, M) with 0 = padding.

    ::

        h_m = Transformer(word_m + position_m)          word_m itself without transformer layers; or what a tower makes of them
        t   = norm(W_t · Σ_m weight(word_m) · h_m + b)

    The weight of a word is learned, so that a rare word can count for more than "with". For short captions of names and
    keywords the bag of words (no layers) learns faster than a transformer; sentences need the layers. With a tower the sum is a
    mean at first.

    Args:
        load: read the pretrained weights that the settings name.

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
            # Layer norms inside expect features of order 1; a text of padding alone attends to it, for want of anything else.
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
