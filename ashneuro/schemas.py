"""Versions of the files that ashneuro writes and reads again, and models of a run's small ones.

A file states its schema, which is a name and a version, e.g. ``"ashneuro-bundle/2"``. `Format`
writes it, and compares a file with its version and its model before anything is made of it, so that
a damaged one is an error that names the entry, and one of a later version says so. Files of kinds
that once had no schema are read as version 0. Keys that a model does not have are left out: a later
version may have added them. Fields with a default are missing in files of earlier versions.

Models of other files are beside what is made of them: evaluations in `ashneuro.evaluation` and
`ashneuro.exchange`, certificates, programs and manifests in `ashneuro.program`, spike counts in
`ashneuro.simulation.record`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ashneuro.files import conform, make_room, read_json, write_text

UPDATE = "update ashneuro (pip install --upgrade ashneuro), or use the version that wrote the file"


class LaterVersionError(ValueError):
    """A file was written by a later version of ashneuro."""


@dataclass(frozen=True)
class Format:
    """A kind of file that ashneuro writes, with its version and its model.

    Args:
        name: name of the schema.
        model: a dataclass, or another type: what a file holds beside its schema.
        version: the newest, which is written; all from 1 on are read.
        bare: files of earlier versions of ashneuro have no schema. They are read as version 0.
    """

    name: str
    model: Any
    version: int = 1
    bare: bool = False

    @property
    def schema(self) -> str:
        """Name and version, as a file states them."""
        return f"{self.name}/{self.version}"

    def stamped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a file with their schema before them."""
        return {"schema": self.schema, **values}

    def version_of(self, values: Any) -> int:
        """Return the version that the values of a file state.

        Raises:
            LaterVersionError: it is later than those that are read here.
            ValueError: they are of another schema, or of none where one is needed.
        """
        if not isinstance(values, dict):
            raise ValueError(f"it holds {type(values).__name__}, not an object")
        stated = values.get("schema")
        if stated is None and "schema" not in values and self.bare:
            return 0
        known = self.schema if self.version == 1 else f"{self.name}/1 to {self.version}"
        found = re.fullmatch(rf"{re.escape(self.name)}/([1-9]\d{{0,5}})", stated) if isinstance(stated, str) else None
        if found is None:
            raise ValueError(f"it has the schema {str(stated)[:60]!r}; this version reads {known}")
        if (version := int(found[1])) > self.version:
            raise LaterVersionError(
                f"it has the schema {stated!r}, of a later version of ashneuro; this version reads {known}"
            )
        return version

    def check(self, values: Any) -> dict[str, Any]:
        """Return the values of a file without their schema, as they are, once they were compared
        with the model.

        Raises:
            ValueError: see `version_of`, or they are not those of the model; the message names the
                first of them.
        """
        body = self._body(values)
        conform(body, self.model)
        return body

    def parse(self, values: Any) -> Any:
        """Return the values of a file as an object of the model.

        Raises:
            ValueError: see `check`.
        """
        return conform(self._body(values), self.model)

    def _body(self, values: Any) -> dict[str, Any]:
        """Return the values of a file of a known version without their schema."""
        self.version_of(values)
        return {name: value for name, value in values.items() if name != "schema"}

    def load(self, path: str | Path) -> dict[str, Any]:
        """Return the values in a JSON file without their schema; see `check`.

        Raises:
            OSError: it cannot be read, or is no regular file.
            ValueError: it is not JSON, or see `check`.
        """
        return self.check(read_json(path))

    def kept(self, path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Return the values of a file in the cache folder.

        One that is missing, damaged or of another version is made again; without room for it, it is
        made again the next time too.

        Args:
            make: returns the values.
        """
        try:
            return self.load(path)
        except (OSError, ValueError):
            values = dict(make())
        with suppress(OSError):
            make_room(path)
            write_text(path, json.dumps(self.stamped(values)))
        return values


def remedy_of(error: Exception, otherwise: str) -> str:
    """Return the remedy of a file that cannot be read: an update, if it is of a later version."""
    return UPDATE if isinstance(error, LaterVersionError) else otherwise


@dataclass(frozen=True)
class OriginFile:
    """``origin.json`` of a bundle: the run, and the weights, that it was made from."""

    weights_sha256: str
    run: str = ""


@dataclass(frozen=True)
class ExportsFile:
    """``exports.json`` of a run: digests of its bundles, by their folder."""

    digests: dict[str, str]


@dataclass(frozen=True)
class WordsFile:
    """``vocabulary.json``: words by index. In version 0 the list alone."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class PiecesFile:
    """``vocabulary.json`` of a tokeniser of pieces: the JSON of a `tokenizers.Tokenizer`."""

    tokeniser: Literal["pieces"]
    definition: dict[str, Any]


@dataclass(frozen=True)
class TowerFile:
    """``vocabulary.json`` of a pretrained text tower."""

    tower: Literal["transformers", "open_clip"]
    weights: str


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


@dataclass(frozen=True)
class RowFile:
    """``row.json`` of a sweep's run; its measures have keys of their own."""

    variant: str
    levels: dict[str, str]
    seed: int


@dataclass(frozen=True)
class ReadyFile:
    """``ready.json`` of Lava's environment: the hash of the requirements that are installed."""

    requirements: str


@dataclass(frozen=True)
class BrokenFile:
    """Pictures that cannot be decoded, and why, in the cache folder."""

    broken: dict[str, str]


@dataclass(frozen=True)
class SurveyFile:
    """Texts and size of a stream in the cache folder; see `ashneuro.data.shards.Survey`."""

    samples: list[tuple[str, list[str]]]
    pairs: int
    problems: list[str]


ORIGIN_NAME = "origin.json"
"""Name of an `OriginFile` in a bundle."""

CONFIG = Format("ashneuro-config", dict[str, Any], bare=True)
"""``config.json``; `ashneuro.config.parse_config` compares it with `RunConfig`."""
LABELS = Format("ashneuro-labels", dict[Literal["vqa", "entailment", "nlvr2"], list[str]], bare=True)
"""``labels.json``: answers in the order of the head's scores, by task."""
EPOCH = Format("ashneuro-metrics", EpochLine, bare=True)
TOTALS = Format("ashneuro-metrics", TotalsLine, bare=True)
ORIGIN = Format("ashneuro-origin", OriginFile, bare=True)
EXPORTS = Format("ashneuro-exports", ExportsFile)
READY = Format("ashneuro-lava-environment", ReadyFile, bare=True)
BROKEN = Format("ashneuro-broken-pictures", BrokenFile)
SURVEY = Format("ashneuro-stream-survey", SurveyFile)
ROW = Format("ashneuro-row", RowFile, bare=True)
WORDS = Format("ashneuro-vocabulary", WordsFile, bare=True)
PIECES = Format("ashneuro-vocabulary", PiecesFile, bare=True)
TOWER = Format("ashneuro-vocabulary", TowerFile, bare=True)
