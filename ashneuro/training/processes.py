"""One process, or several that train one model together: started by torchrun, joined by Lightning Fabric.

``torchrun --nproc-per-node 8 -m ashneuro train CONFIG`` on each node; torchrun's own options join nodes. Every process draws the same
batch and keeps its own part of it; embeddings are gathered before they are contrasted, so that the loss is that of the whole
batch, and batch norms see the whole batch too. The result is that of one process but for the order of sums.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ashneuro.config import TrainConfig
from ashneuro.errors import ConfigError, need


class Processes(ABC):
    """How this process takes part.

    Attributes:
        rank: which of ``size`` processes this is, from 0; 0 writes files.
    """

    rank: int
    size: int
    device: torch.device

    @abstractmethod
    def wrap(self, module: nn.Module) -> Callable[..., Any]:
        """Return what is called in the place of ``module`` while training; gradients are then those of all processes."""

    @abstractmethod
    def quietly(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context in which gradients are added up without being shared yet."""

    @abstractmethod
    def share(self, gradients: Iterable[Tensor]) -> None:
        """Replace gradients that `wrap` does not know of by their mean over the processes."""

    @abstractmethod
    def clip(self, wrapped: Callable[..., Any], limit: float) -> None:
        """Scale all gradients down so that their norm is at most ``limit``."""

    @abstractmethod
    def state(self, wrapped: Callable[..., Any], module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Return the whole state of the model and the optimiser, the same on every process."""

    @abstractmethod
    def restore(self, wrapped: Callable[..., Any], optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Give the optimiser what `state` returned; the model's weights were loaded before it was wrapped."""

    @abstractmethod
    def whole(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context in which the module has all its weights, for evaluation."""

    @abstractmethod
    def wait(self) -> None:
        """Return when every process is here."""

    @abstractmethod
    def of_each(self, part: Tensor) -> list[Tensor]:
        """Return what each process has, in the order of ranks, in the processor's memory; of one shape and type on all."""

    @abstractmethod
    def follow(self, goes_on: bool) -> bool:
        """Return what the first process says, when every process is here."""


@final
class Alone(Processes):
    """One process."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = 0, 1, device

    def wrap(self, module: nn.Module) -> Callable[..., Any]:
        """Return the module itself."""
        return module

    def quietly(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def share(self, gradients: Iterable[Tensor]) -> None:
        """Leave them: they are all there is."""

    def clip(self, wrapped: Callable[..., Any], limit: float) -> None:
        """Clip the gradients of the module."""
        assert isinstance(wrapped, nn.Module)
        nn.utils.clip_grad_norm_(wrapped.parameters(), limit)

    def state(self, wrapped: Callable[..., Any], module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Return both state dicts."""
        return {"model": module.state_dict(), "optimiser": optimiser.state_dict()}

    def restore(self, wrapped: Callable[..., Any], optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load the optimiser's state dict."""
        optimiser.load_state_dict(state["optimiser"])

    def whole(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def wait(self) -> None:
        """Return at once."""

    def of_each(self, part: Tensor) -> list[Tensor]:
        """Return what there is."""
        return [part]

    def follow(self, goes_on: bool) -> bool:
        """Return ``goes_on``."""
        return goes_on


@final
class Together(Processes):
    """One of several processes; Fabric joins them and wraps the model (DDP, FSDP)."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        fabric = need("lightning_fabric", extra="train", purpose="training in several processes")
        strategies = need("lightning_fabric.strategies", extra="train", purpose="training in several processes")
        self.sharded = config.strategy == "fsdp"
        # A stage trains some parts and leaves others alone.
        strategy = strategies.DDPStrategy(find_unused_parameters=True)
        local, nodes = (
            int(os.environ.get(name, default))
            for name, default in (("LOCAL_WORLD_SIZE", "1"), ("GROUP_WORLD_SIZE", "1"))
        )
        kind = "cuda" if device.type == "cuda" else "cpu"
        self.fabric: Any = fabric.Fabric(accelerator=kind, devices=local, num_nodes=nodes, strategy=strategy)
        self.fabric.launch()
        self.rank, self.size, self.device = self.fabric.global_rank, self.fabric.world_size, self.fabric.device

    def wrap(self, module: nn.Module) -> Callable[..., Any]:
        """Return the module inside Fabric's DDP, or itself with its weights sharded (FSDP2, from here on, in all stages)."""
        if self.sharded:
            from torch.distributed.fsdp import FSDPModule, fully_shard

            if not isinstance(module, FSDPModule):
                for parameter in module.parameters():
                    parameter.data = parameter.data.contiguous()  # shards are cut along the first axis
                fully_shard(module, ignored_params=set(_scalars(module)))
            return module
        wrapped: Callable[..., Any] = self.fabric.strategy.setup_module(module)
        return wrapped

    def quietly(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return the wrapper's own context."""
        return _unshared(wrapped) if self.sharded else wrapped.no_sync()  # type: ignore[attr-defined,no-any-return]

    def share(self, gradients: Iterable[Tensor]) -> None:
        """Replace gradients by their mean over the processes."""
        for gradient in gradients:
            dist.all_reduce(gradient)
            gradient /= self.size

    def clip(self, wrapped: Callable[..., Any], limit: float) -> None:
        """Clip by the norm over all shards."""
        assert isinstance(wrapped, nn.Module)
        if self.sharded:
            self.share(scalar.grad for scalar in _scalars(wrapped) if scalar.grad is not None)
            _clip_shards([weight.grad for weight in wrapped.parameters() if weight.grad is not None], limit)
        else:
            nn.utils.clip_grad_norm_(wrapped.parameters(), limit)

    def state(self, wrapped: Callable[..., Any], module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """Return both state dicts, gathered from all shards."""
        if not self.sharded:
            return {"model": module.state_dict(), "optimiser": optimiser.state_dict()}
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        model, moments = get_state_dict(
            module, optimiser, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
        )
        return {"model": model, "optimiser": moments}

    def restore(self, wrapped: Callable[..., Any], optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Load the optimiser's state dict, or this process's part of it."""
        if not self.sharded:
            optimiser.load_state_dict(state["optimiser"])
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        assert isinstance(wrapped, nn.Module)
        set_optimizer_state_dict(wrapped, optimiser, state["optimiser"], options=StateDictOptions(full_state_dict=True))

    def whole(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Gather the shards."""
        return _gathered(wrapped) if self.sharded else nullcontext()

    def wait(self) -> None:
        """Meet the others."""
        self.fabric.barrier()

    def of_each(self, part: Tensor) -> list[Tensor]:
        """Gather it."""
        own = part.to(self.device)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        return [each.cpu() for each in parts]

    def follow(self, goes_on: bool) -> bool:
        """Hear the first process."""
        return bool(self.fabric.broadcast(goes_on))


def join(config: TrainConfig, device: torch.device, schedule: Sequence[TrainConfig] = ()) -> Processes:
    """Return how this process takes part; torchrun says in the environment how many there are.

    Args:
        schedule: the settings of the stages, where they differ.

    Raises:
        ConfigError: a batch does not divide among the processes, or the strategy cannot be had with these settings.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Alone(device)
    for settings in schedule or (config,):
        if settings.batch_size % size:
            raise ConfigError(
                f"train.batch_size = {settings.batch_size}",
                f"it does not divide among {size} processes",
                f"make it a multiple of {size}",
            )
        if settings.strategy == "fsdp" and settings.stua and settings.stua_stops_at_concrete:
            raise ConfigError(
                "train.strategy = 'fsdp'",
                "L_STUA stops at C by a backward pass inside the forward pass, after which a sharded model would lack its weights",
                "set train.strategy = 'ddp', or train.stua_stops_at_concrete = false",
            )
    return Together(config, device)


class _Gather(torch.autograd.Function):
    """All processes' tensors along the first axis, in the order of ranks; the gradients that come back are added up."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        size = len(gradient) // dist.get_world_size()
        return gradient[dist.get_rank() * size :][:size]


def everyones(part: Tensor) -> Tensor:
    """Return all processes' tensors (B, ...) as one (P·B, ...), in the order of ranks, with gradients; the tensor itself when alone.

    Each process computes the whole loss from it. A gradient that comes back is summed over the processes, and the wrapper takes
    the mean of the parameters' gradients: so the step is that of the whole loss.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return part
    return _Gather.apply(part)  # type: ignore[no-any-return,no-untyped-call]


@final
class SharedNorm(nn.Module):
    """A batch norm whose statistics are those of all processes' batches; it shares parameters and buffers with the one it replaces.

    torch's own does this on CUDA alone.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, ...) normalised."""
        shape = (1, -1, *[1] * (x.ndim - 2))
        if not self.training:
            mean, variance = self.running_mean, self.running_var
        else:
            axes = [axis for axis in range(x.ndim) if axis != 1]
            count = x.numel() / x.shape[1]
            # One message: sums, and sums of squares around the first process's mean would need two.
            sums = everyones(torch.stack([x.sum(axes), x.square().sum(axes)])[None]).sum(0)
            total = count * dist.get_world_size()
            mean = sums[0] / total
            variance = (sums[1] / total - mean.square()).clamp(min=0)
            with torch.no_grad():
                momentum = self.momentum if self.momentum is not None else 0.1
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_((variance * total / (total - 1)).to(self.running_var), momentum)
                self.num_batches_tracked += 1
        return (x - mean.reshape(shape)) * (variance.reshape(shape) + self.eps).rsqrt() * self.weight.reshape(
            shape
        ) + self.bias.reshape(shape)


@contextmanager
def shared_norms(module: nn.Module, processes: Processes) -> Iterator[None]:
    """Let the batch norms inside ``module`` see the batches of all processes while the block runs; then they are plain ones again."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    if processes.size > 1:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                    replaced.append((parent, name, child))
                    setattr(parent, name, SharedNorm(child))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _scalars(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that FSDP does not shard: single numbers."""
    return [parameter for parameter in module.parameters() if parameter.ndim == 0]


def _clip_shards(gradients: list[Any], limit: float) -> None:
    """Scale gradients, some of them sharded, so that the norm of all together is at most ``limit``."""
    norms = [gradient.norm() for gradient in gradients]
    whole = torch.stack([norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]).norm()
    factor = (limit / (whole + 1e-6)).clamp(max=1.0)  # as torch's own clipping
    for gradient in gradients:
        gradient.mul_(float(factor))


@contextmanager
def _gathered(wrapped: Any) -> Iterator[None]:
    wrapped.unshard()
    try:
        yield
    finally:
        wrapped.reshard()


@contextmanager
def _unshared(wrapped: Any) -> Iterator[None]:
    wrapped.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        wrapped.set_requires_gradient_sync(True)
