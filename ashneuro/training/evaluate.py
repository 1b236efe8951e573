"""Held-out retrieval of a model: whole, with each branch zeroed, and by the STUA head alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ashneuro.config import DataConfig
from ashneuro.data.batches import load_images, normalise, texts_of
from ashneuro.data.pairs import Pair
from ashneuro.data.splits import equal_texts
from ashneuro.data.tokens import Words
from ashneuro.errors import DataError
from ashneuro.evaluation import (
    Condition,
    Evaluation,
    FusionRatio,
    Metrics,
    RetrievalExample,
    RetrievalHit,
    RetrievalRow,
    SpikeSource,
)
from ashneuro.model.network import AshNet, Branch, Encoded

CUTS = (1, 5, 10)
BATCH = 256

ZEROED: dict[Condition, Branch | None] = {
    Condition.WHOLE: None,
    Condition.A_ZEROED: "abstract",
    Condition.C_ZEROED: "concrete",
    Condition.V_ZEROED: "both",
}
"""The branch of the fusion that is zeroed under each condition."""

SpikeEncoder = Callable[[Iterator[NDArray[np.float32]]], Iterable[NDArray[np.generic]]]
"""Currents (T, b, *in_shape) → spikes S (T, b, K), chunk by chunk: the emulator or Lava.

