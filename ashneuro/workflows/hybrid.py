"""Hybrid inference: a run's ANN branch in torch, here or on a GPU, and the spikes from torch, the
emulator or Lava. ::

    with HybridSession("runs/demo/graded", spikes_from="lava") as session:
        images = session.embed_images(pixels)           # (N, E), the spikes computed in Lava
        texts = session.embed_texts(["a red heart"])    # (M, E)
        scores = texts @ images.T

While Lava runs some images, the host prepares the next ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ashneuro.config import ANNS, trains_stua_head
from ashneuro.data.batches import normalise
from ashneuro.data.pairs import Pair
from ashneuro.errors import AshneuroError, ConfigError, DataError
from ashneuro.evaluation import Evaluation, SpikeSource
from ashneuro.program.bundle import Bundle
from ashneuro.program.program import Precision, Program
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.pool import Seconds
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.stock import RUN_STOCK
from ashneuro.simulation.record import SpikeRecord, Where
from ashneuro.training.checkpoint import Run, load_run
from ashneuro.training.evaluate import BATCH, SpikeEncoder, evaluate, input_currents, require_numbers
from ashneuro.workflows.calibration import integer_ann_of
from ashneuro.workflows.networks import open_bundle

_SOURCES: dict[tuple[Where, Precision], SpikeSource] = {
    ("torch", "integer"): SpikeSource.TORCH,
    ("loihi", "integer"): SpikeSource.EMULATOR,
    ("lava", "integer"): SpikeSource.LAVA_INTEGER,
    ("lava", "float"): SpikeSource.LAVA_FLOAT,
}


class HybridSession:
    """A trained run, its spiking encoder computed where it is wanted; a context manager.

    Args:
        run: a folder that `ashneuro train` wrote, or a run that is loaded; for spikes from
            elsewhere it must have been exported, unless ``program`` is given.
        spikes_from: ``"torch"``: the model itself; ``"loihi"``: the bit-exact integers, of an ANN
            control those that it is priced at (`integer_ann_of`); ``"lava"``: Lava.
        precision: Lava's arithmetic, ``"integer"`` or ``"float"``.
        device: where the ANN branch and the emulator run, e.g. ``"cuda"``.
        program: integer program of the run's spiking encoder that the emulator computes, in the
            place of that in the run's bundle.
        known: spikes (T, B, K) of all pictures, and their counts, where they were computed before:
            nothing is simulated, and no bundle is read.
        worker: makes the Lava that runs: how many workers, where, with which patience.
        stock, resume: see `ashneuro.simulation.lava.session.Lava.run`.
        progress: called with the images whose spikes are done.

    Attributes:
        run: the loaded run, of an ANN control in integers with that model.
        record: what the simulator counted so far; ``None`` for torch.

    Raises:
        AshneuroError: the run cannot be loaded, has nothing to deploy, no bundle, or one of other
            weights; or no picture chooses the levels of a control's ReLUs.
    """

    def __init__(
        self,
        run: str | Path | Run,
        spikes_from: Where = "torch",
        *,
        precision: Precision = "integer",
        device: str = "cpu",
        program: Program | None = None,
        known: tuple[NDArray[np.generic], SpikeRecord] | None = None,
        worker: Callable[[], Lava] = Lava,
        stock: int | None = RUN_STOCK,
        resume: Path | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> None:
        if spikes_from not in get_args(Where):
            raise ConfigError(
                f"spikes from {spikes_from!r}",
                f"they come from {', '.join(get_args(Where))}",
                'HybridSession(run, "lava")',
            )
        self.run = run if isinstance(run, Run) else load_run(run, device)
        self.spikes_from, self._precision = spikes_from, precision
        self.record: SpikeRecord | None = None
        self._program: Program | None = None
        self._known = known
        self._is_integer_ann = spikes_from == "loihi" and self.run.config.model.abstract.kind in ANNS
        if self._is_integer_ann:
            self.run = integer_ann_of(self.run)
        elif spikes_from != "torch" and known is None:
            self._program = program or _bundle_of(self.run, spikes_from).program(
                precision if spikes_from == "lava" else "integer"
            )
        self._worker, self._stock, self._resume, self._progress = worker, stock, resume, progress
        self._lava: Lava | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self.spikes_from == "lava" and self._known is None:
            self._lava = self._open.enter_context(self._worker())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @property
    def source(self) -> SpikeSource:
        """Simulator that computes the spikes, or that there are none and the ANN is in integers."""
        if self._is_integer_ann:
            return SpikeSource.ANN_INTEGERS
        return _SOURCES[self.spikes_from, self._precision if self.spikes_from == "lava" else "integer"]

    @property
    def seconds(self) -> Seconds | None:
        """Time spent by host, transfer and Lava; ``None`` without Lava."""
        return self._lava.seconds if self._lava is not None else None

    def encode(self, currents: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.generic]]:
        """Yield spikes S (T, b, K) for currents (T, b, *in_shape), part by part, in order.

        Raises:
            LavaError: Lava failed, or the session is not open.
        """
        if self._known is not None:
            self.record = self._known[1]
            yield self._known[0]
            return
        if self._program is None:
            raise ConfigError(
                "spikes from torch", "the model computes them itself", "embed_images, or another spikes_from"
            )
        for record in self._records(self._program, currents):
            (spikes,) = (record.layers[name].raster for name in self._program.outputs)
            assert spikes is not None
            bare = replace(
                record, layers={name: activity.with_raster(None) for name, activity in record.layers.items()}
            )
            self.record = bare if self.record is None else self.record + bare
            yield spikes

    @torch.no_grad()
    def embed_images(self, images: NDArray[np.uint8] | torch.Tensor) -> NDArray[np.float32]:
        """Return unit vectors (N, E) of uint8 images (N, 3, S, S).

        Raises:
            DataError: the images are of another type or shape.
        """
        pixels = torch.as_tensor(images)
        model = self.run.model
        size = model.image_size
        if pixels.dtype != torch.uint8 or pixels.shape[1:] != (3, size, size):
            raise DataError(
                f"images of {str(pixels.dtype).removeprefix('torch.')}, {tuple(pixels.shape)}",
                f"the run reads numbers from 0 to 255: uint8, (N, 3, {size}, {size})",
                f"ashneuro.data.batches.load_images(pairs, {size})",
            )
        if not len(pixels):
            return np.zeros((0, model.config.embedding), np.float32)
        device = model.log_scale.device
        spikes = None
        if self._program is not None:
            spikes = np.concatenate(list(self.encode(input_currents(model, pixels))), axis=1)
        model.eval()
        parts = []
        for start in range(0, len(pixels), BATCH):
            part = None if spikes is None else spikes[:, start : start + BATCH]
            parts.append(model.embed_images(normalise(pixels[start : start + BATCH]).to(device), spikes=part).cpu())
        vectors = np.asarray(torch.cat(parts).numpy())
        require_numbers("images", vectors)
        return vectors

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors (M, E) of texts."""
        model = self.run.model
        model.eval()
        tokens = torch.from_numpy(self.run.vocabulary.encode(list(texts), self.run.config.data.max_words))
        vectors = np.asarray(model.embed_texts(tokens.to(model.log_scale.device)).cpu().numpy())
        require_numbers("texts", vectors)
        return vectors

    def evaluate(self, pairs: Sequence[Pair], split: str = "these pairs") -> Evaluation:
        """Return retrieval among ``pairs``, with either branch zeroed, and by the STUA head alone
        where it was trained.
        """
        return evaluate(
            self.run.model,
            self.run.vocabulary,
            pairs,
            self.run.config.data,
            split=split,
            stua_head=trains_stua_head(self.run.config),
            encoder=self.encoder,
            spikes_from=self.source,
        )

    @property
    def encoder(self) -> SpikeEncoder | None:
        """The encoder for `ashneuro.training.evaluate`; ``None``: torch computes the spikes."""
        return self.encode if self._program is not None or self._known is not None else None

    def _records(self, program: Program, currents: Iterable[NDArray[Any]]) -> Iterator[SpikeRecord]:
        if self.spikes_from == "loihi":
            done, device = 0, str(self.run.model.log_scale.device)
            for part in currents:
                record = run_program(program, part, rasters=program.outputs, device=device)
                done += record.samples
                if self._progress:
                    self._progress(done)
                yield record
            return
        if self._lava is None:
            raise ConfigError(
                "this session has no Lava yet",
                "Lava runs while the session is open",
                "with HybridSession(...) as session:",
            )
        yield from self._lava.stream(
            program, currents, rasters=program.outputs, stock=self._stock, resume=self._resume, progress=self._progress
        )


def _bundle_of(run: Run, spikes_from: Where) -> Bundle:
    """Return the bundle of a run.

    Raises:
        AshneuroError: the run has no spiking encoder, no bundle, or one of other weights.
    """
    kind = run.config.model.abstract.kind
    if kind != "spiking":
        raise AshneuroError(
            f"spikes from {spikes_from}",
            f"{run.path} has nothing to deploy: its abstract encoder is {kind!r}",
            "use torch",
        )
    return open_bundle(run.path)
