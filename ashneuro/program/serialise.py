"""Programs on disk: ``program.json`` has the structure, ``program.npz`` the arrays.

Anything that reads JSON and ``.npy`` can run a program without ashneuro. ``program.json`` is::

    {"schema": "ashneuro-program/2",
     "programs": {NAME: {                          # "float", "integer"
        "precision": "float" | "integer",  "dt_s": seconds,  "timesteps": int | null,
        "inputs":  [{"name", "shape", "coding": "current" | "graded" | "spikes",
                     "scale", "limit", "constant"}],
        "layers":  [{"name", "shape", "depth", "scale", "nir": [...],
                     "neuron": {"du": KEY, "dv": KEY, "v_threshold": KEY, "bias": KEY,
                                "bias_exp", "spiking", "v_unit": KEY, "v_origin": KEY,
                                "v_subtract": KEY | null, "firing": {...}, "message": {...},
                                "dynamics", "parameters": {NAME: KEY}},
                     "connections": [{"source", "delay", "weight_exp", "nir": [...],
                                      "synapse": null | {"kind", "in_shape", "out_shape",
                                                         "stride", "padding", "dilation",
                                                         "groups", "weight": KEY,
                                                         "indices": KEY | null,
                                                         "indptr": KEY | null}}]}],
        "outputs": [layer names],  "notes": [sentences],
        "assumptions": null | [{"field", "value", "nodes": [...], "spikes"}]}}}

A KEY names an array in ``program.npz``: ``NAME/LAYER/du``, ``NAME/LAYER/CONNECTION/weight`` …, with
the positions of layer and connection. Neuron arrays broadcast to the layer's shape.
`ashneuro.program.program` describes the fields. Equal programs give equal bytes. Schema 1 has no
``assumptions``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.arrays import load_npz
from ashneuro.errors import BundleError
from ashneuro.files import reason_of
from ashneuro.program.assumption import from_json, to_json
from ashneuro.program.entries import ProgramFile
from ashneuro.program.program import Connection, InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.sound import require_sound
from ashneuro.schemas import Format, remedy_of
from ashneuro.spiking.firing import Firing
from ashneuro.spiking.message import Message

PROGRAM = Format("ashneuro-program", ProgramFile, version=2)
STRUCTURE, NUMBERS = "program.json", "program.npz"

_NEURON_ARRAYS = ("du", "dv", "v_threshold", "bias", "v_unit", "v_origin", "v_subtract")
_SYNAPSE_ARRAYS = ("weight", "indices", "indptr")

_Arrays = dict[str, NDArray[Any]]


def save_programs(folder: str | Path, programs: Mapping[str, Program]) -> None:
    """Write ``programs`` by name (``"float"``, ``"integer"``) into an existing folder."""
    arrays: _Arrays = {}
    structure = {
        "schema": PROGRAM.schema,
        "programs": {name: entry_of(program, arrays, name) for name, program in programs.items()},
    }
    folder = Path(folder)
    (folder / STRUCTURE).write_text(json.dumps(structure, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    # numpy writes no time stamps into the archive, so equal programs give equal bytes.
    np.savez_compressed(folder / NUMBERS, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def load_programs(folder: str | Path) -> dict[str, Program]:
    """Return the programs in ``folder``, by name.

    Raises:
        BundleError: a file is missing, damaged, or of another schema, or a program has no meaning.
    """
    folder = Path(folder)
    try:
        structure = PROGRAM.load(folder / STRUCTURE)
        arrays = load_npz(folder / NUMBERS)
        programs = {name: _read_program(entry, arrays) for name, entry in structure["programs"].items()}
        for name, program in programs.items():
            require_sound(program, name)
        return programs
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"cannot read the program in {folder}",
            f"{STRUCTURE} or {NUMBERS} is damaged or missing ({reason_of(error)})",
            remedy_of(error, "export the network again"),
        ) from error


def entry_of(program: Program, arrays: _Arrays, name: str = "") -> dict[str, Any]:
    """Return a program's entry of ``program.json``, and put its arrays into ``arrays``.

    The keys of arrays are ``NAME/LAYER/…``.
    """
    return {
        "precision": program.precision,
        "dt_s": program.dt_s,
        "timesteps": program.timesteps,
        "inputs": [vars(port) | {"shape": list(port.shape)} for port in program.inputs],
        "layers": [_layer_entry(f"{name}/{i}", layer, arrays) for i, layer in enumerate(program.layers)],
        "outputs": list(program.outputs),
        "notes": list(program.notes),
        "assumptions": to_json(program.assumptions),
    }


def _layer_entry(key: str, layer: Layer, arrays: _Arrays) -> dict[str, Any]:
    neuron = _put(key, layer.neuron, _NEURON_ARRAYS, arrays)
    neuron |= {"bias_exp": layer.neuron.bias_exp, "spiking": layer.neuron.spiking}
    neuron["firing"] = asdict(layer.neuron.firing)
    neuron["message"] = asdict(layer.neuron.message)
    neuron["dynamics"], neuron["parameters"] = layer.neuron.dynamics, {}
    for name, value in layer.neuron.parameters.items():
        neuron["parameters"][name] = f"{key}/{name}"
        arrays[f"{key}/{name}"] = np.asarray(value)
    return {
        "name": layer.name,
        "shape": list(layer.shape),
        "depth": layer.depth,
        "scale": layer.scale,
        "nir": list(layer.nir),
        "neuron": neuron,
        "connections": [
            _connection_entry(f"{key}/{i}", connection, arrays) for i, connection in enumerate(layer.connections)
        ],
    }


def _connection_entry(key: str, connection: Connection, arrays: _Arrays) -> dict[str, Any]:
    synapse = connection.synapse
    entry = synapse and {
        "kind": synapse.kind,
        "in_shape": list(synapse.in_shape),
        "out_shape": list(synapse.out_shape),
        "stride": list(synapse.stride),
        "padding": [list(pair) for pair in synapse.padding],
        "dilation": list(synapse.dilation),
        "groups": synapse.groups,
        **_put(key, synapse, _SYNAPSE_ARRAYS, arrays),
    }
    return {
        "source": connection.source,
        "delay": connection.delay,
        "weight_exp": connection.weight_exp,
        "nir": list(connection.nir),
        "synapse": entry,
    } | ({"imaginary": True} if connection.imaginary else {})


def _put(key: str, owner: object, names: tuple[str, ...], arrays: _Arrays) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name in names:
        value = getattr(owner, name)
        keys[name] = None if value is None else f"{key}/{name}"
        if value is not None:
            arrays[keys[name]] = np.asarray(value)
    return keys


def _read_program(entry: Mapping[str, Any], arrays: _Arrays) -> Program:
    return Program(
        precision=entry["precision"],
        dt_s=entry["dt_s"],
        timesteps=entry["timesteps"],
        inputs=tuple(InputPort(**port | {"shape": tuple(port["shape"])}) for port in entry["inputs"]),
        layers=tuple(_read_layer(layer, arrays) for layer in entry["layers"]),
        outputs=tuple(entry["outputs"]),
        notes=tuple(entry["notes"]),
        assumptions=from_json(entry.get("assumptions")),
    )


def _read_layer(entry: Mapping[str, Any], arrays: _Arrays) -> Layer:
    return Layer(
        name=entry["name"],
        shape=tuple(entry["shape"]),
        neuron=_read_neuron(entry["neuron"], arrays),
        connections=tuple(_read_connection(connection, arrays) for connection in entry["connections"]),
        depth=entry["depth"],
        scale=entry["scale"],
        nir=tuple(entry["nir"]),
    )


def _read_neuron(entry: Mapping[str, Any], arrays: _Arrays) -> Neuron:
    # Programs of earlier versions have none of these: their neurons are LIF and fire as Lava's do.
    firing, message = Firing(**entry.get("firing", {})), Message(**entry.get("message", {}))
    arrays_of = _get({"v_subtract": None, **entry}, _NEURON_ARRAYS, arrays)
    parameters = {name: arrays[key] for name, key in entry.get("parameters", {}).items()}
    return Neuron(**{**entry, **arrays_of, "firing": firing, "message": message, "parameters": parameters})


def _read_connection(entry: Mapping[str, Any], arrays: _Arrays) -> Connection:
    synapse = entry["synapse"]
    if synapse is not None:
        shapes = {name: tuple(synapse[name]) for name in ("in_shape", "out_shape", "stride", "dilation")}
        padding = tuple((before, after) for before, after in synapse["padding"])
        synapse = Synapse(**synapse | shapes | {"padding": padding} | _get(synapse, _SYNAPSE_ARRAYS, arrays))
    nir, imaginary = tuple(entry["nir"]), entry.get("imaginary", False)
    return Connection(entry["source"], synapse, entry["delay"], entry["weight_exp"], nir, imaginary)


def _get(entry: Mapping[str, Any], names: tuple[str, ...], arrays: _Arrays) -> dict[str, Any]:
    return {name: None if entry[name] is None else arrays[entry[name]] for name in names}
