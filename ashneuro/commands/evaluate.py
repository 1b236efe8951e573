"""``ashneuro evaluate``: held-out retrieval, the spikes from torch, the emulator or Lava."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ashneuro.commands.targets import Kind, kind_of, load_bundle
from ashneuro.errors import AshneuroError, need
from ashneuro.report import terminal

if TYPE_CHECKING:
    from ashneuro.data.pairs import Pair
    from ashneuro.simulate.record import SpikeRecord
    from ashneuro.train.checkpoint import Run
    from ashneuro.train.evaluate import Evaluation

Part = Literal["train", "validation", "test"]
Where = Literal["torch", "loihi", "lava"]


def evaluate(
    run: Path,
    /,
    *,
    abstract_on: Annotated[Where, Parameter(help="What computes the spikes: the model in torch, the integer emulator, or Lava.")] = "torch",
    lava_precision: Annotated[Literal["fixed", "float"], Parameter(help="Lava's arithmetic.")] = "fixed",
    part: Annotated[Part, Parameter(help="Which part of the data.")] = "test",
    samples: Annotated[int | None, Parameter(help="Only this many pairs, evenly spaced. Default: all.")] = None,
    device: Annotated[str, Parameter(help="Where the ANN branch runs: cpu, cuda.")] = "cpu",
    json: Annotated[bool, Parameter(help="Print JSON instead of tables.", negative=())] = False,
) -> None:
    """How good is a run at retrieval? Spikes from torch, the emulator or Lava.

    Args:
        run: a folder that `ashneuro train` wrote.
    """
    evaluation, _ = measure(run, abstract_on, lava_precision, part=part, samples=samples, device=device)
    if json:
        terminal.json(evaluation.to_json())
        return
    terminal.retrieval([evaluation.to_json()])
    terminal.facts([evaluation.to_json()])
    terminal.wrote(run / result_name(abstract_on, lava_precision, part, samples))


def measure(
    path: Path,
    where: Where = "torch",
    precision: Literal["fixed", "float"] = "fixed",
    *,
    part: Part = "test",
    samples: int | None = None,
    device: str = "cpu",
) -> tuple[Evaluation, SpikeRecord | None]:
    """Evaluate a run and write the result into it; return it with the counts of the simulator, where one was used."""
    from ashneuro.simulate.counts import save_counts

    run, pairs, split = open_run(path, part, samples, device)
    scoring = need("ashneuro.train.evaluate", extra="train", purpose="evaluating a run")
    name = "torch" if where == "torch" else "integer emulator" if where == "loihi" else f"Lava, {precision}"
    if where == "torch":
        evaluation = scoring.evaluate(run.model, run.vocabulary, pairs, run.config.data, split=split)
        record = None
    else:
        encoder = Encoder(path, run, where, precision)
        evaluation = scoring.evaluate(run.model, run.vocabulary, pairs, run.config.data, split=split, encoder=encoder, spikes_from=name)
        record = encoder.record
    file = path / result_name(where, precision, part, samples)
    evaluation.save(file)
    if record is not None:
        save_counts(record, file.with_suffix(".npz"))
    return evaluation, record


def result_name(where: Where, precision: str, part: Part, samples: int | None) -> str:
    """Return the file name of an evaluation: what is not said is torch, the test part, all of it."""
    words = ["evaluation"]
    words += [where] if where == "loihi" else [where, precision] if where == "lava" else []
    words += [part] if part != "test" else []
    words += [str(samples)] if samples else []
    return "-".join(words) + ".json"


def open_run(path: Path, part: Part, samples: int | None, device: str = "cpu") -> tuple[Run, tuple[Pair, ...], str]:
    """Return the run, its pairs of ``part`` (``samples`` of them, evenly spaced), and the name of the split."""
    from ashneuro.data.sources import load_splits

    require_kind(path, "run")
    run = need("ashneuro.train.checkpoint", extra="train", purpose="reading a run").load_run(path, device)
    splits = load_splits(run.config.data)
    pairs: tuple[Pair, ...] = getattr(splits, part)
    if samples is not None:
        if not 0 < samples <= len(pairs):
            raise AshneuroError(f"--samples {samples}", f"the {part} part has {len(pairs)} pairs", f"give 1 to {len(pairs)}")
        pairs = tuple(pairs[index * len(pairs) // samples] for index in range(samples))
    return run, pairs, f"{splits.name}, {part}"


def require_kind(path: Path, wanted: Kind) -> None:
    """Raise `AshneuroError` unless ``path`` is a run (a bundle, a NIR file)."""
    kind = kind_of(path)
    if kind != wanted:
        raise AshneuroError(f"{path} is a {kind}", f"a {wanted} is needed here", "name a folder that `ashneuro train` wrote")


class Encoder:
    """The spiking encoder of a run somewhere else: currents in, spikes out; counts what it saw.

    Raises:
        AshneuroError: the run has no bundle, or one of other weights.
    """

    def __init__(self, path: Path, run: Run, where: Where, precision: Literal["fixed", "float"]) -> None:
        if run.config.model.abstract.kind != "spiking":
            kind = run.config.model.abstract.kind
            raise AshneuroError(f"--abstract-on {where}", f"{path} has nothing to deploy: its abstract encoder is {kind!r}", "leave it out")
        self.bundle = load_bundle(path)
        if same_weights(self.bundle.folder, path) is False:
            raise AshneuroError(f"{self.bundle.folder} is stale", "the run was trained on since it was exported", f"ashneuro export {path}")
        self.where, self.precision = where, precision if where == "lava" else None
        self.record: SpikeRecord | None = None

    def __call__(self, currents: Any) -> Any:
        """Return the spikes (T, B, K) of currents (T, B, *shape)."""
        from dataclasses import replace

        from ashneuro.simulate.run import simulate

        with terminal.counting(f"spikes from {self.where}") as tick:
            record = simulate(self.bundle, currents, on=self.where, precision=self.precision, rasters="outputs", progress=tick)
        (output,) = self.bundle.a_program.outputs
        spikes = record.layers[output].raster
        bare = replace(record, layers={name: replace(activity, raster=None) for name, activity in record.layers.items()})
        self.record = bare if self.record is None else self.record + bare
        return spikes


ORIGIN = "origin.json"


def fingerprint(run: Path) -> str:
    """Return the SHA-256 of a run's weights."""
    import hashlib

    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def same_weights(bundle: Path, run: Path) -> bool | None:
    """Whether ``bundle`` was exported from the weights that ``run`` has now; ``None`` when it does not say."""
    import json

    file = bundle / ORIGIN
    return bool(json.loads(file.read_text())["weights_sha256"] == fingerprint(run)) if file.exists() else None
