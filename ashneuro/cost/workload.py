"""Counts of the work that a network did: synops, MACs, neuron updates, messages. Start at `count`.

Definitions follow NeuroBench where it has one; each is stated at its field of `LayerWorkload`. All
counts are totals over ``samples`` inferences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.display import Plotted
from ashneuro.errors import AshneuroError
from ashneuro.exchange import HostLayer
from ashneuro.loihi import DECAY_ONE
from ashneuro.program.program import InputPort, Layer, Neuron, Program, Synapse
from ashneuro.program.synapse import dense_macs, fan_out
from ashneuro.simulation.record import Activity, SpikeRecord
from ashneuro.spiking.dynamics import DYNAMICS

Place = Literal["host", "deployed", "text"]
Kind = Literal["ann", "snn", "input"]

FLOAT_BYTES = 4
# Widths on Loihi: 8-bit weights (mixed signs keep the even values of 9 bits), biases with a 13-bit
# mantissa, and 24-bit u and v.
INTEGER_BYTES = {"weight": 1, "bias": 2, "state": 3}


@dataclass(frozen=True)
class Accesses:
    """Numbers that a layer moves between memory and arithmetic, over all samples.

    Args:
        weights, inputs: read, each once per inference in which a product needs it.
        outputs: written, or read for a comparison with those of the inference before.
        states: of variables that last from one inference to the next, read and written.
    """

    weights: int
    inputs: int
    outputs: int
    states: int = 0


@dataclass(frozen=True)
class LayerWorkload:
    """Work of one layer over all samples of a `Workload`.

    Args:
        name: layer name.
        place: ``"host"``: GPU or CPU, once per image; ``"deployed"``: the spiking part, or the ANN
            in its place; ``"text"``: the text encoder, on the host, once per text. An inference is
            one image; the texts of a collection are encoded once.
        neurons: neurons, output elements of an ANN layer, or lines of an input port.
        parameters: stored weights and biases; a shared weight counts once.
        dense_macs: products of a dense ANN layer of this shape, zero weights included, padding
            excluded; a spiking layer does them in every step.
        kind: ``"snn"``: spiking neurons; ``"ann"``: one pass of multiply–accumulates and an
            activation function; ``"input"``: a port where the host's values enter.
        passes: of an ANN: passes per inference, one for each frame of a stream; their products are
            among the counts.
        inputs: elements that the synapses read; 0 where not given.
        graded_inputs: of the inputs of a spiking layer, those with values other than 0 and 1: from
            an analog input port, or from a layer whose messages carry numbers.
        graded_events: non-zero values that these sent.
        dense_acs: of the dense MACs of a spiking layer, those at synapses whose source spikes.
        effective_macs: of the dense MACs, products of a non-zero activation that is not 0/1 with a
            non-zero weight; ``None`` where activations were not observed. Of spike counts, those
            above 1.
        effective_acs: synaptic operations (synops): one per spike, or count of one spike, and
            non-zero weight that it meets, padding excluded.
        acs_by_kind: `effective_acs` by storage of the synapse: ``"dense"``, ``"conv"``,
            ``"sparse"``, ``"scale"``.
        acs_from_ports: of `acs_by_kind`, those caused by spikes of input ports.
        acs_from_counts: of `effective_acs`, those caused by messages that carry whole numbers.
        macs_from_ports, graded_from_ports: of `effective_macs` and `graded_events`, those of input
            ports.
        parameter_bytes: bytes of the parameters: 4 each in floats; 1 per weight and 2 per bias in
            integers.
        zero_parameters: parameters that are zero.
        state_bytes: bytes of the neurons' states: 4 per variable in floats, 3 in integers.
        updates: neuron-steps; ``None`` for ANN layers and ports.
        updates_active: of these, the ones with a state or an input other than zero.
        updates_inactive: the others; both are ``None`` where the simulator did not see states.
        update_multiplies: products per neuron update, one per state variable that decays gradually,
            and one with 1/v_threshold for a spike count.
        update_adds: additions and comparisons per neuron update, or per output element of an ANN.
        state_variables: variables that a neuron keeps from step to step.
        spikes: spikes of the layer, or non-zero values of a port; 0 where messages carry numbers.
        graded_messages: messages of the layer that carry numbers: its non-zero graded values,
            changes or spike counts; they are not spikes.
        message_bits: payload bits of one message: those of the layer, 32 in floats; 0 for spikes.
        messages: spikes or graded messages, once per target layer.
        messages_out: spikes or graded messages that leave for the host.
        bytes_in: bytes from host to chip: every non-zero value of a port, in the width it is sent.
        bytes_out: bytes from chip to host: one bit per neuron and step, the payload of every neuron
            and step, or a float per read-out value.
        firing_rate: spikes, or graded messages, per neuron and step; ``None`` for layers that send
            neither.
        accesses: of a layer that keeps values from one inference to the next, as over the frames of
            a stream (`ashneuro.cost.streams`); ``None``: nothing lasts. Updates of an ANN are then
            the outputs that it computed.
    """

    name: str
    place: Place
    neurons: int
    parameters: int
    dense_macs: int
    kind: Kind = "ann"
    passes: int = 1
    inputs: int = 0
    graded_inputs: int = 0
    graded_events: int = 0
    dense_acs: int = 0
    effective_macs: int | None = None
    effective_acs: int = 0
    acs_by_kind: Mapping[str, int] = field(default_factory=dict)
    acs_from_ports: Mapping[str, int] = field(default_factory=dict)
    acs_from_counts: int = 0
    macs_from_ports: int = 0
    graded_from_ports: int = 0
    parameter_bytes: int = 0
    zero_parameters: int = 0
    state_bytes: int = 0
    updates: int | None = None
    updates_active: int | None = None
    updates_inactive: int | None = None
    update_multiplies: int = 0
    update_adds: int = 0
    state_variables: int = 0
    spikes: int = 0
    graded_messages: int = 0
    message_bits: int = 0
    messages: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    firing_rate: float | None = None
    accesses: Accesses | None = None

    @property
    def payload_bits(self) -> int:
        """Bits that all graded messages of the layer carry."""
        return self.graded_messages * self.message_bits


@dataclass(frozen=True, repr=False)
class Workload(Plotted):
    """Work of a network's layers, over ``samples`` inferences of ``timesteps`` steps each."""

    samples: int
    timesteps: int
    layers: tuple[LayerWorkload, ...]

    def part(self, place: Place) -> Workload:
        """Return the layers of one place."""
        return Workload(self.samples, self.timesteps, tuple(layer for layer in self.layers if layer.place == place))

    def total(self, field: str) -> int:
        """Return a count summed over layers and samples; ``None`` counts as 0."""
        return sum(getattr(layer, field) or 0 for layer in self.layers)

    def per_inference(self, field: str) -> float:
        """Return a count summed over layers, per sample."""
        return self.total(field) / self.samples

    @property
    def firing_rate(self) -> float | None:
        """Spikes and graded messages per neuron and step; ``None`` where no layer sends either."""
        spiking = [layer for layer in self.layers if layer.kind == "snn" and layer.firing_rate is not None]
        steps = sum(layer.updates or 0 for layer in spiking)
        return sum(layer.spikes + layer.graded_messages for layer in spiking) / steps if steps else None

    @property
    def spikes_per_synapse(self) -> float | None:
        """Synops per connection and inference; ``None`` where no synapse takes spikes.

        A connection is a pair of neurons joined by a weight; a shared weight of a convolution
        counts once per pair. Synapses that take graded values or spike counts do not count.
        """
        spiking = [layer for layer in self.layers if layer.kind == "snn"]
        connections = sum(layer.dense_acs for layer in spiking) / (self.samples * self.timesteps)
        synops = sum(layer.effective_acs - layer.acs_from_counts for layer in spiking)
        return synops / self.samples / connections if connections else None


