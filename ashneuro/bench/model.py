"""One training step, forward and backward, of a whole network on random pairs, with every kernel
back end.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ashneuro.bench.norse_network import lift, step_by_step
from ashneuro.bench.peers import available
from ashneuro.bench.timing import Job, Variant
from ashneuro.config import MIN_WORDS, RunConfig
from ashneuro.data.batches import Batches, Pixels, load_images
from ashneuro.data.images import decode_image
from ashneuro.data.pairs import Batch, Pair
from ashneuro.data.tokens import Vocabulary
from ashneuro.errors import ConfigError, need
from ashneuro.model.network import AshNet
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.training.branches import Branches, StepGraph
from ashneuro.training.learner import Learner, whole_loss
from ashneuro.training.schedule import make_optimiser

WORDS = 2000
SEED = 7
NAMES = {"lif": "LIF", "cubalif": "CubaLIF", "if": "IF", "graded": "graded"}
# Settings of the neurons that an encoder trains with, by name. Graded ones send values, once.
NEURONS: Mapping[str, tuple[str, ...]] = {
    "lif": ("model.abstract.neuron=lif",),
    "lif-subtract": ("model.abstract.neuron=lif", "model.abstract.reset=subtract"),
    "cubalif": ("model.abstract.neuron=cubalif",),
    "if": ("model.abstract.neuron=if",),
    "graded": ("model.abstract.neuron=graded", "model.abstract.timesteps=1"),
}
KERNELS: tuple[Kernels, ...] = ("triton", "native", "torch", "norse")


def settings_of(neuron: str) -> tuple[str, ...]:
    """Return the settings ``section.key=value`` of a neuron in `NEURONS`.

    Raises:
        ConfigError: there is none of that name.
    """
    if neuron in NEURONS:
        return NEURONS[neuron]
    alone = "; ashneuro bench lif --neuron sigma-delta times a layer alone" if neuron == "sigma-delta" else ""
    raise ConfigError(f"neuron {neuron!r}", f"an encoder trains with {', '.join(NEURONS)}{alone}", "--neuron graded")


def model_jobs(device: torch.device, config: RunConfig, *, batch: int | None = None) -> list[Job]:
    """Return a training step of ``config`` with every kernel back end, in Norse, and with ReLUs.

    ReLUs take the place of the neurons and run once. The optimiser is left out: it is the same for
    all.
    """
    count = batch or config.train.batch_size
    pairs = random_pairs(device, config, count)

    def step(model: AshNet) -> Callable[[], None]:
        return training_step(model, pairs, config)

    variants, neuron = [], config.model.abstract
    for kernels in KERNELS:
        reason = available(kernels, device)
        if kernels == "norse" and neuron.neuron == "graded":
            reason = "Norse has no graded neuron"
        if reason and kernels == "triton" and device.type == "cpu":
            continue
        name = f"{NAMES[neuron.neuron]}, {kernels}"
        if reason:
            variants.append(Variant(name, reason=reason))
        else:
            # In a profile, neurons can be told from the rest only if they are one operator.
            fused = kernels in ("triton", "native")
            variants.append(Variant(name, step(one_network(config, kernels)), split=fused))
    # Norse's cell with its defaults, which are ours too. No other neuron has the same equations in
    # Norse.
    plain = (
        neuron.kind == "spiking"
        and (neuron.neuron, neuron.reset) == ("lif", "value")
        and neuron.surrogate == "super"
        and not (neuron.slope or neuron.detach_reset)
    )
    for name, rewrite in (("Norse, Lift(LIFBoxCell)", lift), ("Norse, stepwise", step_by_step)):
        model = one_network(config, "norse")
        if plain and model.abstract is not None:
            rewrite(model.abstract)
            variants.append(Variant(name, step(model)))
        else:
            variants.append(Variant(name, reason="it is compared for plain LIF neurons with SuperSpike"))
    control = replace(config, model=replace(config.model, abstract=replace(config.model.abstract, kind="relu")))
    variants.append(Variant("ReLU, once", step(one_network(control)), split=True))
    steps = config.model.abstract.timesteps
    baseline = next(variant for variant in variants if not variant.reason)
    return [Job(f"One training step, batch {count}, T = {steps}", tuple(variants), baseline)]


def random_pairs(device: torch.device, config: RunConfig, count: int) -> Batch:
    """Return a batch of random pairs, the same with every call."""
    random = torch.Generator().manual_seed(SEED)
    size = config.data.image_size

    def images() -> torch.Tensor:
        drawn = torch.randn(count, 3, size, size, generator=random)
        return drawn.to(device, memory_format=torch.channels_last)

    tokens = torch.randint(2, WORDS, (count, config.data.max_words or MIN_WORDS), generator=random).to(device)
    return Batch(images(), images(), tokens, torch.arange(count, device=device), tuple(map(str, range(count))))


def training_step(model: AshNet, pairs: Batch, config: RunConfig, *, update: bool = False) -> Callable[..., None]:
    """Return a function that computes the gradients of ``pairs`` and, with ``update``, steps.

    It takes an executor, the thread for branches of the step, see `ashneuro.training.branches`.
    """
    model.to(pairs.images.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    learner = Learner(model, config.train, mask=1)  # the index of the unknown word, as in a vocabulary
    learner.to(pairs.images.device)
    optimiser = make_optimiser(learner, config.train)

    def run(beside: Executor | None = None) -> None:
        learner.zero_grad()
        graph = Branches(learner.parameters(), beside) if pairs.images.device.type == "cpu" else StepGraph()
        terms, _ = learner(pairs, config.train, torch.Generator().manual_seed(SEED), graph=graph)
        graph.backward(whole_loss(terms))
        del terms, graph
        if update:
            optimiser.step()

    return run


def feed_jobs(device: torch.device, config: RunConfig, *, picture: tuple[int, int] = (480, 640)) -> list[Job]:
    """Return a training step beside what one process does to feed it: its batch read and augmented,
    and its pictures decoded.

    Batches are read from decoded pictures, which training keeps in memory or in the cache folder;
    pictures are decoded once for a data set, by all cores.

    Args:
        picture: height and width of the JPEGs that are decoded.
    """
    count = config.train.batch_size
    pictures = [_pair(str(row), _jpeg(picture, row)) for row in range(count)]
    images = Pixels(load_images(pictures, config.data.image_size))
    words = Vocabulary(("", "?", "a", "picture"))
    data = replace(config.data, max_words=config.data.max_words or MIN_WORDS)
    views = config.model.abstract.kind != "none" and config.train.contrast > 0
    batches, plain = (
        Batches(pictures, words, data, replace(config.train, augment=strength), views=views, images=images)
        for strength in (config.train.augment, 0.0)
    )
    step = training_step(one_network(config), random_pairs(device, config, count), config, update=True)
    variants = (
        Variant("training step", step),
        Variant(f"read and augment on {device.type}", lambda: next(batches.epoch(0, device=device))),
        # What is left to the CPU where a GPU augments; there the values stay uint8.
        Variant("read, not augmented", lambda: next(plain.epoch(0, device=device))),
        Variant(f"decode JPEGs of {picture[1]} × {picture[0]}", lambda: load_images(pictures, config.data.image_size)),
    )
    return [Job(f"Feed of a training step, batch {count}", variants, variants[0], items=count)]


def _pair(key: str, jpeg: bytes) -> Pair:
    return Pair(key, ("a picture",), key, partial(decode_image, lambda: jpeg, key))


def _jpeg(shape: tuple[int, int], seed: int) -> bytes:
    """Return a JPEG of smooth colours, whose size is about that of a photograph."""
    small = np.random.default_rng(seed).integers(0, 256, (shape[0] // 8, shape[1] // 8, 3), np.uint8)
    file = io.BytesIO()
    pillow = need("PIL.Image", extra="train", purpose="decoding pictures")
    pillow.fromarray(small).resize(shape[::-1], pillow.Resampling.BICUBIC).save(file, "jpeg", quality=90)
    return file.getvalue()


def one_network(config: RunConfig, kernels: Kernels = "auto") -> AshNet:
    """Return the network of ``config`` with random weights, the same with every call."""
    torch.manual_seed(SEED)
    model = AshNet(config.model, WORDS, config.data.image_size, config.data.max_words or MIN_WORDS)
    if model.abstract is not None:
        model.abstract.use_kernels(kernels)
    return model
