"""What a run is made of: frozen settings, read from TOML, overridden as ``section.key=value``.

A run saves its resolved settings as ``config.json``; the same dataclasses read it back.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

from ashneuro.errors import ConfigError

PositiveInt = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True)
class DataConfig:
    """Which image–text pairs, and how they are split.

    Args:
        source: a name from ``ashneuro data list``, or the path of a COCO captions JSON, a ``.jsonl`` or a ``.csv``.
        images: folder of the image files, for a path; empty: the folder of the file.
        split: emoji: ``"style"`` (test on an unseen drawing style) or ``"concept"`` (test on unseen concepts).
            Other sources: the file's own split column, or ``"random"`` (seeded 80/10/10 by caption).
        styles: emoji, style split: the drawing styles to train on; empty: all but the held-out one.
        image_size: images are resized to this many pixels, both sides.
        captions: ``"separate"``: each caption is a text of its own, as sentences are. ``"joined"``: all captions of a pair
            make one text, as a name and its keywords do.
        max_words: texts are cut after this many words.
    """

    source: str = "emoji"
    images: str = ""
    split: Literal["style", "concept", "file", "random"] = "style"
    styles: tuple[str, ...] = ()
    image_size: PositiveInt = 32
    captions: Literal["separate", "joined"] = "separate"
    max_words: PositiveInt = 24


@dataclass(frozen=True)
class ConcreteConfig:
    """The visual concrete encoder (ANN, on the host).

    Args:
        channels: one 3×3 convolution of stride 2, batch norm and ReLU per entry; thin, because what the host computes is paid for.
        width: D, channels of the continuous latents C.
    """

    channels: tuple[PositiveInt, ...] = (24, 48)
    width: PositiveInt = 64


@dataclass(frozen=True)
class AbstractConfig:
    """The semantic abstract encoder (deployed), or one of its controls.

    Args:
        kind: ``"spiking"``; or a control with the same topology: ``"relu"``; ``"quantised-relu"`` with ⌈log2(timesteps + 1)⌉ bits;
            ``"none"``: no abstract encoder, A = 0.
        channels: the first entry is the number of channels of the input current, at the resolution of C; each further
            one is a block: a convolution of stride 2, then two convolutions with a scaled skip around them.
        units: K, semantic units of the last, dense layer.
        timesteps: T, steps per sample.
        dt_s: duration of one step.
        tau_mem_s: membrane time constant.
        v_threshold: firing threshold; the resting and the reset potential are 0.
    """

    kind: Literal["spiking", "none", "relu", "quantised-relu"] = "spiking"
    channels: Annotated[tuple[PositiveInt, ...], Len(2)] = (64, 96)
    units: PositiveInt = 256
    timesteps: PositiveInt = 4
    dt_s: Positive = 1e-3
    tau_mem_s: Positive = 2e-3
    v_threshold: Positive = 1.0


@dataclass(frozen=True)
class TextConfig:
    """The text encoder (host): word embeddings, transformer layers, mean over words.

    Args:
        width: channels of a word; a multiple of ``heads``.
        layers: transformer layers; 0 leaves a bag of words.
        heads: attention heads.
        dropout: probability of dropping a feature while training.
    """

    width: PositiveInt = 128
    layers: Annotated[int, Ge(0)] = 1
    heads: PositiveInt = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1


@dataclass(frozen=True)
class ModelConfig:
    """An ASH-Net: concrete and abstract encoder, text encoder, fusion; ``embedding`` is the width that images and texts meet in."""

    concrete: ConcreteConfig = field(default_factory=ConcreteConfig)
    abstract: AbstractConfig = field(default_factory=AbstractConfig)
    text: TextConfig = field(default_factory=TextConfig)
    embedding: PositiveInt = 128


@dataclass(frozen=True)
class TrainConfig:
    """How the model learns: AdamW, one cycle of the learning rate (linear warm-up, then cosine to 0).

    Args:
        seed: of the initial weights, the order of the pairs, the augmentation and dropout.
        device: ``"auto"`` takes the GPU where there is one.
        augment: strength of random shift, scale, rotation and colour; 0 leaves the images alone. Images are never mirrored.
        word_dropout: probability that a word of a training caption is left out.
        label_smoothing: share of the image–text target that is spread over the whole batch.
        contrast: weight of L_CL, the contrast of two views at the spiking encoder's input.
        beta: tilt of its negatives toward hard ones; 0 is plain InfoNCE.
        stua: weight of L_STUA, from the spikes to the fixed text features.
        stua_stops_at_concrete: L_STUA trains the abstract encoder only, so that its effect can be told apart.
        firing_rate: target of every spiking layer, spikes per neuron and step; only a higher rate is penalised.
        firing_rate_weight: weight of the penalty.
    """

    seed: int = 0
    epochs: PositiveInt = 8
    batch_size: Annotated[int, Ge(2)] = 128
    learning_rate: Positive = 2e-3
    weight_decay: Annotated[float, Ge(0)] = 0.05
    warmup: Annotated[float, Ge(0), Le(1)] = 0.1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    augment: Annotated[float, Ge(0)] = 1.0
    word_dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.3
    contrast: Annotated[float, Ge(0)] = 0.1
    beta: Annotated[float, Ge(0)] = 1.0
    stua: Annotated[float, Ge(0)] = 0.2
    stua_stops_at_concrete: bool = True
    firing_rate: Annotated[float, Gt(0), Le(1)] = 0.1
    firing_rate_weight: Annotated[float, Ge(0)] = 1.0


@dataclass(frozen=True)
class RunConfig:
    """Everything that a training run depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Return the settings in a TOML (or a run's ``config.json``), with ``section.key=value`` overrides applied.

    Args:
        path: a file, or the name of one of `presets`.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is of the wrong kind; all of them at once.
    """
    path = presets().get(str(path), Path(path))
    values = _read(path)
    for override in overrides:
        _override(values, override)
    return parse_config(values, name=str(path))


def presets() -> dict[str, Path]:
    """Return the settings that come with ashneuro, by name: from the installed package, or from the checkout's examples."""
    package = Path(__file__).resolve().parent
    inside = package / "examples"
    folder = inside if inside.is_dir() else package.parent / "examples"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "ashneuro train examples/tiny.toml") from error
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}", str(error), "mend the line that the message names") from error
    if not isinstance(values, dict):
        raise ConfigError(f"cannot read {path}", f"it holds a {type(values).__name__}, not settings", "ashneuro train examples/tiny.toml")
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
        lines = [f"{'.'.join(str(part) for part in item['loc'])} = {item['input']!r}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{name}: {len(lines)} setting(s) cannot be used", "; ".join(lines), "correct them") from error


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
