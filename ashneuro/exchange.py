"""Values that one room makes and another reads, where the two may not import each other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from ashneuro.errors import ConfigError, DataError
from ashneuro.files import conform, parse_json, read_text, reason_of
from ashneuro.schemas import EPOCH, TOTALS, Format, remedy_of

METRICS = "metrics.jsonl"
"""File of a run's folder that holds its `TrainingMetrics`."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count`` of some work, counted from 1, as a job array divides it."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that ``"i/n"`` names.

        Raises:
            ConfigError: it names none.
        """
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"--shard {text}", "it is i/n, part i of n, counted from 1", "--shard 1/4")
        return cls(int(found[1]), int(found[2]))

    def rows(self, total: int) -> slice:
        """Return this part of ``total`` rows: neighbours, and as many in each part as possible."""
        return slice((self.index - 1) * total // self.count, self.index * total // self.count)

    def turn(self, items: Sequence[Item]) -> list[Item]:
        """Return every ``count``-th item."""
        return list(items[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class HostLayer:
    """One ANN layer that stays on the host, counted for one inference.

    Args:
        name: name of the layer, e.g. ``"concrete.conv1"``.
        part: ``"image"``: once per image; ``"text"``: once per text.
        dense_macs: multiply–accumulates.
        parameters: weights and biases.
        inputs, outputs: numbers of elements read and written.
    """

    name: str
    dense_macs: int
    parameters: int
    outputs: int
    inputs: int = 0
    part: Literal["image", "text"] = "image"


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one training epoch, one line of ``metrics.jsonl``.

    Losses and firing rates are means over the batches of the epoch.

    Args:
        epoch: number of the epoch over all stages, from 1.
        loss: sum of the weighted objectives.
        losses: each weighted objective by name, e.g. ``"itc"``.
        stage: name of the stage; empty in a run without a schedule.
        firing_rate: mean over the spiking layers; ``None`` without spiking layers.
        firing_rates: spikes per neuron and timestep, by layer.
        learning_rate: rate of the last step.
        seconds: wall time of the epoch without validation.
        pairs_per_s: training throughput in pairs (questions) per second.
        waited_share: share of ``seconds`` spent waiting for data.
        validation: metrics on the validation part by name, e.g. ``"R@1_image_to_text"``,
            ``"vqa_accuracy"``.
    """

    epoch: int
    loss: float
    losses: Mapping[str, float] = field(default_factory=dict)
    stage: str = ""
    firing_rate: float | None = None
    firing_rates: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float | None = None
    seconds: float | None = None
    pairs_per_s: float | None = None
    waited_share: float | None = None
    validation: Mapping[str, float] = field(default_factory=dict)

    @property
    def recall_at_1(self) -> dict[str, float]:
        """Validation R@1 by direction: ``"image_to_text"``, ``"text_to_image"``."""
        return _with_prefix(self.validation, "R@1_")

    def to_json(self) -> dict[str, Any]:
        """Return the line's values by key, in the order of the file, without absent metrics."""
        values: dict[str, Any] = {
            "epoch": self.epoch,
            "stage": self.stage or None,
            "loss": self.loss,
            **{f"loss_{name}": value for name, value in self.losses.items()},
            "firing_rate": self.firing_rate,
            **{f"firing_rate.{name}": value for name, value in self.firing_rates.items()},
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
            "pairs_per_s": self.pairs_per_s,
            "waited_share": self.waited_share,
            **{f"validation_{name}": value for name, value in self.validation.items()},
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> EpochMetrics:
        """Return the metrics of a parsed line.

        Raises:
            KeyError: ``epoch`` or ``loss`` is missing.
        """
        single = ("stage", "firing_rate", "learning_rate", "seconds", "pairs_per_s", "waited_share")
        return cls(
            epoch=row["epoch"],
            loss=row["loss"],
            losses=_with_prefix(row, "loss_"),
            firing_rates=_with_prefix(row, "firing_rate."),
            validation=_with_prefix(row, "validation_"),
            **{key: row[key] for key in single if key in row},
        )


@dataclass(frozen=True)
class TrainingTotals:
    """Totals of a finished training run, the last line of ``metrics.jsonl``.

    Args:
        epochs: number of epochs over all stages.
        seconds: sum over the epochs.
        kernels: back end that computed the neurons; empty without spiking layers.
    """

    epochs: int
    seconds: float
    kernels: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the line's keys and values in the order of the file."""
        values = {"final": True, "epochs": self.epochs, "seconds": self.seconds}
        return values | ({"kernels": self.kernels} if self.kernels else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> TrainingTotals:
        """Return the totals of a parsed line.

        Raises:
            KeyError: ``epochs`` or ``seconds`` is missing.
        """
        return cls(row["epochs"], row["seconds"], row.get("kernels", ""))


@dataclass(frozen=True)
class TrainingMetrics:
    """All metrics of a run: content of ``metrics.jsonl``.

    Args:
        epochs: one entry per finished epoch.
        totals: ``None`` until training has ended.
    """

    epochs: tuple[EpochMetrics, ...] = ()
    totals: TrainingTotals | None = None

    def to_jsonl(self) -> str:
        """Return the text of the file."""
        rows = [EPOCH.stamped(epoch.to_json()) for epoch in self.epochs]
        if self.totals:
            rows.append(TOTALS.stamped(self.totals.to_json()))
        return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass(frozen=True)
class StageEstimate:
    """Memory and time of one stage, for one process.

    Args:
        name, task: of the stage.
        batch: pairs (questions) in one process's part of a batch.
        activation_bytes: memory kept for the backward pass, per pair: growth with the batch size.
        fixed_bytes: weights; for those that learn also gradients and AdamW's two moments.
        flops: floating-point operations of a training step, per pair, forward and backward:
            convolutions, matrix products and attention. Elementwise operations (neurons, norms) are
            not counted.
        seconds: time of a training step on this machine, per pair, of a batch of ``timed`` pairs.
        pairs: pairs processed in the whole stage.
        timed: pairs in the batch of the step that was timed.
    """

    name: str
    task: str
    batch: int
    activation_bytes: float
    fixed_bytes: int
    flops: float
    seconds: float
    pairs: int
    timed: int

    @property
    def memory_bytes(self) -> float:
        """Memory of one process at its full batch."""
        return self.fixed_bytes + self.batch * self.activation_bytes


@dataclass(frozen=True)
class DryRun:
    """Memory and time of a run that was not trained.

    Args:
        parameters: number of parameters by part of the model.
        learning: number of parameters that learn.
        device: device that the steps were measured on.
        processes: number of training processes.
    """

    parameters: Mapping[str, int]
    learning: int
    device: str
    processes: int
    stages: tuple[StageEstimate, ...]

    def seconds_at(self, flops_per_s: float) -> float:
        """Return the time of all stages at a sustained rate per process, data waits excluded."""
        return sum(stage.flops * stage.pairs for stage in self.stages) / (flops_per_s * self.processes)

    @property
    def seconds_here(self) -> float:
        """Time of all stages at the measured pace, with one such machine per process."""
        return sum(stage.seconds * stage.pairs for stage in self.stages) / self.processes


def read_metrics(file: Path) -> TrainingMetrics:
    """Return the content of a ``metrics.jsonl``; without such a file there are no epochs.

    Raises:
        DataError: it cannot be read. An unfinished last line, which an interrupted run may leave,
            is skipped.
    """
    if not file.exists():
        return TrainingMetrics()
    do = "remove the line or train again"
    epochs: list[EpochMetrics] = []
    totals = None
    try:
        lines = read_text(file).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read", reason_of(error), "remove it: it is a log of the training") from error
    for number, text in enumerate(lines, start=1):
        try:
            row = parse_json(text, finite=False)  # a loss may have become NaN
            if isinstance(row, dict) and "final" in row:
                totals = TrainingTotals.from_json(TOTALS.check(row))
            else:
                epochs.append(read_epoch(row))
        except ValueError as error:
            if isinstance(error, json.JSONDecodeError) and number == len(lines):
                break
            raise DataError(f"{file}, line {number}, cannot be read", str(error), remedy_of(error, do)) from error
    return TrainingMetrics(tuple(epochs), totals)


def read_epoch(row: Any) -> EpochMetrics:
    """Return the metrics in a parsed line.

    Raises:
        ValueError: it is not such a line; the message names the entry.
    """
    row = EPOCH.check(row)
    for prefix in ("loss_", "firing_rate.", "validation_"):
        conform(_with_prefix(row, prefix), dict[str, float])
    return EpochMetrics.from_json(row)


def _with_prefix(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the values whose keys start with ``prefix``, by the rest of their keys."""
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


@dataclass(frozen=True)
class Joules:
    """Joules per frame: low, typical and high."""

    low: float
    typical: float
    high: float

    def __add__(self, other: Joules) -> Joules:
        return Joules(self.low + other.low, self.typical + other.typical, self.high + other.high)


@dataclass(frozen=True)
class StreamCoding:
    """Work of the deployed part per frame of a stream, by one of `ashneuro.cost.streams.CODINGS`.

    Args:
        coding: ``"changes"``, ``"afresh"``, ``"dense"``, ``"pixels"`` or ``"layers"``.
        messages: changes, or graded messages; ``None`` for an ANN.
        operations: products of messages (synops), or of an ANN's outputs that are computed.
        updates: neuron updates, or outputs of an ANN that are computed.
        bits: bits of a message or activation that are priced.
        energy: joules on the node; ``None`` where a price is missing.
    """

    coding: str
    messages: float | None
    operations: float
    updates: float
    bits: int
    energy: Joules | None


@dataclass(frozen=True)
class StreamRate:
    """A stream at one frame rate; all numbers but ``frames`` are per frame.

    Args:
        frames_per_s: mean over the clips.
        frames: frames of all clips, first ones included.
        changed_pixels: share of pixels of which a channel differs from the frame before.
        metrics: retrieval of texts by frame, see `ashneuro.evaluation.Metrics`.
        own_metrics: the same of the network as it was trained, without levels.
        host_macs, host_j: products and joules of the host that computes every frame whole.
        host_skipping_macs, host_skipping_j: of the host that recomputes where pixels changed.
        codings: deployed part by coding; where changes are not all sent, ``"changes"`` alone.
    """

    frames_per_s: float
    frames: int
    changed_pixels: float
    metrics: Mapping[str, float]
    own_metrics: Mapping[str, float]
    host_macs: float
    host_j: Joules | None
    host_skipping_macs: float
    host_skipping_j: Joules | None
    codings: tuple[StreamCoding, ...]

    def __post_init__(self) -> None:
        if not ("R@1" in self.metrics and "R@1" in self.own_metrics):
            raise ValueError("its metrics have no R@1")

    def total_j(self, coding: StreamCoding, *, skipping: bool) -> Joules | None:
        """Return the joules of host and deployed part; ``None`` where one is not known."""
        host = self.host_skipping_j if skipping else self.host_j
        return None if host is None or coding.energy is None else host + coding.energy


@dataclass(frozen=True)
class StreamEvaluation:
    """Accuracy and work of a network on clips, frame by frame.

    Args:
        network: name of the run.
        source: clips.
        clips: number of clips, which is that of texts.
        bits: payload bits of a level.
        threshold: least change that is sent, in levels.
        spikes_from: ``"torch"``, ``"loihi"`` or ``"lava"``.
        profile: node of the energies.
        rates: by frame rate.
        weights_sha256: hash of the evaluated weights.
    """

    network: str
    source: str
    clips: int
    bits: int
    threshold: float
    spikes_from: str
    profile: str
    rates: tuple[StreamRate, ...]
    weights_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the schema of `STREAM`."""
        return STREAM.stamped(asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StreamEvaluation:
        """Return the evaluation that `to_json` wrote.

        Raises:
            DataError: they are damaged, or of another schema.
        """
        try:
            found: StreamEvaluation = STREAM.parse(values)
        except ValueError as error:
            do = remedy_of(error, "run `ashneuro evaluate --stream` again")
            raise DataError("this evaluation cannot be read", str(error), do) from error
        return found


STREAM = Format("ashneuro.stream-evaluation", StreamEvaluation)
"""``stream-*.json``."""
