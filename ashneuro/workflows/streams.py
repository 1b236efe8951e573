"""Streams of pictures: a run's abstract encoder by changes, its accuracy and its work per frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import DEFAULT_NODE, HardwareProfile, Range, load_profile
from ashneuro.cost.streams import CODINGS, Coding, Stream, host_mask, host_work, stream_work, total
from ashneuro.cost.workload import LayerWorkload, Workload, host_workload
from ashneuro.errors import AshneuroError, ConfigError, DataError, need
from ashneuro.exchange import Joules, StreamCoding, StreamEvaluation, StreamRate
from ashneuro.files import read_json, reason_of, write_text
from ashneuro.program.program import Program, Synapse
from ashneuro.training.provenance import record_export
from ashneuro.workflows.calibration import calibration_pictures
from ashneuro.workflows.export import Exported, export
from ashneuro.workflows.lava import LOCAL_LAVA, LavaSettings
from ashneuro.workflows.networks import Network
from ashneuro.workflows.progress import Progress, silent
from ashneuro.workflows.runs import open_run
from ashneuro.workflows.stream_clips import FRAMES, OWN, of_one_length, stream_clips, subsampled

if TYPE_CHECKING:
    import nir
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.data.clips import Clip
    from ashneuro.model.network import AshNet
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.training.checkpoint import Run
    from ashneuro.workflows.evaluate import Where

RATES = (8.0, 4.0, 2.0)


@dataclass(frozen=True)
class StreamSettings:
    """Coding of a stream.

    Args:
        bits: payload bits of a level; ``None``: those of a quantised ReLU, else of
            ``model.abstract.message_bits``.
        threshold: least change that is sent, in levels; 1 sends every change.
    """

    bits: int | None = None
    threshold: float = 1.0


EXACT = StreamSettings()


def stream_model(run: Run, settings: StreamSettings = EXACT) -> AshNet:
    """Return a run's model with an abstract encoder that sends levels, chosen on validation images.

    Raises:
        ConfigError: the encoder's neurons have no levels, or the settings are out of range.
    """
    currents = _calibration_currents(run)
    levels = need("ashneuro.model.levels", extra="train", purpose="reading a run")
    found: AshNet = levels.level_network(run.model, currents, settings.bits, settings.threshold)
    return found


def stream_network(run: str | Path | Run, settings: StreamSettings = EXACT) -> Network:
    """Return the network that a run's abstract encoder is on a stream: it sends changes of levels.

    Raises:
        ConfigError: as `stream_model`.
    """
    opened = open_run(run)
    return _network(opened, stream_model(opened, settings))


def export_stream(
    run: str | Path | Run,
    source: str | Path = OWN,
    out: str | Path | None = None,
    *,
    settings: StreamSettings = EXACT,
    samples: int = 4,
    frames: int = 8,
    lava: LavaSettings | None = LOCAL_LAVA,
    progress: Progress = silent,
) -> Exported:
    """Write and prove the bundle of a run's encoder by changes.

    Args:
        source: clips to prove on, as in `evaluate_stream`; of the run's own, validation pictures.
        out: folder; default: RUN/stream.
        samples, frames: number of clips, and of their first frames, in the proof.

    Raises:
        ConfigError: as `stream_model`.
        ProofError: the proof failed; nothing is written.
    """
    opened = open_run(run)
    clips = stream_clips(opened, source, samples, "validation")
    network = stream_network(opened, settings)
    length = min(frames, *(len(clip.frames) for clip in clips))
    inputs = _currents(opened.model, [replace(clip, frames=clip.frames[:length]) for clip in clips]).currents
    folder = Path(out) if out is not None else opened.path / "stream"
    exported = export(network, folder, inputs={"input": inputs}, samples=samples, lava=lava, progress=progress)
    record_export(opened.path, exported.bundle.folder, exported.bundle.digest)
    return exported


def evaluate_stream(
    run: str | Path | Run,
    source: str | Path,
    *,
    frames_per_s: Sequence[float] = RATES,
    settings: StreamSettings = EXACT,
    abstract_on: Where = "loihi",
    samples: int | None = None,
    node: str | Path | HardwareProfile = DEFAULT_NODE,
    device: str = "cpu",
    lava: LavaSettings = LOCAL_LAVA,
    progress: Progress = silent,
) -> StreamEvaluation:
    """Return accuracy, messages and energy per frame of a run, and write them to its folder.

    A frame is a query among the texts of all clips; state stays between the frames of a clip. The
    file is RUN/stream-NAME.json, with the bits and the threshold if they are not the default.

    Args:
        source: clips, see `ashneuro.data.streams.load_clips`; ``"own"``: the run's test pictures,
            each of which moves by a pixel from frame to frame.
        frames_per_s: rates; frames are left out to come near each.
        abstract_on: ``"torch"``: floats; ``"loihi"``: the bit-exact integers; ``"lava"``: Lava.
        samples: only this many clips; ``None``: all.
        node: profile of a CMOS node.

    Raises:
        ConfigError: the encoder has no levels, or there is no such rate.
        DataError: clips cannot be read.
        ProfileError: the node cannot be priced.
    """
    opened = open_run(run, device)
    profile = node if isinstance(node, HardwareProfile) else load_profile(str(node))
    clips = stream_clips(opened, source, samples, "test")
    model = stream_model(opened, settings)
    network = _network(opened, model)
    program = network.program if abstract_on == "torch" else integer_program(network, opened)
    encoder = _Encoder(program, abstract_on, device, lava)
    rows = []
    for number, rate in enumerate(frames_per_s):
        progress("coding streams", number, len(frames_per_s))
        rows.append(_at_rate(opened, model, encoder, subsampled(clips, rate), profile))
    entry = model.abstract and model.abstract.entry
    result = StreamEvaluation(
        network=opened.path.name,
        source=str(source) if isinstance(source, str) else source.name,
        clips=len(clips),
        bits=int(getattr(entry, "bits", 0)),
        threshold=settings.threshold,
        spikes_from=abstract_on,
        profile=profile.name,
        rates=tuple(rows),
        weights_sha256=opened.weights_sha256,
    )
    file = stream_file(opened.path, result.source, settings, abstract_on)
    text = dumps(result.to_json(), indent=1, ensure_ascii=False) + "\n"
    write_text(file, text)
    return result


def stream_file(run: Path, source: str, settings: StreamSettings, abstract_on: str = "loihi") -> Path:
    """Return the file of an evaluation; its name omits the defaults."""
    words = ["stream", Path(source).stem]
    words += [f"{settings.bits}bits"] if settings.bits is not None else []
    words += [f"from{settings.threshold:g}"] if settings.threshold != 1 else []
    words += [abstract_on] if abstract_on != "loihi" else []
    return run / f"{'-'.join(words)}.json"


def stream_files(run: Run) -> list[Path]:
    """Return the files of evaluations of streams in a run's folder."""
    return sorted(run.path.glob("stream-*.json"))


