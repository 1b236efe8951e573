"""WebDataset shards as a stream, from disk or from an address: pairs for training, in an order that
depends on the seed and the epoch alone.

fsspec opens the shards, and webdataset takes them apart; neither keeps more than a sample in
memory. What waits to be shuffled is limited in bytes.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import random
import re
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from ashneuro.config import DataConfig, cache_dir
from ashneuro.data.archives import Copies, Members, captions_of_sample, is_tar, pictures_of_sample
from ashneuro.data.columns import Columns, is_picture
from ashneuro.data.images import decode_image
from ashneuro.data.pairs import Pair, Splits
from ashneuro.data.readers import report
from ashneuro.data.splits import hash_order
from ashneuro.data.walk import files_below
from ashneuro.errors import ConfigError, DataError, need
from ashneuro.files import user_path
from ashneuro.schemas import SURVEY

LANES = 16
"""Number of lanes at most: each reads shards of its own and gives its own rows of every batch, so
that batches do not depend on the number of processes that read them."""

FEW_LANES = 4
"""Number of lanes below which reading side by side counts for more than equal shares."""

BUFFER = 16 << 20
"""Bytes of samples, pictures not decoded, that wait in a lane to be shuffled."""

OVERHEAD = 512
"""Bytes of a sample besides its picture and its texts."""

SAMPLE_PAIRS = 256
"""Number of training pairs that are kept: to calibrate integers on, and for `--part train`."""

ATTEMPTS, PAUSE_S = 3, 1.0
"""Number of times that a shard at an address is read, and the pause before the second one; the next
pause is twice as long."""

LISTED = 10_000
"""Number of lines about what was left out that are kept."""

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """A picture, not decoded, and its captions.

    Args:
        key: name of the shard, then the sample's in it.
        picture: bytes of the file.
    """

    key: str
    captions: tuple[str, ...]
    picture: bytes = b""

    @property
    def concept(self) -> str:
        """Equal for pictures with equal captions, which are no negatives of each other."""
        return "\n".join(sorted(self.captions))

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return len(self.picture) + sum(map(len, self.captions)) + OVERHEAD


@dataclass(frozen=True)
class Survey:
    """Texts and size of a stream, read before training.

    Args:
        samples: its first ``data.vocabulary_pairs`` pairs, without pictures.
        pairs: number of pairs of an epoch.
        problems: what cannot be read, one line each; pictures are not decoded.
    """

    samples: tuple[Sample, ...]
    pairs: int
    problems: tuple[str, ...]


def is_address(source: str) -> bool:
    """Return True for the address of shards, such as ``https://…`` or ``s3://…``."""
    return bool(_ADDRESS.match(source))


def is_streamed(config: DataConfig) -> bool:
    """Return True if the training pairs are read as a stream."""
    return config.stream or is_address(config.source)