def count(program: Program, record: SpikeRecord, host_layers: Iterable[HostLayer] = ()) -> Workload:
    """Return the work of the host layers, and of ``program`` in the run that ``record`` holds.

    Synops of a connection are exact::

        Σ_j  spikes_j · |{i : W_ij ≠ 0}|        spikes_j summed over samples and steps

    with ``W`` the matrix of the synapse, so padding and zero weights cost nothing. If the source
    sends values other than 0 and 1, the same sum is ``effective_macs``; of whole numbers, those of
    1 and −1 are additions all the same.

    Args:
        program: the network that was run.
        record: its spikes, with every layer and every input port.
        host_layers: ANN layers that stay on the host, counted for one inference.

    Raises:
        AshneuroError: the record does not belong to the program, or counted nothing.
    """
    _check_record(program, record)
    runs = record.samples
    layers = [_host_layer(layer, runs) for layer in host_layers]
    layers += [_port(program, port, record.inputs[port.name]) for port in program.inputs]
    layers += [_spiking_layer(program, layer, record) for layer in program.layers]
    return Workload(runs, record.timesteps, tuple(layers))


@dataclass(frozen=True, eq=False)
class StepWorkload:
    """Events of one layer per step, summed over samples; each array has shape (T,).

    Args:
        name: layer name.
        spikes: spikes of the layer; graded messages are not spikes.
        effective_acs, effective_macs: as in `LayerWorkload`, in the step in which the source sent.
    """

    name: str
    spikes: NDArray[np.int64]
    effective_acs: NDArray[np.int64]
    effective_macs: NDArray[np.int64]


