"""Held-out retrieval, with what it takes to see whether the spiking part matters."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ashneuro.config import DataConfig
from ashneuro.data.batches import load_images, normalise, texts_of
from ashneuro.data.pairs import Pair
from ashneuro.data.tokens import Words
from ashneuro.errors import DataError
from ashneuro.model.network import AshNet, Branch
from ashneuro.training.checkpoint import replace_file

SCHEMA = "ashneuro.evaluation/1"
CUTS = (1, 5, 10)
BATCH = 256

SpikeEncoder = Callable[[Iterator[NDArray[np.float32]]], Iterable[NDArray[np.generic]]]
"""Currents (T, b, *in_shape), part by part → spikes S (T, b, K), part by part: an emulator or Lava in the place of torch.

Parts are computed as they are drawn: while Lava runs one, the host can prepare the next.
"""

Metrics = Mapping[str, float]
"""``R@1``, ``R@5``, ``R@10`` (fractions) and ``median_rank`` (from 1)."""

NAMES = {
    "spiking": "hybrid",
    "none": "no abstract encoder",
    "relu": "ReLU twin",
    "quantised-relu": "quantised-ReLU twin",
}


@dataclass(frozen=True)
class Row:
    """Retrieval by one network, or by one with a branch left out at test time.

    Args:
        spikes_from: ``"torch"``, the encoder's name, or ``"none"`` where nothing spikes.
    """

    name: str
    spikes_from: str
    image_to_text: Metrics
    text_to_image: Metrics


@dataclass(frozen=True)
class Hit:
    """One thing that a query retrieved: the pair's key, its first caption, the cosine, and whether the concept is right."""

    key: str
    text: str
    score: float
    correct: bool


