"""Write integer programs as networks of SANA-FE: weights, neurons, cores and inputs.

The folder holds

network.net    SANA-FE's netlist: a group per layer, and one per line of a spiking input
plan.json      what the netlist cannot say: depth and bias of every layer, samples and steps, and
               what the network's source leaves open
currents.f64   currents that the host sends into neurons, (T·B, neurons) each, little-endian
run_sanafe.py  runs it, with sanafe alone

Weights are mantissas shifted by the exponent of their connection, and thresholds mantissas; v
counts 64 to a unit, as in `ashneuro.program.rules.sanafe`. A spike enters a synapse of the kind
that most synapses of its target have: a netlist names one unit per neuron.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ashneuro.files import replace_files
from ashneuro.loihi import DECAY_ONE
from ashneuro.program.assumption import assuming, to_json
from ashneuro.program.check import sanafe_findings
from ashneuro.program.placement.placement import LayerPlacement, Placement
from ashneuro.program.program import Layer, Program
from ashneuro.program.rules.finding import require
from ashneuro.program.rules.sanafe import spiking_ports
from ashneuro.program.synapse import fan_out, matrix
from ashneuro.simulation.inputs import Inputs, check_inputs, encode

SCHEMA = "ashneuro-sanafe/1"
NETWORK, PLAN, CURRENTS, SCRIPT, RESULT = (
    "network.net",
    "plan.json",
    "currents.f64",
    "run_sanafe.py",
    "result.json",
)
WORKER = Path(__file__).parent.parent.parent / "sanafe_worker"
ARCHITECTURE = "loihi.yaml"  # comes with SANA-FE, under the GPL: named, not copied
STATE_UNIT = 64  # of v, per unit of a weight's mantissa
NEVER = 1e9  # threshold of a read-out
EDGES_AT_ONCE = 1 << 18

# SANA-FE's synapses of Loihi, by kind of synapse; a core stores a scaled identity as a list.
UNITS: Mapping[str, str] = {
    "dense": "loihi_dense_synapse",
    "conv": "loihi_conv_synapse",
    "sparse": "loihi_sparse_synapse",
    "scale": "loihi_sparse_synapse",
}
DENDRITE, DELAY_DENDRITE = "loihi_dendrites", "loihi_dendrites_delay"


@dataclass(frozen=True)
class Mapped:
    """Groups of a netlist, by what they hold.

    Args:
        layers: group of each layer.
        lines: group of the first line of each spiking input; the others follow.
    """

    layers: Mapping[str, int]
    lines: Mapping[str, int]

    @classmethod
    def of(cls, program: Program) -> Mapped:
        """Number the layers of ``program``, then the lines of its inputs."""
        lines, after = {}, len(program.layers)
        for port in spiking_ports(program):
            lines[port.name] = after
            after += math.prod(port.shape)
        return cls({layer.name: index for index, layer in enumerate(program.layers)}, lines)


def write_network(folder: Path, program: Program, placement: Placement, inputs: Inputs) -> None:
    """Write ``program`` with its cores and samples into ``folder``, which is made, all or nothing.

    A result of another network is taken away.

    Args:
        program: an integer program.
        placement: its cores, on a chip like SANA-FE's.
        inputs: samples (T, B, *shape), in the network's units.

    Raises:
        GraphError: SANA-FE's model cannot compute the program; every reason at once.
        DataError: the inputs do not fit.
    """
    assert program.precision == "integer", "SANA-FE's Loihi has Loihi's units"
    require(sanafe_findings(program, placement.limits), "SANA-FE cannot compute this network")
    checked = check_inputs(program.inputs, program.timesteps, inputs)
    sent = {port.name: encode(port, checked[port.name], "integer") for port in program.inputs}
    timesteps, samples = next(iter(sent.values())).shape[:2]
    # Samples one after the other, (B·T, lines).
    lines = {name: values.swapaxes(0, 1).reshape(timesteps * samples, -1) for name, values in sent.items()}
    mapped, delays = Mapped.of(program), any(c.synapse is not None and c.delay for _, c in program.connections())
    driven = [_currents(layer, lines) for layer in program.layers]
    plan = _plan(program, mapped, driven, timesteps, samples) | {"delays": delays}

    def write(fresh: Path) -> None:
        with (fresh / NETWORK).open("w", encoding="utf-8") as file:
            _write_netlist(file, program, placement, mapped, lines, DELAY_DENDRITE if delays else DENDRITE)
        with (fresh / CURRENTS).open("wb") as raw:
            for values in driven:
                if values is not None:
                    raw.write(values.astype("<f8").tobytes())
        (fresh / PLAN).write_text(json.dumps(plan) + "\n", encoding="utf-8")
        (fresh / SCRIPT).write_text((WORKER / SCRIPT).read_text(encoding="utf-8"), encoding="utf-8")
        (folder / RESULT).unlink(missing_ok=True)

    replace_files(folder, write, last=PLAN)


def _plan(
    program: Program, mapped: Mapped, driven: Sequence[NDArray[np.float64] | None], timesteps: int, samples: int
) -> dict[str, Any]:
    layers, currents, first = [], [], 0
    for layer, values in zip(program.layers, driven, strict=True):
        group = str(mapped.layers[layer.name])
        layers.append(
            {
                "name": layer.name,
                "group": group,
                "depth": layer.depth,
                "bias": _bias(layer).tolist(),
                "input_decay": input_decay(layer),
                "read_out": not layer.neuron.spiking,
            }
        )
        if values is not None:
            currents.append({"group": group, "first": first, "neurons": layer.size})
            first += values.size
    return {
        "schema": SCHEMA,
        "architecture": ARCHITECTURE,
        "samples": samples,
        "timesteps": timesteps,
        "depth": program.depth,
        "layers": layers,
        "currents": currents,
        "assumptions": to_json(program.assumptions),
    }


def input_decay(layer: Layer) -> float:
    """Return the share of a synaptic current that is left after a step."""
    return float(DECAY_ONE - 1 - np.max(layer.neuron.du)) / DECAY_ONE


def _bias(layer: Layer) -> NDArray[np.float64]:
    values = np.broadcast_to(layer.neuron.bias, layer.shape).ravel().astype(np.float64)
    return values * 2.0**layer.neuron.bias_exp / STATE_UNIT


def _currents(layer: Layer, lines: Mapping[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    """Return the currents (B·T, neurons) that the host sends into a layer; ``None``: none.

    The layer's depth holds the delay of the connection.
    """
    direct = [connection for connection in layer.connections if connection.synapse is None]
    if not direct:
        return None
    return np.asarray(np.sum([lines[c.source] * 2.0**c.weight_exp for c in direct], axis=0), np.float64)


def _write_netlist(
    file: TextIO,
    program: Program,
    placement: Placement,
    mapped: Mapped,
    lines: Mapping[str, NDArray[Any]],
    dendrite: str,
) -> None:
    if said := assuming(program.assumptions).removeprefix(", "):
        file.write(f"# {said}\n")
    for layer in program.layers:
        file.write(f"# {mapped.layers[layer.name]}: {' '.join(layer.name.split())}, {layer.size} neurons\n")
    for layer in program.layers:
        file.write(f"g {layer.size} {_group(layer, dendrite)}\n")
    for name, group in mapped.lines.items():
        size = lines[name].shape[1]
        for line in range(size):
            # A unit of SANA-FE's inputs holds the spikes of one line.
            unit = (group - len(program.layers) + line) % placement.limits.neurons
            file.write(f"g 1 soma_hw_name=loihi_inputs[{unit}] dendrite_hw_name={dendrite}\n")
        for line in range(size):
            spikes = ",".join(map(str, lines[name][:, line].tolist()))
            file.write(f'n {group + line}.0 {{"spikes": [{spikes}]}}\n')
    for layer in program.layers:
        file.writelines(_neurons(layer, mapped.layers[layer.name]))
    for layer in program.layers:
        file.writelines(_edges(program, layer, mapped))
    file.writelines(_cores(placement, mapped, lines))


def _group(layer: Layer, dendrite: str) -> str:
    neuron = layer.neuron
    attributes: dict[str, Any] = {
        "soma_hw_name": "loihi_lif",
        "dendrite_hw_name": dendrite,
        "log_spikes": 1,
        "threshold": _threshold(layer),
        "reset_mode": "soft" if neuron.firing.reset == "subtract" else "hard",
        "input_decay": _number(input_decay(layer)),
    }
    if unit := synapse_unit(layer):
        attributes["synapse_hw_name"] = unit
    if not neuron.spiking:
        attributes["log_v"] = 1
    if np.size(neuron.dv) == 1:
        attributes["leak_decay"] = _number(_leak(layer)[0])
    return " ".join(f"{name}={value}" for name, value in attributes.items())


def _threshold(layer: Layer) -> str:
    if not layer.neuron.spiking:
        return _number(NEVER)
    value = float(np.max(layer.neuron.v_threshold))
    # v ≥ v_threshold, of a v that counts in 1/64.
    return _number(value - 1 / STATE_UNIT if layer.neuron.firing.comparison == "inclusive" else value)


def _leak(layer: Layer) -> NDArray[np.float64]:
    return (DECAY_ONE - np.broadcast_to(layer.neuron.dv, layer.shape).ravel().astype(np.float64)) / DECAY_ONE


def synapse_unit(layer: Layer) -> str:
    """Return SANA-FE's unit for the synapses of a layer: that of most of them; "" without any."""
    totals: dict[str, int] = {}
    for connection in layer.connections:
        if connection.synapse is not None:
            unit = UNITS[connection.synapse.kind]
            totals[unit] = totals.get(unit, 0) + int(fan_out(connection.synapse).sum())
    return max(totals, key=lambda unit: totals[unit]) if totals else ""