def current_stream(file: Path, run: Run) -> tuple[StreamEvaluation, ...]:
    """Return the evaluation in a file; nothing if it was made with other weights than the present.

    Raises:
        DataError: it cannot be read.
    """
    try:
        found = StreamEvaluation.from_json(read_json(file))
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"cannot read {file}", reason_of(error), "run `ashneuro evaluate --stream` again") from error
    return (found,) if found.weights_sha256 in ("", run.weights_sha256) else ()


def integer_program(network: Network, run: Run) -> Program:
    """Return the integer program of a network of levels, with room for calibration images."""
    from ashneuro.program.quantise import quantise
    from ashneuro.simulation.calibrate import ROOM

    peak = ROOM * float(_calibration_currents(run).abs().max())
    return quantise(network.program, input_peak={port.name: peak for port in network.program.inputs}).program


def code_stream(
    program: Program,
    inputs: Mapping[str, NDArray[np.generic]],
    record: SpikeRecord,
    node: str | Path | HardwareProfile = DEFAULT_NODE,
) -> tuple[StreamCoding, ...]:
    """Return the work per frame of every coding, without a host, of a run of ``program``.

    Args:
        inputs: (T, B, *shape) of its one input, by name; what stays was not sent again.
        record: the run, with the rasters of all layers.

    Raises:
        AshneuroError: the program does not send changes of levels.
    """
    import numpy as np

    profile = node if isinstance(node, HardwareProfile) else load_profile(str(node))
    values = next(np.asarray(one) for one in inputs.values())
    moved = np.ones(values.shape, np.bool_)
    moved[1:] = values[1:] != values[:-1]
    stream = Stream(program, _sent(program, record), moved)
    works = {coding: stream_work(stream, coding) for coding in _codings(stream)}
    return tuple(_priced(coding, work, program, profile) for coding, work in works.items())


