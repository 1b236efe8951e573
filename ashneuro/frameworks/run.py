"""Runs of a module as its framework calls it: step by step, or whole samples at once."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ashneuro.errors import DataError, GraphError
from ashneuro.frameworks.form import Adapter, Untranslatable
from ashneuro.frameworks.graph import INPUT
from ashneuro.frameworks.registry import FRAMEWORKS, adapter_of
from ashneuro.frameworks.signals import Signal, Term
from ashneuro.frameworks.trace import Recorder, WrongLayout, named_modules
from ashneuro.spiking.contract import Contract

DT_S = 1e-3  # duration of a step where neither the caller nor the module states one


@dataclass(frozen=True, eq=False)
class Traced:
    """A module's graph, and what the module itself sent.

    Args:
        graph: the graph, which states all of its contract.
        contract: its contract.
        inputs: the sample as the module received it, (T, B, \\*shape).
        sent: by population, its spikes or values, (T, B, \\*shape), as the module computes them.
        exact: the same of a float64 copy of the module.
        module: name of the module's class.
        frameworks: version of each framework that its neurons come from, by name.
        caveats: by population, where it may differ from the module, and what helps.
    """

    graph: nir.NIRGraph
    contract: Contract
    inputs: NDArray[Any]
    sent: dict[str, NDArray[Any]]
    exact: dict[str, NDArray[Any]]
    module: str
    frameworks: dict[str, str]
    caveats: dict[str, tuple[str, str]]


def trace_module(module: nn.Module, sample: Any, *, dt_s: float | None = None) -> Traced:
    """Return the graph of ``module``, and what its neurons send for ``sample``.

    The module is copied, put on the CPU and into evaluation, and its state is reset.

    Args:
        sample: (T, B, \\*shape).
        dt_s: duration of a step, seconds, for modules that count steps.

    Raises:
        GraphError: something in the module has no NIR form.
        DataError: the sample does not fit.
    """
    if not isinstance(module, nn.Module):
        what = f"a {type(module).__name__} is no torch module"
        raise GraphError(what, "its forward is run, which weights alone do not have", "give the torch.nn.Module itself")
    module = _unwrapped(module)
    neurons = [(path, part, adapter) for path, part in named_modules(module) if (adapter := adapter_of(part))]
    if not neurons:
        known = ", ".join(adapter.name for adapter in FRAMEWORKS.values())
        raise GraphError(
            f"{type(module).__name__} has no spiking neurons",
            f"none of its modules is a neuron of {known}",
            "give a torch.nn.Module with neurons of one of these",
        )
    step = _step_length(neurons, dt_s)
    numbers = (value for part in _all_modules(module) for value in part._parameters.values() if value is not None)
    x = _sample(sample, next((value.dtype for value in numbers if value.is_floating_point()), torch.float32))
    sizes = {"T": x.shape[0], "B": x.shape[1], "1": 1}
    layouts = {tuple(adapter.layout(part)) for _, part, adapter in neurons}
    passed = any(adapter.state_argument for _, _, adapter in neurons)
    failures: list[tuple[int, Exception]] = []
    for way in _ways(layouts, passed):
        recorder = Recorder(sizes, step)
        try:
            returned = _run(module, x, way, recorder, double=False)
        except Exception as error:  # a module that is called with other axes raises anything
            failures.append((sum(recorder.calls.values()), error))
        else:
            if way.repeats and bool((x != x[:1]).any()):
                raise GraphError(
                    f"{type(module).__name__} repeats one input for {len(x)} steps",
                    "the sample changes from step to step",
                    "give it x[None].expand(T, *x.shape), x of shape (B, *shape)",
                )
            return _traced(module, x, way, recorder, returned, step, neurons)
    raise _refusal(module, failures)


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that torch.compile or a parallel wrapper holds."""
    wrappers = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
    while (name := wrappers.get(type(module).__name__)) is not None:
        module = getattr(module, name)
    return module