def _neurons(layer: Layer, group: int) -> Iterator[str]:
    """Yield the neurons that differ from their group: those with a bias, or a leak of their own."""
    leak = _leak(layer) if np.size(layer.neuron.dv) > 1 else None
    for index, bias in enumerate(_bias(layer)):
        own = f" bias={_number(bias)}" if bias else ""
        own += f" leak_decay={_number(leak[index])}" if leak is not None else ""
        if own:
            yield f"n {group}.{index}{own}\n"


def _edges(program: Program, layer: Layer, mapped: Mapped) -> Iterator[str]:
    target = mapped.layers[layer.name]
    for connection in layer.connections:
        if connection.synapse is None:
            continue
        weights = matrix(connection.synapse).tocoo()
        values = weights.data.astype(np.float64) * 2.0**connection.weight_exp
        late = f" delay={connection.delay}" if connection.delay else ""
        for first in range(0, values.size, EDGES_AT_ONCE):
            part = slice(first, first + EDGES_AT_ONCE)
            found = zip(weights.row[part].tolist(), weights.col[part].tolist(), values[part].tolist(), strict=True)
            if connection.source in mapped.layers:
                source = mapped.layers[connection.source]
                yield "".join(f"e {source}.{j}->{target}.{i} w={_number(w)}{late}\n" for i, j, w in found)
            else:
                source = mapped.lines[connection.source]
                yield "".join(f"e {source + j}.0->{target}.{i} w={_number(w)}{late}\n" for i, j, w in found)


