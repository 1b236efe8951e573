"""NIR files in: read strictly, say everything that is wrong with one, never half-read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import nir
import nir.serialization
import numpy as np

from ashneuro.errors import GraphError
from ashneuro.program.rules.finding import require
from ashneuro.program.rules.graph import graph_findings
from ashneuro.program.wiring import PRIMITIVES, Wiring, wire
from ashneuro.spiking.contract import ReadContract, read_contract

REFUSED = "this NIR graph cannot be used"


def read_graph(path: str | Path, **overrides: Any) -> tuple[Wiring, ReadContract]:
    """Return the wired graph in a NIR file, and its contract; ``overrides`` (``dt_s=…``, ``if_convention=…``) win over the file.

    The graph as written is `Wiring.graph`.

    Raises:
        GraphError: it is not a NIR file, a node cannot be built, or the graph breaks rules: all of them at once.
    """
    graph = load_graph(path)
    contract = read_contract(graph.metadata, **overrides)
    wiring = wire(graph)
    require(graph_findings(wiring, contract.contract), f"{path}: {REFUSED}")
    return wiring, contract


def load_graph(path: str | Path) -> nir.NIRGraph:
    """Return the graph in a NIR file whether or not it makes sense; `ashneuro.program.check` says what is wrong with it.

    Raises:
        GraphError: the file cannot be read, or a node cannot be built from what it holds.
    """
    path = Path(path)
    entries = _entries(path)
    troubles: list[str] = []
    graph = _build(entries, "", troubles)
    if troubles or not isinstance(graph, nir.NIRGraph):
        raise GraphError(
            f"{path}: {len(troubles) or 1} node(s) cannot be read",
            "\n     ".join(troubles) or f"the file holds a {type(graph).__name__}, not a graph",
            "export the graph again with nir.write 1.0 or later, with every parameter that the primitive has",
        )
    return graph


def _entries(path: Path) -> Any:
    """Return the file's content as nested dicts of arrays."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise GraphError(f"cannot read {path}", error.strerror or str(error), "give the path of a .nir file") from error
    if not h5py.is_hdf5(path):
        looks = ", it looks like a zip archive (torch.save?)" if start[:2] == b"PK" else ""
        raise GraphError(
            f"{path} is not a NIR file", f"NIR files are HDF5{looks}", "write it with nir.write(path, graph)"
        )
    try:
        with h5py.File(path, "r") as file:
            if "node" not in file:
                raise GraphError(
                    f"{path} is not a NIR file",
                    "it is HDF5 but has no group 'node'",
                    "write it with nir.write(path, graph)",
                )
            return nir.serialization.hdf2dict(file["node"])
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise GraphError(f"{path} is damaged", f"HDF5 says: {error}", "export or copy the file again") from error


def _build(entry: Any, name: str, troubles: list[str]) -> Any:
    """Return the node that a file's entry describes; what cannot be built is added to ``troubles``."""
    label = name or "graph"
    if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
        troubles.append(f"{label}: it has no type")
        return None
    kind = entry["type"]
    if kind == "NIRGraph":
        return _build_graph(entry, name, troubles)
    if kind not in PRIMITIVES:
        troubles.append(f"{label}: {kind!r} is not a primitive of NIR {nir.version}")
        return None
    try:
        return nir.dict2NIRNode({key: _plain(value) for key, value in entry.items()})
    except Exception as error:  # whatever a primitive's constructor makes of arbitrary values is the file's fault
        troubles.append(f"{label} ({kind}): {_reason(error)}")
        return None


def _build_graph(entry: Mapping[str, Any], name: str, troubles: list[str]) -> nir.NIRGraph | None:
    nodes, edges = entry.get("nodes", {}), entry.get("edges", ())
    if not isinstance(nodes, Mapping):
        troubles.append(f"{name or 'graph'}: its nodes are not a group")
        return None
    made = {key: _build(node, f"{name}.{key}" if name else key, troubles) for key, node in nodes.items()}
    pairs = np.asarray(edges, dtype=object)
    if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2):
        troubles.append(f"{name or 'graph'}: its edges have shape {pairs.shape}, not (number, 2)")
        return None
    said = entry.get("metadata", {})
    if not isinstance(said, Mapping):
        troubles.append(f"{name or 'graph'}: its metadata are not a group")
        return None
    metadata = {key: _plain(value) for key, value in said.items()}
    # NIR's own check would add nodes, takes kernels to be square, and names no node when it fails.
    return nir.NIRGraph(made, [(_text(a), _text(b)) for a, b in pairs.reshape(-1, 2)], metadata, type_check=False)


def _plain(value: Any) -> Any:
    """Return HDF5 scalars as Python values; arrays and nested groups as they are."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf8", "replace")
    return value


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def _reason(error: Exception) -> str:
    """Return an exception of a NIR constructor in words: which fields are missing or not known."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split("__init__() ", 1)[-1]
