"""What a run is made of: frozen settings, read from TOML, overridden as ``section.key=value``.

A run saves its resolved settings as ``config.json``; the same dataclasses read it back.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from ashneuro.errors import ConfigError

SWEEPS = ("ablation", "front")
"""Of the examples, those that vary settings; the others are settings of one run."""

PositiveInt = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]

AbstractKind = Literal["spiking", "none", "relu", "quantised-relu"]
"""The abstract encoder: the hybrid's, or a control's."""


@dataclass(frozen=True)
class DataConfig:
    """Which image–text pairs, and how they are split.

    Args:
        source: a name from ``ashneuro data list``, or the path of a caption file or folder.
        format: of a path: a name from ``ashneuro data formats``; empty: COCO captions JSON, ``.jsonl`` or ``.csv``, by its suffix.
        images: folder of the image files, for a path; empty: the folder of the file.
        split: emoji: ``"style"`` (test on an unseen drawing style) or ``"concept"`` (test on unseen concepts).
            Other sources: the file's own split column, or ``"random"`` (seeded 80/10/10 by caption).
        styles: emoji, style split: the drawing styles to train on; empty: all but the held-out one.
        image_size: images are resized to this many pixels, both sides.
        captions: ``"separate"``: each caption is a text of its own, as sentences are. ``"joined"``: all captions of a pair
            make one text, as a name and its keywords do.
        max_words: texts are cut after this many words.
        store: where the resized images are kept while training: ``"memory"``, or ``"disk"`` (a file in the cache folder, made once and
            mapped into memory) for sets that do not fit.
    """

    source: str = "emoji"
    format: str = ""
    images: str = ""
    split: Literal["style", "concept", "file", "random"] = "style"
    styles: tuple[str, ...] = ()
    image_size: PositiveInt = 32
    captions: Literal["separate", "joined"] = "separate"
    max_words: PositiveInt = 24
    store: Literal["memory", "disk"] = "memory"


@dataclass(frozen=True)
class QuestionConfig:
    """Where the questions of one task come from.

    Args:
        format: ``"vqa2"``, ``"snli-ve"``, ``"nlvr2"`` or ``"easy-vqa"``; empty: derived from the pairs' labels and captions.
        train, validation, test: files or folders, for a format. A folder that holds several parts is given once, as ``train``.
            easy-vqa needs none: what `ashneuro data fetch easy-vqa` fetched is taken.
        images: folder of the pictures; empty: the folder of the file.
        answers: VQA: the answer vocabulary keeps this many of the most frequent training answers.
        per_picture: derived questions: at most this many questions a picture (sentences a pair of pictures, for NLVR2).
    """

    format: str = ""
    train: str = ""
    validation: str = ""
    test: str = ""
    images: str = ""
    answers: PositiveInt = 3129
    per_picture: PositiveInt = 4


@dataclass(frozen=True)
class TasksConfig:
    """The tasks beside retrieval; a head is made for each that a stage of the schedule trains."""

    vqa: QuestionConfig = field(default_factory=QuestionConfig)
    entailment: QuestionConfig = field(default_factory=QuestionConfig)
    nlvr2: QuestionConfig = field(default_factory=QuestionConfig)


@dataclass(frozen=True)
class ConcreteConfig:
    """The visual concrete encoder (ANN, on the host).

    Args:
        channels: one 3×3 convolution of stride 2, batch norm and ReLU per entry; thin, because what the host computes is paid for.
        width: D, channels of the continuous latents C.
        backbone: name of a timm model that takes the place of the convolutions; empty: ``channels``.
        stage: which of its feature maps is taken; −1 is the last, coarsest one.
        weights: of the backbone: empty: random; ``"pretrained"``: timm's, from the hub; else the path of a checkpoint.
        tune: whether the backbone learns; a frozen one is run in eval mode.
    """

    channels: tuple[PositiveInt, ...] = (24, 48)
    width: PositiveInt = 64
    backbone: str = ""
    stage: int = -1
    weights: str = ""
    tune: bool = True


@dataclass(frozen=True)
class AbstractConfig:
    """The semantic abstract encoder (deployed), or one of its controls.

    Args:
        kind: ``"spiking"``; or a control with the same topology: ``"relu"``; ``"quantised-relu"`` with ⌈log2(timesteps + 1)⌉ bits;
            ``"none"``: no abstract encoder, A = 0.
        block: what a block does after its convolution of stride 2: ``"conv"``: two 3×3 convolutions. ``"mlp"``: two 1×1 ones, an MLP
            per place. ``"mixing"``: a depthwise convolution that reaches every place from every other, then a 1×1 one.
        neuron: ``"lif"``, or ``"cubalif"``: the synaptic current is a leaky integrator too.
        learn_decay: the time constants are learned, one per population; ``tau_mem_s`` and ``tau_syn_s`` are where they start.
        codebook: entries of a codebook that what is read out of the semantic units is quantised to, per group; 0: none.
        codebook_groups: the semantic units are cut into this many groups, each with a codebook of its own.
        channels: the first entry is the number of channels of the input current, at the resolution of C; each further
            one is a block: a convolution of stride 2, then two convolutions with a scaled skip around them.
        units: K, semantic units of the last, dense layer.
        timesteps: T, steps per sample.
        dt_s: duration of one step.
        tau_mem_s: membrane time constant.
        tau_syn_s: synaptic time constant of ``"cubalif"``.
        surrogate: derivative of a spike in the backward pass, by name; ``slope``: its α, 0: its own (`ashneuro.spiking.kernels.surrogate`).
        detach_reset: no gradient passes through the reset.
        v_threshold: firing threshold; the resting and the reset potential are 0.
    """

    kind: AbstractKind = "spiking"
    channels: Annotated[tuple[PositiveInt, ...], Len(2)] = (64, 96)
    units: PositiveInt = 256
    timesteps: PositiveInt = 4
    dt_s: Positive = 1e-3
    tau_mem_s: Positive = 2e-3
    v_threshold: Positive = 1.0
    block: Literal["conv", "mlp", "mixing"] = "conv"
    neuron: Literal["lif", "cubalif"] = "lif"
    tau_syn_s: Positive = 2e-3
    learn_decay: bool = False
    surrogate: Literal["super", "atan", "sigmoid", "triangle"] = "super"
    slope: Annotated[float, Ge(0)] = 0.0
    detach_reset: bool = False
    codebook: Annotated[int, Ge(0)] = 0
    codebook_groups: PositiveInt = 8


@dataclass(frozen=True)
class TextConfig:
    """The text encoder (host): word embeddings, transformer layers, mean over words.

    Args:
        width: channels of a word; a multiple of ``heads``.
        layers: transformer layers; 0 leaves a bag of words.
        heads: attention heads.
        dropout: probability of dropping a feature while training.
        tower: ``"transformers"`` or ``"open_clip"``: a pretrained text encoder takes the place of the layers; empty: trained from scratch.
        weights: of the tower: a local folder that ``save_pretrained`` wrote, or a name on the hub; for open_clip a model's name, and after
            a colon the tag or file of its weights (``"ViT-B-32:laion2b_s34b_b79k"``).
        tune: whether the tower learns; a frozen one is run in eval mode.
    """

    width: PositiveInt = 128
    layers: Annotated[int, Ge(0)] = 1
    heads: PositiveInt = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    tower: Literal["", "transformers", "open_clip"] = ""
    weights: str = ""
    tune: bool = True


@dataclass(frozen=True)
class MultimodalConfig:
    """The cross-attention transformer that reads a text beside the places of V: for ITM, MLM, VQA, entailment and NLVR2.

    Args:
        width: channels of a word; a multiple of ``heads``.
        layers: transformer layers; 0: there is none, and retrieval is the only task.
        heads: attention heads.
        dropout: probability of dropping a feature while training.
    """

    width: PositiveInt = 128
    layers: Annotated[int, Ge(0)] = 0
    heads: PositiveInt = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


@dataclass(frozen=True)
class ModelConfig:
    """An ASH-Net: concrete and abstract encoder, text encoder, fusion; ``embedding`` is the width that images and texts meet in."""

    concrete: ConcreteConfig = field(default_factory=ConcreteConfig)
    abstract: AbstractConfig = field(default_factory=AbstractConfig)
    text: TextConfig = field(default_factory=TextConfig)
    multimodal: MultimodalConfig = field(default_factory=MultimodalConfig)
    embedding: PositiveInt = 128


@dataclass(frozen=True)
class TrainConfig:
    """How the model learns: AdamW, one cycle of the learning rate (linear warm-up, then cosine to 0).

    Args:
        start: folder of a run whose weights are the start; empty: fresh ones.
        quantise_aware: the spiking encoder computes Loihi's integers while it learns, with straight-through gradients; needs ``start``.
        seed: of the initial weights, the order of the pairs, the augmentation and dropout; at most 32 bits.
        device: ``"auto"`` takes the GPU where there is one.
        augment: strength of random shift, scale, rotation and colour; 0 leaves the images alone. Images are never mirrored.
        word_dropout: probability that a word of a training caption is left out.
        label_smoothing: share of the image–text target that is spread over the whole batch.
        itc: weight of L_ITC, the image–text contrast.
        itm: weight of L_ITM, image–text matching with negatives sampled by similarity; needs the multimodal transformer.
        mlm: weight of L_MLM, masked words told from the picture; needs it too.
        contrast: weight of L_CL, the contrast of two views at the spiking encoder's input.
        beta: tilt of its negatives toward hard ones; 0 is plain InfoNCE.
        synthetic: so many further negatives per image, mixed from its hardest ones; 0: none.
        stua: weight of L_STUA, from the spikes to the fixed text features.
        stua_reading: what L_STUA is: ``"uni"``: contrast from spikes to text alone. ``"symmetric"``: both ways. ``"reconstruction"``: text
            features go through the spiking encoder and are reconstructed. ``"bag-of-words"``: the text's words are told from the spikes.
        stua_stops_at_concrete: L_STUA trains the abstract encoder only, so that its effect can be told apart.
        firing_rate: target of every spiking layer, spikes per neuron and step; only a higher rate is penalised.
        firing_rate_weight: weight of the penalty.
        synops: budget of the spiking encoder, synops per image; only more is penalised, relative to the budget. 0: none.
        synops_weight: weight of that penalty.
        codebook: weight of the codebook loss, where there is a codebook.
        precision: ``"bf16"``: autocast of everything but the spiking layers' own arithmetic.
        accumulate: so many batches make one step of the optimiser.
        strategy: how several GPUs share the work: ``"ddp"`` copies the model, ``"fsdp"`` cuts it up.
        checkpointing: the blocks of the spiking encoder are computed again in the backward pass instead of being kept.
        compile: `torch.compile` for the concrete and the text encoder.
        cache_features: what a frozen backbone makes of the pictures is computed once; needs ``augment = 0``.
        save_every: a checkpoint after so many batches (with ``accumulate``, once their step is complete), beside that of every epoch;
            0: none.
        tensorboard: metrics go to TensorBoard files in the run's folder, too.
        kernels: what computes the neurons while training; ``"auto"``: ``$ASHNEURO_KERNELS``, or the fastest that works here, as
            ``ashneuro doctor`` says.
    """

    start: str = ""
    quantise_aware: bool = False
    seed: Annotated[int, Gt(-(2**32)), Lt(2**32)] = 0
    epochs: PositiveInt = 8
    batch_size: Annotated[int, Ge(2)] = 128
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Ge(0)] = 0.05
    warmup: Annotated[float, Ge(0), Le(1)] = 0.1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    augment: Annotated[float, Ge(0)] = 1.0
    word_dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.3
    itc: Annotated[float, Ge(0)] = 1.0
    itm: Annotated[float, Ge(0)] = 0.0
    mlm: Annotated[float, Ge(0)] = 0.0
    contrast: Annotated[float, Ge(0)] = 0.1
    beta: Annotated[float, Ge(0)] = 1.0
    synthetic: Annotated[int, Ge(0)] = 0
    stua: Annotated[float, Ge(0)] = 0.2
    stua_reading: Literal["uni", "symmetric", "reconstruction", "bag-of-words"] = "uni"
    stua_stops_at_concrete: bool = True
    firing_rate: Annotated[float, Gt(0), Le(1)] = 0.1
    firing_rate_weight: Annotated[float, Ge(0)] = 1.0
    synops: Annotated[float, Ge(0)] = 0.0
    synops_weight: Annotated[float, Ge(0)] = 1.0
    codebook: Annotated[float, Ge(0)] = 1.0
    precision: Literal["32", "bf16"] = "32"
    accumulate: PositiveInt = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    checkpointing: bool = False
    compile: bool = False
    cache_features: bool = False
    save_every: Annotated[int, Ge(0)] = 0
    tensorboard: bool = False
    kernels: Literal["auto", "triton", "native", "torch", "norse"] = "auto"


Task = Literal["retrieval", "vqa", "entailment", "nlvr2"]
Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class StageConfig:
    """One stage of a schedule. What is not given is as in ``[train]``; each stage has a cycle of the learning rate of its own.

    Args:
        name: in the metrics, as ``pretrain``, ``stua`` or ``finetune``.
        task: what is learned from: ``"retrieval"``: the image–text pairs and their objectives. Another: the questions of `TasksConfig`;
            of the objectives only the firing-rate and synops penalties and the codebook loss remain beside the task's own.
        parts: which parts learn: ``concrete``, ``abstract`` (with its read-out), ``text``, ``fusion`` (ratio, projections), ``multimodal``,
            ``heads``; empty: all.
    """

    name: str
    epochs: PositiveInt
    task: Task = "retrieval"
    parts: tuple[Literal["concrete", "abstract", "text", "fusion", "multimodal", "heads"], ...] = ()
    learning_rate: Positive | None = None
    batch_size: Annotated[int, Ge(2)] | None = None
    itc: Weight | None = None
    itm: Weight | None = None
    mlm: Weight | None = None
    contrast: Weight | None = None
    stua: Weight | None = None
    stua_stops_at_concrete: bool | None = None
    firing_rate: Annotated[float, Gt(0), Le(1)] | None = None
    firing_rate_weight: Weight | None = None


@dataclass(frozen=True)
class RunConfig:
    """Everything that a training run depends on; without a ``schedule`` there is one stage, on retrieval, as ``[train]`` says."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    schedule: tuple[StageConfig, ...] = ()


