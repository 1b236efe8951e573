"""Settings of a run: frozen dataclasses, read from TOML, overridden as ``section.key=value``.

A run saves its resolved settings as ``config.json``, which is read back into the same dataclasses.
"""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from ashneuro.errors import ConfigError
from ashneuro.files import parse_toml, read_json, read_toml, user_path
from ashneuro.schemas import CONFIG, remedy_of

if TYPE_CHECKING:
    from pydantic import ValidationError

SWEEPS = ("ablation", "ablation-lif", "demo", "front", "front-long", "stua")
"""Names of the examples that are sweeps; the others are settings of one run."""

EARLIER: Mapping[str, Any] = {
    "data": {"tokeniser": "words"},
    "train": {"momentum_text": 0.0},
    "model": {"multimodal": {"similarity": False, "word_order": False}},
}
"""Values for a run's ``config.json`` that was written before these settings existed."""

PositiveInt = Annotated[int, Ge(1)]
LARGEST_SIZE, LARGEST_IMAGE, MOST_LAYERS = 1 << 16, 1 << 13, 1 << 10
Size = Annotated[int, Ge(1), Le(LARGEST_SIZE)]
"""A size of a layer, a batch or a sequence: above this it is a slip, and would fill any memory."""
Layers = Annotated[int, Ge(0), Le(MOST_LAYERS)]
Positive = Annotated[float, Gt(0)]

SpikingNeuron = Literal["lif", "cubalif", "if", "graded"]
SurrogateName = Literal["super", "atan", "sigmoid", "triangle"]
Reset = Literal["value", "subtract"]
LearnThreshold = bool | Literal["population", "channel"]

MIN_WORDS, MAX_WORDS = 24, 256
"""Limits of ``data.max_words`` where it follows from the data."""

AbstractKind = Literal["spiking", "none", "relu", "quantised-relu"]
"""The abstract encoder: the hybrid's, or a control's."""

ANNS: tuple[AbstractKind, ...] = ("relu", "quantised-relu")
"""Kinds of abstract encoders that are ANNs."""


@dataclass(frozen=True)
class DataConfig:
    """``[data]``: image–text pairs and their split.

    Args:
        source: name from ``ashneuro data list``, or path of a caption file or folder.
        format: format of the path, a name from ``ashneuro data formats``. Empty: recognised from
            the content.
        images: folder of the image files, for a path. Empty: the caption file's folder.
        image_column, caption_column: names of the columns or keys with pictures and captions;
            several of captions with commas between them. Empty: customary names, such as
            ``image``, ``file_name``, ``caption``, ``text``, or the columns' content.
        skip_broken: leave out pictures and entries that cannot be read, and list them in a file.
            Otherwise they are errors.
        split: for emoji, ``"style"`` (test on an unseen drawing style) or ``"concept"`` (test on
            unseen concepts). For other sources, ``"file"`` (the file's own split), ``"random"``
            (seeded, 80/10/10, no caption in two parts), ``"picture"`` (the same, but captions can
            be in several parts; for class names), or ``"auto"`` (the first of these that the data
            allow).
        styles: emoji with style split: drawing styles to train on. Empty: all but the held-out one.
        image_size: width and height that images are resized to, in pixels.
        captions: ``"separate"``: every caption is a text, for sentences. ``"joined"``: the captions
            of a pair make one text, for a name and keywords.
        tokeniser: ``"words"``: words of the training texts. ``"pieces"``: pieces of them, for
            languages without spaces between words and for words that were never seen. ``"auto"``:
            pieces if at least 5 % of the texts have no spaces between words. A pretrained text
            tower has its own.
        max_words: texts are cut to this number of words or pieces. 0: the 99th percentile of the
            training texts, from 24 to 256; a run's own settings then hold that number.
        labelled: share of the training pairs whose image and texts are known to belong together,
            chosen by ``train.seed`` and stratified by concept. The others are images without texts
            and texts without images, which ``train.unlabelled`` and the vocabulary use.
        store: where resized images are kept during training: ``"memory"``, or ``"disk"`` (a
            memory-mapped file in the cache folder) for data sets that do not fit.
        stream: read WebDataset shards from their first byte to their last, and keep no picture:
            for data that fit neither. An address as the source (``https://…``, ``s3://…``) is a
            stream anyway.
        validation, test: shards of a stream that are held out.
        vocabulary_pairs: words and ``max_words`` follow from the captions of this many pairs, the
            first of a stream.
        epoch_pairs: pairs of a stream in an epoch. 0: all, counted by reading every shard once; a
            run's own settings then hold that number.
    """

    source: str = "emoji"
    format: str = ""
    images: str = ""
    image_column: str = ""
    caption_column: str = ""
    skip_broken: bool = False
    split: Literal["style", "concept", "file", "random", "picture", "auto"] = "style"
    styles: tuple[str, ...] = ()
    image_size: Annotated[int, Ge(1), Le(LARGEST_IMAGE)] = 32
    captions: Literal["separate", "joined"] = "separate"
    tokeniser: Literal["auto", "words", "pieces"] = "auto"
    max_words: Annotated[int, Ge(0), Le(LARGEST_SIZE)] = 0
    labelled: Annotated[float, Gt(0), Le(1)] = 1.0
    store: Literal["memory", "disk"] = "memory"
    stream: bool = False
    validation: str = ""
    test: str = ""
    vocabulary_pairs: PositiveInt = 100_000
    epoch_pairs: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class QuestionConfig:
    """``[tasks.TASK]``: questions of one task.

    Args:
        format: ``"vqa2"``, ``"snli-ve"``, ``"nlvr2"`` or ``"easy-vqa"``. Empty: questions are
            derived from the pairs' labels and captions.
        train, validation, test: files or folders, for a format. A folder with several parts is
            given once, as ``train``. easy-vqa needs none: it is found where ``ashneuro data fetch
            easy-vqa`` put it.
        images: folder of the image files. Empty: the question file's folder.
        answers: size of the VQA answer vocabulary: the most frequent training answers.
        per_picture: maximum number of derived questions per picture; for NLVR2, of sentences per
            pair of pictures. 0: 4, and 24 for NLVR2, which is not learned from fewer.
    """

    format: str = ""
    train: str = ""
    validation: str = ""
    test: str = ""
    images: str = ""
    answers: PositiveInt = 3129
    per_picture: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True)
