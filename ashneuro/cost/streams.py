"""Work per frame of a stream: by changes, afresh, and of an ANN that recomputes all or only a part.

All of them compute the same network of levels (`ashneuro.spiking.message`), so the same values and
the same accuracy. A frame is an inference: what it leaves in memory is written and read again.

========== =========================================================================================
changes    messages are changes of levels; sums stay from frame to frame. An update is that of a
           neuron with a change in its receptive field: no other can change its value.
afresh     graded messages, each frame on its own, every neuron updated once.
dense      an ANN, all products of every frame.
pixels     an ANN that recomputes an output where a *pixel* of its receptive field changed, and
           keeps the others of the frame before. Nothing is compared but pixels.
layers     an ANN that recomputes an output where an *input of its layer* changed, and compares it
           with the output of the frame before: one more read per computed output; what did not
           change is not written, and moves nothing behind it.
========== =========================================================================================

``layers`` is exact and recomputes the least that whole dot products allow; ``changes`` goes further
and adds only the products of what changed. Receptive fields are those of the shapes: zero weights
count. Bits that say what changed are not counted on either side. The first frame of a clip is
computed whole by all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.cost.workload import Accesses, LayerWorkload, Workload, ann_twin, count
from ashneuro.errors import AshneuroError
from ashneuro.exchange import HostLayer
from ashneuro.program.program import Layer, Program, Synapse
from ashneuro.simulation.record import Activity, SpikeRecord

Coding = Literal["changes", "afresh", "dense", "pixels", "layers"]
CODINGS: tuple[Coding, ...] = ("changes", "afresh", "dense", "pixels", "layers")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stream:
    """A run of a program that sends changes of levels, frame by frame.

    Args:
        program: the program; its timesteps are frames.
        sent: changes (T, B, *shape) of every layer, by name.
        moved: (T, B, *shape) of the input: True where the host may have changed it; all of the
            first frame.
    """

    program: Program
    sent: Mapping[str, NDArray[Any]]
    moved: Mask

    def __post_init__(self) -> None:
        lacking = [layer.name for layer in self.program.layers if layer.name not in self.sent]
        others = [layer.name for layer in self.program.layers if not layer.neuron.message.levels]
        if lacking or others or len(self.program.inputs) != 1:
            why = [*(f"{name} has no raster" for name in lacking), *(f"{name} sends no levels" for name in others)]
            raise AshneuroError(
                "the work of this stream cannot be counted",
                "; ".join(why) or f"it has {len(self.program.inputs)} inputs, and one is expected",
                "run a network that sends changes of levels, with the rasters of all layers",
            )

    @property
    def frames(self) -> int:
        """Number of frames, over all clips."""
        return int(self.moved.shape[0] * self.moved.shape[1])

    @property
    def exact(self) -> bool:
        """True if every change is sent."""
        return all(_exact(layer) for layer in self.program.layers)


def stream_work(stream: Stream, coding: Coding) -> Workload:
    """Return the work of all frames; an inference of the workload is a frame.

    Raises:
        AshneuroError: changes are not all sent: another network, whose values depend on the frames
            before, so that no ANN computes them.
    """
    if coding == "changes":
        return _by_changes(stream)
    if not stream.exact:
        raise AshneuroError(
            f"the work of the coding {coding!r}",
            "changes below a threshold are not sent, so the values are those of this stream alone",
            "a threshold of one level",
        )
    if coding == "afresh":
        return _afresh(stream)
    if coding == "dense":
        dense = ann_twin(stream.program)
        return total([replace(dense, layers=tuple(_times(row, stream.frames) for row in dense.layers))], stream.frames)
    return _recomputed(stream, compares=coding == "layers")


def host_work(
    layers: Iterable[HostLayer], chain: Sequence[tuple[str, Synapse]], pixels: Mask, answered: Mask | None = None
) -> Workload:
    """Return the work of the host that recomputes where pixels changed; an inference is a frame.

    Layers of the chain are recomputed as by the coding ``pixels``; other layers once per frame in
    which they could change.

    Args:
        layers: the host's layers for one image; layers for texts are left out.
        chain: its convolutions in order: name, and a synapse of their shape.
        pixels: (T, B, C, H, W), True where a pixel changed.
        answered: (T, B), True where the deployed part sent something; ``None``: in every frame in
            which a pixel changed. Layers named ``readout…`` depend on it.
    """
    frames = pixels.shape[0] * pixels.shape[1]
    any_pixel = pixels.reshape(frames, -1).any(axis=1)
    answers = any_pixel if answered is None else any_pixel | answered.reshape(frames)
    mask, rows, shapes = pixels.reshape(frames, *pixels.shape[2:]), [], dict(chain)
    for layer in layers:
        if layer.part != "image":
            continue
        row = LayerWorkload(
            name=layer.name,
            place="host",
            neurons=layer.outputs,
            parameters=layer.parameters,
            inputs=layer.inputs,
            dense_macs=0,
            update_adds=1,
        )
        if layer.name in shapes:
            synapse = shapes[layer.name]
            mask = reached(synapse, mask)
            rows.append(_row(row, [(synapse, mask)], mask, int(mask.sum()), layer.parameters))
            continue
        times = int((answers if layer.name.startswith("readout") else any_pixel).sum())
        moved = Accesses(times * min(layer.parameters, layer.dense_macs), times * layer.inputs, times * layer.outputs)
        macs = times * layer.dense_macs
        rows.append(replace(row, dense_macs=macs, updates=times * layer.outputs, accesses=moved))
    return Workload(frames, 1, tuple(rows))


def host_mask(chain: Sequence[tuple[str, Synapse]], pixels: Mask) -> Mask:
    """Return a mask (T, B, C, H, W) of what changed ``pixels`` (T, B, …) reach at the end."""
    mask = pixels.reshape(-1, *pixels.shape[2:])
    for _, synapse in chain:
        mask = reached(synapse, mask)
    return mask.reshape(*pixels.shape[:2], *mask.shape[1:])


def reached(synapse: Synapse, mask: Mask) -> Mask:
    """Return the outputs (N, *out_shape) with an element of ``mask`` (N, …) in their field."""
    size = len(mask)
    if synapse.kind == "scale":
        return mask.reshape(size, *synapse.out_shape)
    if synapse.kind == "dense":
        found = mask.reshape(size, -1).any(axis=1)
        return np.broadcast_to(found.reshape(-1, *[1] * len(synapse.out_shape)), (size, *synapse.out_shape))
    if synapse.kind == "sparse":
        flat = mask.reshape(size, -1).astype(np.float32)
        return np.asarray((_pattern(synapse) @ flat.T).T > 0).reshape(size, *synapse.out_shape)
    grouped = _grouped(synapse, mask)
    result = np.zeros((size, synapse.groups, *synapse.out_shape[1:]), np.bool_)
    padded = _padded(synapse, grouped)
    for place in _offsets(synapse):
        result |= padded[(slice(None), slice(None), *place)]
    return np.repeat(result, synapse.out_shape[0] // synapse.groups, axis=1)


def needed(synapse: Synapse, mask: Mask) -> Mask:
    """Return the inputs (N, *in_shape) in the receptive field of an output of ``mask``."""
    size = len(mask)
    if synapse.kind == "scale":
        return mask.reshape(size, *synapse.in_shape)
    if synapse.kind == "dense":
        found = mask.reshape(size, -1).any(axis=1)
        return np.broadcast_to(found.reshape(-1, *[1] * len(synapse.in_shape)), (size, *synapse.in_shape))
    if synapse.kind == "sparse":
        flat = mask.reshape(size, -1).astype(np.float32)
        return np.asarray((_pattern(synapse).T @ flat.T).T > 0).reshape(size, *synapse.in_shape)
    shape = synapse.out_shape
    outputs = mask.reshape(size, synapse.groups, shape[0] // synapse.groups, *shape[1:]).any(axis=2)
    padded = _padded(synapse, np.zeros((size, synapse.groups, *synapse.in_shape[1:]), np.bool_))
    for place in _offsets(synapse):
        padded[(slice(None), slice(None), *place)] |= outputs
    inner = tuple(
        slice(before, before + size) for (before, _), size in zip(synapse.padding, synapse.in_shape[1:], strict=True)
    )
    return np.repeat(padded[(slice(None), slice(None), *inner)], synapse.in_shape[0] // synapse.groups, axis=1)


def products(synapse: Synapse) -> NDArray[np.int64]:
    """Return the products of each output (*out_shape): zero weights included, padding excluded."""
    if synapse.kind == "scale":
        return np.ones(synapse.out_shape, np.int64)
    if synapse.kind == "dense":
        return np.full(synapse.out_shape, synapse.in_size, np.int64)
    if synapse.kind == "sparse":
        return np.asarray(_pattern(synapse).sum(axis=1), np.int64).reshape(synapse.out_shape)
    inside = _padded(synapse, np.ones((1, 1, *synapse.in_shape[1:]), np.int64))
    taps = np.zeros(synapse.out_shape[1:], np.int64)
    for place in _offsets(synapse):
        taps += inside[0, 0][place]
    per_group = synapse.in_shape[0] // synapse.groups
    return np.broadcast_to(taps * per_group, synapse.out_shape)


def total(parts: Sequence[Workload], samples: int | None = None) -> Workload:
    """Return the sum of workloads of one network over different frames.

    Args:
        samples: frames in all; default: those of the parts.
    """
    first = parts[0]
    rows = [_sum([part.layers[index] for part in parts]) for index in range(len(first.layers))]
    return Workload(sum(part.samples for part in parts) if samples is None else samples, 1, tuple(rows))


# Fields of a row that are totals over the inferences.
_TOTALS = (
    "graded_events",
    "dense_macs",
    "dense_acs",
    "effective_acs",
    "acs_from_counts",
    "macs_from_ports",
    "graded_from_ports",
    "spikes",
    "graded_messages",
    "messages",
    "messages_out",
    "bytes_in",
    "bytes_out",
)
_OPTIONAL = ("effective_macs", "updates", "updates_active", "updates_inactive")


def _sum(rows: Sequence[LayerWorkload]) -> LayerWorkload:
    found: dict[str, Any] = {name: sum(getattr(row, name) for row in rows) for name in _TOTALS}
    for name in _OPTIONAL:
        values = [getattr(row, name) for row in rows]
        found[name] = None if None in values else sum(values)
    for name in ("acs_by_kind", "acs_from_ports"):
        keys = dict.fromkeys(key for row in rows for key in getattr(row, name))
        found[name] = {key: sum(getattr(row, name).get(key, 0) for row in rows) for key in keys}
    accesses = [row.accesses for row in rows]
    if None not in accesses:
        fields = ("weights", "inputs", "outputs", "states")
        found["accesses"] = Accesses(*(sum(getattr(one, name) for one in accesses) for name in fields))
    return replace(rows[0], **found)


def _times(row: LayerWorkload, frames: int) -> LayerWorkload:
    return replace(row, dense_macs=row.dense_macs * frames)


def _by_changes(stream: Stream) -> Workload:
    """Return the work by changes: that of the run, with updates where a change arrived."""
    work = count(stream.program, _record(stream, stream.sent))
    touched = _touched(stream)
    rows = []
    for row in work.layers:
        if row.kind == "input":
            rows.append(_sent_where_moved(row, stream))
            continue
        layer = stream.program.layer(row.name)
        updates, exact = int(touched[row.name].sum()), _exact(layer)
        kept = 1 + (not exact)  # y, and r where it is not always 0; u is the accumulator
        rows.append(
            replace(
                row,
                updates=updates,
                updates_active=updates,
                updates_inactive=0,
                update_adds=bool(np.any(layer.neuron.bias)) + 4 + 2 * (not exact),
                state_variables=kept,
                accesses=Accesses(0, 0, 0, 2 * updates * (kept + _has_synapse(layer))),
            )
        )
    return replace(work, layers=tuple(rows))


def _afresh(stream: Stream) -> Workload:
    """Return the work of graded messages: the sums of changes, a bit shorter, without state."""
    values = {name: np.cumsum(changes, axis=0) for name, changes in stream.sent.items()}
    values = {name: np.where(np.abs(one) > 1e-9 * np.abs(one).max(initial=0), one, 0) for name, one in values.items()}
    work = count(stream.program, _record(stream, values))
    rows = []
    for row in work.layers:
        if row.kind == "input":
            rows.append(row)
            continue
        biased = bool(np.any(stream.program.layer(row.name).neuron.bias))
        bits = row.message_bits - 1
        bytes_out = row.bytes_out and stream.frames * math.ceil(row.neurons * bits / 8)
        rows.append(
            replace(
                row,
                update_adds=biased + 3,
                state_variables=0,
                state_bytes=0,
                message_bits=bits,
                bytes_out=bytes_out,
            )
        )
    return replace(work, layers=tuple(rows))


def _recomputed(stream: Stream, *, compares: bool) -> Workload:
    """Return the work of an ANN that keeps outputs of the frame before."""
    program, frames = stream.program, stream.frames
    masks: dict[str, Mask] = {program.inputs[0].name: stream.moved.reshape(frames, *stream.moved.shape[2:])}
    first = np.zeros(stream.moved.shape[:2], np.bool_)
    first[0] = True
    rows = []
    for row, layer in zip(ann_twin(program).layers, program.layers, strict=True):
        mask = _arriving(layer, masks)
        synapses = layer.synapses
        changed = mask
        if compares:
            changed = (stream.sent[layer.name] != 0).reshape(mask.shape) | _spread(first.reshape(-1), mask)
        rows.append(
            _row(
                replace(row, update_adds=row.update_adds + compares),
                [(synapse, mask) for synapse in synapses],
                mask,
                int(changed.sum()) + compares * int(mask.sum()),
                row.parameters,
            )
        )
        masks[layer.name] = changed
    return Workload(frames, 1, tuple(rows))


def _row(
    row: LayerWorkload, computed: Sequence[tuple[Synapse, Mask]], mask: Mask, moved: int, parameters: int
) -> LayerWorkload:
    """Return the row of an ANN layer that computes the outputs of ``mask`` (N, *shape).

    Args:
        computed: its synapses, each with the outputs that it computes.
        moved: outputs written, and read for a comparison.
    """
    per_frame = np.zeros(len(mask), np.int64)
    inputs = 0
    for synapse, outputs in computed:
        per_frame += outputs.reshape(len(mask), -1) @ products(synapse).ravel()
        inputs += int(needed(synapse, outputs).sum())
    return replace(
        row,
        dense_macs=int(per_frame.sum()),
        updates=int(mask.sum()),
        accesses=Accesses(int(np.minimum(per_frame, parameters).sum()), inputs, moved),
    )


def _touched(stream: Stream) -> dict[str, Mask]:
    """Return the neurons (N, *shape) that a change reached, by layer; all in first frames."""
    program, frames = stream.program, stream.frames
    arriving: dict[str, Mask] = {
        name: (changes != 0).reshape(frames, *changes.shape[2:]) for name, changes in stream.sent.items()
    }
    arriving[program.inputs[0].name] = stream.moved.reshape(frames, *stream.moved.shape[2:])
    first = np.zeros(stream.moved.shape[:2], np.bool_)
    first[0] = True
    found = {}
    for layer in program.layers:
        mask = _arriving(layer, arriving)
        found[layer.name] = mask | _spread(first.reshape(-1), mask)
    return found


def _arriving(layer: Layer, masks: Mapping[str, Mask]) -> Mask:
    """Return the neurons (N, *shape) with an element of the sources' masks in their field."""
    frames = len(next(iter(masks.values())))
    found = np.zeros((frames, *layer.shape), np.bool_)
    for connection in layer.connections:
        mask = masks[connection.source]
        mask = mask if connection.synapse is None else reached(connection.synapse, mask)
        found |= mask.reshape(found.shape)
    return found


