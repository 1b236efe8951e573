"""Vector quantisation of the read-out: nearest entries of a learned codebook."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Codes:
    """Quantised batch: input z and chosen entries e, both (B, K), and their indices (B, G)."""

    z: Tensor
    entries: Tensor
    indices: Tensor


class Codebook(nn.Module):
    """Product quantiser: each of G groups of z (B, K) becomes the nearest of the group's M entries.

    ::

        k_g = argmin_k |z_g − e_gk|²        forward: e_{k_g}; backward: straight through to z

    Entries are trained by `ashneuro.training.objectives.codebook_loss`, and initialised with
    samples of the first training batch, so that every entry is near the data.

    Args:
        units: K, a multiple of ``groups``.
        entries: M per group.
    """

    started: Tensor

    def __init__(self, units: int, entries: int, groups: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(groups, entries, units // groups) * 0.1)
        self.register_buffer("started", torch.tensor(False))

    def forward(self, z: Tensor) -> tuple[Tensor, Codes]:
        """Return the quantised z (B, K), with z's gradient, and the codes."""
        groups = z.reshape(len(z), self.entries.shape[0], -1).transpose(0, 1)  # (G, B, K/G)
        if self.training and not self.started:
            self._start(groups.detach())
        indices = torch.cdist(groups.float(), self.entries.float()).argmin(2)  # (G, B)
        chosen = torch.stack([book[index] for book, index in zip(self.entries, indices, strict=True)])
        entries = chosen.transpose(0, 1).flatten(1)
        return z + (entries - z).detach(), Codes(z, entries, indices.T)

    @torch.no_grad()
    def _start(self, groups: Tensor) -> None:
        batch, size = groups.shape[1], self.entries.shape[1]
        rows = torch.arange(size, device=groups.device) % batch
        # Noise separates entries that start from one sample, if the batch has fewer than entries.
        self.entries.copy_(groups[:, rows] + 1e-3 * torch.randn_like(self.entries))
        if dist.is_available() and dist.is_initialized():
            # Processes see different parts of the batch, but have one codebook.
            dist.broadcast(self.entries, 0)
        self.started.fill_(True)
