"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from ashneuro.errors import ConfigError

if TYPE_CHECKING:
    from ashneuro.program.program import Precision
    from ashneuro.workflows.lava import LavaSettings
    from ashneuro.workflows.places import Place
    from ashneuro.workflows.streams import StreamSettings


def whole_number(type_: object, tokens: Sequence[Token]) -> int:
    """Return the whole number that an option was given; cyclopts itself rounds 1.5 to 2.

    Raises:
        ValueError: it is none.
    """
    (token,) = tokens
    try:
        return int(token.value)
    except ValueError:
        raise ValueError(f"{token.value[:40]} is not a whole number, such as 8") from None


Whole = Annotated[int, Parameter(converter=whole_number)]

AsJson = Annotated[bool, Parameter(help="Print JSON instead of tables.", negative=())]

SkipBroken = Annotated[
    bool, Parameter(help="Leave out pictures and entries that cannot be read, and list them in a file.", negative=())
]


@Parameter(name="*")
@dataclass(frozen=True)
class DataOptions:
    """Place of a run's data now, or of other data for it."""

    data: Annotated[
        str | None,
        Parameter(help="Data: a file, a folder or a data set's name; the run's, moved, or others. Default: the run's."),
    ] = None
    images: Annotated[
        str | None, Parameter(help="Folder of the pictures. Default: the run's, or with --data the file's folder.")
    ] = None

    def place(self) -> Place:
        """Return them as the workflows take them."""
        from ashneuro.workflows.places import Place

        return Place(self.data or "", self.images or "")


# ``fixed`` is the word of older versions.
PrecisionWord = Literal["float", "integer", "fixed"]


def precision_of(word: PrecisionWord) -> Precision:
    """Return the precision that an option names."""
    return "float" if word == "float" else "integer"


@Parameter(name="*")
@dataclass(frozen=True)
class ContractOptions:
    """Semantics that a file may leave open; given here, they win over a NIR file.

    A lava-dl file takes ``comparison``, ``input_shape`` and ``timesteps`` alone.
    """

    dt: Annotated[float | None, Parameter(help="Duration of one step, seconds.")] = None
    timesteps: Annotated[Whole | None, Parameter(help="Steps per sample.")] = None
    reset: Annotated[
        Literal["value", "subtract"] | None,
        Parameter(help="Effect of a spike on v: 'value' sets it to v_reset, 'subtract' takes v_threshold away."),
    ] = None
    reset_delay: Annotated[Whole | None, Parameter(help="Steps between a spike and its reset.")] = None
    comparison: Annotated[
        Literal["strict", "inclusive"] | None,
        Parameter(help="A neuron spikes at v > v_threshold (strict) or at v ≥ v_threshold (inclusive)."),
    ] = None
    message: Annotated[
        Literal["spike", "count"] | None,
        Parameter(help="A neuron spikes once in a step (spike), or as often as v_threshold fits into v (count)."),
    ] = None
    message_limit: Annotated[Whole | None, Parameter(help="Largest number of spikes of a count.")] = None
    start: Annotated[Literal["v_leak", "v_reset"] | None, Parameter(help="Value of v when a sample starts.")] = None
    integration: Annotated[
        Literal["euler", "exponential"] | None,
        Parameter(help="Decay of a step: dt/τ (Norse, snnTorch, SpikingJelly) or 1 − e^(−dt/τ) (sinabs)."),
    ] = None
    if_convention: Annotated[
        Literal["per-step", "per-second"] | None,
        Parameter(help="IF adds R·x once a step (Norse, sinabs, snnTorch) or dt·R·x (SpikingJelly)."),
    ] = None
    input_coding: Annotated[
        Literal["constant-current", "current", "spikes"] | None, Parameter(help="Kind of values that the inputs take.")
    ] = None
    input_shape: Annotated[
        str | None, Parameter(help="C,H,W: shape of the input of a .net file that begins with a convolution.")
    ] = None

    def overrides(self) -> dict[str, Any]:
        """Return the fields that were given.

        Raises:
            ConfigError: the input shape is not a list of numbers.
        """
        named: dict[str, Any] = {"dt_s" if name == "dt" else name: value for name, value in vars(self).items()}
        if self.input_shape is not None:
            named["input_shape"] = _shape(self.input_shape)
        return {name: value for name, value in named.items() if value is not None}


def _shape(text: str) -> tuple[int, ...]:
    """Return the shape that a text such as ``2,34,34`` or ``2x34x34`` states."""
    try:
        return tuple(int(size) for size in text.replace("x", ",").split(","))
    except ValueError:
        why = "a shape is whole numbers with commas between them"
        raise ConfigError(f"--input-shape {text}", why, "--input-shape C,H,W") from None


@Parameter(name="*")
@dataclass(frozen=True)
class LavaWorkers:
    """Lava's workers; see docs/lava.md."""

    workers: Annotated[Whole, Parameter(help="Number of Lava workers that share the samples.")] = 1
    lava_command: Annotated[
        list[str] | None,
        Parameter(
            help="Command that starts a worker, e.g. 'ssh host python3.10 lava_worker/worker.py'; repeatable, "
            "for workers on several hosts. Default: this machine's.",
            negative=(),
        ),
    ] = None
    lava_timeout: Annotated[float, Parameter(help="Seconds that one reply of a worker may take.")] = 300.0

    def settings(self) -> LavaSettings:
        """Return them as the workflows take them."""
        from ashneuro.workflows.lava import LavaSettings

        commands = None if self.lava_command is None else tuple(self.lava_command)
        return LavaSettings(self.workers, commands, self.lava_timeout)


@Parameter(name="*")
@dataclass(frozen=True)
class StreamOptions:
    """Clips, coded by the changes from frame to frame; see docs/streams.md."""

    stream: Annotated[
        str | None,
        Parameter(help="Clips: a named source, a folder, an animated picture, or 'own': the run's pictures, moving."),
    ] = None
    stream_bits: Annotated[
        Whole | None, Parameter(help="Payload bits of a level. Default: those of a quantised ReLU, or of the messages.")
    ] = None
    stream_threshold: Annotated[float, Parameter(help="Smallest change that is sent, in levels. 1: every change.")] = (
        1.0
    )

    def require_unused(self) -> None:
        """Raise `ConfigError` if settings of a stream are given without one."""
        if self.stream_bits is not None or self.stream_threshold != 1:
            raise ConfigError("--stream-bits or --stream-threshold", "there is no stream", "--stream SOURCE as well")

    def settings(self) -> StreamSettings:
        """Return them as the workflows take them."""
        from ashneuro.workflows.streams import StreamSettings

        return StreamSettings(self.stream_bits, self.stream_threshold)


def _whole_or_all(type_: object, tokens: Sequence[Token]) -> int | Literal["all"]:
    return "all" if tokens[0].value == "all" else whole_number(type_, tokens)


@Parameter(name="*")
@dataclass(frozen=True)
class LavaOptions:
    """Lava's workers and stock samples; see docs/lava.md."""

    where: LavaWorkers | None = None
    stock: Annotated[
        int | Literal["all"] | None,
        Parameter(
            converter=_whole_or_all,
            help="Number of samples, or all, that run through Lava's own synapses; the others run side by side, and "
            "both ways are compared on these samples.",
        ),
    ] = None

    def settings(self) -> LavaSettings:
        """Return them as the workflows take them."""
        from dataclasses import replace

        return replace((self.where or LavaWorkers()).settings(), stock=self.stock)