@dataclass(frozen=True)
class Way:
    """One way to call a module.

    Args:
        axes: axes of the tensor that it gets.
        once: it gets whole samples in one call; else a call per step.
        repeats: it gets one step, and repeats it for all steps itself.
        state: the caller hands the state from step to step.
    """

    axes: tuple[str, ...]
    once: bool = True
    repeats: bool = False
    state: bool = False


def _ways(layouts: set[tuple[str, ...]], state: bool) -> list[Way]:
    """Return the ways to call a module, the likeliest first."""
    time_first, batch_first, repeats = Way(("T", "B")), Way(("B", "T")), Way(("B",), repeats=True)
    if layouts & {("BT",)}:
        return [Way(("BT",)), batch_first, time_first, repeats]
    if layouts & {("B", "T")}:
        return [batch_first, time_first, Way(("BT",)), repeats]
    if layouts & {("T", "B")}:
        return [time_first, batch_first, repeats]
    stepped = [Way(("B",), once=False, state=True)] if state else []
    return [time_first, batch_first, repeats, *stepped, Way(("B",), once=False)]


def _run(module: nn.Module, x: Tensor, way: Way, recorder: Recorder, *, double: bool) -> Any:
    """Run a fresh copy of ``module`` in one way; return what it returned."""
    own = _copy(module, double=double)
    x = x.double() if double else x
    shape = tuple(x.shape[2:])
    recorder.builder.start(shape)
    recorder.double = double

    def tagged(tensor: Tensor, step: int | None) -> Tensor:
        recorder.give(tensor, Signal((Term(INPUT, step),), way.axes, shape))
        return tensor

    returned: Any = None
    dtype = torch.float64 if double else torch.get_default_dtype()
    with _default_dtype(dtype), torch.no_grad(), recorder.attached(own):
        if way.repeats:
            returned = own(tagged(x[0].clone(), None))
        elif way.once:
            returned = own(tagged(_arranged(x, way.axes), None))
        else:
            state = None
            for step in range(len(x)):
                frame = tagged(x[step].clone(), step)
                returned = own(frame, state) if way.state else own(frame)
                if way.state:
                    if not isinstance(returned, tuple) or len(returned) != 2:
                        raise WrongLayout("the module returns no state")
                    returned, state = returned
    for path, calls in recorder.calls.items():
        wanted = len(x) if recorder.layouts[path] == ("B",) else 1
        if calls != wanted:
            raise WrongLayout(f"{path} was called {calls} times for {len(x)} steps")
    if not recorder.calls:
        raise WrongLayout("no neurons were called")
    return returned


def _arranged(x: Tensor, axes: tuple[str, ...]) -> Tensor:
    if axes == ("T", "B"):
        return x.clone()
    batch_first = x.swapaxes(0, 1).contiguous()
    return batch_first if axes == ("B", "T") else batch_first.flatten(0, 1)


def _copy(module: nn.Module, *, double: bool) -> nn.Module:
    """Return a copy on the CPU, in evaluation, with its state at the start."""
    memo: dict[int, Any] = {}
    copied: list[tuple[nn.Module, nn.Module]] = []
    # State that a training step left is part of its autograd graph, which cannot be copied.
    for part in _all_modules(module):
        for value in [*part._buffers.values(), *vars(part).values()]:
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
        # sinabs' own copies fail for recurrent layers.
        if "__deepcopy__" in dir(type(part)) and id(part) not in memo:
            memo[id(part)] = twin = type(part).__new__(type(part))
            copied.append((part, twin))
    try:
        for part, twin in copied:
            twin.__dict__.update(copy.deepcopy(part.__dict__, memo))
        own = copy.deepcopy(module, memo)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise GraphError(f"{type(module).__name__} cannot be copied", str(error), "detach its states first") from error
    nn.Module.eval(own)
    own = own.cpu()
    own = own.double() if double else own
    with torch.no_grad():
        for _, part in named_modules(own):
            adapter = adapter_of(part)
            if adapter is not None:
                adapter.reset(part)
                if double:
                    adapter.double(part)
    return own


