"""Spikes of an evaluation in parts: computed by the jobs of an array, then joined."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ashneuro.arrays import NUMBERS, load_npz
from ashneuro.errors import DataError, need
from ashneuro.exchange import Shard
from ashneuro.files import parse_json, reason_of, replace_file
from ashneuro.schemas import Format, remedy_of

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair
    from ashneuro.simulation.record import SpikeRecord
    from ashneuro.training.checkpoint import Run
    from ashneuro.workflows.hybrid import HybridSession

FOLDER = "shards"


def save_spikes(session: HybridSession, file: Path, pictures: Sequence[Pair], shard: Shard) -> tuple[Path, SpikeRecord]:
    """Compute the spikes of a part of ``pictures`` and write them beside the result ``file``.

    The host computes the currents of all pictures, in the batches of a whole evaluation: currents
    of other batches may differ in their last bits, and then spikes.
    """
    from ashneuro.simulation.record import save_counts

    batches = need("ashneuro.data.batches", extra="train", purpose="evaluating a run")
    evaluation = need("ashneuro.training.evaluate", extra="train", purpose="evaluating a run")
    run = session.run
    images = batches.load_images(pictures, run.config.data.image_size)
    currents = evaluation.input_currents(run.model, images)
    spikes = np.concatenate(list(session.encode(_part(currents, shard.rows(len(pictures))))), axis=1)
    path = file.parent / FOLDER / f"{file.stem}-{shard.index}-of-{shard.count}.npz"
    path.parent.mkdir(exist_ok=True)
    assert session.record is not None
    record = session.record
    save_counts(record, path.with_suffix(".counts.npz"), shard)
    header = np.array(json.dumps(SPIKES.stamped(asdict(_identity(run, pictures)))))

    def write(made: Path) -> None:
        with made.open("wb") as opened:
            np.savez_compressed(opened, header=header, spikes=spikes)

    replace_file(path, write)
    return path, record


def merge_spikes(run: Run, file: Path, pictures: Sequence[Pair]) -> tuple[NDArray[np.generic], SpikeRecord]:
    """Return the spikes of all ``pictures`` and their counts, from the shards of the result
    ``file``.

    Raises:
        DataError: shards are missing or damaged, or of other weights or pictures.
    """
    from ashneuro.simulation.record import merge_counts

    folder = file.parent / FOLDER
    pattern = re.compile(rf"{re.escape(file.stem)}-(\d+)-of-(\d+)\.npz")
    found = {
        Shard(int(name[1]), int(name[2])): path
        for path in sorted(folder.glob("*.npz"))
        if (name := pattern.fullmatch(path.name))
    }
    complete = [
        count for count in {shard.count for shard in found} if all(Shard(n + 1, count) in found for n in range(count))
    ]
    if not complete:
        there = ", ".join(sorted(map(str, found))) or "none"
        raise DataError(
            f"the shards in {folder} are not all of {file.name}",
            f"there are: {there}",
            "ashneuro evaluate RUN … --shard i/n for every i, with the same options; copy the files to one place",
        )
    count = max(complete)
    paths = [found[Shard(number + 1, count)] for number in range(count)]
    expected, parts = _identity(run, pictures), []
    for path in paths:
        try:
            arrays = load_npz(path, NUMBERS + "U")
            header, spikes = SPIKES.parse(parse_json(str(arrays["header"]))), arrays["spikes"]
        except (OSError, ValueError, KeyError) as error:
            do = remedy_of(error, "compute that shard again")
            raise DataError(f"cannot read {path}", reason_of(error), do) from error
        if header != expected:
            differ = "weights" if header.weights != expected.weights else "pictures"
            raise DataError(f"{path} is of other {differ}", "the run or its data changed since", "compute it again")
        parts.append(spikes)
    shapes = {(part.shape[:1], part.shape[2:]) for part in parts if part.ndim >= 2}
    if (
        len(shapes) != 1
        or any(part.ndim < 2 for part in parts)
        or sum(part.shape[1] for part in parts) != len(pictures)
    ):
        held = ", ".join(str(part.shape) for part in parts)
        raise DataError(
            f"the shards in {folder} do not belong together",
            f"they hold spikes of the shapes {held}, of {len(pictures)} pictures",
            "compute them again",
        )
    return np.concatenate(parts, axis=1), merge_counts([path.with_suffix(".counts.npz") for path in paths])


@dataclass(frozen=True)
class SpikesHeader:
    """Header of the spikes of a part of an evaluation.

    Args:
        weights: hash of the run's weights.
        pictures: hash of the keys of all pictures.
    """

    weights: str
    pictures: str


SPIKES = Format("ashneuro-spikes", SpikesHeader, bare=True)


def _identity(run: Run, pictures: Sequence[Pair]) -> SpikesHeader:
    names = hashlib.sha256("\n".join(picture.key for picture in pictures).encode("utf-8", "surrogateescape"))
    return SpikesHeader(run.weights_sha256, names.hexdigest())


def _part(currents: Iterator[NDArray[Any]], rows: slice) -> Iterator[NDArray[Any]]:
    """Iterate over the samples ``rows`` of currents (T, b, *shape), chunk by chunk."""
    start = 0
    for chunk in currents:
        first, last = max(rows.start - start, 0), min(rows.stop - start, chunk.shape[1])
        start += chunk.shape[1]
        if first < last:
            yield chunk[:, first:last]
        if start >= rows.stop:
            return
