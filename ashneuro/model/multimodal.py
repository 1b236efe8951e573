"""The cross-attention transformer over a text and the places of V, and the heads on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ashneuro.config import MultimodalConfig
from ashneuro.model.text import check_heads


class MultimodalEncoder(nn.Module):
    """Features (B, 1 + M, W) of a text beside a picture; the first one stands for the whole.

    ::

        h = [cls; W_t w_1; …; W_t w_M]        w: word features of the text encoder (B, M, E_t)
        v = W_v V + places                    V: (B, N, D), N places
        per layer:  h += attention(h, h);  h += attention(h, v);  h += MLP(h)        layer norms before each

    All of it runs on the host: attention has softmax and products of two signals, which no NIR primitive has.

    Args:
        words: E_t. ``width``: D. ``places``: N.
    """

    def __init__(self, config: MultimodalConfig, words: int, width: int, places: int) -> None:
        super().__init__()
        check_heads("model.multimodal", config.width, config.heads)
        self.text = nn.Linear(words, config.width)
        self.visual = nn.Linear(width, config.width)
        self.places = nn.Parameter(torch.randn(places, config.width) * 0.02)
        self.summary = nn.Parameter(torch.randn(config.width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                config.width,
                config.heads,
                4 * config.width,
                config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, words: Tensor, padding: Tensor, visual: Tensor) -> Tensor:
        """Return the features of words (B, M, E_t), with ``padding`` (B, M) True where there is no word, beside V (B, N, D)."""
        seen = self.visual(visual) + self.places
        features = torch.cat([self.summary.expand(len(words), 1, -1), self.text(words)], 1)
        nothing = torch.cat([padding.new_zeros(len(padding), 1), padding], 1)
        for layer in self.layers:
            features = layer(features, seen, tgt_key_padding_mask=nothing)
        return self.norm(features)  # type: ignore[no-any-return]


class AnswerHead(nn.Module):
    """Scores (B, L) of L answers or labels, from the summaries of one picture, or of two side by side (B, P · W)."""

    def __init__(self, width: int, pictures: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(pictures * width, 2 * width),
            nn.GELU(),
            nn.LayerNorm(2 * width),
            nn.Dropout(dropout),
            nn.Linear(2 * width, labels),
        )

    def forward(self, summaries: Tensor) -> Tensor:
        """Return the scores."""
        return self.layers(summaries)  # type: ignore[no-any-return]