@dataclass(frozen=True, eq=False)
class _Frames:
    """Results of the host for clips of one length.

    Args:
        currents: (T, B, *in_shape) float32.
        concrete: means of C over positions, (T, B, D).
        pixels: (T, B, 3, S, S), True where a pixel changed; all of the first frame.
    """

    currents: NDArray[np.float32]
    concrete: NDArray[np.float32]
    pixels: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Encoder:
    program: Program
    on: Where
    device: str
    lava: LavaSettings

    def __call__(self, currents: NDArray[np.float32]) -> SpikeRecord:
        """Return the record of a stream, with all rasters."""
        from ashneuro.simulation.run import simulate

        precision = self.program.precision
        return simulate(
            self.program,
            currents,
            on=self.on,
            precision=precision,
            rasters="all",
            device=self.device,
            worker=self.lava.open,
        )


def _at_rate(run: Run, model: AshNet, encoder: _Encoder, clips: Sequence[Clip], profile: HardwareProfile) -> StreamRate:
    import numpy as np

    chain, layers = _host_chain(model), _host_layers(model)
    program, changed = encoder.program, []
    works: dict[Coding, list[Workload]] = {}
    hosts: list[Workload] = []
    embeddings: list[NDArray[np.float32]] = []
    concepts: list[str] = []
    alone: list[NDArray[np.float32]] = []
    for part in of_one_length(clips):
        host = _currents(model, part)
        record = encoder(host.currents)
        stream = Stream(program, _sent(program, record), host_mask(chain, host.pixels) if chain else _all(host))
        for coding in _codings(stream):
            works.setdefault(coding, []).append(stream_work(stream, coding))
        sent = stream.sent[program.outputs[0]]
        hosts.append(host_work(layers, chain, host.pixels, (sent != 0).reshape(*sent.shape[:2], -1).any(axis=2)))
        changed.append(host.pixels[1:].any(axis=2).reshape(-1))
        embeddings.append(_embeddings(model, host.concrete, sent.cumsum(axis=0)))
        alone.append(_own_embeddings(run.model, part))
        concepts += [clip.concept for _ in range(len(host.currents)) for clip in part]
    texts, owners = _texts(run, clips)
    relevant = np.array(concepts)[:, None] == np.array(owners)[None, :]
    scoring = need("ashneuro.training.evaluate", extra="train", purpose="evaluating a run")
    found, own = (scoring.metrics(np.concatenate(one) @ texts.T, relevant) for one in (embeddings, alone))
    host_j, skipping_j = _host_joules(model, total(hosts), profile)
    codings = []
    for coding, parts in works.items():
        row = _priced(coding, total(parts), program, profile)
        codings.append(row)
    moved = np.concatenate(changed) if changed else np.zeros(0)
    return StreamRate(
        frames_per_s=float(np.mean([clip.frames_per_s for clip in clips])),
        frames=len(concepts),
        changed_pixels=float(moved.mean()) if moved.size else 0.0,
        metrics=found,
        own_metrics=own,
        host_macs=float(sum(layer.dense_macs for layer in layers if layer.part == "image")),
        host_j=host_j,
        host_skipping_macs=total(hosts).per_inference("dense_macs"),
        host_skipping_j=skipping_j,
        codings=tuple(codings),
    )


def _codings(stream: Stream) -> Sequence[Coding]:
    return CODINGS if stream.exact else ("changes",)