def stages(config: RunConfig) -> tuple[tuple[StageConfig, TrainConfig], ...]:
    """Return every stage with the training settings that hold in it."""
    if not config.schedule:
        return ((StageConfig("train", config.train.epochs), config.train),)
    known = {item.name for item in fields(TrainConfig)}
    found = []
    for stage in config.schedule:
        given = {item.name: getattr(stage, item.name) for item in fields(stage) if item.name in known}
        found.append(
            (stage, replace(config.train, **{name: value for name, value in given.items() if value is not None}))
        )
    return tuple(found)


def trained_tasks(config: RunConfig) -> tuple[Task, ...]:
    """Return the tasks of the schedule, each once, retrieval aside."""
    return tuple(dict.fromkeys(stage.task for stage in config.schedule if stage.task != "retrieval"))


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the settings in a TOML (or a run's ``config.json``), with ``section.key=value`` overrides applied.

    Args:
        path: a file, or the name of one of `presets`.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is of the wrong kind; all of them at once.
    """
    path = presets().get(str(path), Path(path))
    values = _read(path, presets(), "preset")
    for override in overrides:
        _override(values, override)
    return parse_config(values, name=str(path))


def presets() -> dict[str, Path]:
    """Return the settings that come with ashneuro, by name: from the installed package, or from the checkout's examples."""
    return {name: path for name, path in _examples().items() if name not in SWEEPS}


def sweeps() -> dict[str, Path]:
    """Return the sweeps that come with ashneuro, by name."""
    return {name: path for name, path in _examples().items() if name in SWEEPS}


def _examples() -> dict[str, Path]:
    package = Path(__file__).resolve().parent
    inside = package / "examples"
    folder = inside if inside.is_dir() else package.parent / "examples"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _read(path: Path, names: Collection[str], what: str) -> dict[str, Any]:
    remedy = f"name a .toml, or a {what}: {', '.join(names)}"
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError as error:
        near = difflib.get_close_matches(str(path), names, n=1)
        why = f"there is no such file, and no {what} of that name" + (f" (did you mean {near[0]}?)" if near else "")
        raise ConfigError(f"cannot read {path}", why, remedy) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), remedy) from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", str(error), "mend the line that the message names") from error
    if not isinstance(values, dict):
        raise ConfigError(f"cannot read {path}", f"it holds a {type(values).__name__}, not settings", remedy)
    return values