class TasksConfig:
    """``[tasks]``: tasks other than retrieval. Each that the schedule trains gets a head."""

    vqa: QuestionConfig = field(default_factory=QuestionConfig)
    entailment: QuestionConfig = field(default_factory=QuestionConfig)
    nlvr2: QuestionConfig = field(default_factory=QuestionConfig)


@dataclass(frozen=True)
class ConcreteConfig:
    """``[model.concrete]``: the visual concrete encoder (ANN, on the host).

    Args:
        channels: one 3×3 convolution of stride 2, batch norm and ReLU per entry. Thin by default:
            the host's operations count in the energy.
        width: D, number of channels of the continuous latents C.
        backbone: name of a timm model to use in place of the convolutions. Empty: ``channels``.
        stage: index of the backbone's feature map; −1 is the last and coarsest.
        weights: weights of the backbone: empty (random), ``"pretrained"`` (timm's, from the hub),
            path of a checkpoint, or ``"efficientnet-lite0"``, which ``ashneuro data fetch
            efficientnet-lite0`` gets for the backbone ``tf_efficientnet_lite0``.
        tune: train the backbone; a frozen one runs in eval mode.
    """

    channels: Annotated[tuple[Size, ...], Len(0, MOST_LAYERS)] = (24, 48)
    width: Size = 64
    backbone: str = ""
    stage: int = -1
    weights: str = ""
    tune: bool = True


