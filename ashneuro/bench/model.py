"""One training step, forward and backward, of a whole network on random pairs, with every kernel
back end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ashneuro.bench.norse_network import lift, step_by_step
from ashneuro.bench.peers import available
from ashneuro.bench.timing import Job, Variant
from ashneuro.config import MIN_WORDS, RunConfig
from ashneuro.data.pairs import Batch
from ashneuro.model.network import AshNet
from ashneuro.spiking.kernels.interface import Kernels
from ashneuro.training.learner import Learner, whole_loss

WORDS = 2000
SEED = 7
NAMES = {"lif": "LIF", "cubalif": "CubaLIF", "if": "IF", "graded": "graded"}
KERNELS: tuple[Kernels, ...] = ("triton", "native", "torch", "norse")


def model_jobs(device: torch.device, config: RunConfig, *, batch: int | None = None) -> list[Job]:
    """Return a training step of ``config`` with every kernel back end, in Norse, and with ReLUs.

    ReLUs take the place of the neurons and run once. The optimiser is left out: it is the same for
    all.
    """
    count = batch or config.train.batch_size
    size = config.data.image_size
    random = torch.Generator().manual_seed(SEED)

    # Random pairs, the same for all variants.
    def images() -> torch.Tensor:
        drawn = torch.randn(count, 3, size, size, generator=random)
        return drawn.to(device, memory_format=torch.channels_last)

    tokens = torch.randint(2, WORDS, (count, config.data.max_words or MIN_WORDS), generator=random).to(device)
    pairs = Batch(images(), images(), tokens, torch.arange(count, device=device), tuple(map(str, range(count))))

    def step(model: AshNet) -> Callable[[], None]:
        model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        learner = Learner(model, config.train, mask=1)  # the index of the unknown word, as in a vocabulary

        def run() -> None:
            learner.zero_grad()
            terms, _ = learner(pairs, config.train, torch.Generator().manual_seed(SEED))
            torch.autograd.backward(whole_loss(terms))

        return run

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
            variants.append(Variant(name, step(_network(config, kernels)), split=fused))
    # Norse's cell with its defaults, which are ours too. No other neuron has the same equations in
    # Norse.
    plain = (
        neuron.kind == "spiking"
        and (neuron.neuron, neuron.reset) == ("lif", "value")
        and neuron.surrogate == "super"
        and not (neuron.slope or neuron.detach_reset)
    )
    for name, rewrite in (("Norse, Lift(LIFBoxCell)", lift), ("Norse, stepwise", step_by_step)):
        model = _network(config, "norse")
        if plain and model.abstract is not None:
            rewrite(model.abstract)
            variants.append(Variant(name, step(model)))
        else:
            variants.append(Variant(name, reason="it is compared for plain LIF neurons with SuperSpike"))
    control = replace(config, model=replace(config.model, abstract=replace(config.model.abstract, kind="relu")))
    variants.append(Variant("ReLU, once", step(_network(control, "auto")), split=True))
    steps = config.model.abstract.timesteps
    baseline = next(variant for variant in variants if not variant.reason)
    return [Job(f"One training step, batch {count}, T = {steps}", tuple(variants), baseline)]


def _network(config: RunConfig, kernels: Kernels) -> AshNet:
    torch.manual_seed(SEED)
    model = AshNet(config.model, WORDS, config.data.image_size, config.data.max_words or MIN_WORDS)
    if model.abstract is not None:
        model.abstract.use_kernels(kernels)
    return model
