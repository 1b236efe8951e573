"""One run of a module, recorded: the graph of its connections, and the spikes of its neurons.

The module runs as its framework does, loops over time included. Torch functions are intercepted
between neurons (`torch.overrides.TorchFunctionMode`); each tensor that comes from the sample has a
`Value`: the graph nodes whose sum it holds, the step, and the meaning of its axes. Neurons are
leaves: their adapter gives their nodes, whatever happens inside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils.weak import WeakTensorKeyDictionary

from ashneuro.errors import GraphError
from ashneuro.frameworks.form import Adapter, Population, Untranslatable
from ashneuro.frameworks.functions import RULES, opaque, promoted
from ashneuro.frameworks.graph import INPUT, GraphBuilder
from ashneuro.frameworks.registry import adapter_of, kind_of
from ashneuro.frameworks.signals import Opaque, Shape, Signal, State, Term, Value

READING = ("__bool__", "item", "tolist", "numpy", "__float__", "__int__", "nonzero", "__contains__")


class WrongLayout(Exception):
    """The module does not take samples in this form."""


@dataclass(eq=False, repr=False)  # torch prints the mode in every call of an autograd function
class Recorder(TorchFunctionMode):
    """The values of a run's tensors, the graph, and the spikes.

    Args:
        sizes: T and B of the sample.
        dt_s: duration of a step, seconds.
        double: a run of the module's float64 copy.
    """

    sizes: Mapping[str, int]
    dt_s: float
    double: bool = False
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    sent: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    layouts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._values: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._inside = 0
        self._where: list[tuple[str, bool]] = []
        self._stateless: dict[tuple[str, frozenset[str]], str] = {}

    # What rules of functions use.

    def value(self, tensor: Any) -> Value | None:
        """Return the value of a tensor; ``None`` for a constant."""
        known = isinstance(tensor, Tensor) and tensor in self._values
        return self._values[tensor] if known else None  # type: ignore[no-any-return]

    def give(self, tensor: Tensor, value: Value) -> None:
        """Give a tensor its value."""
        self._values[tensor] = value

    def signal(self, tensor: Any) -> Signal | None:
        """Return the value of a tensor if it is a signal."""
        found = self.value(tensor)
        return found if isinstance(found, Signal) else None

    def operation(self, name: str, x: Signal, make: Callable[[], Any], shape: Shape, *key: Any) -> Signal:
        """Return the values of an operation that the current module does; ``key`` tells it from
        others: its weights, and its geometry.
        """
        keys = tuple(self._identity(part) if isinstance(part, Tensor) else part for part in key)
        return self.builder.operation((name, *keys), self._named(name), x, make, shape)

    def _identity(self, weights: Tensor) -> Hashable:
        """Return the identity of weights: the parameter itself, or the numbers of other tensors."""
        if isinstance(weights, nn.Parameter):
            return id(weights)
        return tuple(weights.shape), weights.detach().cpu().contiguous().numpy().tobytes()

    def _named(self, function: str) -> str:
        """Return a node's name: the module's, or the function's in a module with parts."""
        path, leaf = self._where[-1] if self._where else ("", False)
        return path if path and leaf else f"{path}.{function}".lstrip(".")

    def stateless(self, name: str, x: Signal, node: Any, out: Tensor) -> Signal:
        """Return the values of neurons without state, which the current module computes."""
        # One module may stand for several populations, as it has no state.
        key = (self._named(name), x.sources)
        if key not in self._stateless:
            self._stateless[key] = self.builder.free(key[0])
        path = self._stateless[key]
        call = self.calls.get(path, 0)
        if call == 0:
            self.builder.population(path, Population({"": node}), x.shape)
            self.layouts[path] = x.axes
        self._enter(path, x, call)
        self.calls[path] = call + 1
        self._keep_sent(path, out)
        return x.at(path)

    # The mode.

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, and give its result a value."""
        kwargs = kwargs or {}
        name = _name(func)
        if self.double:
            args, kwargs = promoted(name, args, kwargs)
            func = torch.Tensor.double if name == "float" else func
        tracked = [] if self._inside else self._tracked((args, kwargs))
        if not tracked:
            return func(*args, **kwargs)
        if name in READING:
            raise GraphError(
                f"{self._here()} reads the values of signals ({name.strip('_')})",
                "a graph has the same connections for every sample and step",
                "move this out of forward",
            )
        out = func(*args, **kwargs)
        rule = RULES.get(name)
        try:
            result = rule(self, out, *args, **kwargs) if rule else None
        except Untranslatable as error:
            raise GraphError(f"{self._here()} has no NIR form", error.why, error.do) from error
        except (TypeError, ValueError, IndexError):  # arguments that the rule does not know
            result = None
        if name == "__setitem__":
            out = args[0]
        self._assign(out, result, name, tracked)
        return None if name == "__setitem__" else out

    def _here(self) -> str:
        return (self._where[-1][0] if self._where else "") or "forward"

    def _tracked(self, arguments: Any) -> list[Value]:
        return [value for tensor in tensors(arguments) if (value := self.value(tensor)) is not None]

    def _assign(self, out: Any, result: Any, name: str, tracked: list[Value]) -> None:
        made = list(tensors(out))
        results = result if isinstance(result, list) else [result] * len(made)
        if RULES.get(name) is RULES["zeros_like"]:
            return
        sources = frozenset(source for value in tracked for source in value.sources)
        for tensor, value in zip(made, results, strict=True):
            if value is None:
                first = next((found for found in tracked if isinstance(found, Opaque)), None)
                value = Opaque(sources, first.function, first.remedy) if first else opaque(name, self._here(), sources)
            self._values[tensor] = value

    # Neurons.

    @contextmanager
    def attached(self, module: nn.Module) -> Iterator[None]:
        """Record every call of a neuron of ``module``, and the names of other modules."""
        wrapped: list[nn.Module] = []
        for path, part in named_modules(module):
            adapter = adapter_of(part)
            # A module in two places has the name of the first.
            if "forward" in vars(part) or (adapter is None and not hasattr(type(part), "forward")):
                continue
            name = path or type(module).__name__.lower()
            call = self._neuron(name, part, adapter) if adapter else self._layer(path, part)
            part.__dict__["forward"] = functools.wraps(part.forward)(call)
            wrapped.append(part)
        try:
            with self:
                yield
        finally:
            for part in wrapped:
                del part.__dict__["forward"]

    def _layer(self, path: str, part: nn.Module) -> Callable[..., Any]:
        forward = part.forward

        def call(*args: Any, **kwargs: Any) -> Any:
            self._where.append((path, not part._modules))
            try:
                return forward(*args, **kwargs)
            finally:
                self._where.pop()

        return call

    def _neuron(self, path: str, part: nn.Module, adapter: Adapter) -> Callable[..., Any]:
        forward = part.forward

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return forward(*args, **kwargs)
            self._inside += 1
            try:
                own, source, step = self._entered(path, part, adapter, args, kwargs)
                out = forward(*args, **kwargs)
                self._left(path, own, source, step, out)
            except Untranslatable as error:
                raise GraphError(f"{path} ({type(part).__name__}) has no NIR form", error.why, error.do) from error
            finally:
                self._inside -= 1
            return out

        return call

    def _entered(
        self, path: str, part: nn.Module, adapter: Adapter, args: Any, kwargs: Any
    ) -> tuple[Population, Signal, int]:
        given = [*args, *kwargs.values()]
        source = self.value(given[0]) if given else None
        if isinstance(source, Opaque):
            raise Untranslatable(f"{source.function} lies in front of it", source.remedy)
        if isinstance(source, State):
            why = f"the potential of {source.neuron} feeds it; neurons send spikes"
            raise Untranslatable(why, "feed it the spikes, or a read-out's potential")
        if source is None:
            raise Untranslatable("its input does not come from the sample", "feed it from the sample")
        if source.axes != tuple(adapter.layout(part)):
            wanted, got = (" × ".join(axes) or "nothing" for axes in (adapter.layout(part), source.axes))
            raise WrongLayout(f"{path} takes {wanted} × neurons, and gets {got} × neurons")
        if misfit := adapter.fits(part, self.sizes):
            raise Untranslatable(misfit, "make the module for the sample's size, or the sample for the module's")
        call = self.calls.get(path, 0)
        if source.axes == ("B",) and source.step is not None and source.step != call:
            raise Untranslatable(
                f"call {call + 1} of it gets step {source.step + 1}: one module is one population, called once a step",
                "use a module of its own for each population",
            )
        if "T" in "".join(source.axes) and call:
            raise Untranslatable("it is called twice", "use a module of its own for each population")
        self._states(path, adapter, call, given[1:])
        if call == 0:
            self.builder.population(path, self._form(part, adapter, source.shape), source.shape)
            self.layouts[path] = source.axes
        own = self.builder.populations[path]
        self._enter(path, source, call)
        self.calls[path] = call + 1
        return own, source, call

    def _enter(self, path: str, source: Signal, call: int) -> None:
        self.builder.enter(path, source, call)

    def _form(self, part: nn.Module, adapter: Adapter, shape: Shape) -> Population:
        kind = kind_of(part, adapter)
        if kind in adapter.neurons:
            own: Population = adapter.neurons[kind](part, shape, self.dt_s)
            return own
        others = f"use one of {adapter.name}'s {', '.join(adapter.neurons)}"
        unknown = f"{adapter.name}'s {kind} is not among the neurons that are known"
        raise Untranslatable(*adapter.refused.get(kind, (unknown, others)))

    def _states(self, path: str, adapter: Adapter, call: int, given: list[Any]) -> None:
        """Check that a neuron goes on from the state that it returned, or from zero."""
        states = list(tensors(given))
        if adapter.state_argument and call and not states:
            raise Untranslatable("it starts anew in every step", "hand its state on: y, state = neurons(x, state)")
        for state in states:
            value = self.value(state)
            if isinstance(value, State) and value == State(path, call - 1):
                continue
            if value is None and call == 0 and not bool(torch.count_nonzero(state)):
                continue
            if isinstance(value, Signal) and value.sources <= {*self._nodes_of(path)}:
                continue
            why = "it starts from a state that is not zero"
            if call:
                anew = value is None and not bool(torch.count_nonzero(state))
                said = (
                    "starts from zero again" if anew else "goes on from a state that is not the one of the call before"
                )
                why = f"call {call + 1} {said}"
            raise Untranslatable(why, "hand its own state on unchanged, and start without one")

    def _nodes_of(self, path: str) -> Iterator[str]:
        for key in self.builder.populations[path].nodes if path in self.builder.populations else ():
            yield f"{path}.{key}" if key else path

    def _left(self, path: str, own: Population, source: Signal, call: int, out: Any) -> None:
        # Norse returns its spikes once more, as part of the state.
        returned = list({id(tensor): tensor for tensor in tensors(out)}.values())
        for index, tensor in enumerate(returned):
            gives = own.gives[index] if index < len(own.gives) else None
            if gives is None:
                self._values[tensor] = State(path, call)
                continue
            node = f"{path}.{gives}" if gives else path
            shape = self.builder.shapes[node]
            step = call if source.axes == ("B",) else None
            self._values[tensor] = Signal((Term(node, step),), source.axes, shape)
            self._keep_sent(node, tensor)

    def _keep_sent(self, node: str, tensor: Tensor) -> None:
        self.sent.setdefault(node, []).append(tensor.detach().cpu().numpy().copy())

    # Results.

    def rasters(self) -> dict[str, NDArray[Any]]:
        """Return the values that each population sent, (T, B, \\*shape), by node."""
        found = {}
        for node, parts in self.sent.items():
            path = max((name for name in self.layouts if f"{node}.".startswith(f"{name}.")), key=len)
            axes, shape = self.layouts[path], self.builder.shapes[node]
            if axes == ("B",):
                found[node] = np.stack(parts)
                continue
            atoms = [atom for group in axes for atom in group]
            whole = parts[0].reshape(*(self.sizes[atom] for atom in atoms), *shape)
            found[node] = whole if atoms == ["T", "B"] else whole.swapaxes(0, 1)
        return found

    def outputs(self, returned: Any) -> list[frozenset[str]]:
        """Return the outputs of the graph: for each, the nodes whose sum it gives.

        They are what the module returns; behind functions without a form, what those start from. A
        module that returns nothing of the sample gives its last populations.
        """
        found: list[frozenset[str]] = []
        for value in (self.value(tensor) for tensor in tensors(returned)):
            if isinstance(value, Signal):
                found.append(value.sources)
            elif value is not None:
                found += [frozenset({source}) for source in sorted(value.sources)]
        found = [output for output in dict.fromkeys(found) if output != frozenset({INPUT})]
        last = [frozenset({name}) for name in self.builder.populations if not self.builder.leads_on(name)]
        # Hidden layers that are returned as well are in every record anyway.
        ends = [output for output in found if not any(self.builder.leads_on(node) for node in output)]
        return ends or found or last


def tensors(value: Any) -> Iterator[Tensor]:
    """Iterate over the tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))


def named_modules(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return every module with its path, inner ones of neurons excluded.

    Rockpool's modules override ``named_modules``.
    """
    found = [("", module)]
    if adapter_of(module) is None:
        for name, part in module._modules.items():
            if part is not None:
                found += [(f"{name}.{path}".rstrip("."), inner) for path, inner in named_modules(part)]
    return found


def _name(func: Any) -> str:
    """Return the plain name of a torch function, of a property for its getter."""
    full: str = resolve_name(func) or getattr(func, "__name__", "")
    return full.removesuffix(".__get__").rpartition(".")[2]