@dataclass(frozen=True)
class AbstractConfig:
    """``[model.abstract]``: the semantic abstract encoder (deployed), or one of its controls.

    Args:
        kind: ``"spiking"``, or a control with the same topology: ``"relu"``, ``"quantised-relu"``
            with ``bits``, or ``"none"`` (no abstract encoder, A = 0).
        channels: the first entry is the number of channels of the input current, at the resolution
            of C. Each further entry is a block: a convolution of stride 2, then two convolutions
            with a scaled skip around them.
        units: K, number of semantic units in the last layer.
        positions: K semantic units at every position of the last block, by a 1×1 convolution, in
            place of K for the whole image, by a dense layer. A then differs between positions, as
            words that attend to V can use; C is averaged to these positions.
        timesteps: T, timesteps per sample.
        dt_s: duration of a timestep.
        tau_mem_s: membrane time constant.
        v_threshold: firing threshold, above the resting and reset potential of 0; the least value
            that ``"graded"`` neurons send, or 0: they are ReLUs.
        block: the two convolutions of a block: ``"conv"``: 3×3. ``"mlp"``: 1×1, an MLP per
            position. ``"mixing"``: a depthwise one that connects all positions, then 1×1.
        bits: bits of ``"quantised-relu"``; 0: those of a spike count, ⌈log2(timesteps + 1)⌉.
        neuron: ``"lif"``; ``"cubalif"``, whose synaptic current is a leaky integrator, too;
            ``"if"``, without leak; or ``"graded"``, stateless: it sends its input where that
            exceeds ``v_threshold``. One timestep is usual then.
        reset: effect of a spike on the potential: ``"value"`` sets it to 0, ``"subtract"`` takes
            ``v_threshold`` from it. ``"graded"`` neurons have no potential.
        tau_syn_s: synaptic time constant of ``"cubalif"``.
        learn_decay: learn the time constants, one per population, starting at ``tau_mem_s`` and
            ``tau_syn_s``.
        learn_threshold: ``"population"`` (or true): learn the thresholds, one per population,
            starting at ``v_threshold``. Every channel has its own scale already: its batch norm.
        message_bits: payload bits of a ``"graded"`` message in integers.
        message_limit: largest value that ``"graded"`` neurons send; 0: none.
        surrogate: surrogate derivative of the spike function, see
            `ashneuro.spiking.kernels.surrogate`.
        slope: α of the surrogate derivative; 0: its default.
        detach_reset: block gradients through the reset.
        codebook: entries per group of a codebook that quantises the read-out of the semantic units;
            0: none.
        codebook_groups: number of groups of semantic units, each with its own codebook.
    """

    kind: AbstractKind = "spiking"
    channels: Annotated[tuple[Size, ...], Len(2, MOST_LAYERS)] = (64, 96)
    units: Size = 256
    positions: bool = False
    timesteps: Size = 4
    dt_s: Positive = 1e-3
    tau_mem_s: Positive = 2e-3
    v_threshold: Annotated[float, Ge(0)] = 1.0
    block: Literal["conv", "mlp", "mixing"] = "conv"
    bits: Annotated[int, Ge(0), Le(15)] = 0
    neuron: SpikingNeuron = "lif"
    reset: Reset = "value"
    tau_syn_s: Positive = 2e-3
    learn_decay: bool = False
    learn_threshold: LearnThreshold = False
    message_bits: Annotated[int, Ge(1), Le(15)] = 8
    message_limit: Annotated[float, Ge(0)] = 0.0
    surrogate: SurrogateName = "super"
    slope: Annotated[float, Ge(0)] = 0.0
    detach_reset: bool = False
    codebook: Annotated[int, Ge(0), Le(LARGEST_SIZE)] = 0
    codebook_groups: Size = 8

    @property
    def graded(self) -> bool:
        """True if its neurons are stateless and send values."""
        return self.kind == "spiking" and self.neuron == "graded"


def relu_bits(config: AbstractConfig) -> int:
    """Return the bits of the quantised ReLUs that ``config`` asks for, or of its low-bit control.

    A spike count 0 … T has ⌈log2(T + 1)⌉.
    """
    return config.bits or math.ceil(math.log2(config.timesteps + 1))


@dataclass(frozen=True)
class TextConfig:
    """``[model.text]``: the text encoder (host): embeddings, transformer layers, mean over words.

    Args:
        width: embedding width of a word; a multiple of ``heads``.
        layers: number of transformer layers; 0 is a bag of words.
        heads: number of attention heads.
        dropout: dropout probability.
        tower: ``"transformers"`` or ``"open_clip"``: use a pretrained text encoder in place of the
            layers. Empty: train from scratch.
        weights: weights of the tower: a local folder written by ``save_pretrained``, a name on
            the hub, or ``"minilm"``, which ``ashneuro data fetch minilm`` gets for
            ``"transformers"``. For open_clip the model's name, then a colon and the tag or file of
            its weights: ``"ViT-B-32:laion2b_s34b_b79k"``.
        tune: train the tower; a frozen one runs in eval mode.
    """

    width: Size = 128
    layers: Layers = 1
    heads: Size = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    tower: Literal["", "transformers", "open_clip"] = ""
    weights: str = ""
    tune: bool = True


