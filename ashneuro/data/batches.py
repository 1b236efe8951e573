"""Pairs as tensors: images held in memory, shuffled and augmented batches, texts.

The batches of an epoch depend on (seed, epoch) alone, so that a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ashneuro.config import DataConfig, TrainConfig
from ashneuro.data.pairs import Batch, Pair
from ashneuro.data.tokens import Vocabulary, pad
from ashneuro.errors import DataError, need


def load_images(pairs: Sequence[Pair], size: int) -> Tensor:
    """Return all images as one tensor (N, 3, size, size), uint8.

    Raises:
        DataError: an image cannot be read.
    """
    pillow = need("PIL.Image", extra="train", purpose="resizing images")
    images = torch.empty(len(pairs), 3, size, size, dtype=torch.uint8)
    for row, pair in zip(images, pairs, strict=True):
        pixels = pair.load()
        if pixels.shape[:2] != (size, size):
            pixels = np.array(pillow.fromarray(pixels).resize((size, size), pillow.Resampling.LANCZOS))
        row.copy_(torch.from_numpy(pixels).movedim(-1, 0))
    return images


def normalise(images: Tensor) -> Tensor:
    """Return uint8 images as float32 with 0…255 mapped to −2…2: mean near 0 and standard deviation near 1 for natural images."""
    return images.float().sub_(127.5).div_(63.75)


def texts_of(pair: Pair, captions: str) -> tuple[str, ...]:
    """Return what is matched with the pair's image: its captions, or all of them ``joined`` to one text."""
    return (", ".join(pair.captions),) if captions == "joined" else pair.captions


class Batches:
    """Training batches of ``pairs``, epoch by epoch.

    Args:
        pairs: what to learn from; their images are read once, here.
        views: also give a second augmented view of every image.

    Raises:
        DataError: there are fewer pairs than a batch holds, or an image cannot be read.
    """

    def __init__(self, pairs: Sequence[Pair], vocabulary: Vocabulary, data: DataConfig, train: TrainConfig, *, views: bool) -> None:
        if len(pairs) < train.batch_size:
            raise DataError(
                f"{len(pairs)} training pairs are fewer than one batch",
                f"train.batch_size is {train.batch_size}, and an epoch is made of whole batches",
                f"--set train.batch_size={max(2, len(pairs))}, or use more data",
            )
        self._train, self._views, self._max_words = train, views, data.max_words
        self._keys = [pair.key for pair in pairs]
        numbers = {concept: number for number, concept in enumerate(dict.fromkeys(pair.concept for pair in pairs))}
        self._concepts = torch.tensor([numbers[pair.concept] for pair in pairs])
        self._texts = [[vocabulary.indices(text) for text in texts_of(pair, data.captions)] for pair in pairs]
        self._images = load_images(pairs, data.image_size)

    def __len__(self) -> int:
        """Return the number of batches in an epoch; pairs that do not fill a batch wait for another epoch's shuffle."""
        return len(self._keys) // self._train.batch_size

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 0."""
        random = torch.Generator().manual_seed(self._train.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self._keys), generator=random)
        for rows in order[: len(self) * self._train.batch_size].reshape(len(self), -1):
            images = normalise(self._images[rows])
            yield Batch(
                images=augment(images, self._train.augment, random),
                views=augment(images, self._train.augment, random) if self._views else None,
                tokens=self._tokens(rows.tolist(), random),
                concepts=self._concepts[rows],
                keys=tuple(self._keys[row] for row in rows.tolist()),
            )

    def _tokens(self, rows: Sequence[int], random: torch.Generator) -> Tensor:
        """Draw one text per pair, and leave out words."""
        chosen = []
        for row in rows:
            texts = self._texts[row]
            words = texts[int(torch.randint(len(texts), (), generator=random))]
            kept = (torch.rand(len(words), generator=random) >= self._train.word_dropout).tolist()
            chosen.append([word for word, keep in zip(words, kept, strict=True) if keep][: self._max_words] or words[:1])
        return torch.from_numpy(pad(chosen))


def augment(images: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Return normalised images (B, 3, H, W), each moved and recoloured a little; never mirrored, for arrows, hands and letters.

    At ``strength`` 1, uniformly: rotation ±15°, scale ±15 %, shift ±10 % of the side; then colours around grey: contrast ±30 %,
    saturation ±60 %, hue ±20°, brightness ±0.3. Edges are continued outward.
    """
    if strength == 0:
        return images

    def uniform(limit: float, *shape: int) -> Tensor:
        return (2 * torch.rand(len(images), *shape, generator=random) - 1) * limit * strength

    angle, scale = uniform(math.radians(15)), 1 + uniform(0.15)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2) * scale[:, None, None]
    theta = torch.cat([rotation, uniform(0.2, 2, 1)], 2)  # the grid spans −1…1, so a shift of 0.2 is 10 %
    moved = F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), padding_mode="border", align_corners=False)
    contrast, saturation, hue = 1 + uniform(0.3), 1 + uniform(0.6), uniform(math.radians(20))
    mixing = torch.einsum("b,bij->bij", contrast, _colour_matrix(saturation, hue))
    return torch.einsum("bij,bjhw->bihw", mixing, moved) + uniform(0.3, 1, 1, 1)


def _colour_matrix(saturation: Tensor, hue: Tensor) -> Tensor:
    """Return RGB→RGB matrices (B, 3, 3) that rotate colours about the grey axis by ``hue`` and stretch them from it by ``saturation``."""
    grey = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    cos, sin = (value[:, None, None] for value in (saturation * hue.cos(), saturation * hue.sin()))
    return grey + cos * (torch.eye(3) - grey) + sin * turn
