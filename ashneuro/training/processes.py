"""One process, or several that train one model: started by torchrun, joined by Lightning Fabric.

``torchrun --nproc-per-node 8 -m ashneuro train CONFIG`` on each node; torchrun's own options join
the nodes. Every process draws the same batch and keeps its own part of it. Embeddings are gathered
before they are contrasted, so the loss is that of the whole batch, and so are the statistics of
batch norms. The result equals that of one process up to the order of sums.
"""

from __future__ import annotations

import atexit
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ashneuro.config import TrainConfig
from ashneuro.errors import ConfigError, need

PATIENCE = timedelta(hours=4)
"""Limit of a wait for other processes: the first one may have to decode all pictures."""

State = dict[str, Any]
"""State dict of a module or an optimiser."""

Found = TypeVar("Found")


class Processes(ABC):
    """The training processes, seen from one of them.

    Attributes:
        rank: number of this process, from 0; process 0 writes files.
        local_rank: number of this process on its machine, from 0.
        size: number of processes.
        device: device of this process.
    """

    rank: int
    local_rank: int
    size: int
    device: torch.device

    @abstractmethod
    def wrap(self, module: nn.Module) -> Callable[..., Any]:
        """Return a callable in place of ``module``; its gradients are means over processes."""

    @abstractmethod
    def without_sync(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context in which gradients accumulate locally."""

    @abstractmethod
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over the processes, in place."""

    @abstractmethod
    def clip(self, wrapped: Callable[..., Any], limit: float) -> None:
        """Scale all gradients so that their joint norm is at most ``limit``."""

    @abstractmethod
    def state(
        self, wrapped: Callable[..., Any], module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[State, State]:
        """Return the complete states of the module and of the optimiser, equal on every process."""

    @abstractmethod
    def restore(self, wrapped: Callable[..., Any], optimiser: torch.optim.Optimizer, state: State) -> None:
        """Load the optimiser's state; the module's weights were loaded before it was wrapped."""

    @abstractmethod
    def unsharded(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context in which the module has all its weights, for evaluation."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all processes."""

    def in_turn(self, work: Callable[[], Found]) -> Found:
        """Return the result of ``work``: process 0 does it first, then the first of each machine;
        work that leaves a file is done once per disk, shared or not.
        """
        turn = 0 if self.rank == 0 else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.barrier()
        found = work()
        for _ in range(2 - turn):
            self.barrier()
        return found

    @abstractmethod
    def gather(self, part: Tensor) -> list[Tensor]:
        """Return the tensors of all processes by rank, in CPU memory; equal shapes and dtypes."""

    @abstractmethod
    def broadcast(self, value: bool) -> bool:
        """Return the value of process 0."""


@final
class SingleProcess(Processes):
    """One process."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.local_rank, self.size, self.device = 0, 0, 1, device

    def wrap(self, module: nn.Module) -> Callable[..., Any]:
        """Return the module itself."""
        return module

    def without_sync(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Do nothing."""

    def clip(self, wrapped: Callable[..., Any], limit: float) -> None:
        """Clip the gradients of the module."""
        assert isinstance(wrapped, nn.Module)
        nn.utils.clip_grad_norm_(wrapped.parameters(), limit)

    def state(
        self, wrapped: Callable[..., Any], module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[State, State]:
        """Return both state dicts."""
        return module.state_dict(), optimiser.state_dict()

    def restore(self, wrapped: Callable[..., Any], optimiser: torch.optim.Optimizer, state: State) -> None:
        """Load the state dict."""
        optimiser.load_state_dict(state)

    def unsharded(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return a context that changes nothing."""
        return nullcontext()

    def barrier(self) -> None:
        """Return at once."""

    def gather(self, part: Tensor) -> list[Tensor]:
        """Return the tensor alone."""
        return [part]

    def broadcast(self, value: bool) -> bool:
        """Return ``value``."""
        return value


def _leave() -> None:
    """End the threads of the group: one that still runs when Python ends aborts the process."""
    if dist.is_initialized():
        dist.destroy_process_group()


@final
class Distributed(Processes):
    """One of several processes; Fabric joins them and wraps the model (DDP, FSDP)."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        fabric = need("lightning_fabric", extra="train", purpose="training in several processes")
        strategies = need("lightning_fabric.strategies", extra="train", purpose="training in several processes")
        self.sharded = config.strategy == "fsdp"
        # A stage may use only some parts of the model, the same in every batch: with a static graph
        # parameters without gradients are looked for in the first step alone.
        strategy = strategies.DDPStrategy(static_graph=True, timeout=PATIENCE)
        local, nodes = (
            int(os.environ.get(name, default))
            for name, default in (("LOCAL_WORLD_SIZE", "1"), ("GROUP_WORLD_SIZE", "1"))
        )
        kind = "cuda" if device.type == "cuda" else "cpu"
        self.fabric: Any = fabric.Fabric(accelerator=kind, devices=local, num_nodes=nodes, strategy=strategy)
        self.fabric.launch()
        atexit.unregister(_leave)
        atexit.register(_leave)
        self._synced_once = False
        self.rank, self.local_rank = self.fabric.global_rank, self.fabric.local_rank
        self.size, self.device = self.fabric.world_size, self.fabric.device

    def wrap(self, module: nn.Module) -> Callable[..., Any]:
        """Return the module inside Fabric's DDP, or itself with its weights sharded by FSDP2.

        Once sharded, a module stays so through all stages.
        """
        self._synced_once = False
        if self.sharded:
            from torch.distributed.fsdp import FSDPModule, fully_shard

            if not isinstance(module, FSDPModule):
                for parameter in module.parameters():
                    parameter.data = parameter.data.contiguous()  # shards are cut along the first axis
                fully_shard(module, ignored_params=set(_scalars(module)))
            return module
        wrapped: Callable[..., Any] = self.fabric.strategy.setup_module(module)
        return wrapped

    def without_sync(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Return the wrapper's own context; the first batch is exchanged alone.

        A static graph is learned from a backward pass that exchanges gradients. The mean over the
        processes is linear, so the step is the same.
        """
        if self.sharded:
            return _unsynced(wrapped)
        if not self._synced_once:
            self._synced_once = True
            return nullcontext()
        return wrapped.no_sync()  # type: ignore[attr-defined,no-any-return]

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over the processes, in place."""
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= self.size

    def clip(self, wrapped: Callable[..., Any], limit: float) -> None:
        """Clip by the norm over all shards."""
        assert isinstance(wrapped, nn.Module)
        if self.sharded:
            # FSDP ignores the scalars, so it does not average their gradients either.
            self.average(scalar.grad for scalar in _scalars(wrapped) if scalar.grad is not None)
            _clip_shards([weight.grad for weight in wrapped.parameters() if weight.grad is not None], limit)
        else:
            nn.utils.clip_grad_norm_(wrapped.parameters(), limit)

    def state(
        self, wrapped: Callable[..., Any], module: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[State, State]:
        """Return both state dicts, gathered from all shards."""
        if not self.sharded:
            return module.state_dict(), optimiser.state_dict()
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        return get_state_dict(module, optimiser, options=StateDictOptions(full_state_dict=True, cpu_offload=True))

    def restore(self, wrapped: Callable[..., Any], optimiser: torch.optim.Optimizer, state: State) -> None:
        """Load the state dict, or this process's shard of it."""
        if not self.sharded:
            optimiser.load_state_dict(state)
            return
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        assert isinstance(wrapped, nn.Module)
        set_optimizer_state_dict(wrapped, optimiser, state, options=StateDictOptions(full_state_dict=True))

    def unsharded(self, wrapped: Callable[..., Any]) -> AbstractContextManager[None]:
        """Gather the shards while the context lasts."""
        return _gathered(wrapped) if self.sharded else nullcontext()

    def barrier(self) -> None:
        """Wait for all processes."""
        self.fabric.barrier()

    def gather(self, part: Tensor) -> list[Tensor]:
        """Return the tensors of all processes by rank."""
        own = part.to(self.device)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        return [each.cpu() for each in parts]

    def broadcast(self, value: bool) -> bool:
        """Return the value of process 0."""
        return bool(self.fabric.broadcast(value))


def join(config: TrainConfig, device: torch.device, schedule: Sequence[TrainConfig] = ()) -> Processes:
    """Join the processes that torchrun started; it gives their number in the environment.

    Args:
        schedule: settings of the stages, where they differ.

    Raises:
        ConfigError: a batch does not divide among the processes, or the settings rule the strategy
            out.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return SingleProcess(device)
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
                "L_STUA stops at C by a backward pass inside the forward pass, "
                "after which a sharded model would lack its weights",
                "set train.strategy = 'ddp', or train.stua_stops_at_concrete = false",
            )
        if settings.strategy == "fsdp" and settings.momentum_text:
            raise ConfigError(
                "train.strategy = 'fsdp'",
                "train.momentum_text averages whole weights, and a sharded model has a part of them",
                "set train.strategy = 'ddp', or train.momentum_text = 0",
            )
    return Distributed(config, device)


# torch 2.14 has new names for both.
_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class _Gather(torch.autograd.Function):
    """Concatenate all processes' tensors by rank; backward, sum their gradients."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        whole = part.new_empty(dist.get_world_size() * len(part), *part.shape[1:])
        _all_gather(whole, part.contiguous())
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every process gets the sum of its own rows alone: half of what an all-reduce sends.
        (gradient,) = gradients
        own = gradient.new_empty(len(gradient) // dist.get_world_size(), *gradient.shape[1:])
        _reduce_scatter(own, gradient.contiguous())
        return own


def all_gather(part: Tensor) -> Tensor:
    """Return the tensors (B, ...) of all P processes as one (P·B, ...) by rank, with gradients.

    Every process computes the loss of the whole batch from it. Backward, gradients of the gathered
    tensor are summed over the processes, and the wrapper averages the parameters' gradients: the
    factors P and 1/P cancel, so the step is that of the whole loss. In a single process this is
    ``part`` itself.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return part
    return _Gather.apply(part)  # type: ignore[no-any-return,no-untyped-call]


@final
class SharedNorm(nn.Module):
    """Batch norm over the batches of all processes on a CPU, where `nn.SyncBatchNorm` does not run.

    Statistics are float32 whatever the precision of x, as those of torch's batch norms are.
    Parameters and buffers are shared with the norm that it replaces.
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
        """Return x (B, C, ...) normalised, in the dtype of x.

        ::

            μ = 1/P Σ_p μ_p        σ² = 1/P Σ_p (σ_p² + (μ_p − μ)²)

        μ_p, σ_p² of each of the P processes' equal batches. Squares around the mean do not cancel,
        as sums of squares do where the mean is large.
        """
        shape = (1, -1, *[1] * (x.ndim - 2))
        values = x.float()
        if not self.training:
            mean, variance = self.running_mean, self.running_var
        else:
            own = torch.stack(torch.var_mean(values, [axis for axis in range(x.ndim) if axis != 1], correction=0))
            variances, means = all_gather(own[None]).unbind(1)
            mean = means.mean(0)
            variance = (variances + (means - mean).square()).mean(0)
            with torch.no_grad():
                total = x.numel() / x.shape[1] * dist.get_world_size()
                momentum = self.momentum if self.momentum is not None else 0.1
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * total / (total - 1), momentum)
                self.num_batches_tracked += 1
        scale = (variance + self.eps).rsqrt() * self.weight
        return ((values - mean.reshape(shape)) * scale.reshape(shape) + self.bias.reshape(shape)).to(x.dtype)


@contextmanager
def shared_norms(module: nn.Module, processes: Processes) -> Iterator[None]:
    """Replace batch norms inside ``module`` by norms over all processes while the block runs."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    if processes.size > 1:
        for parent in list(module.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                    replaced.append((parent, name, child))
                    on_cpu = processes.device.type == "cpu"
                    setattr(parent, name, SharedNorm(child) if on_cpu else _synced(child))
    try:
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)


def _synced(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.SyncBatchNorm:
    """Return torch's norm over all processes, with the parameters and buffers of ``norm``."""
    found = nn.SyncBatchNorm(norm.num_features, norm.eps, norm.momentum, device="meta")
    found._parameters, found._buffers = norm._parameters, norm._buffers
    return found.train(norm.training)


def _scalars(module: nn.Module) -> list[nn.Parameter]:
    """Return the scalar parameters, which FSDP does not shard."""
    return [parameter for parameter in module.parameters() if parameter.ndim == 0]


def _clip_shards(gradients: list[Any], limit: float) -> None:
    """Scale gradients, some of them sharded, so that their joint norm is at most ``limit``."""
    norms = [gradient.norm() for gradient in gradients]
    whole = torch.stack([norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]).norm()
    factor = (limit / (whole + 1e-6)).clamp(max=1.0)  # as in torch's clip_grad_norm_
    for gradient in gradients:
        # A shard is scaled where it lies: the factor need not be read by the CPU.
        (gradient.to_local() if hasattr(gradient, "to_local") else gradient).mul_(factor)


@contextmanager
def _gathered(wrapped: Any) -> Iterator[None]:
    wrapped.unshard()
    try:
        yield
    finally:
        wrapped.reshard()


@contextmanager
def _unsynced(wrapped: Any) -> Iterator[None]:
    wrapped.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        wrapped.set_requires_gradient_sync(True)