@dataclass(frozen=True)
class MultimodalConfig:
    """``[model.multimodal]``: the transformer whose words attend to all positions of V.

    Needed for ITM, MLM, VQA, entailment and NLVR2.

    Args:
        width: embedding width of a word; a multiple of ``heads``.
        layers: number of transformer layers; 0: no transformer, and retrieval is the only task.
        heads: number of attention heads.
        dropout: dropout probability.
        similarity: the heads also see the product of the image's and the text's embeddings, which
            L_ITC aligns.
        word_order: words have position embeddings, so that "left A, right B" is not "left B, right
            A". Without text layers nothing else holds their order.
    """

    width: Size = 128
    layers: Layers = 0
    heads: Size = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    similarity: bool = True
    word_order: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """``[model]``: an ASH-Net.

    Args:
        concrete, abstract, text, multimodal: its parts.
        embedding: width of the joint embedding of images and texts.
    """

    concrete: ConcreteConfig = field(default_factory=ConcreteConfig)
    abstract: AbstractConfig = field(default_factory=AbstractConfig)
    text: TextConfig = field(default_factory=TextConfig)
    multimodal: MultimodalConfig = field(default_factory=MultimodalConfig)
    embedding: Size = 128


Logger = Literal["tensorboard", "csv", "wandb", "mlflow"]


@dataclass(frozen=True)
class TrainConfig:
    """``[train]``: AdamW with one cycle of the learning rate: linear warm-up, then cosine to 0.

    Args:
        start: folder of a run to start from. Its neurons may differ; scales are converted then,
            see `ashneuro.model.hand_over`. Empty: fresh weights.
        quantise_aware: compute Loihi's integers in the spiking encoder, with straight-through
            gradients; needs ``start``.
        seed: seed of initial weights, batch order, augmentation and dropout; at most 32 bits.
        epochs: passes over the training pairs.
        batch_size: pairs (questions) per batch, over all processes.
        learning_rate: peak of the cycle.
        weight_decay: of matrices and kernels; vectors are not decayed.
        warmup: share of all steps with rising learning rate.
        device: ``"auto"`` is the GPU if there is one.
        augment: strength of random shift, scale, rotation and colour changes; 0: none. Images are
            never mirrored.
        word_dropout: probability of leaving out a word of a training caption.
        label_smoothing: share of the image–text target that is spread over the batch.
        itc: weight of L_ITC, the image–text contrast.
        itm: weight of L_ITM, image–text matching with negatives sampled by similarity; needs the
            multimodal transformer.
        mlm: weight of L_MLM, the prediction of masked words from the image; needs the multimodal
            transformer.
        contrast: weight of L_CL, the contrast of two views at the spiking encoder's input.
        beta: tilt of L_CL's negatives toward hard ones; 0 is InfoNCE.
        synthetic: number of additional L_CL negatives per image, mixed from its hardest ones.
        changes: weight of the penalty on messages that change when a picture moves by a pixel, by
            their synops: what a stream is paid for. It takes a second pass of the encoder.
        stua: weight of L_STUA, the alignment of spikes to text.
        stua_reading: definition of L_STUA: ``"uni"``: contrast of spikes to fixed text features.
            ``"soft"``: the same with the texts' similarities as soft targets. ``"symmetric"``:
            contrast in both directions. ``"reconstruction"``: text features pass
            the spiking encoder and are reconstructed. ``"bag-of-words"``: the text's words are
            predicted from the spikes.
        stua_stops_at_concrete: stop the gradient of L_STUA at C, so that it trains the abstract
            encoder only and its effect can be measured separately.
        momentum_text: m of a moving average of the text encoder, which then gives the text features
            that L_STUA and ``unlabelled`` align images to; 0: the text encoder itself.
        unlabelled: weight of the alignment of unlabelled images to text features, and of unlabelled
            texts to their fragments; needs ``data.labelled`` below 1.
        firing_rate: target rate of every spiking layer, in spikes per neuron and timestep; only
            higher rates are penalised.
        firing_rate_weight: weight of the firing-rate penalty.
        synops: budget of the spiking encoder in synops per image; only the relative excess is
            penalised. 0: none.
        synops_from: budget at the start of the stage, from which it falls to ``synops``, by equal
            factors in equal times. 0: ``synops`` throughout.
        synops_fall: share of the stage in which the budget falls.
        synops_weight: weight of the synops penalty.
        teacher: folder of a run whose embeddings are distilled, with the same words and image
            size; ``"start"``: the network that the stage starts from, with the neurons it had.
            Empty: none.
        distil: with a teacher, weight of the divergence of image–text similarities within a batch.
        distil_embedding: with a teacher, weight of the distance of image embeddings.
        codebook: weight of the codebook loss, if there is a codebook.
        ema: decay of a moving average of the weights per step, 0.99 say; the average is evaluated
            and saved, and a later stage starts from it. 0: none.
        precision: ``"bf16"``: autocast, except for the spiking layers' own arithmetic.
        accumulate: number of batches per optimiser step.
        strategy: for several GPUs: ``"ddp"`` copies the model, ``"fsdp"`` shards it.
        checkpointing: recompute the spiking blocks in the backward pass to save memory.
        compile: use `torch.compile` for the concrete and the text encoder.
        cache_features: compute the features of a frozen backbone once, which needs ``augment = 0``;
            and those of a frozen text tower once per text, with ``word_dropout = 0`` and ``mlm =
            0``, kept in memory.
        save_every: write a checkpoint every so many batches (with ``accumulate``, once their step
            is complete), besides that of every epoch. 0: off.
        loggers: loggers that get the metrics of every epoch, beside ``metrics.jsonl``:
            ``"tensorboard"``, ``"csv"``, ``"wandb"``, ``"mlflow"``. ``tensorboard = true`` of
            earlier versions is read as the first.
        kernels: back end that computes the neurons in training. ``"auto"``: ``$ASHNEURO_KERNELS``,
            or the fastest that works here (see ``ashneuro doctor``).
        extended: what ``--resume`` with more epochs writes: the numbers of epochs, of the last
            stage, at which the run was to end before.
    """

    start: str = ""
    quantise_aware: bool = False
    seed: Annotated[int, Gt(-(2**32)), Lt(2**32)] = 0
    epochs: PositiveInt = 8
    batch_size: Annotated[int, Ge(2), Le(LARGEST_SIZE)] = 128
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
    changes: Annotated[float, Ge(0)] = 0.0
    beta: Annotated[float, Ge(0)] = 1.0
    synthetic: Annotated[int, Ge(0)] = 0
    stua: Annotated[float, Ge(0)] = 0.3
    stua_reading: Literal["uni", "soft", "symmetric", "reconstruction", "bag-of-words"] = "soft"
    stua_stops_at_concrete: bool = True
    momentum_text: Annotated[float, Ge(0), Lt(1)] = 0.99
    unlabelled: Annotated[float, Ge(0)] = 0.0
    firing_rate: Annotated[float, Gt(0), Le(1)] = 0.1
    firing_rate_weight: Annotated[float, Ge(0)] = 1.0
    synops: Annotated[float, Ge(0)] = 0.0
    synops_from: Annotated[float, Ge(0)] = 0.0
    synops_fall: Annotated[float, Gt(0), Le(1)] = 0.5
    synops_weight: Annotated[float, Ge(0)] = 1.0
    teacher: str = ""
    distil: Annotated[float, Ge(0)] = 1.0
    distil_embedding: Annotated[float, Ge(0)] = 2.0
    codebook: Annotated[float, Ge(0)] = 1.0
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    precision: Literal["32", "bf16"] = "32"
    accumulate: PositiveInt = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    checkpointing: bool = False
    compile: bool = False
    cache_features: bool = False
    save_every: Annotated[int, Ge(0)] = 0
    loggers: tuple[Logger, ...] = ()
    kernels: Literal["auto", "triton", "native", "torch", "norse"] = "auto"
    extended: tuple[PositiveInt, ...] = ()


