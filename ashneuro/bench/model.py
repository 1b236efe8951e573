"""One step of training, forward and backward, of a whole network on made-up pairs, its neurons computed in each way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ashneuro.bench.norse_network import lift, step_by_step
from ashneuro.bench.peers import available
from ashneuro.bench.timing import Job, Way
from ashneuro.config import RunConfig
from ashneuro.data.pairs import Batch
from ashneuro.model.network import AshNet
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.training.learner import Learner, whole_loss

WORDS = 2000
SEED = 7
WAYS: tuple[Kernels, ...] = ("triton", "native", "torch", "norse")


def model_jobs(device: torch.device, config: RunConfig, *, batch: int | None = None) -> list[Job]:
    """Return a step of training ``config``: its neurons in each way, the encoder in Norse, and ReLUs, which run once, in their place.

    The optimiser is left out: it is the same for all.
    """
    count = batch or config.train.batch_size
    size = config.data.image_size
    random = torch.Generator().manual_seed(SEED)

    def images() -> torch.Tensor:
        drawn = torch.randn(count, 3, size, size, generator=random)
        return drawn.to(device, memory_format=torch.channels_last)

    tokens = torch.randint(2, WORDS, (count, config.data.max_words), generator=random).to(device)
    pairs = Batch(images(), images(), tokens, torch.arange(count, device=device), tuple(map(str, range(count))))

    def step(model: AshNet) -> Callable[[], None]:
        model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        learner = Learner(model, config.train, mask=1)

        def run() -> None:
            learner.zero_grad()
            terms, _ = learner(pairs, config.train, torch.Generator().manual_seed(SEED))
            torch.autograd.backward(whole_loss(terms))

        return run

    ways = []
    for kernels in WAYS:
        reason = available(kernels, device)
        if reason and kernels == "triton" and device.type == "cpu":
            continue
        # Only neurons that are one operator can be told from the rest in a profile.
        run = None if reason else step(_network(config, kernels))
        ways.append(
            Way(f"LIF, {kernels}", run, split=kernels in ("triton", "native"))
            if run
            else Way(f"LIF, {kernels}", reason=reason)
        )
    neuron = config.model.abstract
    # Norse's cell in its own default, which is ours too; no other encoder is the same one in Norse.
    plain = (
        neuron.kind == "spiking"
        and neuron.neuron == "lif"
        and neuron.surrogate == "super"
        and not (neuron.slope or neuron.detach_reset)
    )
    for name, rewrite in (("Norse, Lift(LIFBoxCell)", lift), ("Norse, stepwise", step_by_step)):
        model = _network(config, "norse")
        if plain and model.abstract is not None:
            rewrite(model.abstract)
            ways.append(Way(name, step(model)))
        else:
            ways.append(Way(name, reason="it is compared for plain LIF neurons with SuperSpike"))
    controls = replace(config, model=replace(config.model, abstract=replace(config.model.abstract, kind="relu")))
    ways.append(Way("ReLU, once", step(_network(controls, "auto")), split=True))
    steps = config.model.abstract.timesteps
    baseline = next(way.name for way in ways if not way.reason)
    return [Job(f"One training step, batch {count}, T = {steps}", baseline, tuple(ways))]


def _network(config: RunConfig, kernels: Kernels) -> AshNet:
    torch.manual_seed(SEED)
    model = AshNet(config.model, WORDS, config.data.image_size, config.data.max_words)
    if model.abstract is not None:
        model.abstract.use_kernels(kernels)
    return model