Chunks are computed as they are drawn: while Lava runs one, the host can prepare the next.
"""


def evaluate(
    model: AshNet,
    vocabulary: Words,
    pairs: Sequence[Pair],
    data: DataConfig,
    *,
    split: str,
    stua_head: bool = False,
    encoder: SpikeEncoder | None = None,
    spikes_from: SpikeSource = SpikeSource.TORCH,
    examples: int = 12,
) -> Evaluation:
    """Return the metrics of retrieving texts by image and images by text among ``pairs``.

    A hit is any item of the query's concept, or a text that equals one of the image's own: R@K is
    the share of queries with a hit among the first K. The rank is that of the best hit; items with
    the same score are ranked before it, so that constant embeddings gain nothing.

    Args:
        split: name of the split, kept in the result.
        stua_head: measure retrieval through the STUA head alone as well; it must have been trained,
            see `ashneuro.config.trains_stua_head`.
        encoder: computes the spikes instead of torch.
        spikes_from: the simulator behind ``encoder``, or `SpikeSource.ANN_INTEGERS`; kept in the
            result.
        examples: number of example queries.

    Raises:
        DataError: there are no pairs, an image cannot be read, or the network computes NaN.
        ValueError: the encoder's spikes do not have the shape (T, B, *out_shape).
    """
    if not pairs:
        raise DataError(f"the split {split!r} is empty", "there is nothing to evaluate", "choose another split")
    pool = Pool(pairs, vocabulary, data)
    spikes = None if encoder is None or model.abstract is None else simulated_spikes(model, pool.images, encoder)
    conditions = [Condition.WHOLE]
    if model.abstract is not None:
        conditions += [Condition.A_ZEROED, Condition.C_ZEROED, *([Condition.A_ALONE] if stua_head else [])]
    embeddings, firing = _embed_images(model, pool.images, conditions, spikes)
    texts = _embed_texts(model, pool.tokens)
    require_numbers("texts", texts)
    require_numbers("images", *embeddings)
    similarity = [image @ texts.T for image in embeddings]
    spiking = model.config.abstract.kind == "spiking"
    source = spikes_from if spiking or spikes_from is SpikeSource.ANN_INTEGERS else SpikeSource.NONE
    return Evaluation(
        kind=model.config.abstract.kind,
        split=split,
        images=len(pairs),
        texts=len(pool.texts),
        concepts=len({pair.concept for pair in pairs}),
        shared_texts=pool.shared,
        rows=tuple(
            RetrievalRow(condition, source, metrics(scores, pool.relevant), metrics(scores.T, pool.relevant.T))
            for condition, scores in zip(conditions, similarity, strict=True)
        ),
        chance=RetrievalRow(Condition.CHANCE, SpikeSource.NONE, chance(pool.relevant), chance(pool.relevant.T)),
        ratio=_ratio(model),
        firing_rate=firing if spiking else {},
        examples=_examples(similarity[0], pool, examples),
    )


def require_numbers(what: str, *values: NDArray[np.floating]) -> None:
    """Raise `DataError` if what a network computed of ``what`` is not finite numbers.

    Ranks among NaN would be 0 %, as if it had been measured.
    """
    bad = sum(int((~np.isfinite(each)).any(-1).sum()) for each in values)
    if bad:
        raise DataError(
            f"the network computes no numbers of its {what}",
            f"{bad:,} of {sum(math.prod(each.shape[:-1]) for each in values):,} results are NaN or infinite",
            "its weights are damaged, or too large: train again, or restore model.safetensors",
        )


class Pool:
    """Images, texts and their relevance for retrieval.

    Args:
        images: those of ``pairs``; default: read here.

    Attributes:
        images: (N, 3, S, S) uint8, or features of a frozen backbone (N, F, H, W) float16.
        texts: M texts.
        owners: (M,) index of each text's pair.
        tokens: (M, words) word indices.
        relevant: (N, M) bool: image and text are of one concept, or the text equals one of the
            image's own.
        shared: number of texts that equal one of another concept.
    """

    def __init__(
        self, pairs: Sequence[Pair], vocabulary: Words, data: DataConfig, images: Tensor | None = None
    ) -> None:
        self.pairs = pairs
        owned = [(text, index) for index, pair in enumerate(pairs) for text in texts_of(pair, data.captions)]
        self.texts = [text for text, _ in owned]
        self.owners = np.array([index for _, index in owned], np.int64)
        self.tokens = torch.from_numpy(vocabulary.encode(self.texts, data.max_words))
        self.images = load_images(pairs, data.image_size) if images is None else images
        concepts = np.array([pair.concept for pair in pairs])
        self.relevant: NDArray[np.bool_] = concepts[:, None] == concepts[self.owners][None, :]
        self.shared = 0
        for equal in equal_texts(self.texts):
            owners = self.owners[equal]
            if len(set(concepts[owners])) > 1:
                self.relevant[np.ix_(owners, np.array(equal))] = True
                self.shared += len(equal)


def recalls(model: AshNet, pool: Pool) -> tuple[Metrics, Metrics, dict[str, float]]:
    """Return the metrics image → text and text → image of the whole model, as in `evaluate`, and
    firing rates by population.
    """
    (images,), firing = _embed_images(model, pool.images, [Condition.WHOLE], None)
    scores = images @ _embed_texts(model, pool.tokens).T
    return metrics(scores, pool.relevant), metrics(scores.T, pool.relevant.T), firing


def metrics(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Return R@1, R@5, R@10 and the median rank of the best relevant item.

    Args:
        scores, relevant: (queries, items).
    """
    best = np.where(relevant, scores, -np.inf).max(1, keepdims=True)
    # `not <` and not `>=`: a NaN is ranked before the best hit, so that it gains nothing.
    ranks = 1 + (~relevant & ~(scores < best)).sum(1)
    return {**{f"R@{cut}": float((ranks <= cut).mean()) for cut in CUTS}, "median_rank": float(np.median(ranks))}