STUA_HEAD_READINGS = ("uni", "soft", "symmetric")
"""Definitions of L_STUA that align pictures' spikes to texts, through the STUA head."""

Task = Literal["retrieval", "vqa", "entailment", "nlvr2"]
Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class StageNeuron:
    """``abstract`` of a stage: neurons of the abstract encoder while the stage lasts.

    Settings as in `AbstractConfig`; those that are not given are those of ``[model.abstract]``.
    """

    kind: Literal["spiking", "relu", "quantised-relu"] | None = None
    timesteps: Size | None = None
    dt_s: Positive | None = None
    tau_mem_s: Positive | None = None
    v_threshold: Weight | None = None
    bits: Annotated[int, Ge(0), Le(15)] | None = None
    neuron: SpikingNeuron | None = None
    reset: Reset | None = None
    tau_syn_s: Positive | None = None
    learn_decay: bool | None = None
    learn_threshold: LearnThreshold | None = None
    message_bits: Annotated[int, Ge(1), Le(15)] | None = None
    message_limit: Weight | None = None
    surrogate: SurrogateName | None = None
    slope: Weight | None = None
    detach_reset: bool | None = None


@dataclass(frozen=True)
class StageConfig:
    """``[[schedule]]``: one stage. Settings that are not given are those of ``[train]``.

    Every stage has its own cycle of the learning rate.

    Args:
        name: name in the metrics, e.g. ``pretrain``, ``stua`` or ``finetune``.
        epochs: passes over the stage's training data.
        task: ``"retrieval"``: image–text pairs and their objectives. Others: the questions in
            ``[tasks]``, with the task's own objective, the firing-rate and synops penalties and the
            codebook loss.
        parts: parts that learn: ``concrete``, ``abstract`` (with its read-out), ``text``,
            ``fusion`` (ratio, projections), ``multimodal``, ``heads``. Empty: all.
        abstract: neurons of the abstract encoder in this stage: ``{kind = "relu"}``. The last stage
            has those of ``[model.abstract]``. A model without an abstract encoder ignores them.
    """

    name: str
    epochs: PositiveInt
    task: Task = "retrieval"
    parts: tuple[Literal["concrete", "abstract", "text", "fusion", "multimodal", "heads"], ...] = ()
    abstract: StageNeuron | None = None
    learning_rate: Positive | None = None
    batch_size: Annotated[int, Ge(2), Le(LARGEST_SIZE)] | None = None
    itc: Weight | None = None
    itm: Weight | None = None
    mlm: Weight | None = None
    contrast: Weight | None = None
    changes: Weight | None = None
    stua: Weight | None = None
    stua_stops_at_concrete: bool | None = None
    firing_rate: Annotated[float, Gt(0), Le(1)] | None = None
    firing_rate_weight: Weight | None = None
    synops: Weight | None = None
    synops_from: Weight | None = None
    synops_fall: Annotated[float, Gt(0), Le(1)] | None = None
    synops_weight: Weight | None = None
    teacher: str | None = None
    distil: Weight | None = None
    distil_embedding: Weight | None = None
    ema: Annotated[float, Ge(0), Lt(1)] | None = None


