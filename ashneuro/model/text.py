"""Text encoder, trained from scratch: word embeddings, a few transformer layers, mean over words."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import TextConfig


class TextEncoder(nn.Module):
    """Text embeddings (B, E), unit length, of word indices (B, M) with 0 = padding.

    ``norm(W_t · mean over words of Transformer(word + position))``; texts without any known word give the bias of W_t.
    """

    def __init__(self, config: TextConfig, vocabulary_size: int, max_words: int, embedding: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, config.width, padding_idx=0)
        self.positions = nn.Parameter(torch.randn(max_words, config.width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width, config.heads, 2 * config.width, config.dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, embedding)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings (B, E) of tokens (B, M)."""
        padding = tokens == 0
        features = self.words(tokens) + self.positions[: tokens.shape[1]] * (~padding).unsqueeze(-1)
        unattended = padding & ~padding.all(1, keepdim=True)  # a softmax over nothing is not a number
        for layer in self.layers:
            features = layer(features, src_key_padding_mask=unattended)
        features = self.norm(features).masked_fill(padding.unsqueeze(-1), 0.0)
        pooled = features.sum(1) / (~padding).sum(1, keepdim=True).clamp(min=1)
        return F.normalize(self.project(pooled), dim=-1)
