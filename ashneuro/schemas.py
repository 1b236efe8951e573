"""Models of the JSON files that ashneuro writes and reads again.

A file is compared with its model before anything is made of it (`ashneuro.files.read_model`), so
that a damaged one is an error that names the entry. Files with a ``schema`` state their version
there; those without have had one form so far. Keys that a model does not have are left out: a later
version may have added them. Fields with a default are missing in files of earlier versions.

The models of weights, spike counts and arrays are in `ashneuro.training.checkpoint`,
`ashneuro.simulation.record` and `ashneuro.program.sound`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Number = float
Shape = tuple[int, ...]


# A run


@dataclass(frozen=True)
class OriginFile:
    """``origin.json`` of a bundle: the run, and the weights, that it was made from."""

    weights_sha256: str
    run: str = ""


@dataclass(frozen=True)
class IntegerLayerEntry:
    """Integer units of one layer."""

    scale: float
    v_threshold: int
    dv: int
    limit: int = 0


@dataclass(frozen=True)
class IntegersFile:
    """``integers.json``: the units of a run of quantisation-aware training."""

    layers: dict[str, IntegerLayerEntry]
    input_peak: float
    input_limit: int


LabelsFile = dict[Literal["vqa", "entailment", "nlvr2"], list[str]]
"""``labels.json``: answers in the order of the head's scores, by task."""


@dataclass(frozen=True)
class EpochLine:
    """A line of ``metrics.jsonl``; losses and rates have keys of their own."""

    epoch: int
    loss: float
    stage: str = ""
    firing_rate: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None
    pairs_per_s: float | None = None
    waited_share: float | None = None


@dataclass(frozen=True)
class TotalsLine:
    """The last line of ``metrics.jsonl``."""

    final: Literal[True]
    epochs: int
    seconds: float
    kernels: str = ""


# Evaluations


@dataclass(frozen=True)
class Directions:
    """Metrics in both directions."""

    image_to_text: dict[str, float]
    text_to_image: dict[str, float]


@dataclass(frozen=True)
class RetrievalEntry(Directions):
    """A row of an evaluation of retrieval."""

    name: str
    spikes_from: str


@dataclass(frozen=True)
class RatioEntry:
    """The learned fusion ratio; empty without one."""

    mean: float
    min: float
    max: float
    channels: tuple[float, ...]


@dataclass(frozen=True)
class HitEntry:
    """A retrieved item."""

    key: str
    text: str
    score: float
    correct: bool


@dataclass(frozen=True)
class ExampleEntry:
    """A query and its hits."""

    kind: Literal["image", "text"]
    key: str
    text: str
    hits: tuple[HitEntry, ...]


@dataclass(frozen=True)
class EvaluationFile:
    """``evaluation.json``."""

    schema: Literal["ashneuro.evaluation/1"]
    kind: str
    split: str
    images: int
    texts: int
    concepts: int
    rows: tuple[RetrievalEntry, ...]
    chance: Directions
    ratio: RatioEntry | dict[str, Any]
    firing_rate: dict[str, float]
    examples: tuple[ExampleEntry, ...]
    weights_sha256: str = ""
    shared_texts: int = 0


@dataclass(frozen=True)
class TaskEntry:
    """A row of an evaluation of a task."""

    name: str
    spikes_from: str
    accuracy: float
    by_kind: dict[str, float]
    consistency: float | None


@dataclass(frozen=True)
class AnsweredEntry:
    """A question with its answers."""

    images: tuple[str, ...]
    text: str
    said: str
    answers: tuple[str, ...]
    score: float


@dataclass(frozen=True)
class TaskEvaluationFile:
    """``vqa.json``, ``entailment.json``, ``nlvr2.json``."""

    schema: Literal["ashneuro.task-evaluation/1"]
    task: str
    kind: str
    split: str
    questions: int
    pictures: int
    rows: tuple[TaskEntry, ...]
    answerable: float
    firing_rate: dict[str, float]
    examples: tuple[AnsweredEntry, ...]
    weights_sha256: str = ""


@dataclass(frozen=True)
class JoulesEntry:
    """Joules per frame."""

    low: float
    typical: float
    high: float


@dataclass(frozen=True)
class CodingEntry:
    """Work per frame by one coding."""

    coding: str
    messages: float | None
    operations: float
    updates: float
    bits: int
    energy: JoulesEntry | None


@dataclass(frozen=True)
class RateEntry:
    """A stream at one frame rate."""

    frames_per_s: float
    frames: int
    changed_pixels: float
    metrics: dict[str, float]
    own_metrics: dict[str, float]
    host_macs: float
    host_j: JoulesEntry | None
    host_skipping_macs: float
    host_skipping_j: JoulesEntry | None
    codings: tuple[CodingEntry, ...]


@dataclass(frozen=True)
class StreamFile:
    """``stream-*.json``."""

    schema: Literal["ashneuro.stream-evaluation/1"]
    network: str
    source: str
    clips: int
    bits: int
    threshold: float
    spikes_from: str
    profile: str
    rates: tuple[RateEntry, ...]
    weights_sha256: str = ""


