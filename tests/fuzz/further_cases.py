"""Further targets: results, shards of jobs, questions, the hub, clips, tables and side-cars."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.fuzz import containers, mutations
from tests.fuzz.mutations import Mutation
from tests.fuzz.target import Target, Words, data_verbs

COUNTS = partial(mutations.counts_file, "record.npy")
SPIKES = partial(mutations.counts_file, "header.npy")
PULL: tuple[Words, ...] = (("data", "pull", "me/hybrid", "--out", "new"),)
PUSH: tuple[Words, ...] = (("data", "push", "hybrid", "me/other"),)


def _exports(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage that leaves no digest: another digest is refused, as it should be."""
    others = ("bits flipped", "an empty value")
    yield from (mutation for mutation in mutations.json_file(rounds) if mutation.name not in others)


def _clip_archive(rounds: int) -> Iterator[Mutation]:
    """Iterate over damage to an archive whose members are no arrays."""
    of_arrays = ("NaN in a member", "a member of another shape")
    yield from (mutation for mutation in mutations.npz_file(rounds) if mutation.name not in of_arrays)


def _clip_index(rounds: int) -> Iterator[Mutation]:
    yield from mutations.json_member("clips.json", rounds)


MERGE: Words = ("simulate", "bundle", "--merge", "part-1.npz", "part-2.npz")
COUNTED: Words = ("evaluate", "hybrid", "--abstract-on", "loihi", "--merge")
CLAIMS: tuple[Words, ...] = (("sweep", "sweep.toml", "--out", "out", "--limit", "1"),)
EXPORTS: tuple[Words, ...] = (
    ("verify", "hybrid", "--no-lava"),
    ("report", "hybrid", "--profile", "cmos45"),
    ("export", "hybrid", "--no-lava", "--samples", "1"),
)


def question_verbs(task: str, file: str) -> tuple[Words, ...]:
    """Return the commands that read questions."""
    return ("data", "check", file), ("evaluate", "hybrid", "--task", task, "--data", file, "--images", "questions")


FURTHER: tuple[Target, ...] = (
    Target(
        "run",
        "hybrid/stream-shapes.json",
        mutations.json_file,
        2,
        (("report", "hybrid", "--profile", "cmos45"),),
        "run, stream-*.json",
        derived=True,
    ),
    Target("run", "hybrid/exports.json", _exports, 2, EXPORTS, "run, exports.json", derived=True),
    Target("run", "hybrid/README.md", mutations.text_file, 5, EXPORTS[1:], "run, README.md", derived=True),
    Target(
        "run",
        "hybrid/evaluation-loihi.npz",
        COUNTS,
        1,
        (("report", "hybrid", "--profile", "cmos45"),),
        "run, spike counts",
        derived=True,
    ),
    Target("network", "part-1.npz", COUNTS, 3, (MERGE,), "simulate, shards"),
    Target(
        "run",
        "hybrid/shards/evaluation-loihi-1-of-2.npz",
        SPIKES,
        1,
        (COUNTED,),
        "evaluate, shards of spikes",
    ),
    Target(
        "run",
        "hybrid/shards/evaluation-loihi-1-of-2.counts.npz",
        COUNTS,
        1,
        (COUNTED,),
        "evaluate, shards of counts",
    ),
    Target(
        "run",
        "questions/snli_ve_dev.jsonl",
        mutations.json_file,
        2,
        question_verbs("entailment", "questions/snli_ve_dev.jsonl"),
        "questions, SNLI-VE",
        required=False,
    ),
    Target(
        "run",
        "questions/nlvr2/dev.json",
        mutations.json_file,
        2,
        (("data", "check", "questions/nlvr2/dev.json", "--images", "questions"), ("data", "check", "questions/nlvr2")),
        "questions, NLVR2",
        required=False,
    ),
    Target("hub", "hub/me/hybrid/config.json", mutations.json_file, 2, PULL, "hub, config.json"),
    Target("hub", "hub/me/hybrid/vocabulary.json", mutations.json_file, 1, PULL, "hub, vocabulary.json"),
    Target("hub", "hub/me/hybrid/model.safetensors", containers.weights_file, 2, PULL, "hub, model.safetensors"),
    Target("hub", "hybrid/config.json", mutations.json_file, 1, PUSH, "hub, pushed config.json", required=False),
    Target("sweep", "out/cells/base-0.claim-1", mutations.json_file, 1, CLAIMS, "sweep, claim", derived=True),
    Target("clips", "pack/pack.json", mutations.json_file, 1, data_verbs("pack"), "clips, pack.json"),
    Target("clips", "pack/clips.zip", _clip_archive, 2, data_verbs("pack"), "clips, clips.zip"),
    Target("clips", "pack/clips.zip", _clip_index, 2, data_verbs("pack"), "clips, index"),
    Target("tables", "csv/metadata.csv", mutations.csv_file, 6, data_verbs("csv"), "imagefolder, CSV"),
    Target(
        "tables",
        "jsonl/metadata.jsonl",
        mutations.json_file,
        1,
        data_verbs("jsonl"),
        "imagefolder, JSON lines",
        required=False,
    ),
    Target("tables", "parquet/metadata.parquet", mutations.binary, 6, data_verbs("parquet"), "imagefolder, parquet"),
    Target(
        "tables", "sidecars/1.json", mutations.json_file, 1, data_verbs("sidecars"), "side-cars, JSON", required=False
    ),
    Target(
        "tables", "sidecars/0.txt", mutations.text_file, 5, data_verbs("sidecars"), "side-cars, text", required=False
    ),
    Target(
        "tables", "shard.tar", containers.shard_json, 1, data_verbs("shard.tar"), "shards, JSON in tar", required=False
    ),
)
