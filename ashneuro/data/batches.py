"""Pairs as tensors: images in memory or mapped from disk, shuffled and augmented batches, texts.

The batches of an epoch depend on (seed, epoch) alone. A resumed run therefore sees the batches of
an uninterrupted one, and several processes can each take a shard of the same batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event, Thread
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ashneuro.arrays import kept_array
from ashneuro.config import DataConfig, TrainConfig, cache_dir
from ashneuro.cores import reading_threads
from ashneuro.data.pairs import Batch, Pair, Unpaired
from ashneuro.data.splits import equal_texts
from ashneuro.data.tokens import Words, pad
from ashneuro.errors import DataError, need

Augmentation = tuple[Tensor, ...]
"""Sampling grids (B, 2, 3), colour matrices (B, 3, 3) and brightness (B, 1, 1, 1) of a batch's
images.
"""


CPU = torch.device("cpu")

FRAGMENT = 0.5
"""Share of the words left out of an unlabelled text for its fragment."""


class Images(Protocol):
    """Images by row number, as the model reads them."""

    def read(self, rows: Tensor, device: torch.device = CPU) -> Tensor:
        """Return the images of ``rows`` (B,) on ``device``, (B, channels, H, W) float32."""


class Pixels:
    """Images held as uint8 (N, 3, S, S), in memory or mapped from disk."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def read(self, rows: Tensor, device: torch.device = CPU) -> Tensor:
        """Return normalised images; they move to ``device`` as uint8."""
        return normalise(place(self.images[rows], device))


class Features:
    """Features of a frozen backbone, (N, F, H, W), float16 on disk."""

    def __init__(self, features: NDArray[np.float16]) -> None:
        self.features = features

    def read(self, rows: Tensor, device: torch.device = CPU) -> Tensor:
        """Return the features, as float32; they move to ``device`` as float16."""
        return place(torch.from_numpy(self.features[rows.numpy()]), device).float()

    @property
    def tensor(self) -> Tensor:
        """All features, float16, as a tensor in the mapped memory."""
        return torch.from_numpy(self.features)


def load_pixels(pairs: Sequence[Pair], data: DataConfig) -> Pixels:
    """Return the pairs' images at ``data.image_size``, in memory or on disk as ``data.store``
    says.
    """
    return Pixels(load_images(pairs, data.image_size) if data.store == "memory" else map_images(pairs, data.image_size))


def load_images(pairs: Sequence[Pair], size: int) -> Tensor:
    """Return all images as one tensor (N, 3, size, size), uint8.

    Raises:
        DataError: an image cannot be read.
    """
    images = torch.empty(len(pairs), 3, size, size, dtype=torch.uint8)
    for row, pixels in zip(images, _resized(pairs, size), strict=True):
        row.numpy()[:] = np.moveaxis(pixels, -1, 0)
    return images


def load_readable(pairs: Sequence[Pair], size: int) -> tuple[Tensor, list[Pair], list[str]]:
    """Return the images (N, 3, size, size), uint8, that can be read, their pairs, and a line for
    every other one.
    """
    images: list[Tensor] = []
    kept: list[Pair] = []
    problems: list[str] = []
    for pair, pixels in zip(pairs, _decoded(pairs, size), strict=True):
        if isinstance(pixels, DataError):
            problems.append(f"{pair.key}: {pixels.why}")
        else:
            images.append(torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0))))
            kept.append(pair)
    return torch.stack(images) if images else torch.empty(0, 3, size, size, dtype=torch.uint8), kept, problems