def chance(relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Return the expectation of `metrics` for a random order.

    With m of n items relevant, ``P(rank > k) = C(n−m, k) / C(n, k)``.
    """
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

    Every timestep is a read-only view of the same values.
    """
    model.eval()
    assert model.abstract is not None
    device = model.log_scale.device
    for part in torch.split(images, size):
        with torch.no_grad():
            currents = model.currents(_read(part).to(device)).float().cpu().numpy()
        yield np.broadcast_to(currents, (model.abstract.timesteps, *currents.shape))


@torch.no_grad()
def _embed_images(
    model: AshNet, images: Tensor, conditions: Sequence[Condition], spikes: NDArray[np.generic] | None
) -> tuple[list[NDArray[np.float32]], dict[str, float]]:
    """Return embeddings (N, E) under each condition, and firing rates by population."""
    parts: list[list[Tensor]] = [[] for _ in conditions]
    firing: dict[str, float] = {}
    for encoded in encode_chunks(model, images, spikes, BATCH, firing):
        for found, condition in zip(parts, conditions, strict=True):
            if condition is Condition.A_ALONE:
                embedding = model.align(encoded.abstract)
            else:
                embedding = model.fuse(encoded.concrete, encoded.abstract, ZEROED[condition])
            found.append(embedding.cpu())
    return [torch.cat(found).numpy() for found in parts], firing


def encode_chunks(
    model: AshNet, images: Tensor, spikes: NDArray[np.generic] | None, size: int, firing: dict[str, float]
) -> Iterator[Encoded]:
    """Yield the encodings of uint8 images (B, 3, S, S), or of features, ``size`` at a time.

    Args:
        spikes: (T, B, *out_shape), of another simulator; ``None``: the model computes them.
        firing: collects the firing rate over all images, by spiking layer.
    """
    model.eval()
    device = model.log_scale.device
    for start in range(0, len(images), size):
        part = None if spikes is None else spikes[:, start : start + size]
        pixels = _read(images[start : start + size]).to(device)
        encoded = model.encode(pixels, spikes=part)
        # Another simulator returns the spikes of the last layer only.
        layers = encoded.layers if part is None else {"semantic.lif": torch.as_tensor(part)}
        for name, sent in layers.items():
            rate = float((sent != 0).double().mean())  # of graded neurons, the share that sends
            firing[name] = firing.get(name, 0.0) + rate * len(pixels) / len(images)
        yield encoded


def _read(part: Tensor) -> Tensor:
    """Return images as the model reads them: uint8 ones normalised, features as float32."""
    return normalise(part) if part.dtype == torch.uint8 else part.float()


@torch.no_grad()
def _embed_texts(model: AshNet, tokens: Tensor) -> NDArray[np.float32]:
    model.eval()
    device = model.log_scale.device
    return torch.cat([model.embed_texts(part.to(device)).cpu() for part in torch.split(tokens, BATCH)]).numpy()


def simulated_spikes(model: AshNet, images: Tensor, encoder: SpikeEncoder) -> NDArray[np.generic]:
    """Return the spikes (T, B, *out_shape) that ``encoder`` computes for uint8 images (B, 3, S, S).

    Raises:
        ValueError: the spikes have another shape.
    """
    assert model.abstract is not None
    spikes = np.concatenate(list(encoder(input_currents(model, images))), axis=1)
    expected = (model.abstract.timesteps, len(images), *model.abstract.out_shape)
    if spikes.shape != expected:
        raise ValueError(f"the encoder returned spikes of shape {spikes.shape}, not (T, B, *out_shape) = {expected}")
    return spikes


def _ratio(model: AshNet) -> FusionRatio | None:
    if model.abstract is None:
        return None
    channels = tuple(model.ratio.detach().flatten().tolist())
    return FusionRatio(sum(channels) / len(channels), min(channels), max(channels), channels)


def _examples(similarity: NDArray[np.floating], pool: Pool, count: int) -> tuple[RetrievalExample, ...]:
    """Return queries evenly spaced over the pool, texts and images in turn."""
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
                RetrievalHit(
                    pair.key,
                    pair.captions[0] if by_text else pool.texts[index],
                    float(scores[index]),
                    bool(right[index]),
                )
            )
        chosen.append(
            RetrievalExample(
                "text" if by_text else "image",
                owner.key,
                pool.texts[query] if by_text else owner.captions[0],
                tuple(hits),
            )
        )
    return tuple(chosen)