@dataclass(frozen=True)
class RunConfig:
    """All settings of a training run.

    Without a ``schedule`` there is one stage: retrieval with the settings of ``[train]``.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    schedule: tuple[StageConfig, ...] = ()


def stages(config: RunConfig) -> tuple[tuple[StageConfig, TrainConfig], ...]:
    """Return every stage of the schedule with its training settings."""
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


def trains_stua_head(config: RunConfig) -> bool:
    """Return True if a stage aligns the read-out of pictures to texts through the STUA head."""
    return config.model.abstract.kind != "none" and any(
        stage.task == "retrieval" and settings.stua > 0 and settings.stua_reading in STUA_HEAD_READINGS
        for stage, settings in stages(config)
    )


def encoder_of(config: RunConfig, stage: StageConfig) -> AbstractConfig:
    """Return the abstract encoder's settings in a stage of ``config``."""
    abstract = config.model.abstract
    if stage.abstract is None or abstract.kind == "none":
        return abstract
    return replace(abstract, **{name: value for name, value in asdict(stage.abstract).items() if value is not None})


def with_encoder(config: RunConfig, abstract: AbstractConfig) -> RunConfig:
    """Return ``config`` with other settings of the abstract encoder."""
    return replace(config, model=replace(config.model, abstract=abstract))


def without_neurons(config: ModelConfig) -> ModelConfig:
    """Return ``config`` with default neurons: equal for two models that differ in nothing else."""
    default = AbstractConfig()
    neurons = {item.name: getattr(default, item.name) for item in fields(StageNeuron)}
    if config.abstract.kind == "none":
        del neurons["kind"]
    return replace(config, abstract=replace(config.abstract, **neurons))