def count_steps(program: Program, record: SpikeRecord, inputs: Mapping[str, NDArray[Any]]) -> tuple[StepWorkload, ...]:
    """Return the events of every layer per step; their sums over steps are the counts of `count`.

    Args:
        program: the network that was run.
        record: its spikes, with the raster of every layer.
        inputs: values sent into each port, (T, B, *shape).

    Raises:
        AshneuroError: the record does not fit the program, counted nothing, or lacks a raster.
    """
    _check_record(program, record)
    bare = [name for name, own in record.layers.items() if own.raster is None]
    lacking = [port.name for port in program.inputs if port.name not in inputs]
    if bare or lacking:
        raise AshneuroError(
            "the work of this run cannot be counted step by step",
            "; ".join(
                [*(f"{name} has no raster" for name in bare), *(f"input {name} was not given" for name in lacking)]
            ),
            "simulate with rasters='all', and give the inputs",
        )
    sent = {name: np.asarray(inputs[name]) for name in record.inputs} | {
        name: own.raster for name, own in record.layers.items()
    }
    seen = {**record.inputs, **record.layers}
    rows = []
    for layer in program.layers:
        sums = {True: np.zeros(record.timesteps, np.int64), False: np.zeros(record.timesteps, np.int64)}
        for connection in layer.connections:
            if connection.synapse is None:
                continue
            values = sent[connection.source]
            assert values is not None
            source = seen[connection.source]
            events = values != 0
            added = events & (source.binary or ((np.abs(values) == 1) if source.ones is not None else False))
            for adds, part in ((True, added), (False, events & ~added)):
                per_line = part.reshape(*part.shape[:2], -1).sum(axis=1, dtype=np.int64)
                sums[adds] += per_line @ fan_out(connection.synapse).ravel()
        own = record.layers[layer.name].raster
        assert own is not None
        spikes = (own != 0).reshape(record.timesteps, -1).sum(axis=1, dtype=np.int64) * layer.neuron.binary
        rows.append(StepWorkload(layer.name, spikes, sums[True], sums[False]))
    return tuple(rows)