def _sent_where_moved(row: LayerWorkload, stream: Stream) -> LayerWorkload:
    """Return the input row of a host that sends what may have changed."""
    moved = int(stream.moved.sum())
    width = row.bytes_in // row.spikes if row.spikes else 0
    targets = row.messages // row.spikes if row.spikes else 0
    return replace(row, spikes=moved, messages=moved * targets, bytes_in=moved * width)


def _record(stream: Stream, sent: Mapping[str, NDArray[Any]]) -> SpikeRecord:
    """Return a record in which every frame is a sample of one step."""
    (port,) = stream.program.inputs
    entered = Activity.of_inputs(np.ones((1, stream.frames, *port.shape)))
    layers = {
        layer.name: Activity.of_messages(sent[layer.name].reshape(1, stream.frames, *layer.shape), None, False, False)
        for layer in stream.program.layers
    }
    return SpikeRecord("loihi", stream.program.precision, 1, stream.frames, layers, {port.name: entered})


def _exact(layer: Layer) -> bool:
    """Return True if a layer sends every change of its level."""
    least = float(np.max(layer.neuron.v_threshold))
    message = layer.neuron.message
    return least <= (1.0 if message.shift or message.limit == message.largest else message.step) * (1 + 1e-9)


def _has_synapse(layer: Layer) -> bool:
    return any(connection.synapse is not None for connection in layer.connections)