def trained_tasks(config: RunConfig) -> tuple[Task, ...]:
    """Return the tasks of the schedule other than retrieval, without repetition."""
    return tuple(dict.fromkeys(stage.task for stage in config.schedule if stage.task != "retrieval"))


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the settings in a TOML file or a run's ``config.json``.

    Args:
        path: a file, or the name of one of `presets`.
        overrides: ``section.key=value`` each, applied in order.

    Raises:
        ConfigError: the file cannot be read, or keys are unknown, or values are not valid.
    """
    if str(path) in sweeps() and not Path(path).exists():
        raise ConfigError(f"{path} is a sweep, not a preset", "it has factors and seeds", f"ashneuro sweep {path}")
    path = presets().get(str(path), Path(path))
    if (path / "config.json").exists():
        raise ConfigError(
            f"{path} is a run",
            "a file of settings is expected",
            f"ashneuro train --resume {path}, or its settings anew: ashneuro train {path}/config.json --out OTHER",
        )
    values = read_settings(path, presets(), "preset")
    try:
        values = CONFIG.check(values)
    except ValueError as error:
        raise ConfigError(f"cannot read {path}", str(error), remedy_of(error, "correct its schema")) from error
    if path.name == "config.json":  # of a run, which keeps its meaning
        _set_missing(values, EARLIER)
        # Without a transformer there are no heads: old and new settings mean the same.
        multimodal = values["model"]["multimodal"] if isinstance(values["model"], dict) else None
        if isinstance(multimodal, dict) and not multimodal.get("layers"):
            for name in EARLIER["model"]["multimodal"]:
                multimodal.pop(name, None)
    for override in overrides:
        _override(values, override)
    train = values.get("train")
    if isinstance(train, dict) and isinstance(train.get("tensorboard"), bool) and train.pop("tensorboard"):
        train["loggers"] = [*train.get("loggers", ()), "tensorboard"]
    return parse_config(values, name=str(path))


def _set_missing(values: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Set what ``values`` lacks of ``defaults``, section by section."""
    for name, default in defaults.items():
        given = values.setdefault(name, {} if isinstance(default, Mapping) else default)
        if isinstance(default, Mapping) and isinstance(given, dict):
            _set_missing(given, default)


def settled(config: RunConfig, made: RunConfig) -> RunConfig:
    """Return ``config`` with settings that follow from the data as the run ``made`` has them."""
    data, found = config.data, made.data
    data = replace(
        data,
        max_words=data.max_words or found.max_words,
        tokeniser=found.tokeniser if data.tokeniser == "auto" else data.tokeniser,
        epoch_pairs=data.epoch_pairs or found.epoch_pairs,
    )
    return replace(config, data=data)


def with_last_epochs(config: RunConfig, epochs: int) -> RunConfig:
    """Return the settings with another number of epochs in the last stage."""
    if not config.schedule:
        return replace(config, train=replace(config.train, epochs=epochs))
    *before, last = config.schedule
    return replace(config, schedule=(*before, replace(last, epochs=epochs)))


def presets() -> dict[str, Path]:
    """Return the files of the settings that come with ashneuro, by name."""
    return {name: path for name, path in _examples().items() if name not in SWEEPS}


def sweeps() -> dict[str, Path]:
    """Return the files of the sweeps that come with ashneuro, by name."""
    return {name: path for name, path in _examples().items() if name in SWEEPS}


def _examples() -> dict[str, Path]:
    package = Path(__file__).resolve().parent
    installed = package / "examples"  # a wheel has them inside the package, a checkout beside it
    folder = installed if installed.is_dir() else package.parent / "examples"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_settings(path: Path, names: Collection[str], what: str) -> dict[str, Any]:
    """Return the values in a TOML file or a ``.json``.

    Args:
        names: examples that a user may have meant.
        what: ``"preset"`` or ``"sweep"``, the word for these.

    Raises:
        ConfigError: the file cannot be read, or holds no table.
    """
    remedy = f"name a .toml, or a {what}: {', '.join(names)}"
    try:
        values = read_json(path) if path.suffix == ".json" else read_toml(path)
    except FileNotFoundError as error:
        near = difflib.get_close_matches(str(path), names, n=1)
        why = f"there is no such file, and no {what} of that name" + (f" (did you mean {near[0]}?)" if near else "")
        raise ConfigError(f"cannot read {path}", why, remedy) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), remedy) from error
    except ValueError as error:
        raise ConfigError(f"cannot read {path}", str(error), "correct the line that the message names") from error
    if not isinstance(values, dict):
        raise ConfigError(f"cannot read {path}", f"it holds a {type(values).__name__}, not settings", remedy)
    return values


def parse_config(values: Mapping[str, Any], name: str = "settings") -> RunConfig:
    """Return ``values`` as settings.

    Raises:
        ConfigError: keys are unknown, or values are not valid; all of them in one error.
    """
    # Imported here: `--help` and the other commands that read no settings start without it.
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    # pydantic ignores unknown keys of dataclasses.
    unknown = list(_unknown_keys(RunConfig, values, ""))
    if unknown:
        raise ConfigError(f"{name}: {len(unknown)} unknown setting(s)", "; ".join(unknown), "correct or remove them")
    strict = with_config(ConfigDict(allow_inf_nan=False))(RunConfig)
    config, cause = None, None
    try:
        config = TypeAdapter(strict).validate_python(dict(values))
        lines = list(_truths_for_numbers(config, values, ""))
    except ValidationError as error:
        lines, cause = invalid_values(error), error
    if config is None or lines:
        raise ConfigError(
            f"{name}: {len(lines)} setting(s) cannot be used", "; ".join(lines), "correct them"
        ) from cause
    return config