class Stream:
    """Training pairs of shards that are never in memory as a whole.

    Args:
        config: settings; ``source`` names the shards.
        buffer: bytes that wait in a lane to be shuffled.

    Attributes:
        shards: their paths or addresses.
        left_out: with ``data.skip_broken``: what was left out so far, one line each; only the first
            `LISTED`.
        left: number of all that was left out.

    Raises:
        DataError: there are no shards.
    """

    def __init__(self, config: DataConfig, buffer: int = BUFFER) -> None:
        self.config, self.shards, self._buffer = config, expand(config.source), buffer
        self._columns = Columns(config.image_column, config.caption_column)
        self.left_out: dict[str, None] = {}
        self.left = 0

    def lanes(self, processes: int, batch_size: int) -> int:
        """Return the number of lanes: at most `LANES`, or as many as processes if these are more.

        It divides the batch, and the number of shards if it can: then an epoch is every pair once,
        where shards are of one size.
        """
        limit = min(max(LANES, processes), len(self.shards), batch_size)
        possible = [count for count in range(1, limit + 1) if batch_size % count == 0]
        even = [count for count in possible if len(self.shards) % count == 0]
        return even[-1] if even[-1] >= FEW_LANES else possible[-1]

    def survey(self) -> Survey:
        """Return the captions of the first pairs, and the number of pairs of an epoch.

        Without ``data.epoch_pairs`` every shard is read once to count the pairs. The result is kept
        in the cache folder until the names or sizes of shards change.

        Raises:
            DataError: something cannot be read, and ``data.skip_broken`` is not set; names all
                problems of the shards that were read.
        """
        found = SURVEY.kept(cache_dir() / "streams" / f"{self._digest()}.json", self._read_survey)
        samples = tuple(Sample(key, tuple(texts)) for key, texts in found["samples"])
        known = Survey(samples, found["pairs"], tuple(found["problems"]))
        if not self.config.skip_broken:
            report(self.config.source, list(known.problems))
        for problem in known.problems:
            self.leave_out(problem)
        if not known.samples:
            why = known.problems[0] if known.problems else "no shard holds a picture with a caption"
            raise DataError(f"{self.config.source} has no pairs", why, "check the shards: ashneuro data check SHARD")
        return known

    def first(self, count: int) -> Iterator[Sample]:
        """Iterate over the first ``count`` samples, in the order of the shards."""
        everything = itertools.chain.from_iterable(self.read(number) for number in range(len(self.shards)))
        return itertools.islice(everything, count)

    def lane(self, epoch: int, seed: int, number: int, lanes: int) -> Iterator[Sample]:
        """Iterate over the samples of lane ``number`` of ``lanes``, without end: shards in a random
        order, and samples shuffled in a buffer.

        The shards of an epoch are passes over all of them, one after the other, each in an order of
        its own; lane i of n reads shards i, i + n, i + 2n, … of them. No sample comes a second time
        before all of the lane's shards of a pass were read.

        Raises:
            DataError: something cannot be read, or all shards are empty.
        """
        chance = random.Random(f"{seed}/{epoch}/{number}")
        count = len(self.shards)
        position, empty = number, 0
        while True:
            turn = position // count
            order = [int(name) for name in hash_order(map(str, range(count)), f"shards/{seed}/{epoch}/{turn}")]
            own = range(position, (turn + 1) * count, lanes)
            samples = itertools.chain.from_iterable(self.read(order[place % count]) for place in own)
            found = False
            for sample in _shuffled(samples, self._buffer, chance):
                found = True
                yield sample
            position, empty = own[-1] + lanes, 0 if found else empty + len(own)
            if empty > 2 * count:
                raise DataError(
                    f"{self.config.source} has no pairs left",
                    "its shards, one after the other, hold none that can be read",
                    "check the shards: ashneuro data check SHARD",
                )

    def read(self, number: int) -> Iterator[Sample]:
        """Iterate over the samples of a shard.

        A shard at an address that breaks off is read again, from the sample after the last one.

        Raises:
            DataError: something cannot be read, and ``data.skip_broken`` is not set.
        """
        shard, given, told = self.shards[number], 0, 0
        for attempt in itertools.count(1):
            try:
                for position, (sample, problem) in enumerate(_samples(shard, self._columns), start=1):
                    if problem and position > max(told, given):
                        told = position
                        self.problem(problem)
                    if sample is not None and position > given:
                        yield sample
                    given = max(given, position)
                return
            except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
                if attempt == ATTEMPTS or not is_address(shard) or isinstance(error, FileNotFoundError):
                    self.problem(f"{shard}: {_reason(error)}")
                    return
                time.sleep(PAUSE_S * 2 ** (attempt - 1))

    def problem(self, line: str) -> None:
        """Count what cannot be read.

        Raises:
            DataError: ``data.skip_broken`` is not set.
        """
        if not self.config.skip_broken:
            report(self.config.source, [line])
        self.leave_out(line)

    def leave_out(self, line: str) -> None:
        """Count what was left out, once."""
        if line not in self.left_out:
            self.left += 1
            if len(self.left_out) < LISTED:
                self.left_out[line] = None

    def _read_survey(self) -> dict[str, Any]:
        """Return the values of a `SurveyFile`."""
        limit, whole = self.config.vocabulary_pairs, not self.config.epoch_pairs
        reader = Stream(replace(self.config, skip_broken=True), self._buffer)
        samples: list[tuple[str, list[str]]] = []
        pairs = 0
        for sample in reader.first(limit if not whole else sys.maxsize):
            pairs += 1
            if len(samples) < limit:
                samples.append((sample.key, list(sample.captions)))
        return {"samples": samples, "pairs": self.config.epoch_pairs or pairs, "problems": list(reader.left_out)}

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.config.vocabulary_pairs} {self.config.epoch_pairs} {self._columns}".encode())
        for shard in self.shards:
            state: object = None
            if not is_address(shard):
                with suppress(OSError):
                    found = Path(shard).stat()
                    state = (str(Path(shard).absolute()), found.st_size, found.st_mtime_ns)
            digest.update(f"{shard!r} {state}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:32]


def load_streamed(config: DataConfig) -> Splits:
    """Return the pairs of a stream: a few for training, and the held-out ones.

    ``Splits.stream`` reads all training pairs. Pictures of held-out pairs wait, not decoded, in a
    temporary file.

    Raises:
        ConfigError: settings contradict each other.
        DataError: something cannot be read, and ``data.skip_broken`` is not set.
    """
    _require_settings(config)
    stream = Stream(config)
    train = _pairs(stream.first(SAMPLE_PAIRS))
    parts: dict[str, tuple[Pair, ...]] = {}
    for part in ("validation", "test"):
        held = Stream(replace(config, source=getattr(config, part))) if getattr(config, part) else None
        parts[part] = _pairs(held.first(sys.maxsize)) if held else ()
        for line in held.left_out if held else ():
            stream.leave_out(line)
    if not parts["test"]:
        raise DataError(f"data.test = {config.test!r} has no pairs", "no shard holds a picture with a caption", "check")
    name = f"{_name(config.source)}, streamed; held out: {_name(config.test)}"
    return Splits(train, parts["validation"], parts["test"], name, left_out=tuple(stream.left_out), stream=stream)


def _require_settings(config: DataConfig) -> None:
    if config.format not in ("", "webdataset"):
        raise ConfigError(
            f"data.format = {config.format!r} with data.stream",
            "WebDataset shards are what can be read as a stream",
            "pack the pictures into shards, or set data.store = 'disk' in place of data.stream",
        )
    if not config.test:
        raise ConfigError(
            "data.test is not set",
            "a stream has no parts of its own: results are reported on shards that are held out",
            "data.test = 'SHARDS', also data.validation",
        )
    if overlap := sorted(set(expand(config.source)) & {*expand(config.test), *expand(config.validation or "")}):
        raise ConfigError(
            f"{overlap[0]} is in data.source and held out", "test pairs must not be learned", "correct one of them"
        )
    if config.labelled < 1:
        raise ConfigError("data.labelled with data.stream", "which pairs are labelled is drawn over all of them", "1")


def expand(source: str) -> list[str]:
    """Return the shards of a name with braces, a folder, or several of these with ``::`` between
    them; none for an empty name.

    ``{000000..000099}`` counts, ``{a,b}`` names.

    Raises:
        DataError: a folder holds no shards.
    """
    lists: Any = need("webdataset.shardlists", extra="stream", purpose="reading shards as a stream")
    found: list[str] = []
    for name in lists.expand_urls(source) if source else ():
        path = user_path(name)
        if is_address(name) or not path.is_dir():
            found.append(name if is_address(name) else str(path))
            continue
        inside = [str(file) for file in files_below(path) if is_tar(file)]
        if not inside:
            raise DataError(f"{path} has no shards", "there is no .tar in it", "check the path")
        found += inside
    return found


def _samples(shard: str, columns: Columns) -> Iterator[tuple[Sample | None, str]]:
    """Iterate over the samples of a shard, or the problem of each, in order.

    Raises:
        OSError, tarfile.TarError: the shard cannot be read, or not to its end.
    """
    tars: Any = need("webdataset.tariterators", extra="stream", purpose="reading shards as a stream")
    name = shard.rsplit("/", 1)[-1]
    twice: list[str] = []

    def pass_over(error: Exception) -> bool:
        twice.append(str(error.args[0]).split(": duplicate")[0])
        return True

    with _open(shard) as file:
        members = tars.tar_file_expander(iter([{"url": shard, "stream": file}]), handler=_raise)
        for found in tars.group_by_keys(members, handler=pass_over):
            while twice:
                yield None, f"{name}/{twice.pop(0)}: is in the shard twice"
            key = found["__key__"].removeprefix("./")
            if key.endswith("/"):  # a hidden file, such as macOS's ._NAME
                continue
            read: Members = {kind: partial(bytes, data) for kind, data in found.items() if not kind.startswith("__")}
            for stem, own in pictures_of_sample(read).items():
                yield _sample(f"{name}/{key}.{stem}" if stem else f"{name}/{key}", own, columns)


def _sample(where: str, read: Mapping[str, Callable[[], bytes]], columns: Columns) -> tuple[Sample | None, str]:
    if where != where.encode("utf-8", "replace").decode():
        return None, f"{where.encode('ascii', 'backslashreplace').decode()}: its name is not UTF-8"
    kind = next((kind for kind in read if is_picture(f".{kind}")), "")
    if not kind:
        near = "the members of a sample must stand next to each other in a stream"
        return None, f"{where}: has no picture, only {', '.join(sorted(read)) or 'nothing'}; {near}"
    problems: list[str] = []
    captions = captions_of_sample(where, dict(read), columns, problems)
    if problems or not captions:
        return None, problems[0] if problems else f"{where}: has no caption"
    return Sample(f"{where}.{kind}", tuple(dict.fromkeys(captions)), read[kind]()), ""


def _raise(error: Exception) -> bool:
    raise error


def _shuffled(samples: Iterator[Sample], buffer: int, chance: random.Random) -> Iterator[Sample]:
    """Iterate over all samples, each drawn from the ``buffer`` bytes of samples that were read."""
    waiting: list[Sample] = []

    def draw() -> Sample:
        chosen = chance.randrange(len(waiting))
        waiting[chosen], waiting[-1] = waiting[-1], waiting[chosen]
        return waiting.pop()

    size = 0
    for sample in samples:
        waiting.append(sample)
        size += sample.size
        while size > buffer:
            drawn = draw()
            size -= drawn.size
            yield drawn
    while waiting:
        yield draw()


class _Guarded(io.RawIOBase):
    """A file whose errors are `OSError`, whatever library reads it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""
        with _os_errors():
            return self._file.read(size)

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):  # it was read to its end, or failed already
            self._file.close()
        super().close()


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raise every error of a remote file system as `OSError`."""
    try:
        yield
    except (OSError, ImportError, ValueError):
        raise
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


def _open(shard: str) -> _Guarded:
    """Open a shard to be read from its first byte to its last.

    Raises:
        OSError: it cannot be opened.
        DataError: nothing here reads such an address.
    """
    fsspec: Any = need("fsspec", extra="stream", purpose="reading shards as a stream")
    # HTTP: one request in place of one for each block.
    options = {"block_size": 0} if shard.startswith(("http://", "https://")) else {}
    try:
        with _os_errors():
            return _Guarded(fsspec.open(shard, "rb", **options).open())
    except FileNotFoundError as error:
        # fsspec raises it for every answer but the file, and for none.
        cause = error.__cause__
        if cause is None or isinstance(cause, FileNotFoundError):
            raise
        if 400 <= (status := getattr(cause, "status", 0)) < 500:  # asking again does not help
            raise FileNotFoundError(
                errno.ENOENT, f"the server answers {status} ({getattr(cause, 'message', '')})"
            ) from error
        raise OSError(str(cause)) from error
    except (ImportError, ValueError) as error:
        do = "install the package that is named, or correct the address"
        raise DataError(f"cannot open {shard}", str(error), do) from error


def _reason(error: Exception) -> str:
    """Return an error as one line; webdataset appends files and addresses to its arguments."""
    if isinstance(error, FileNotFoundError) and "server" not in str(error.strerror):
        return "there is no such file"
    text = getattr(error, "strerror", None) or str(error.args[0] if error.args else "").split(" @ ")[0]
    return text or type(error).__name__


def _pairs(samples: Iterator[Sample]) -> tuple[Pair, ...]:
    """Return samples as pairs; their pictures wait in a temporary file."""
    copies = Copies()
    first: dict[str, str] = {}
    return tuple(
        Pair(
            key=sample.key,
            captions=sample.captions,
            concept=first.setdefault(sample.concept, sample.key),
            load=partial(decode_image, copies.keep(io.BytesIO(sample.picture), small=False), sample.key),
        )
        for sample in samples
    )


def _name(source: str) -> str:
    return source.rstrip("/").rsplit("/", 1)[-1]