def parse_config(values: Mapping[str, Any], name: str = "settings") -> RunConfig:
    """Return ``values`` as settings; unknown keys and wrong values are all reported in one error."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    unknown = list(_unknown_keys(RunConfig, values, ""))
    if unknown:
        raise ConfigError(f"{name}: {len(unknown)} unknown setting(s)", "; ".join(unknown), "correct or remove them")
    strict = with_config(ConfigDict(allow_inf_nan=False))(RunConfig)
    try:
        return TypeAdapter(strict).validate_python(dict(values))
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])} = {item['input']!r}: {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigError(
            f"{name}: {len(lines)} setting(s) cannot be used", "; ".join(lines), "correct them"
        ) from error


@dataclass(frozen=True)
class SweepConfig:
    """Runs that differ in some settings: every variant with every seed.

    Args:
        base: a preset or a TOML of settings.
        set: changes to all runs, ``"section.key=value"`` each.
        seeds: of training; the spread over them is what a difference has to exceed.
        factors: per factor its levels, per level its changes: ``{"T": {"T = 1": ["model.abstract.timesteps=1"]}}``.
        design: ``"one-at-a-time"``: the base, and the base with each single level. ``"cross"``: every combination of one level per factor.
        task: what the table's accuracy is of; for retrieval the mean of R@1 both ways.
        part: on which part of the data it is measured.
        energy_images: so many images are simulated to count events.
        profile: hardware profile that prices them, of kind ``"asic"``.
    """

    base: str = "tiny"
    set: tuple[str, ...] = ()
    seeds: Annotated[tuple[int, ...], Len(1)] = (0, 1, 2)
    factors: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    design: Literal["one-at-a-time", "cross"] = "one-at-a-time"
    task: Task = "retrieval"
    part: Literal["validation", "test"] = "test"
    energy_images: PositiveInt = 64
    profile: str = "cmos45"


def load_sweep(path: Path, overrides: Iterable[str] = ()) -> SweepConfig:
    """Return the sweep in a TOML; ``overrides`` (``section.key=value``) are changes to all its runs, after its own.

    Args:
        path: a file, or the name of one of `sweeps`.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, a value is of the wrong kind, or it varies nothing.
    """
    from pydantic import TypeAdapter, ValidationError

    see = f"see {sweeps()['ablation']}"
    if str(path) in presets() and not path.exists():
        raise ConfigError(f"{path} is a preset, not a sweep", "it has settings of one run, and no [factors]", see)
    values = _read(path if path.exists() else sweeps().get(str(path), path), SWEEPS, "sweep")
    if unknown := sorted(set(values) - {item.name for item in fields(SweepConfig)}):
        raise ConfigError(f"{path}: {len(unknown)} unknown setting(s)", "; ".join(unknown), see)
    try:
        sweep = TypeAdapter(SweepConfig).validate_python(values)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])} = {item['input']!r}: {item['msg']}"
            for item in error.errors()
        ]
        raise ConfigError(f"{path}: {len(lines)} setting(s) cannot be used", "; ".join(lines), see) from error
    if not any(sweep.factors.values()):
        raise ConfigError(f"{path} varies nothing", "it has no [factors] with levels", see)
    return replace(sweep, set=(*sweep.set, *overrides))


def dump_config(config: RunConfig) -> dict[str, Any]:
    """Return the settings as plain values for ``config.json``."""
    return asdict(config)


def cache_dir() -> Path:
    """Return the folder for what can be made again: ``$ASHNEURO_HOME``, ``$XDG_CACHE_HOME/ashneuro`` or ``~/.cache/ashneuro``."""
    if home := os.environ.get("ASHNEURO_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ashneuro"


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}", "an override is written section.key=value", "--set train.epochs=3")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    *sections, leaf = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {text}", f"{section} is a value, not a section", "--set train.epochs=3")
    values[leaf] = parsed


def _unknown_keys(cls: type, values: Mapping[str, Any], prefix: str) -> Iterable[str]:
    known = {item.name: item for item in fields(cls)}
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            yield f"{prefix}{key}" + (f" (did you mean {prefix}{near[0]}?)" if near else "")
        elif isinstance(value, Mapping):
            default = known[key].default_factory
            if is_dataclass(default):
                yield from _unknown_keys(default, value, f"{prefix}{key}.")  # type: ignore[arg-type]
        elif key == "schedule" and isinstance(value, list | tuple):
            for number, stage in enumerate(value):
                if isinstance(stage, Mapping):
                    yield from _unknown_keys(StageConfig, stage, f"schedule.{number}.")