def neurobench(workload: Workload) -> dict[str, Any]:
    """Return the metrics that NeuroBench's harness would give, per sample, under its names.

    ``SynapticOperations``: effective MACs, effective ACs, dense products, padding excluded.
    ``ActivationSparsity``: share of neuron-steps without a spike or message.
    ``ConnectionSparsity``: share of zero parameters. ``Footprint``: bytes of parameters and
    states. ``ParameterCount``. Layers whose activations were not observed count all their dense
    MACs as effective.

    Source: NeuroBench, Yik et al. 2025. docs/cost.md lists the differences from the package.
    """
    layers = [layer for layer in workload.layers if layer.place != "text"]
    macs = sum(layer.dense_macs if layer.effective_macs is None else layer.effective_macs for layer in layers)
    parameters = sum(layer.parameters for layer in layers)
    rate = workload.firing_rate
    return {
        "SynapticOperations": {
            "Effective_MACs": macs / workload.samples,
            "Effective_ACs": sum(layer.effective_acs for layer in layers) / workload.samples,
            "Dense": sum(layer.dense_macs for layer in layers) / workload.samples,
        },
        "ActivationSparsity": None if rate is None else 1 - rate,
        "ConnectionSparsity": sum(layer.zero_parameters for layer in layers) / parameters if parameters else None,
        "Footprint": sum(layer.parameter_bytes + layer.state_bytes for layer in layers),
        "ParameterCount": parameters,
    }


def ann_twin(
    program: Program,
    activity: SpikeRecord | None = None,
    host_layers: Iterable[HostLayer] = (),
    *,
    timesteps: int = 1,
) -> Workload:
    """Return the work of an ANN of the same topology: a pass per sample, or per frame of a stream.

    Args:
        program: the spiking network; its neurons become activation functions.
        activity: non-zero activations of such an ANN, recorded as a run of one step. They give
            ``effective_macs``, the products of a zero-skipping accelerator; ``None`` without.
        host_layers: as in `count`; both sides have the same host part.
        timesteps: of a sample; its frames where the network sends changes (`Program.streams`).
    """
    if activity is not None:
        _check_record(program, activity)
    runs = activity.samples if activity else 1
    passes = timesteps if program.streams else 1
    layers = [_host_layer(layer, runs) for layer in host_layers]
    for layer in program.layers:
        synapses = layer.synapses
        effective = None
        if activity is not None:
            pairs = _observed(program, layer, activity)
            effective = sum(_times_fan_out(synapse, source.counts) for synapse, source in pairs)
        layers.append(
            LayerWorkload(
                name=layer.name,
                place="deployed",
                kind="ann",
                neurons=layer.size,
                parameters=_parameters(layer),
                parameter_bytes=_parameter_bytes(layer, program.precision),
                zero_parameters=_zeros(layer),
                passes=passes,
                inputs=sum(synapse.in_size for synapse in synapses),
                dense_macs=runs * passes * sum(dense_macs(synapse) for synapse in synapses),
                effective_macs=None if effective is None else effective * passes,
                update_adds=1 + _has_bias(layer.neuron),
            )
        )
    return Workload(runs, 1, tuple(layers))


def host_workload(host_layers: Iterable[HostLayer]) -> Workload:
    """Return the work of a network that runs on the host alone, for one inference."""
    return Workload(1, 1, tuple(_host_layer(layer, 1) for layer in host_layers))


