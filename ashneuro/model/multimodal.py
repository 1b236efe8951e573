"""Cross-attention transformer over a text and the visual tokens of V, and the heads on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ashneuro.config import MultimodalConfig
from ashneuro.model.text import check_heads


class MultimodalEncoder(nn.Module):
    """Features (B, 1 + M, W) of a text that attends to an image; the first is the summary token.

    ::

        h = [cls; W_t w_m + p_m]              w: word features of the text encoder (B, M, E_t)
        v = W_v V + positions                 V: (B, N, D), N visual tokens
        per layer:  h += attention(h, h);  h += attention(h, v);  h += MLP(h)        pre-norm

    All of it runs on the host: attention has a softmax and products of two signals, for which NIR
    has no primitive.

    p are position embeddings of words, with ``config.word_order``.

    Args:
        words: E_t. ``width``: D. ``tokens``: N.
        max_words: largest M.
    """

    def __init__(self, config: MultimodalConfig, words: int, width: int, tokens: int, max_words: int) -> None:
        super().__init__()
        check_heads("model.multimodal", config.width, config.heads)
        self.text = nn.Linear(words, config.width)
        self.visual = nn.Linear(width, config.width)
        # Position embeddings; the name is that of checkpoints.
        self.places = nn.Parameter(torch.randn(tokens, config.width) * 0.02)
        self.order = nn.Parameter(torch.zeros(max_words, config.width)) if config.word_order else None
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
        """Return the features.

        Args:
            words: (B, M, E_t).
            padding: (B, M), True where there is no word.
            visual: V (B, N, D).
        """
        seen = self.visual(visual) + self.places
        said = self.text(words)
        if self.order is not None:
            said = said + self.order[: said.shape[1]]
        features = torch.cat([self.summary.expand(len(words), 1, -1), said], 1)
        ignored = torch.cat([padding.new_zeros(len(padding), 1), padding], 1)
        for layer in self.layers:
            features = layer(features, seen, tgt_key_padding_mask=ignored)
        return self.norm(features)  # type: ignore[no-any-return]


class AnswerHead(nn.Module):
    """Scores (B, L) of L answers or labels, from the summaries of P images (B, P·W)."""

    def __init__(self, width: int, images: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(images * width, 2 * width),
            nn.GELU(),
            nn.LayerNorm(2 * width),
            nn.Dropout(dropout),
            nn.Linear(2 * width, labels),
        )

    def forward(self, summaries: Tensor) -> Tensor:
        """Return the scores."""
        return self.layers(summaries)  # type: ignore[no-any-return]