@dataclass(frozen=True)
class Example:
    """One query and its best five, best first. ``kind`` is what the query is: ``"image"`` (hits are texts) or ``"text"``."""

    kind: str
    key: str
    text: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Evaluation:
    """What one model retrieves on one split.

    Args:
        kind: ``model.abstract.kind``.
        split: the data and its split, in words.
        images, texts, concepts: sizes of the pool; every query ranks all of it.
        rows: the model itself first, then with A zeroed and with C zeroed in the fusion.
        chance: what random ranking is expected to get, both directions, as in `Row`.
        ratio: r in ``V = C + r ⊙ A``: mean, min, max, channels. Empty without an abstract encoder.
        firing_rate: spikes per neuron and step of each spiking layer that was observed, by name.
        examples: a dozen queries, evenly spaced over the pool.
        weights_sha256: of the run that was evaluated; empty: not said.
    """

    kind: str
    split: str
    images: int
    texts: int
    concepts: int
    rows: tuple[Row, ...]
    chance: Mapping[str, Metrics]
    ratio: Mapping[str, Any]
    firing_rate: Mapping[str, float]
    examples: tuple[Example, ...]
    weights_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, under the schema ``ashneuro.evaluation/1``."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that `to_json` wrote.

        Raises:
            DataError: the schema is another one.
        """
        rest = dict(values)
        if (schema := rest.pop("schema", None)) != SCHEMA:
            raise DataError(
                f"this evaluation has the schema {schema!r}",
                f"{SCHEMA} is the one that is read here",
                "run `ashneuro evaluate` again",
            )
        rest["rows"] = tuple(Row(**row) for row in rest["rows"])
        rest["examples"] = tuple(
            Example(**{**item, "hits": tuple(Hit(**hit) for hit in item["hits"])}) for item in rest["examples"]
        )
        return cls(**rest)

    def save(self, path: Path) -> None:
        """Write the JSON form to ``path``."""
        replace_file(
            path,
            lambda file: file.write_text(
                json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            ),
        )


def evaluate(
    model: AshNet,
    vocabulary: Words,
    pairs: Sequence[Pair],
    data: DataConfig,
    *,
    split: str,
    encoder: SpikeEncoder | None = None,
    spikes_from: str = "torch",
    examples: int = 12,
) -> Evaluation:
    """Return how well ``model`` retrieves texts by image and images by text among ``pairs``.

    A hit is any item of the query's concept: R@K is the share of queries with one among the first K. Ranks are of the best
    such item; items that score the same as it are ranked before it, so that constant embeddings gain nothing.

    Args:
        split: name of the split, for the record.
        encoder: makes the spikes instead of torch.
        spikes_from: the encoder's name, for the record.

    Raises:
        DataError: there are no pairs, or an image cannot be read.
        ValueError: the encoder's spikes do not have the shape (T, B, K).
    """
    if not pairs:
        raise DataError(f"the split {split!r} is empty", "there is nothing to evaluate", "choose another split")
    pool = Pool(pairs, vocabulary, data)
    spikes = None if encoder is None or model.abstract is None else encode_elsewhere(model, pool.images, encoder)
    zeros: dict[str, Branch | None] = {"": None}
    if model.abstract is not None:
        zeros |= {", A zeroed": "abstract", ", C zeroed": "concrete"}
    embeddings, firing = _embed_images(model, pool.images, tuple(zeros.values()), spikes)
    texts = _embed_texts(model, pool.tokens)
    similarity = [image @ texts.T for image in embeddings]
    spiking = model.config.abstract.kind == "spiking"
    return Evaluation(
        kind=model.config.abstract.kind,
        split=split,
        images=len(pairs),
        texts=len(pool.texts),
        concepts=len({pair.concept for pair in pairs}),
        rows=tuple(
            Row(
                NAMES[model.config.abstract.kind] + suffix,
                spikes_from if spiking else "none",
                metrics(scores, pool.relevant),
                metrics(scores.T, pool.relevant.T),
            )
            for suffix, scores in zip(zeros, similarity, strict=True)
        ),
        chance={"image_to_text": chance(pool.relevant), "text_to_image": chance(pool.relevant.T)},
        ratio=_ratio(model),
        firing_rate=firing if spiking else {},
        examples=_examples(similarity[0], pool, examples),
    )


class Pool:
    """Pairs made ready for retrieval.

    Attributes:
        images: (N, 3, S, S) uint8.
        texts: M texts; ``owners`` (M,) says whose they are, ``tokens`` (M, words) are their word indices.
        relevant: (N, M) bool: image and text are of one concept.
    """

    def __init__(self, pairs: Sequence[Pair], vocabulary: Words, data: DataConfig) -> None:
        self.pairs = pairs
        owned = [(text, index) for index, pair in enumerate(pairs) for text in texts_of(pair, data.captions)]
        self.texts = [text for text, _ in owned]
        self.owners = np.array([index for _, index in owned], np.int64)
        self.tokens = torch.from_numpy(vocabulary.encode(self.texts, data.max_words))
        self.images = load_images(pairs, data.image_size)
        concepts = np.array([pair.concept for pair in pairs])
        self.relevant: NDArray[np.bool_] = concepts[:, None] == concepts[self.owners][None, :]


def recalls(model: AshNet, pool: Pool) -> tuple[Metrics, Metrics]:
    """Return retrieval image → text and text → image, as `evaluate` counts it, and nothing else."""
    scores = _embed_images(model, pool.images, (None,), None)[0][0] @ _embed_texts(model, pool.tokens).T
    return metrics(scores, pool.relevant), metrics(scores.T, pool.relevant.T)


def metrics(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Return R@1, R@5, R@10 and the median rank of the best relevant item; ``scores`` and ``relevant`` are (queries, items)."""
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    ranks = 1 + (~relevant & ~(scores < best)).sum(1)  # what is not a number gains nothing either
    return {**{f"R@{cut}": float((ranks <= cut).mean()) for cut in CUTS}, "median_rank": float(np.median(ranks))}


