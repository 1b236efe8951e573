"""One stage of training: its epochs, optimiser steps and metrics."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from ashneuro.config import StageConfig, TrainConfig
from ashneuro.data.batches import Batches, prefetch
from ashneuro.data.pairs import Batch
from ashneuro.data.question_batches import QuestionBatch, QuestionBatches
from ashneuro.data.stream_batches import StreamBatches
from ashneuro.errors import ConfigError, DataError
from ashneuro.exchange import EpochMetrics
from ashneuro.training.average import Average
from ashneuro.training.branches import Branches, StepGraph, branches_pay, thread_beside
from ashneuro.training.folder import Checkpoints, StageState
from ashneuro.training.learner import Learner, Terms, whole_loss
from ashneuro.training.processes import Processes
from ashneuro.training.schedule import freeze_statistics, learning_rate, make_optimiser, synops_target
from ashneuro.training.teacher import Teacher

MAX_GRADIENT_NORM = 1.0

READ_EVERY = {"cpu": 1, "cuda": 20}
"""Batches between two readings of the loss, by device. The CPU waits for a reading, then the GPU
for the CPU; a diverged training runs on for so many batches at most.
"""

OnBatch = Callable[[int, float], None]
"""Called after every batch with its number in the epoch, from 1, and the latest loss that was
read.
"""


class StageTraining:
    """One stage in training: its batches, its optimiser, the wrapped learner.

    The parameters that do not learn must be frozen before it is made and stay so.

    Args:
        number: index of the stage in the schedule.
        settings: training settings that hold in the stage.
        teacher: network whose embeddings of pairs are distilled.
    """

    def __init__(
        self,
        number: int,
        stage: StageConfig,
        settings: TrainConfig,
        learner: Learner,
        batches: Batches | StreamBatches | QuestionBatches,
        processes: Processes,
        checkpoints: Checkpoints,
        teacher: Teacher | None = None,
    ) -> None:
        self.number, self.stage, self.settings = number, stage, settings
        self.learner, self.batches = learner, batches
        self.processes, self.checkpoints, self.teacher = processes, checkpoints, teacher
        self._wrapped = processes.wrap(learner)
        self._optimiser = make_optimiser(learner, settings)
        self._resume_from: StageState | None = None
        self._average = Average(learner, settings.ema) if settings.ema else None
        self._read_every = READ_EVERY[processes.device.type]
        # On a GPU one thread launches all operations, and DDP and FSDP follow one backward pass.
        self._branches = stage.task == "retrieval" and processes.device.type == "cpu" and processes.size == 1
        # Gradients left by the stage before would count in the norm that gradients are clipped to.
        learner.zero_grad()

    def restore(self, state: StageState) -> None:
        """Continue from ``state`` if it is of this stage; the weights are loaded already.

        Raises:
            DataError: it does not belong to this stage's optimiser and batches.
        """
        if state["stage"] != self.number:
            return
        what, do = "cannot resume: trainer.pt does not belong to this run", "train again in another folder"
        if state["batch"] >= max(1, len(self.batches)):
            why = f"it is at batch {state['batch']} of an epoch that has {len(self.batches)}"
            raise DataError(what, why, do)
        try:
            self.processes.restore(self._wrapped, self._optimiser, state["optimiser"])
            if self._average is not None and (average := state.get("average")):
                self._average.restore(average, state["average_steps"])
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise DataError(what, f"its optimiser or average has other parts ({error})", do) from error
        self._resume_from = state

    def state(self, batch: int = 0, sums: dict[str, Tensor] | None = None) -> StageState:
        """Return the state after ``batch`` batches of an epoch, whose metrics have these sums."""
        random = [torch.get_rng_state()]
        if self.processes.device.type == "cuda":
            random.append(torch.cuda.get_rng_state(self.processes.device))
        weights, moments = self.processes.state(self._wrapped, self.learner, self._optimiser)
        average = self._average
        return {
            "model": weights,
            "average": average.values if average is not None else {},
            "average_steps": average.steps if average is not None else 0,
            "optimiser": moments,
            "stage": self.number,
            "batch": batch,
            "sums": {name: value.cpu() for name, value in (sums or {}).items()},
            "random": [self.processes.gather(own) for own in random],
        }

    def averaged(self, last: bool) -> AbstractContextManager[None]:
        """Return a context in which the model has its averaged weights, if it has any.

        After the ``last`` epoch it keeps them, for the stages that follow.
        """
        if self._average is None:
            return nullcontext()
        if last:
            self._average.adopt()
            self._average = None
            return nullcontext()
        return self._average.applied()

    def unsharded(self) -> AbstractContextManager[None]:
        """Return a context in which a sharded model has all its weights."""
        return self.processes.unsharded(self._wrapped)

    def train_epoch(self, epoch: int, on_batch: OnBatch) -> EpochMetrics:
        """Train one epoch, counted from 0 in this stage; return its metrics without validation.

        Raises:
            ConfigError: the loss is not finite, or no objective reaches a parameter that learns.
        """
        settings, device = self.settings, self.processes.device
        past = len(self.checkpoints.epochs)
        seed = settings.seed * 1_000_003 + past
        first, sums = self._begin_epoch(seed)
        count = len(self.batches)
        steps_per_epoch = math.ceil(count / settings.accumulate)
        batches: Iterator[Batch | QuestionBatch] = self.batches.epoch(past, first, device)
        # Masked words and negatives have a generator of their own, seeded anew for every batch.
        random = torch.Generator()
        terms: Terms = {}
        rates: Terms = {}
        rate = waited = loss = 0.0
        save_due = False
        started = time.perf_counter()
        with ExitStack() as threads:
            pays = self._branches and branches_pay(self.learner.model, settings)
            beside = threads.enter_context(thread_beside(pays))
            if device.type == "cuda" or beside is not None:
                batches = threads.enter_context(closing(prefetch(batches)))
            for number in range(first, count):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                step, steps = epoch * steps_per_epoch + number // settings.accumulate, settings.epochs * steps_per_epoch
                rate = learning_rate(step, steps, settings)
                random.manual_seed(seed * 31 + number)
                now = replace(settings, synops=synops_target(step / steps, settings))
                terms, rates = self._step(batch, number, rate, random, now, beside)
                latest = _add_to(sums, terms, rates)
                save_due |= settings.save_every > 0 and (number + 1) % settings.save_every == 0
                if save_due or number in (first, count - 1) or (number + 1) % self._read_every == 0:
                    loss = float(latest)
                    if not math.isfinite(float(sums["loss"])):
                        raise self._diverged(past, number, loss, rate)
                on_batch(number + 1, loss)
                # A checkpoint does not hold the gradients gathered so far, so it waits for the
                # step. The epoch's own checkpoint follows its last batch.
                if save_due and self._completes_step(number) and number + 1 < count:
                    self.checkpoints.save(self.state(number + 1, self._mean_over_processes(sums)))
                    save_due = False
        seconds = time.perf_counter() - started
        means = {name: value.item() / count for name, value in self._mean_over_processes(sums).items()}
        firing_rates = {name: means[name] for name in rates}
        return EpochMetrics(
            epoch=past + 1,
            loss=means["loss"],
            losses={name: means[f"loss_{name}"] for name in terms},
            firing_rate=sum(firing_rates.values()) / len(firing_rates) if firing_rates else None,
            firing_rates=firing_rates,
            learning_rate=rate,
            seconds=round(seconds, 2),
            pairs_per_s=round((count - first) * settings.batch_size / max(seconds, 1e-9), 1),
            waited_share=round(waited / max(seconds, 1e-9), 4),
        )

    def _begin_epoch(self, seed: int) -> tuple[int, dict[str, Tensor]]:
        """Seed dropout and set the modules' modes; return the first batch and sums of metrics.

        Both come from the checkpoint where an unfinished epoch is resumed.
        """
        device = self.processes.device
        # Dropout draws from torch's global generators. Seeded per epoch, a resumed epoch is the
        # same; each process drops other elements.
        torch.manual_seed(seed + 7_777_777 * self.processes.rank)
        first = 0
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=device))
        if self._resume_from is not None:
            first = self._resume_from["batch"]
            sums.update({name: value.to(device) for name, value in self._resume_from["sums"].items()})
            if first:
                self._restore_random(self._resume_from)
            self._resume_from = None
        self.learner.train()
        freeze_statistics(self.learner)
        return first, sums

    def _restore_random(self, state: StageState) -> None:
        # A file of an older version has one state per generator. One written by fewer processes has
        # none for this process: it takes the last.
        random = [
            each if isinstance(each, Tensor) else each[min(self.processes.rank, len(each) - 1)]
            for each in state["random"]
        ]
        torch.set_rng_state(random[0])
        if self.processes.device.type == "cuda":
            torch.cuda.set_rng_state(random[1], self.processes.device)

    def _mean_over_processes(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of all processes' sums.

        Losses of gathered embeddings are equal on all processes; other losses are of own batches.
        """
        if self.processes.size == 1 or not sums:
            return sums
        values = torch.stack([value.float() for value in sums.values()])
        self.processes.average([values])
        return dict(zip(sums, values, strict=True))

    def _completes_step(self, number: int) -> bool:
        """Return True if the weights move after batch ``number``, counted from 0."""
        return (number + 1) % self.settings.accumulate == 0 or number + 1 == len(self.batches)

    def _step(
        self,
        batch: Batch | QuestionBatch,
        number: int,
        rate: float,
        random: torch.Generator,
        settings: TrainConfig,
        beside: Executor | None,
    ) -> tuple[Terms, Terms]:
        """Add the gradients of a batch; update the weights if that completes a step.

        Args:
            settings: those of this step.
            beside: thread for branches of the step.

        Returns the weighted objectives and firing rates as `Learner` does.
        """
        completes = self._completes_step(number)
        if number % settings.accumulate == 0:
            self._optimiser.zero_grad()
        device = self.processes.device.type
        cast = torch.autocast(device, torch.bfloat16) if settings.precision == "bf16" else nullcontext()
        # Gradients are exchanged once per step, with its last batch.
        with nullcontext() if completes else self.processes.without_sync(self._wrapped):
            with cast:
                # A batch of questions has no pairs to compare.
                taught = self.teacher.teach(batch) if self.teacher is not None and isinstance(batch, Batch) else None
                graph = Branches(self.learner.parameters(), beside) if self._branches else StepGraph()
                terms, rates = self._wrapped(batch, settings, random, taught, graph)
            loss = whole_loss(terms)
            if not loss.requires_grad:
                why = f"none of its objectives ({', '.join(terms)}) reaches {', '.join(self.stage.parts)}"
                raise ConfigError(
                    f"stage {self.stage.name!r} has nothing to learn", why, "name other parts, or other weights"
                )
            graph.backward(loss, settings.accumulate)
            terms = {name: term.detach() for name, term in terms.items()}
            del loss, graph  # and what they keep for the backward pass
        if completes:
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            self.processes.clip(self._wrapped, MAX_GRADIENT_NORM)
            self._optimiser.step()
            if self._average is not None:
                self._average.update()
        return terms, rates

    def _diverged(self, past: int, number: int, loss: float, rate: float) -> ConfigError:
        checkpoints = self.checkpoints
        kept = f"; {checkpoints.out} holds the run up to its last checkpoint" if checkpoints.exists else ""
        batch = f"batch {number + 1}" if self._read_every == 1 else f"batch {number + 1}, or of one before it,"
        return ConfigError(
            f"training has diverged: the loss of {batch} in epoch {past + 1} is {loss}",
            f"the learning rate was {rate:.3g}{kept}",
            "a lower train.learning_rate, and another --out",
        )


def _add_to(sums: dict[str, Tensor], terms: Terms, rates: Terms) -> Tensor:
    """Add the metrics of a batch to ``sums``; return its loss."""
    total: Tensor = sum(term.detach() for term in terms.values())  # type: ignore[assignment]
    sums["loss"] += total
    for name, term in terms.items():
        sums[f"loss_{name}"] += term.detach()
    for name, value in rates.items():
        sums[name] += value
    return total