def _sent(program: Program, record: SpikeRecord) -> dict[str, Any]:
    sent = {layer.name: record.layers[layer.name].raster for layer in program.layers}
    missing = [name for name, raster in sent.items() if raster is None]
    if missing:
        raise AshneuroError(
            "the work of this stream cannot be counted",
            f"{', '.join(missing)} has no raster",
            "simulate with rasters='all'",
        )
    return sent


def _priced(coding: Coding, work: Workload, program: Program, profile: HardwareProfile) -> StreamCoding:
    """Return the work per frame of a coding, with its energy on a node."""
    message = program.layers[0].neuron.message
    # A change has one bit more than a level.
    bits = min(8, message.bits - (coding != "changes"))
    deployed = estimate(work.part("deployed"), profile, f"int{bits}").dynamic_j
    spiking = coding in ("changes", "afresh")
    rows = [row for row in work.layers if row.kind != "input"]
    return StreamCoding(
        coding=coding,
        messages=sum(row.graded_messages for row in rows) / work.samples if spiking else None,
        operations=sum((row.effective_macs or 0) if spiking else row.dense_macs for row in rows) / work.samples,
        updates=sum(_updates(row, work.samples) for row in rows) / work.samples,
        bits=bits,
        energy=_joules(deployed),
    )


def _updates(row: LayerWorkload, samples: int) -> int:
    return int(row.updates if row.updates is not None else row.neurons * samples)


def _joules(energy: Range | None) -> Joules | None:
    if energy is None or energy.typical is None:
        return None
    return Joules(energy.low, energy.typical, energy.high)


def _host_joules(model: AshNet, skipping: Workload, profile: HardwareProfile) -> tuple[Joules | None, Joules | None]:
    """Return the host's energy per frame: all of it, and where it skips what did not change."""
    dense = host_workload(_host_layers(model))
    found = (estimate(work.part("host"), profile, "int8").dynamic_j for work in (dense, skipping))
    whole, part = (_joules(one) for one in found)
    return whole, part


def _host_layers(model: AshNet) -> Any:
    return need("ashneuro.model.deploy", extra="train", purpose="reading a run").host_layers(model)


def _host_chain(model: AshNet) -> list[tuple[str, Synapse]]:
    """Return the host's convolutions from pixels to the current; none of a pretrained backbone."""
    import numpy as np
    from torch import nn

    from ashneuro.program.synapse import conv_shape

    trunk = model.concrete.trunk
    if not isinstance(trunk, nn.Sequential) or model.abstract is None:
        return []
    convolutions = [layer for layer in trunk if isinstance(layer, nn.Conv2d)]
    names = [f"concrete.conv{number}" for number in range(1, len(convolutions) + 1)]
    shape: tuple[int, ...] = (3, model.image_size, model.image_size)
    chain = []
    pairs = [
        *zip(names, convolutions, strict=True),
        ("concrete.project", model.concrete.project),
        ("w_in", model.abstract.w_in),
    ]
    for name, conv in pairs:
        stride, padding, dilation = (
            tuple(int(one) for one in value) for value in (conv.stride, conv.padding, conv.dilation)
        )
        pads = tuple((size, size) for size in padding)
        out = conv_shape(shape, conv.kernel_size, conv.out_channels, stride, pads, dilation)
        weight = np.ones((conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size), np.int8)
        chain.append((name, Synapse("conv", shape, out, weight, stride, pads, dilation, conv.groups)))
        shape = out
    return chain


def _all(host: _Frames) -> NDArray[np.bool_]:
    """Return a mask of all currents of the frames in which a pixel changed."""
    import numpy as np

    any_pixel = host.pixels.reshape(*host.pixels.shape[:2], -1).any(axis=2)
    return np.broadcast_to(any_pixel.reshape(*any_pixel.shape, *[1] * (host.currents.ndim - 2)), host.currents.shape)