def map_images(pairs: Sequence[Pair], size: int) -> Tensor:
    """Return the tensor of `load_images`, mapped from a file in the cache folder.

    The first call decodes every image and writes the file. Its name is a hash of the keys, the size
    and the pixels of a few images: other data get another file.

    Raises:
        DataError: an image cannot be read, or the file cannot be written.
    """
    path = cache_dir() / "images" / f"{cache_name(pairs, str(size))}.npy"

    def fill(images: NDArray[np.uint8]) -> None:
        for row, pixels in zip(images, _resized(pairs, size), strict=True):
            row[:] = np.moveaxis(pixels, -1, 0)

    try:
        return torch.from_numpy(kept_array(path, (len(pairs), 3, size, size), np.uint8, fill))
    except OSError as error:
        raise DataError(
            f"cannot keep images in {path.parent}",
            error.strerror or str(error),
            "set $ASHNEURO_HOME to a folder with room",
        ) from error


def cache_name(pairs: Sequence[Pair], salt: str) -> str:
    """Return a hash of the pairs' keys, of ``salt``, and of the pixels of a few, as a file name."""
    digest = hashlib.sha256(salt.encode())
    for pair in pairs:
        digest.update(pair.key.encode() + b"\0")
    for pair in pairs[:: max(1, len(pairs) // 8)]:
        digest.update(pair.load().tobytes())
    return digest.hexdigest()[:32]


def _resized(pairs: Sequence[Pair], size: int) -> Iterator[NDArray[np.uint8]]:
    """Iterate over the images, (size, size, 3), in order.

    Raises:
        DataError: an image cannot be read.
    """
    for pixels in _decoded(pairs, size):
        if isinstance(pixels, DataError):
            raise pixels
        yield pixels


def _decoded(pairs: Sequence[Pair], size: int) -> Iterator[NDArray[np.uint8] | DataError]:
    """Iterate over the images, (size, size, 3), or their errors, in order; decoded by one thread
    per core, a few ahead.
    """

    def read(pair: Pair) -> NDArray[np.uint8] | DataError:
        try:
            return resize(pair.load(), size)
        except DataError as error:
            return error

    block = 256  # pool.map submits all of its items at once: blocks bound the decoded images that wait
    with ThreadPoolExecutor(reading_threads()) as pool:
        for start in range(0, len(pairs), block):
            yield from pool.map(read, pairs[start : start + block])


def place(values: Tensor, device: torch.device) -> Tensor:
    """Return a CPU tensor on ``device``; on a GPU through pinned memory, without waiting for it."""
    if device.type != "cuda":
        return values.to(device)
    with torch.cuda.device(device):  # a thread that reads ahead would pin for the first GPU
        return values.pin_memory().to(device, non_blocking=True)


def resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) as (size, size, 3)."""
    if pixels.shape[:2] == (size, size):
        return pixels
    pillow = need("PIL.Image", extra="train", purpose="resizing images")
    return np.array(pillow.fromarray(pixels).resize((size, size), pillow.Resampling.LANCZOS))


def normalise(images: Tensor) -> Tensor:
    """Return uint8 images as float32, 0…255 mapped to −2…2.

    Natural images then have a mean near 0 and a standard deviation near 1.
    """
    return images.float().sub_(127.5).div_(63.75)


class Captioned(Protocol):
    """A pair, a clip, or a sample of a stream."""

    @property
    def captions(self) -> tuple[str, ...]:
        """Its texts."""


def texts_of(pair: Captioned, captions: str) -> tuple[str, ...]:
    """Return the texts of a pair or clip: its captions, or ``"joined"`` in one text."""
    return (", ".join(pair.captions),) if captions == "joined" else pair.captions


class Batches:
    """Training batches of ``pairs``, epoch by epoch.

    Args:
        pairs: training pairs; their images are read once, here.
        views: add a second augmented view of every image.
        images: used instead of the pairs' own, in the same order.
        labelled: numbers of the pairs whose image and texts are known to belong together; ``None``:
            all. An epoch then draws as many batches of them, pass after pass, and beside each as
            many images and texts of the others, if ``train.unlabelled`` asks for them.
        shard: this process's rank and the number of processes; each gives its rows of every batch.

    Raises:
        DataError: there are fewer pairs than a batch holds, or an image cannot be read.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        vocabulary: Words,
        data: DataConfig,
        train: TrainConfig,
        *,
        views: bool,
        images: Images | None = None,
        labelled: Sequence[int] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        what = "training pairs" if labelled is None else f"labelled of {len(pairs)} training pairs"
        require_batch(len(pairs) if labelled is None else len(labelled), what, train.batch_size)
        self._labelled = None if labelled is None else torch.tensor(labelled)
        known = set(labelled or ())
        self._others = torch.tensor([row for row in range(len(pairs)) if row not in known])
        self._train, self._views, self._shard = train, views, shard
        self._vocabulary, self._max_words = vocabulary, data.max_words
        self._keys = [pair.key for pair in pairs]
        # Concepts as numbers, which a batch compares on the GPU.
        numbers = {concept: number for number, concept in enumerate(dict.fromkeys(pair.concept for pair in pairs))}
        self._concepts = torch.tensor([numbers[pair.concept] for pair in pairs])
        self._texts = [[vocabulary.indices(text) for text in texts_of(pair, data.captions)] for pair in pairs]
        self._numbers = _numbered_texts(pairs, data.captions)
        self._images = images or load_pixels(pairs, data)

    def __len__(self) -> int:
        """Return the number of whole batches in an epoch; the pairs left over differ between
        epochs.
        """
        return len(self._keys) // self._train.batch_size

    def epoch(self, epoch: int, start: int = 0, device: torch.device = CPU) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, counted from 0, from batch ``start`` on.

        Numbers are drawn on the CPU; images are augmented on ``device``, where the batches are.
        """
        random = epoch_generator(self._train.seed, epoch)
        size = self._train.batch_size
        if self._labelled is None:
            every = shuffled_rows(len(self._keys), size, random)
        else:
            every = self._labelled[repeated_rows(len(self._labelled), len(self), size, random)]
        beside = self._beside(random) if self._labelled is not None and self._train.unlabelled else None
        for number, rows in enumerate(every):
            # Random numbers are drawn for the whole batch, and for skipped ones: every process, and
            # a resumed run, then go through the same sequence.
            first = draw_augmentation(len(rows), self._train.augment, random)
            second = draw_augmentation(len(rows), self._train.augment, random) if self._views else ()
            words, drawn = self._words(rows.tolist(), random, self._train.word_dropout)
            unpaired = None if beside is None else self._unpaired(beside[0][number], beside[1][number], random, device)
            if number < start:
                continue
            own = local_rows(len(rows), self._shard)
            images = self._images.read(rows[own], device)
            texts = None if self._numbers is None else _with_own(self._numbers[rows], drawn)[own]
            yield Batch(
                images=augment(images, [values[own] for values in first]),
                views=augment(images, [values[own] for values in second]) if self._views else None,
                tokens=place(torch.from_numpy(pad(words[own])), device),
                concepts=place(self._concepts[rows[own]], device),
                keys=tuple(self._keys[row] for row in rows[own].tolist()),
                unpaired=unpaired,
                texts=None if texts is None else place(texts, device),
            )

    def _beside(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the pairs that give the images, and those that give the texts, without labels."""
        count, size = len(self._others), self._train.batch_size
        images, texts = (self._others[repeated_rows(count, len(self), size, random)] for _ in range(2))
        return images, texts

    def _unpaired(self, rows: Tensor, texts: Tensor, random: torch.Generator, device: torch.device) -> Unpaired:
        own = local_rows(len(rows), self._shard)
        changes = draw_augmentation(len(rows), self._train.augment, random)
        chosen = [int(torch.randint(len(self._texts[row]), (), generator=random)) for row in texts.tolist()]
        whole = [
            self._vocabulary.cut(self._texts[row][number], self._max_words)
            for row, number in zip(texts.tolist(), chosen, strict=True)
        ]
        fragments = [self._without(words, FRAGMENT, random) for words in whole]
        images = self._images.read(rows[own], device)
        return Unpaired(
            images=images,
            views=augment(images, [values[own] for values in changes]),
            # Padded before they are divided: processes compare texts of one width.
            tokens=place(torch.from_numpy(pad(whole)[own]), device),
            fragments=place(torch.from_numpy(pad(fragments[own])), device),
        )

    def _words(self, rows: Sequence[int], random: torch.Generator, dropout: float) -> tuple[list[list[int]], list[int]]:
        """Draw one text per pair and drop words from it; marks of start and end stay.

        Returns also which of the pair's texts it is.
        """
        chosen, drawn = [], []
        for row in rows:
            texts = self._texts[row]
            drawn.append(int(torch.randint(len(texts), (), generator=random)))
            chosen.append(self._without(texts[drawn[-1]], dropout, random))
        return chosen, drawn

    def _without(self, words: list[int], dropout: float, random: torch.Generator) -> list[int]:
        """Return ``words`` without a share of them; at least one stays, and the marks do."""
        kept = (torch.rand(len(words), generator=random) >= dropout).tolist()
        marks = self._vocabulary.marks
        left = [word for word, keep in zip(words, kept, strict=True) if keep or word in marks]
        return self._vocabulary.cut(left, self._max_words) or words[:1]


def _numbered_texts(pairs: Sequence[Pair], captions: str) -> Tensor | None:
    """Return the numbers of the pairs' texts (N, C), −1 = padding, the same for equal texts.

    ``None`` if no text belongs to pairs of several concepts.
    """
    texts = [(text, row) for row, pair in enumerate(pairs) for text in texts_of(pair, captions)]
    number_of = list(range(len(texts)))
    shared = False
    for equal in equal_texts([text for text, _ in texts]):
        shared |= len({pairs[texts[number][1]].concept for number in equal}) > 1
        for number in equal:
            number_of[number] = equal[0]
    if not shared:
        return None
    own: list[list[int]] = [[] for _ in pairs]
    for (_, row), number in zip(texts, number_of, strict=True):
        own[row].append(number + 1)
    return torch.from_numpy(pad(own)) - 1


def _with_own(own: Tensor, drawn: Sequence[int]) -> Tensor:
    """Return the number of the drawn text before those of all texts of a pair, (B, 1 + C)."""
    return torch.cat([own.gather(1, torch.tensor(drawn)[:, None]), own], 1)


def require_batch(count: int, what: str, batch_size: int) -> None:
    """Raise `DataError` if ``count`` items do not fill a batch."""
    if count < 2:
        raise DataError(f"{count} {what}", "a batch has at least two, which are told apart", "use more data")
    if count < batch_size:
        raise DataError(
            f"{count} {what} are fewer than one batch",
            f"train.batch_size is {batch_size}, and an epoch is made of whole batches",
            f"--set train.batch_size={count}, or use more data",
        )


def incomplete_batch(count: int, what: str, batch_size: int) -> str:
    """Return a sentence about the items that fill no batch in an epoch; empty if there are none, or
    no batch either, which is an error (`require_batch`).
    """
    left = count % batch_size
    if not left or count < batch_size:
        return ""
    better = min(range(batch_size, batch_size // 2, -1), key=lambda size: count % size)
    rest = f"{count % better}" if count % better else "none"
    return (
        f"each epoch leaves out {left:,} of {count:,} {what}, drawn anew, which do not fill a batch of {batch_size}; "
        f"train.batch_size={better} leaves out {rest}"
    )


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the random generator of an epoch."""
    # The factor is above any number of epochs, so that every (seed, epoch) has a stream of its own.
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def shuffled_rows(count: int, batch_size: int, random: torch.Generator) -> Tensor:
    """Return the numbers of shuffled rows, (batches, batch_size); rows that fill no batch are left
    out.
    """
    batches = count // batch_size
    return torch.randperm(count, generator=random)[: batches * batch_size].reshape(batches, batch_size)


def repeated_rows(count: int, batches: int, batch_size: int, random: torch.Generator) -> Tensor:
    """Return row numbers below ``count``, (batches, batch_size): shuffled passes, one after the
    other.
    """
    passes = math.ceil(batches * batch_size / count)
    rows = torch.cat([torch.randperm(count, generator=random) for _ in range(passes)])
    return rows[: batches * batch_size].reshape(batches, batch_size)


def local_rows(count: int, shard: tuple[int, int]) -> slice:
    """Return this process's slice of ``count`` rows; ``shard``: its rank and the number of
    processes.
    """
    rank, size = shard
    return slice(rank * count // size, (rank + 1) * count // size)


Item = TypeVar("Item")


def prefetch(items: Iterator[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Iterate over ``items``, made by a thread up to ``depth`` ahead; its exceptions are raised
    here.
    """
    made: Queue[tuple[Item | None, BaseException | None]] = Queue(depth)
    stopped = Event()

    def make() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                made.put((item, None))
                if stopped.is_set():
                    return
        except BaseException as problem:  # also KeyboardInterrupt: it ends the epoch where it is consumed
            error = problem
        made.put((None, error))

    thread = Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        while thread.is_alive():  # it may be blocked on a full queue
            if not made.empty():
                made.get()
            thread.join(0.01)


def draw_augmentation(count: int, strength: float, random: torch.Generator) -> Augmentation:
    """Return a random affine map and colour change for each of ``count`` images; empty at
    ``strength`` 0.

    Uniform, at ``strength`` 1: rotation ±15°, scale ±15 %, shift ±10 % of the side; then, about
    grey: contrast ±30 %, saturation ±60 %, hue ±20°, brightness ±0.3. Images are never mirrored,
    because arrows, hands and letters change their meaning.
    """
    if strength == 0:
        return ()

    def uniform(limit: float, *shape: int) -> Tensor:
        return (2 * torch.rand(count, *shape, generator=random) - 1) * limit * strength

    angle, scale = uniform(math.radians(15)), 1 + uniform(0.15)
    rotation = (
        torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(-1, 2, 2) * scale[:, None, None]
    )
    theta = torch.cat([rotation, uniform(0.2, 2, 1)], 2)  # the grid spans −1…1, so a shift of 0.2 is 10 %
    contrast, saturation, hue = 1 + uniform(0.3), 1 + uniform(0.6), uniform(math.radians(20))
    mixing = torch.einsum("b,bij->bij", contrast, _colour_matrix(saturation, hue))
    return theta, mixing, uniform(0.3, 1, 1, 1)


def augment(images: Tensor, augmentation: Sequence[Tensor]) -> Tensor:
    """Return normalised images (B, 3, H, W) after the change that `draw_augmentation` drew, on
    their device.

    Pixels from outside the image repeat its edge.
    """
    if not augmentation:
        return images
    theta, mixing, brightness = (place(values, images.device) for values in augmentation)
    moved = F.grid_sample(
        images,
        F.affine_grid(theta, list(images.shape), align_corners=False),
        padding_mode="border",
        align_corners=False,
    )
    return torch.einsum("bij,bjhw->bihw", mixing, moved) + brightness


def _colour_matrix(saturation: Tensor, hue: Tensor) -> Tensor:
    """Return RGB→RGB matrices (B, 3, 3): rotation about the grey axis by ``hue``, distance to it ×
    ``saturation``.
    """
    # Rodrigues' formula: projection on the axis, the part orthogonal to it, and their cross
    # product.
    grey = torch.full((3, 3), 1 / 3)
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    cos, sin = (value[:, None, None] for value in (saturation * hue.cos(), saturation * hue.sin()))
    return grey + cos * (torch.eye(3) - grey) + sin * turn