def _cores(placement: Placement, mapped: Mapped, lines: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Yield the core of every neuron; the lines of the inputs take the cores behind the last."""
    for placed in placement.layers:
        cores = core_of(placed)
        group = mapped.layers[placed.layer]
        for neuron, core in enumerate(cores.tolist()):
            yield f"& {group}.{neuron}@{place_of(placement, core)}\n"
    number = 0
    for name, group in mapped.lines.items():
        for line in range(lines[name].shape[1]):
            core = placement.cores + number // placement.limits.neurons
            yield f"& {group + line}.0@{place_of(placement, core)}\n"
            number += 1


def core_of(placed: LayerPlacement) -> NDArray[np.int64]:
    """Return the core of every neuron of a layer, flat."""
    found = np.empty(placed.shape, np.int64)
    for number, block in enumerate(placed.blocks()):
        found[block] = placed.first_core + number
    return found.ravel()


def place_of(placement: Placement, core: int) -> str:
    """Return ``tile.core`` of a core in SANA-FE, which numbers tiles along the columns."""
    limits = placement.limits
    _, column, row = placement.tile(core)
    high = limits.cores_per_chip // limits.cores_per_tile // limits.tiles_wide
    return f"{column * high + row}.{core % limits.cores_per_tile}"


def _number(value: float) -> str:
    """Return a number as text that reads back as the same float."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