@dataclass(frozen=True)
class RowFile:
    """``row.json`` of a sweep's run; its measures have keys of their own."""

    variant: str
    levels: dict[str, str]
    seed: int


# A bundle


@dataclass(frozen=True)
class HashEntry:
    """Hash of a file of a bundle."""

    sha256: str
    bytes: int = 0


@dataclass(frozen=True)
class CostEntry:
    """Quantisation errors of a layer."""

    layer: str
    scale: float
    weights: float = 0.0
    weight_bits: float = 8.0
    threshold: float = 0.0
    bias: float = 0.0
    du: float = 0.0
    dv: float = 0.0
    input_step: float = 0.0


Value = bool | float | int | str | None


@dataclass(frozen=True)
class ManifestFile:
    """``manifest.json`` of a bundle.

    Args:
        contract: by origin, then by field; in version 1 by field.
    """

    schema: Literal["ashneuro-bundle/1", "ashneuro-bundle/2"]
    files: dict[str, HashEntry]
    versions: dict[str, str]
    contract: dict[str, Value | dict[str, Value]]
    costs: tuple[CostEntry, ...]
    script_template: str | None = None


@dataclass(frozen=True)
class PortEntry:
    """An input of a program."""

    name: str
    shape: Shape
    coding: str
    scale: float = 1.0
    limit: int = 0
    constant: bool = False


@dataclass(frozen=True)
class NeuronEntry:
    """Keys of a layer's arrays, and how it fires."""

    du: str
    dv: str
    v_threshold: str
    bias: str
    v_unit: str
    v_origin: str
    bias_exp: int = 0
    spiking: bool = True
    v_subtract: str | None = None
    firing: dict[str, str | int] = field(default_factory=dict)
    message: dict[str, Value] = field(default_factory=dict)
    dynamics: str = "lif"
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SynapseEntry:
    """Geometry of synapses, and keys of their arrays."""

    kind: str
    in_shape: Shape
    out_shape: Shape
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    weight: str
    indices: str | None
    indptr: str | None


@dataclass(frozen=True)
class ConnectionEntry:
    """Synapses from one source."""

    source: str
    delay: int
    weight_exp: int
    nir: tuple[str, ...]
    synapse: SynapseEntry | None
    imaginary: bool = False


@dataclass(frozen=True)
class LayerEntry:
    """A layer of a program."""

    name: str
    shape: Shape
    depth: int
    scale: float
    nir: tuple[str, ...]
    neuron: NeuronEntry
    connections: tuple[ConnectionEntry, ...]


@dataclass(frozen=True)
class AssumptionEntry:
    """A field that the source left open."""

    field: str
    value: float | int | str
    nodes: tuple[str, ...]
    spikes: bool


@dataclass(frozen=True)
class ProgramEntry:
    """A program."""

    precision: Literal["float", "integer"]
    dt_s: float
    timesteps: int | None
    inputs: tuple[PortEntry, ...]
    layers: tuple[LayerEntry, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...]
    assumptions: tuple[AssumptionEntry, ...] | None = None


@dataclass(frozen=True)
class ProgramFile:
    """``program.json`` of a bundle."""

    schema: Literal["ashneuro-program/1", "ashneuro-program/2"]
    programs: dict[str, ProgramEntry]


@dataclass(frozen=True)
class LayerComparisonEntry:
    """One layer in two computations."""

    layer: str
    compared: int
    spikes: int
    mismatches: int
    first: tuple[int, int, int] | None = None
    largest: float | None = None


@dataclass(frozen=True)
class ComparisonEntry:
    """Two computations."""

    left: str
    right: str
    required: bool
    layers: tuple[LayerComparisonEntry, ...]
    reason: str
    stock_samples: int | None = None


@dataclass(frozen=True)
class CertificateFile:
    """``certificate.json`` of a bundle."""

    schema: str
    samples: int
    timesteps: int
    comparisons: tuple[ComparisonEntry, ...]
    versions: dict[str, str]
    accuracy: dict[str, dict[str, float]]
    own_processes: dict[str, str] = field(default_factory=dict)
    source: dict[str, Any] | None = None
    assumptions: tuple[AssumptionEntry, ...] | None = None


# Spike counts


@dataclass(frozen=True)
class ActivityEntry:
    """Counts of a population; its arrays are beside it."""

    active_updates: int | None
    binary: bool
    read_out: bool | None = None


@dataclass(frozen=True)
class CountsHeader:
    """Header of the spike counts beside an evaluation, an ``.npz``."""

    schema: Literal["ashneuro-counts/1", "ashneuro-counts/2"]
    source: Literal["torch", "loihi", "lava"]
    precision: Literal["float", "integer"]
    timesteps: int
    samples: int
    layers: dict[str, ActivityEntry]
    inputs: dict[str, ActivityEntry]
    assumptions: tuple[AssumptionEntry, ...] | None = None
    stock_samples: int | None = None
    shard: str | None = None