def _spiking_layer(program: Program, layer: Layer, record: SpikeRecord) -> LayerWorkload:
    own = record.layers[layer.name]
    steps = record.timesteps * record.samples
    kinds: dict[str, int] = {}
    ports: dict[str, int] = {}
    macs = dense_acs = graded_inputs = graded_events = acs_from_counts = 0
    macs_from_ports = graded_from_ports = 0
    # A spike costs an addition per weight (AC), a graded value a product (MAC).
    for synapse, source in _observed(program, layer, record):
        acs = _times_fan_out(synapse, source.added)
        from_port = any(source is sent for sent in record.inputs.values())
        if source.binary or source.ones is not None:
            kinds[synapse.kind] = kinds.get(synapse.kind, 0) + acs
        if source.binary:
            dense_acs += steps * dense_macs(synapse)
            if from_port:
                ports[synapse.kind] = ports.get(synapse.kind, 0) + acs
        else:
            products = _times_fan_out(synapse, source.counts - source.added)
            macs += products
            acs_from_counts += acs
            if from_port:
                macs_from_ports += products
                graded_from_ports += source.events
            graded_inputs += synapse.in_size
            graded_events += source.events
    synapses = layer.synapses
    updates = layer.size * steps
    spiking, message = layer.neuron.spiking, layer.neuron.message
    payload = _payload_bits(layer.neuron, program.precision)
    is_output = layer.name in program.outputs
    # Two synapses into one layer, such as a conv and its skip, share a message.
    targets = sum(any(c.source == layer.name for c in other.connections) for other in program.layers)
    dynamics = DYNAMICS[layer.neuron.dynamics]
    u_decays, u_kept = _decay(layer.neuron.du, program.precision, offset=1)
    v_decays, v_kept = _decay(layer.neuron.dv, program.precision, offset=0)
    if message.changes:  # u is kept or not; y is among the state of the message
        u_decays = v_decays = v_kept = False
    elif layer.neuron.graded:  # stateless, whatever the decays are
        u_decays = u_kept = v_decays = v_kept = False
    state = (*dynamics.state, *(message.state if spiking else ()))
    # v takes u; of changes, y is u.
    further = message.adds if layer.neuron.changes else 1
    return LayerWorkload(
        name=layer.name,
        place="deployed",
        kind="snn",
        neurons=layer.size,
        parameters=_parameters(layer),
        inputs=sum(synapse.in_size for synapse in synapses),
        graded_inputs=graded_inputs,
        graded_events=graded_events,
        dense_macs=steps * sum(dense_macs(synapse) for synapse in synapses),
        dense_acs=dense_acs,
        effective_macs=macs,
        effective_acs=sum(kinds.values()),
        acs_by_kind=kinds,
        acs_from_ports=ports,
        acs_from_counts=acs_from_counts,
        macs_from_ports=macs_from_ports,
        graded_from_ports=graded_from_ports,
        parameter_bytes=_parameter_bytes(layer, program.precision),
        zero_parameters=_zeros(layer),
        state_bytes=layer.size
        * (u_kept + v_kept + len(state))
        * (INTEGER_BYTES["state"] if program.precision == "integer" else FLOAT_BYTES),
        updates=updates,
        updates_active=own.active_updates,
        updates_inactive=None if own.active_updates is None else updates - own.active_updates,
        update_multiplies=u_decays + v_decays + dynamics.multiplies + (layer.neuron.message.kind == "count"),
        update_adds=u_kept + _has_bias(layer.neuron) + spiking + dynamics.adds + further,
        state_variables=u_kept + v_kept + len(state),
        spikes=own.events if layer.neuron.binary else 0,
        graded_messages=own.events if layer.neuron.payload else 0,
        message_bits=payload,
        messages=own.events * targets if spiking else 0,
        messages_out=own.events if spiking and is_output else 0,
        bytes_out=(
            record.samples * math.ceil(layer.size * record.timesteps * (payload or 1) / 8)
            if spiking
            else updates * FLOAT_BYTES
        )
        * is_output,
        firing_rate=own.events / updates if spiking else None,
    )


def _payload_bits(neuron: Neuron, precision: str) -> int:
    """Return the bits that a message carries: 0 for a spike."""
    if not neuron.payload:
        return 0
    return neuron.message.bits if precision == "integer" else 8 * FLOAT_BYTES


def _port(program: Program, port: InputPort, sent: Activity) -> LayerWorkload:
    targets = sum(any(c.source == port.name for c in layer.connections) for layer in program.layers)
    # Integer values: a sign, and the bits of the largest one.
    width = FLOAT_BYTES if port.limit == 0 else math.ceil((port.limit.bit_length() + 1) / 8)
    return LayerWorkload(
        name=port.name,
        place="deployed",
        kind="input",
        neurons=math.prod(port.shape),
        parameters=0,
        dense_macs=0,
        spikes=sent.events,
        messages=sent.events * targets,
        bytes_in=sent.events * (1 if port.coding == "spikes" else width),
    )