def _all_modules(module: nn.Module) -> Iterator[nn.Module]:
    yield module
    for part in module._modules.values():
        if part is not None:
            yield from _all_modules(part)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _sample(sample: Any, dtype: torch.dtype) -> Tensor:
    values = sample if isinstance(sample, Tensor) else np.asarray(sample)
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        why = f"it is a {type(sample).__name__}, not an array of numbers"
        raise DataError("the sample cannot be read", why, "give inputs (T, B, *shape), a tensor or an array")
    x = values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(values)
    if x.ndim < 3 or 0 in x.shape:
        raise DataError(
            f"the sample has shape {tuple(x.shape)}",
            "it is (T, B, *shape): steps, samples, and the shape of one sample at one step",
            "sample[:, None] adds an axis for the batch to (T, *shape)",
        )
    return x.to(dtype).contiguous()


def _step_length(neurons: list[tuple[str, nn.Module, Adapter]], given: float | None) -> float:
    own = {path: dt for path, part, adapter in neurons if (dt := adapter.dt_s(part)) is not None}
    lengths = set(own.values())
    if len(lengths) > 1:
        said = ", ".join(f"{path}: {dt:g} s" for path, dt in own.items())
        raise GraphError("its neurons have steps of different lengths", said, "give all of them one dt")
    if lengths and given is not None and abs(given - min(lengths)) > 1e-9 * given:
        why = f"its neurons state dt = {min(lengths):g} s"
        raise GraphError(f"dt = {given:g} s", why, "leave dt out, or set it in the neurons")
    return min(lengths) if lengths else DT_S if given is None else given


def _traced(
    module: nn.Module,
    x: Tensor,
    way: Way,
    recorder: Recorder,
    returned: Any,
    dt_s: float,
    neurons: list[tuple[str, nn.Module, Adapter]],
) -> Traced:
    outputs = recorder.outputs(returned)
    starts = {own.start for own in recorder.builder.populations.values() if own.start is not None}
    try:
        graph = recorder.builder.finish(outputs, dt_s)
    except Untranslatable as error:
        raise GraphError(f"{type(module).__name__} has no NIR form", error.why, error.do) from error
    inputs = x.numpy()
    whole = bool(np.isin(inputs, (0.0, 1.0)).all())
    held = bool((inputs == inputs[:1]).all()) and len(inputs) > 1
    firings = [node.metadata for node in graph.nodes.values() if getattr(node, "metadata", None)]
    common = {
        name: firings[0][f"ashneuro.{name}"]
        for name in ("comparison", "reset", "reset_delay")
        if firings and f"ashneuro.{name}" in firings[0]
    }
    contract = Contract(
        dt_s=dt_s,
        start="v_reset" if starts == {"v_reset"} else "v_leak",
        input_coding="spikes" if whole else "constant-current" if held else "current",
        **common,
    )
    graph.metadata = contract.to_metadata()
    second = Recorder(recorder.sizes, dt_s)
    _run(module, x, way, second, double=True)
    frameworks = {}
    for _, _, adapter in neurons:
        frameworks[adapter.name] = metadata.version(adapter.distribution)
    caveats = {name: own.caveat for name, own in recorder.builder.populations.items() if own.caveat}
    sent, exact, name = recorder.rasters(), second.rasters(), type(module).__name__
    return Traced(graph, contract, inputs, sent, exact, name, frameworks | _torch(), caveats)


def _torch() -> dict[str, str]:
    return {"torch": str(torch.__version__)}


def _refusal(module: nn.Module, failures: list[tuple[int, Exception]]) -> GraphError:
    """Return the error of the way to call the module that came furthest.

    Args:
        failures: for each way, the number of calls of neurons that it made, and its error.
    """
    named = [(calls, error) for calls, error in failures if isinstance(error, GraphError)]
    if named:
        return max(named, key=lambda found: found[0])[1]
    said = "; ".join(dict.fromkeys(" ".join(str(error).split())[:200] for _, error in failures))
    takes = ", ".join(inspect.signature(module.forward).parameters)
    return GraphError(
        f"{type(module).__name__}.forward({takes}) cannot be run over the sample",
        said,
        "give a module that takes one step (B, *shape), whole samples (T, B, *shape) or (B, T, *shape), and resets"
        " its own state",
    )
