"""Branches of a training step that two threads compute at the same time, on a CPU.

::

    here     images ─ C ─┬─ x ─ A ─┬─ losses           losses ─ A ─┬─ C
    beside   texts ──────│─── t ───┤                   L_STUA ─ A ─┘
             views ─ C ──┴─── z ───┘                   t, z ─ text encoder, C
                      forward                                  backward

The graph is cut at C and where the branches end, at t and z; on each side of a cut is a backward
pass of its own. L_STUA's gradient at C, which is to stop there, is a pass that shares nothing with
the others but its graph. Threads meet once forward and once backward, whereas the threads inside
operations meet some 270 times a step, and to wake one takes 40 µs.

Every operation has the same threads inside as in a step without branches of as many threads as the
larger half, and sums of gradients have one order. So two threads give the bits of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn

from ashneuro.config import TrainConfig
from ashneuro.model.network import AshNet

Found = TypeVar("Found")


class StepGraph:
    """The graph of one training step, whole: torch.autograd runs it backward.

    It is for GPUs, and for several processes, whose wrappers follow the one backward pass.
    """

    def cut(self, values: Tensor) -> Tensor:
        """Return values that what follows is computed from."""
        return values

    def start(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Begin ``work``, a branch that shares no layers with what is computed until its result is
        asked for; return a function that waits for it.
        """
        values = work()
        return lambda: values

    def stop(self, inner: Tensor, loss: Tensor) -> Tensor:
        """Let the gradient of ``loss``, a part of the step's loss, stop at ``inner``; return the
        term (0) to add to the step's loss for it.
        """
        return stop_at(inner, loss)

    def backward(self, loss: Tensor, batches: int = 1) -> None:
        """Add the gradients of ``loss / batches`` to those of the parameters."""
        torch.autograd.backward(loss / batches)


@final
class Branches(StepGraph):
    """The graph of one training step, cut into branches; see the module.

    Args:
        parameters: of all branches.
        beside: runs branches in its thread; ``None``: they are run here, one after the other.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], beside: Executor | None = None) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._beside = beside
        self._cuts: list[tuple[Tensor, Tensor]] = []  # before and after, of the trunk
        self._ends: list[tuple[Tensor, Tensor]] = []  # the same, of the branches that were started
        self._stops: list[tuple[Tensor, Tensor]] = []

    def cut(self, values: Tensor) -> Tensor:
        """Return ``values`` as a leaf of the graph that follows."""
        return _cut(values, self._cuts)

    def start(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Run ``work`` beside what follows; the result is a leaf of the graph that follows.

        Branches run in the order in which they were started.
        """
        begun = self._submit(work)
        return lambda: _cut(begun.result(), self._ends)

    def stop(self, inner: Tensor, loss: Tensor) -> Tensor:
        """Let the gradient of ``loss`` stop at ``inner``, which must be a cut; return 0."""
        if inner.requires_grad and loss.requires_grad:
            self._stops.append((inner, loss))
        return loss.new_zeros(())

    def backward(self, loss: Tensor, batches: int = 1) -> None:
        """Add the gradients of ``loss / batches`` to those of the parameters; may be called once.

        With two threads, saved values are kept until nothing refers to the loss any more.
        """
        loss = loss / batches
        # What is stopped is wanted first, by the trunk.
        stopped = [(inner, self._submit(_gradients, part / batches, [inner])) for inner, part in self._stops]
        beside = self._submit(self._backward_beside, loss) if self._ends else None
        # Alone it comes last, and frees what was saved on its way.
        torch.autograd.backward(loss, retain_graph=self._beside is not None)
        for inner, found in stopped:
            (gradient,) = found.result()
            if gradient is not None and inner.grad is not None:
                inner.grad -= gradient
        for source, inner in reversed(self._cuts):
            if inner.grad is not None:
                torch.autograd.backward(source, inner.grad)
        for gradients in beside.result() if beside is not None else ():
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)

    def _backward_beside(self, loss: Tensor) -> list[Sequence[Tensor | None]]:
        """Return the gradients of the parameters through each branch that was started."""
        arrived = _gradients(loss, [end for _, end in self._ends])
        return [
            _gradients(source, self._parameters, gradient)
            for (source, _), gradient in zip(self._ends, arrived, strict=True)
            if gradient is not None
        ]

    def _submit(self, work: Callable[..., Found], *arguments: Any) -> Future[Found]:
        if self._beside is not None:
            return self._beside.submit(work, *arguments)
        done: Future[Found] = Future()
        done.set_result(work(*arguments))
        return done


@contextmanager
def thread_beside(wanted: bool) -> Iterator[Executor | None]:
    """Return a context with an executor of one thread, which gets half of torch's threads.

    This thread has the others, until the context is left. It is ``None`` if it is not ``wanted``,
    and where torch has one thread.
    """
    threads = torch.get_num_threads()
    if not wanted or threads == 1:
        yield None
        return
    half = threads // 2
    with ThreadPoolExecutor(1, "branches", torch.set_num_threads, (half,)) as beside:
        torch.set_num_threads(threads - half)
        try:
            yield beside
        finally:
            torch.set_num_threads(threads)


def branches_pay(model: AshNet, settings: TrainConfig) -> bool:
    """Return True if branches are to run in two threads, for steps on pairs with ``settings``.

    A multimodal transformer and a trained backbone are most of a step and no branches: threads
    inside operations are faster. Recomputed and compiled layers, and autocast, have state that two
    threads would mix up; a codebook draws random numbers, as dropout of texts does.
    """
    if model.abstract is None or not (settings.contrast or settings.stua):
        return False
    trained_backbone = bool(model.config.concrete.backbone) and model.config.concrete.tune
    transformer = settings.itm or settings.mlm
    mixed_up = settings.checkpointing or settings.compile or settings.precision != "32" or model.codebook is not None
    return not (trained_backbone or transformer or mixed_up)


def stop_at(inner: Tensor, loss: Tensor) -> Tensor:
    """Return 0 with gradients that cancel those of ``loss`` at ``inner`` and before it.

    ::

        sg(g · inner) − g · inner        g = sg(∂loss/∂inner)

    Both sides of ``inner`` stay in one graph for the losses that do reach through it. The part
    after ``inner`` runs backward twice, the first time without gradients of its parameters; a
    detached ``inner`` would need a second forward pass as well.
    """
    zero = loss.new_zeros(())
    if not (inner.requires_grad and loss.requires_grad):
        return zero
    with torch.autocast(inner.device.type, enabled=False):
        (gradient,) = _gradients(loss, [inner])
        if gradient is None:
            return zero
        linear = (inner * gradient).sum().to(loss.dtype)
    return linear.detach() - linear


def _cut(values: Tensor, cuts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return ``values`` as a leaf, and note the cut; values without gradient stay as they are."""
    if not values.requires_grad:
        return values
    cuts.append((values, values.detach().requires_grad_()))
    return cuts[-1][1]


def _gradients(of: Tensor, at: Sequence[Tensor], arriving: Tensor | None = None) -> Sequence[Tensor | None]:
    """Return the gradients of ``of`` at tensors, and keep the graph; ``None`` where it has none."""
    if not (of.requires_grad and at):
        return [None] * len(at)
    found: Sequence[Tensor | None] = torch.autograd.grad(of, at, arriving, retain_graph=True, allow_unused=True)
    return found
