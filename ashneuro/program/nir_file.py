"""Read and write NIR files.

Reading is strict: whatever is wrong with a file is reported at once, and nothing is half read.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nir
import nir.serialization
import numpy as np

from ashneuro.errors import BundleError, GraphError
from ashneuro.files import replace_file, require_regular
from ashneuro.program.foreign import foreign_file, instead_of, kind_of_file
from ashneuro.program.hdf5 import DAMAGE, open_hdf5
from ashneuro.program.primitives import PARAMETERS, PRIMITIVES, READ_OUT, SPIKING, WHOLE_PARAMETERS
from ashneuro.program.rules.finding import require
from ashneuro.program.rules.graph import graph_findings
from ashneuro.program.wiring import Wiring, wire
from ashneuro.spiking.contract import ASSUMED, UNRECORDED, Contract, ReadContract, as_read, read_contract

REFUSED = "this NIR graph cannot be used"
EXPORT_AGAIN = "export the graph again with nir.write 1.0 or later, with every parameter that the primitive has"


# Entries of a node that follow from its edges; files without them are read.
LEFT_OPEN: Mapping[str, Mapping[str, None]] = {
    "Input": {"shape": None},
    "Output": {"shape": None},
    "Conv1d": {"input_shape": None},
    "Conv2d": {"input_shape": None},
}
NEURONS = (*SPIKING, *READ_OUT)


@dataclass(frozen=True)
class _Problem:
    """A node that cannot be built: why, and what helps."""

    why: str
    remedy: str = EXPORT_AGAIN


def read_graph(path: str | Path, **overrides: Any) -> tuple[Wiring, ReadContract]:
    """Return the wired graph in a NIR file, and its contract.

    The graph as written is `Wiring.graph`. ``overrides`` (``dt_s=…``, ``if_convention=…``) win over
    the file's contract.

    Raises:
        GraphError: it is not a NIR file, a node cannot be built, or the graph breaks rules: all of
            them at once.
    """
    graph = load_graph(path)
    contract = read_contract(graph.metadata, **overrides)
    wiring = wire(graph)
    require(graph_findings(wiring, contract.contract), f"{path}: {REFUSED}")
    return wiring, contract


def load_graph(path: str | Path) -> nir.NIRGraph:
    """Return the graph in a NIR file, whether it is sound or not.

    `ashneuro.program.check` reports what is wrong with it.

    Raises:
        GraphError: the file cannot be read, or a node cannot be built from what it holds.
    """
    path = Path(path)
    entries = _entries(path)
    problems: list[_Problem] = []
    graph = _build(entries, "", problems)
    if problems or not isinstance(graph, nir.NIRGraph):
        raise GraphError(
            f"{path}: {len(problems) or 1} node(s) cannot be read",
            "\n     ".join(problem.why for problem in problems)
            or f"the file holds a {type(graph).__name__}, not a graph",
            "\n     ".join(dict.fromkeys(problem.remedy for problem in problems)) or EXPORT_AGAIN,
        )
    return graph


def write_graph(path: Path, graph: nir.NIRGraph | Wiring, contract: Contract | ReadContract) -> None:
    """Write ``graph``, mended, with all shapes, and with ``contract`` in its metadata.

    The fields that a `ReadContract` assumes are written apart from the stated ones.
    """
    wiring = wire(graph)
    # What was assumed when the graph was read may be stated now.
    kept = {
        key: value
        for key, value in (wiring.graph.metadata or {}).items()
        if value is not None and key != UNRECORDED and not key.startswith(ASSUMED)
    }
    written = _plain_graph(wiring.graph, kept | as_read(contract).to_metadata())
    if unnamed := [name for name in _names(written) if not _holds(name)]:
        why = f"HDF5 holds no entry of the name {unnamed[0]!r}"
        raise BundleError("this NIR graph cannot be written", why, "rename the node")
    # In memory first: HDF5 crashes where a file that it writes cannot grow, as on a full disk.
    content = io.BytesIO()
    try:
        nir.write(content, written)
    except (TypeError, ValueError) as error:
        raise BundleError(
            "this NIR graph cannot be written", str(error), "give every node array parameters and plain metadata"
        ) from error
    replace_file(path, lambda file: file.write_bytes(content.getbuffer()))


def _names(graph: nir.NIRGraph) -> Iterator[str]:
    for name, node in graph.nodes.items():
        yield name
        if isinstance(node, nir.NIRGraph):
            yield from _names(node)


def _holds(name: str) -> bool:
    """Return True if HDF5 holds an entry of this name; a slash makes groups of it."""
    return "\0" not in name and not {"", "."} & set(name.split("/"))


def _plain_graph(graph: nir.NIRGraph, metadata: Mapping[str, Any]) -> nir.NIRGraph:
    """Return a copy of ``graph`` as `nir.write` takes it, nested graphs included."""
    nodes = {
        name: _plain_graph(node, node.metadata or {}) if isinstance(node, nir.NIRGraph) else node
        for name, node in graph.nodes.items()
    }
    return nir.NIRGraph(nodes, list(graph.edges), dict(metadata), type_check=False)


def _entries(path: Path) -> Any:
    """Return the content of a file as nested dicts of arrays."""
    # h5py reports a missing file, a directory and a foreign file alike; tell them apart first.
    try:
        require_regular(path)
        path.open("rb").close()
    except OSError as error:
        raise GraphError(f"cannot read {path}", error.strerror or str(error), "give the path of a .nir file") from error
    if not h5py.is_hdf5(path):
        raise foreign_file(path)
    try:
        with open_hdf5(path) as file:
            if "node" not in file:
                holds = ", ".join(map(repr, file)) or "nothing"
                wanted, group, export = kind_of_file(path)
                why = f"it is HDF5 but has no group {group!r}; it holds {holds}"
                raise GraphError(f"{path} is not {wanted}", why, export)
            return nir.serialization.hdf2dict(file["node"])
    except DAMAGE as error:
        raise GraphError(f"{path} is damaged", str(error), "export or copy the file again") from error


def _no_type(entry: Any, label: str) -> _Problem:
    # nir.write leaves its file open where it fails. The type of a graph comes after its nodes.
    if label == "graph" and isinstance(entry, Mapping) and "nodes" in entry:
        why = "graph: it has nodes but no type, as in a file that nir.write began and did not finish"
        do = "write it again; nir 1.0.8 cannot write a parameter that is a single number: numpy.atleast_1d(parameter)"
        return _Problem(why, do)
    return _Problem(f"{label}: it has no type", "give it the name of its primitive as `type`")


def _build(entry: Any, name: str, problems: list[_Problem]) -> Any:
    """Return the node that an entry describes; add what prevents it to ``problems``."""
    label = name or "graph"
    if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
        problems.append(_no_type(entry, label))
        return None
    kind = entry["type"]
    if kind == "NIRGraph":
        return _build_graph(entry, name, problems)
    if kind not in PRIMITIVES:
        why = f"{label}: {kind!r} is not a primitive of NIR {nir.version}"
        problems.append(_Problem(why, f"{kind}: {instead_of(kind, PRIMITIVES)}"))
        return None
    fields = {**LEFT_OPEN.get(kind, {}), **{key: _plain(value) for key, value in entry.items()}}
    try:
        return _mixed_shapes(fields) or nir.dict2NIRNode(fields)
    except Exception as error:  # constructors of primitives raise anything on arbitrary values
        why = _reason(error)
        problems.append(_Problem(f"{label} ({kind}): {why}", _entry_remedy(kind, entry, why)))
        return None


def _mixed_shapes(fields: Mapping[str, Any]) -> Any:
    """Return the neuron of ``fields`` if single values stand beside one value per neuron, else
    ``None``.

    NIR's constructors refuse that; `ashneuro.program.mending` gives them one shape.
    """
    kind = PRIMITIVES[fields["type"]]
    given = {name: fields[name] for name in PARAMETERS.get(kind, ()) if name in fields}
    sizes = {np.shape(value) for value in given.values() if np.size(value) != 1}
    if kind not in NEURONS or len(sizes) > 1 or len({np.shape(value) for value in given.values()}) < 2:
        return None
    node: Any = nir.dict2NIRNode(dict(fields) | dict.fromkeys(given, np.zeros(())))
    for name, value in given.items():
        setattr(node, name, value)
    return node


def _build_graph(entry: Mapping[str, Any], name: str, problems: list[_Problem]) -> nir.NIRGraph | None:
    nodes, edges = entry.get("nodes", {}), entry.get("edges", ())
    if not isinstance(nodes, Mapping):
        problems.append(_Problem(f"{name or 'graph'}: its nodes are not a group", "write `nodes` as a group of nodes"))
        return None
    made = {key: _build(node, f"{name}.{key}" if name else key, problems) for key, node in _by_name(nodes)}
    pairs = np.asarray(edges, dtype=object)
    if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2):
        why = f"{name or 'graph'}: its edges have shape {pairs.shape}, not (number, 2)"
        problems.append(_Problem(why, "write `edges` as pairs of node names"))
        return None
    stated = entry.get("metadata", {})
    if not isinstance(stated, Mapping):
        problems.append(_Problem(f"{name or 'graph'}: its metadata are not a group", "write `metadata` as a group"))
        return None
    metadata = {key: _plain(value) for key, value in stated.items()}
    # NIR's own type check adds nodes, assumes square kernels, and names no node when it fails.
    return nir.NIRGraph(made, [(_text(a), _text(b)) for a, b in pairs.reshape(-1, 2)], metadata, type_check=False)


def _by_name(nodes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over nodes by name. HDF5 takes a name with a slash for a group and an entry in it."""
    for key, node in nodes.items():
        inside = isinstance(node, Mapping) and node and "type" not in node
        if inside and all(isinstance(entry, Mapping) for entry in node.values()):
            yield from _by_name(node, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", node


def _entry_remedy(kind: str, entry: Mapping[str, Any], why: str) -> str:
    """Return the remedy for an entry from which NIR's constructor makes no node."""
    primitive = PRIMITIVES[kind]
    known = {field.name for field in dataclasses.fields(primitive) if field.init}
    needed = [*PARAMETERS.get(primitive, ()), *WHOLE_PARAMETERS.get(primitive, ())]
    absent = [name for name in needed if name not in entry and name != "input_shape"]
    if unknown := [name for name in entry if name not in {*known, "type", "shape"}]:
        return f"remove {', '.join(unknown)} from {kind}"
    if absent:
        return f"write {', '.join(absent)} of {kind}, or export again with nir.write 1.0 or later"
    if "same shape" in why:
        return f"give every parameter of {kind} one value, or one per neuron"
    return EXPORT_AGAIN


def _plain(value: Any) -> Any:
    """Return HDF5 scalars as Python values, in nested groups too; arrays as they are."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf8", "replace")
    return value


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)


def _reason(error: Exception) -> str:
    """Return the message of a NIR constructor's exception: missing or unknown fields."""
    text = " ".join(str(error).split()) or type(error).__name__
    # "LIF.__init__() missing 1 required …": users care for the second half.
    return text.split("__init__() ", 1)[-1]