def _currents(model: AshNet, clips: Sequence[Clip]) -> _Frames:
    """Return the results of the host for clips of one length."""
    import numpy as np
    import torch

    from ashneuro.data.batches import normalise

    frames = np.stack([clip.frames for clip in clips], axis=1)  # (T, B, S, S, 3)
    steps, count = frames.shape[:2]
    pictures = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
    pixels = np.ones(tuple(pictures.shape), np.bool_)
    pixels[1:] = np.diff(pictures.numpy().astype(np.int16), axis=0) != 0
    pixels[:] = pixels.any(axis=2, keepdims=True)
    model.eval()
    currents, means = [], []
    with torch.no_grad():
        for part in torch.split(pictures.flatten(0, 1), FRAMES):
            concrete = model.concrete(normalise(part.contiguous()).to(model.log_scale.device))
            assert model.abstract is not None
            currents.append(model.abstract.current(concrete).float().cpu().numpy())
            means.append(concrete.mean((2, 3)).float().cpu().numpy())
    first, second = np.concatenate(currents), np.concatenate(means)
    # What the host does not recompute is what it sent before: convolutions of other batches may
    # round otherwise.
    current = first.reshape(steps, count, *first.shape[1:])
    chain = _host_chain(model)
    if chain:
        moved = host_mask(chain, pixels)
        for step in range(1, steps):
            current[step] = np.where(moved[step], current[step], current[step - 1])
    return _Frames(current, second.reshape(steps, count, -1), pixels)


def _embeddings(model: AshNet, concrete: NDArray[np.float32], levels: NDArray[Any]) -> NDArray[np.float32]:
    """Return embeddings (T·B, E) of means of C (T, B, D) and levels S (T, B, K)."""
    import torch

    with torch.no_grad():
        device = model.log_scale.device
        mean = torch.from_numpy(concrete).flatten(0, 1)[..., None, None].to(device)
        units = torch.from_numpy(levels.astype("float32")).flatten(0, 1)[None].to(device)
        abstract, _ = model.read_out(units)
        found: NDArray[np.float32] = model.fuse(mean, abstract).cpu().numpy()
    return found


def _own_embeddings(model: AshNet, clips: Sequence[Clip]) -> NDArray[np.float32]:
    """Return embeddings (T·B, E) of the frames by the model as it was trained."""
    import numpy as np
    import torch

    from ashneuro.data.batches import normalise

    frames = np.stack([clip.frames for clip in clips], axis=1)
    pictures = torch.from_numpy(frames.reshape(-1, *frames.shape[2:])).permute(0, 3, 1, 2).contiguous()
    model.eval()
    with torch.no_grad():
        device = model.log_scale.device
        parts = [model.embed_images(normalise(part).to(device)).cpu() for part in torch.split(pictures, FRAMES)]
    return np.asarray(torch.cat(parts).numpy())


def _texts(run: Run, clips: Sequence[Clip]) -> tuple[NDArray[np.float32], list[str]]:
    """Return the embeddings of the clips' texts, and the concept of each."""
    import torch

    from ashneuro.data.batches import texts_of

    owned = [(text, clip.concept) for clip in clips for text in texts_of(clip, run.config.data.captions)]
    tokens = torch.from_numpy(run.vocabulary.encode([text for text, _ in owned], run.config.data.max_words))
    with torch.no_grad():
        found = run.model.eval().embed_texts(tokens.to(run.model.log_scale.device)).cpu().numpy()
    return found, [concept for _, concept in owned]


def _calibration_currents(run: Run) -> Any:
    import torch

    from ashneuro.data.batches import load_images, normalise

    images = normalise(load_images(calibration_pictures(run), run.config.data.image_size))
    if run.model.abstract is None:
        raise ConfigError(
            "model.abstract.kind = 'none'",
            "a run without an abstract encoder has nothing to code by changes",
            "train an encoder",
        )
    with torch.no_grad():
        return run.model.eval().currents(images.to(run.model.log_scale.device))


def _network(run: Run, model: AshNet) -> Network:
    from ashneuro.spiking.contract import read_contract

    deploy = need("ashneuro.model.deploy", extra="train", purpose="reading a run")
    graph: nir.NIRGraph = deploy.deployed_graph(model)
    return Network(f"{run.path.name}-stream", None, graph, read_contract(graph.metadata))