def _host_layer(layer: HostLayer, samples: int) -> LayerWorkload:
    return LayerWorkload(
        name=layer.name,
        place="text" if layer.part == "text" else "host",
        kind="ann",
        neurons=layer.outputs,
        parameters=layer.parameters,
        parameter_bytes=layer.parameters * FLOAT_BYTES,
        inputs=layer.inputs,
        dense_macs=layer.dense_macs * samples,
        update_adds=1,
    )


def record_problems(program: Program, record: SpikeRecord) -> list[str]:
    """Return why the work of a program cannot be counted from a record: it is of other layers, or
    counted nothing, which would read as a perfect network.
    """
    problems = []
    if record.samples < 1 or record.timesteps < 1:
        problems.append(f"it holds {record.samples} samples of {record.timesteps} steps")
    expected = {layer.name: layer.shape for layer in program.layers} | {
        port.name: port.shape for port in program.inputs
    }
    seen = {**record.inputs, **record.layers}
    for name, shape in expected.items():
        if name not in seen:
            problems.append(f"{name} was not recorded")
        elif seen[name].counts.shape != shape:
            problems.append(f"{name} has shape {seen[name].counts.shape} in the record and {shape} in the program")
    if not problems and not any(activity.events for activity in seen.values()):
        problems.append("no input value and no spike was seen")
    return problems


def _check_record(program: Program, record: SpikeRecord) -> None:
    if problems := record_problems(program, record):
        raise AshneuroError(
            "the work of this run cannot be counted",
            "; ".join(problems),
            "simulate the program again and count that run",
        )


def _observed(program: Program, layer: Layer, record: SpikeRecord) -> list[tuple[Synapse, Activity]]:
    """Return each synapse of ``layer`` with the activity of its source."""
    ports = {port.name for port in program.inputs}
    return [
        (
            connection.synapse,
            record.inputs[connection.source] if connection.source in ports else record.layers[connection.source],
        )
        for connection in layer.connections
        if connection.synapse is not None
    ]


def _times_fan_out(synapse: Synapse, counts: NDArray[np.int64]) -> int:
    """Return Σ_j counts_j · fan-out_j, in Python integers, which do not overflow."""
    return int((counts.astype(object).ravel() * fan_out(synapse).astype(object).ravel()).sum())


def _parameters(layer: Layer) -> int:
    weights = sum(connection.synapse.weight.size for connection in layer.connections if connection.synapse is not None)
    return weights + (layer.neuron.bias.size if _has_bias(layer.neuron) else 0)


def _parameter_bytes(layer: Layer, precision: str) -> int:
    if precision != "integer":
        return _parameters(layer) * FLOAT_BYTES
    biases = layer.neuron.bias.size if _has_bias(layer.neuron) else 0
    return (_parameters(layer) - biases) * INTEGER_BYTES["weight"] + biases * INTEGER_BYTES["bias"]


def _zeros(layer: Layer) -> int:
    weights = (connection.synapse.weight for connection in layer.connections if connection.synapse is not None)
    biases = int(np.sum(layer.neuron.bias == 0)) if _has_bias(layer.neuron) else 0
    return sum(int(np.sum(weight == 0)) for weight in weights) + biases


def _has_bias(neuron: Neuron) -> bool:
    return bool(np.any(neuron.bias))


def _decay(decay: NDArray[np.generic], precision: str, offset: int) -> tuple[bool, bool]:
    """Return True if an update multiplies the variable, and True if it is kept between steps."""
    fraction = np.asarray(decay, dtype=float)
    # Loihi stores u's decay minus one: u · (4096 − (du + 1)) >> 12, v · (4096 − dv) >> 12.
    if precision == "integer":
        fraction = (fraction + offset) / DECAY_ONE
    return bool(np.any((fraction > 0) & (fraction < 1))), bool(np.any(fraction < 1))
