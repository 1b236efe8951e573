"""Text encoder, trained from scratch: word embeddings, transformer layers if any, a weighted sum over words."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import TextConfig


class TextEncoder(nn.Module):
    """Text embeddings (B, E), unit length, of word indices (B, M) with 0 = padding.

    ::

        h_m = Transformer(word_m + position_m)          word_m itself without transformer layers
        t   = norm(W_t · Σ_m weight(word_m) · h_m + b)

    The weight of a word is learned, so that a rare word can count for more than "with". For short captions of names and
    keywords the bag of words (no layers) learns faster than a transformer; sentences need the layers.
    """

    def __init__(self, config: TextConfig, vocabulary_size: int, max_words: int, embedding: int) -> None:
        super().__init__()
        width = config.width
        self.words = nn.Embedding(vocabulary_size, width, padding_idx=0)
        nn.init.normal_(self.words.weight, std=width**-0.5)
        self.weights = nn.Embedding(vocabulary_size, 1, padding_idx=0)
        nn.init.ones_(self.weights.weight[1:])
        self.positions = nn.Parameter(torch.zeros(max_words, width)) if config.layers else None
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, 2 * width, config.dropout, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(config.layers)
        )
        self.project = nn.Linear(width, embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings (B, E) of tokens (B, M)."""
        padding = tokens == 0
        features = self.words(tokens)
        if self.positions is not None:
            # Layer norms inside expect features of order 1; a text of padding alone attends to it, for want of anything else.
            features = features * features.shape[-1] ** 0.5 + self.positions[: tokens.shape[1]]
            unattended = padding & ~padding.all(1, keepdim=True)
            for layer in self.layers:
                features = layer(features, src_key_padding_mask=unattended)
        weights = self.weights(tokens).masked_fill(padding.unsqueeze(-1), 0.0)
        return F.normalize(self.project((weights * features).sum(1)), dim=-1)