def chance(relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Return what `metrics` is expected to be for a random order: with m of n items relevant, ``P(rank > k) = C(n−m, k)/C(n, k)``."""
    items = relevant.shape[1]
    counts, queries = np.unique(relevant.sum(1), return_counts=True)
    position = np.arange(items)
    missed = np.cumprod(np.clip((items - counts[:, None] - position) / (items - position), 0, 1), axis=1)
    found = 1 - (queries[:, None] * missed).sum(0) / queries.sum()
    return {
        **{f"R@{cut}": float(found[min(cut, items) - 1]) for cut in CUTS},
        "median_rank": float(1 + np.argmax(found >= 0.5 - 1e-12)),
    }


def input_currents(model: AshNet, images: Tensor, size: int = BATCH) -> Iterator[NDArray[np.float32]]:
    """Yield the first currents (T, b, *in_shape) of uint8 images (B, 3, S, S), ``size`` at a time.

    They are the same in every step (read-only views).
    """
    model.eval()
    assert model.abstract is not None
    device = model.log_scale.device
    for part in torch.split(images, size):
        with torch.no_grad():
            currents = model.currents(normalise(part).to(device)).float().cpu().numpy()
        yield np.broadcast_to(currents, (model.abstract.timesteps, *currents.shape))


@torch.no_grad()
def _embed_images(
    model: AshNet, images: Tensor, zeros: tuple[Branch | None, ...], spikes: NDArray[np.generic] | None
) -> tuple[list[NDArray[np.float32]], dict[str, float]]:
    """Return embeddings (N, E) for each way of leaving a branch out, and what the populations that were observed fired."""
    model.eval()
    device = model.log_scale.device
    parts: list[list[Tensor]] = [[] for _ in zeros]
    firing: dict[str, float] = defaultdict(float)
    for start in range(0, len(images), BATCH):
        part = None if spikes is None else spikes[:, start : start + BATCH]
        pixels = normalise(images[start : start + BATCH]).to(device)
        encoded = model.encode(pixels, spikes=part)
        for found, zero in zip(parts, zeros, strict=True):
            found.append(model.fuse(encoded.concrete, encoded.abstract, zero).cpu())
        layers = encoded.layers if part is None else {"semantic.lif": torch.as_tensor(part)}
        for name, sent in layers.items():
            firing[name] += float(sent.double().mean()) * len(pixels) / len(images)
    return [torch.cat(found).numpy() for found in parts], dict(firing)


@torch.no_grad()
def _embed_texts(model: AshNet, tokens: Tensor) -> NDArray[np.float32]:
    model.eval()
    device = model.log_scale.device
    return torch.cat([model.embed_texts(part.to(device)).cpu() for part in torch.split(tokens, BATCH)]).numpy()


def encode_elsewhere(model: AshNet, images: Tensor, encoder: SpikeEncoder) -> NDArray[np.generic]:
    """Return the spikes (T, B, K) that ``encoder`` makes of uint8 images (B, 3, S, S).

    Raises:
        ValueError: they do not have that shape.
    """
    assert model.abstract is not None
    spikes = np.concatenate(list(encoder(input_currents(model, images))), axis=1)
    expected = (model.abstract.timesteps, len(images), model.config.abstract.units)
    if spikes.shape != expected:
        raise ValueError(f"the encoder returned spikes of shape {spikes.shape}, not (T, B, K) = {expected}")
    return spikes


def _ratio(model: AshNet) -> dict[str, Any]:
    if model.abstract is None:
        return {}
    channels = model.ratio.detach().flatten().tolist()
    return {"mean": sum(channels) / len(channels), "min": min(channels), "max": max(channels), "channels": channels}


def _examples(similarity: NDArray[np.floating], pool: Pool, count: int) -> tuple[Example, ...]:
    """Return queries at evenly spaced places of the pool, texts and images in turn."""
    chosen = []
    for number in range(count):
        by_text = number % 2 == 0
        query = (2 * number + 1) * (len(pool.texts) if by_text else len(pool.pairs)) // (2 * count)
        scores, right = (
            (similarity[:, query], pool.relevant[:, query]) if by_text else (similarity[query], pool.relevant[query])
        )
        best = np.argsort(-scores, kind="stable")[:5].tolist()
        owner = pool.pairs[pool.owners[query]] if by_text else pool.pairs[query]
        hits = []
        for index in best:
            pair = pool.pairs[index if by_text else pool.owners[index]]
            hits.append(
                Hit(
                    pair.key,
                    pair.captions[0] if by_text else pool.texts[index],
                    float(scores[index]),
                    bool(right[index]),
                )
            )
        chosen.append(
            Example(
                "text" if by_text else "image",
                owner.key,
                pool.texts[query] if by_text else owner.captions[0],
                tuple(hits),
            )
        )
    return tuple(chosen)
