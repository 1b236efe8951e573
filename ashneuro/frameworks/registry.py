"""The frameworks whose modules can be read, and the adapter of a neuron."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from ashneuro.frameworks import layers, norse, rockpool, sinabs, snntorch, spikingjelly
from ashneuro.frameworks.form import Adapter

# By top-level package. Adapters look at attributes alone, so none of these packages is imported.
FRAMEWORKS: Mapping[str, Adapter] = {
    adapter.package: adapter
    for adapter in (
        norse.ADAPTER,
        snntorch.ADAPTER,
        sinabs.ADAPTER,
        spikingjelly.ADAPTER,
        rockpool.ADAPTER,
        layers.ADAPTER,
    )
}


def adapter_of(module: Any) -> Adapter | None:
    """Return the adapter of a neuron module; ``None`` for every other module."""
    for kind in type(module).__mro__:
        adapter = FRAMEWORKS.get(kind.__module__.partition(".")[0])
        if adapter and (kind.__name__ in adapter.neurons or kind.__name__ in adapter.marks | adapter.refused.keys()):
            return adapter
    return None


def kind_of(module: Any, adapter: Adapter) -> str:
    """Return the name of the class whose equations a neuron module computes.

    A subclass of the user's counts as its base, unless it has a forward of its own.
    """
    for kind in type(module).__mro__:
        ours = kind.__module__.partition(".")[0] == adapter.package
        if ours or "forward" in vars(kind):
            return kind.__name__
    return type(module).__name__


def installed() -> dict[str, str]:
    """Return the version of each framework, by its name in words; empty where it is missing."""
    found = {}
    for adapter in FRAMEWORKS.values():
        try:
            found[adapter.name] = importlib.metadata.version(adapter.distribution)
        except importlib.metadata.PackageNotFoundError:
            found[adapter.name] = ""
    return found