def _spread(rows: Mask, like: Mask) -> Mask:
    """Return ``rows`` (N,) as a mask of the shape of ``like`` (N, …)."""
    return np.broadcast_to(rows.reshape(-1, *[1] * (like.ndim - 1)), like.shape)


def _grouped(synapse: Synapse, mask: Mask) -> Mask:
    """Return ``mask`` (N, …) as (N, groups, H, W): any channel of the group."""
    shape = synapse.in_shape
    channels = mask.reshape(len(mask), synapse.groups, shape[0] // synapse.groups, *shape[1:])
    return np.asarray(channels.any(axis=2), np.bool_)


def _padded(synapse: Synapse, values: NDArray[Any]) -> NDArray[Any]:
    return np.pad(values, ((0, 0), (0, 0), *synapse.padding))


def _offsets(synapse: Synapse) -> Iterable[tuple[slice, ...]]:
    """Yield, for each place in the kernel, the slices of the padded input that it meets."""
    kernel = synapse.weight.shape[2:]
    for place in np.ndindex(*kernel):
        yield tuple(
            slice(index * dilation, index * dilation + stride * (size - 1) + 1, stride)
            for index, dilation, stride, size in zip(
                place, synapse.dilation, synapse.stride, synapse.out_shape[1:], strict=True
            )
        )


def _pattern(synapse: Synapse) -> Any:
    from scipy.sparse import csr_matrix

    assert synapse.indices is not None and synapse.indptr is not None
    ones = np.ones(len(synapse.indices), np.float32)
    return csr_matrix((ones, synapse.indices, synapse.indptr), shape=(synapse.out_size, synapse.in_size))
