"""Vector quantisation: what is read out of the semantic units, replaced by the nearest entries of a learned codebook."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Codes:
    """What a codebook made of a batch: the input z and the chosen entries e, both (B, K), and their numbers (B, G)."""

    z: Tensor
    entries: Tensor
    numbers: Tensor


class Codebook(nn.Module):
    """z (B, K) is cut into G groups; each becomes the nearest of M entries of its group's codebook.

    ::

        k_g = argmin_k |z_g − e_gk|²        forward: e_{k_g}; backward: straight through to z

    The entries learn by `ashneuro.training.objectives.codebook_loss`. The first batch that is trained on starts them: entries are
    samples of it, so that none is out of reach.

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
        """Return the quantised z (B, K), with z's gradient, and what was chosen."""
        groups = z.reshape(len(z), self.entries.shape[0], -1).transpose(0, 1)  # (G, B, K/G)
        if self.training and not self.started:
            self._start(groups.detach())
        numbers = torch.cdist(groups.float(), self.entries.float()).argmin(2)  # (G, B)
        chosen = torch.stack([book[number] for book, number in zip(self.entries, numbers, strict=True)])
        entries = chosen.transpose(0, 1).flatten(1)
        return z + (entries - z).detach(), Codes(z, entries, numbers.T)

    @torch.no_grad()
    def _start(self, groups: Tensor) -> None:
        batch, size = groups.shape[1], self.entries.shape[1]
        rows = torch.arange(size, device=groups.device) % batch
        # A little noise tells apart entries that start at one sample.
        self.entries.copy_(groups[:, rows] + 1e-3 * torch.randn_like(self.entries))
        if (
            dist.is_available() and dist.is_initialized()
        ):  # each process sees another part of the batch; the codebook is one
            dist.broadcast(self.entries, 0)
        self.started.fill_(True)