def _truths_for_numbers(made: Any, values: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield a line per number that was given as true or false, which pydantic takes for 1 and 0."""
    for key, value in values.items():
        own = getattr(made, key, None)
        if isinstance(value, Mapping) and is_dataclass(own):
            yield from _truths_for_numbers(own, value, f"{prefix}{key}.")
        elif isinstance(value, bool) and isinstance(own, int | float) and not isinstance(own, bool):
            yield f"{prefix}{key} = {value!r}: Input should be a number"


def dump_config(config: RunConfig) -> dict[str, Any]:
    """Return the settings as plain values for ``config.json``."""
    return asdict(config)


def differences(one: Any, other: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two sections, as plain values, differ: both values by dotted
    name.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys((*one, *other)):
            found |= differences(one.get(key), other.get(key), f"{name}.{key}".strip("."))
        return found
    return {} if one == other else {name: (one, other)}


def cache_dir() -> Path:
    """Return the cache folder.

    ``$ASHNEURO_HOME``, else ``$XDG_CACHE_HOME/ashneuro``, else ``~/.cache/ashneuro``. Everything in
    it can be made again.

    Raises:
        ConfigError: the variable names the home of no user, or this user has no home.
    """
    if home := os.environ.get("ASHNEURO_HOME"):
        folder = user_path(home)
        if str(folder).startswith("~"):
            raise ConfigError(f"ASHNEURO_HOME={home}", "there is no such user", "export ASHNEURO_HOME=FOLDER")
        return folder
    cache = os.environ.get("XDG_CACHE_HOME") or str(user_path("~/.cache"))
    if cache.startswith("~"):
        why = "HOME is not set, and this user has no home folder"
        raise ConfigError("there is no folder for what ashneuro keeps", why, "export ASHNEURO_HOME=FOLDER")
    return Path(cache) / "ashneuro"


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}", "an override is written section.key=value", "--set train.epochs=3")
    try:
        found = parse_toml(f"value = {value}")
        if len(found) > 1:
            raise ConfigError(f"--set {text[:80]}", "it sets more than one key", "--set KEY=VALUE for each")
        parsed = found["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    except ValueError as error:
        raise ConfigError(f"--set {text[:80]}", str(error), "--set train.epochs=3") from error
    *sections, leaf = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {text}", f"{section} is a value, not a section", "--set train.epochs=3")
    values[leaf] = parsed


def setting_names(leaf: str) -> list[str]:
    """Return the full names of settings: ``train.epochs`` for the leaf ``epochs``."""
    return list(_named(RunConfig, leaf, ""))


def _named(cls: type, leaf: str, prefix: str) -> Iterable[str]:
    for item in fields(cls):
        if is_dataclass(item.default_factory):
            yield from _named(item.default_factory, leaf, f"{prefix}{item.name}.")  # type: ignore[arg-type]
        elif item.name == leaf:
            yield f"{prefix}{leaf}"


def invalid_values(error: ValidationError) -> list[str]:
    """Return a line per setting that pydantic refused: its name, its value and the reason."""
    return [
        f"{'.'.join(str(part) for part in item['loc'])} = {item['input']!r}: {item['msg']}" for item in error.errors()
    ]


def _unknown_keys(cls: type, values: Mapping[str, Any], prefix: str) -> Iterable[str]:
    known = {item.name: item for item in fields(cls)}
    for key, value in values.items():
        if key not in known:
            near = [f"{prefix}{name}" for name in difflib.get_close_matches(key, known, n=1)]
            near = near or ([] if prefix else setting_names(key))
            yield f"{prefix}{key}" + (f" (did you mean {' or '.join(near)}?)" if near else "")
        elif isinstance(value, Mapping):
            default = known[key].default_factory
            if is_dataclass(default):
                yield from _unknown_keys(default, value, f"{prefix}{key}.")  # type: ignore[arg-type]
        elif key == "schedule" and isinstance(value, list | tuple):
            for number, stage in enumerate(value):
                if isinstance(stage, Mapping):
                    yield from _unknown_keys(StageConfig, stage, f"schedule.{number}.")
                    if isinstance(stage.get("abstract"), Mapping):
                        yield from _unknown_keys(StageNeuron, stage["abstract"], f"schedule.{number}.abstract.")
