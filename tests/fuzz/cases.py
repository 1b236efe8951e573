"""All cases: a file of a scene, the commands that read it, and the damage."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.fuzz import containers, mutations
from tests.fuzz.further_cases import FURTHER
from tests.fuzz.mutations import DEEP, DIGITS, Must, Mutation, replaced
from tests.fuzz.target import Target, Words, data_verbs


@dataclass(frozen=True)
class Case:
    """One malformed input of one command.

    Args:
        number: from 1 on, among the cases of its kind.
    """

    number: int
    target: Target
    mutation: Mutation
    words: Words
    fix_hash: bool = True

    @property
    def name(self) -> str:
        """Return kind and number in it, the commands, the file and the damage, on one line.

        The damage is seeded by it, so cases of other kinds may be added.
        """
        return f"{self.target.kind} {self.number}: {' '.join(self.words)} | {self.target.file}: {self.mutation.name}"

    @property
    def must(self) -> str:
        """Return the right outcome: ``"refuse"``, ``"any"``, or ``"go on"`` without the file."""
        if self.target.derived:
            # A bundle whose files have other hashes than its manifest says is refused as a whole.
            hashed = self.fix_hash and self.mutation not in mutations.PLACES
            return "go on" if hashed or "bundle" not in self.target.file else "any"
        return self.mutation.must if self.target.required else "any"

    def prepare(self, seeds: Path, place: Path) -> None:
        """Write the damaged scene into ``place``."""
        shutil.copytree(seeds / self.target.scene, place, symlinks=True)
        file = place / self.target.file
        rng = random.Random(zlib.crc32(self.name.encode()))
        self.mutation.apply(file, rng)
        manifest = file.parent / "manifest.json"
        if self.fix_hash and manifest.is_file() and file != manifest and file.is_file() and not file.is_symlink():
            # As somebody who damages a bundle on purpose would do.
            content = json.loads(manifest.read_text())
            if file.stat().st_size < 1 << 30 and file.name in content["files"]:
                data = file.read_bytes()
                content["files"][file.name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
                manifest.write_text(json.dumps(content, indent=1))
                exports = manifest.parent.parent / "exports.json"
                if exports.is_file():
                    recorded = json.loads(exports.read_text())
                    recorded["digests"] = {"bundle": hashlib.sha256(manifest.read_bytes()).hexdigest()}
                    exports.write_text(json.dumps(recorded))


def _settings(rounds: int) -> Iterator[Mutation]:
    """Iterate over settings that no machine can compute, and TOML that is none."""
    for key in (
        "model.abstract.units",
        "model.abstract.timesteps",
        "model.concrete.width",
        "model.concrete.channels",
        "model.abstract.channels",
        "model.text.width",
        "model.text.layers",
        "model.multimodal.width",
        "model.multimodal.layers",
        "model.embedding",
        "data.image_size",
        "data.max_words",
        "train.batch_size",
    ):
        for number in (10**9, 10**18):
            section, _, name = key.rpartition(".")
            value = f"[{number}]" if name == "channels" else number
            yield replaced(f"{key} = {number:g}", f"[{section}]\n{name} = {value}\n".encode())
    for line in (
        "[data]\nimage_size = 0",
        "[train]\nepochs = -1",
        "[train]\nlearning_rate = nan",
        "[train]\nlearning_rate = inf",
        "[train]\nseed = " + "9" * 30,
        "[model.abstract]\nv_threshold = nan",
        "[model.abstract]\ndt_s = 0",
        "[model.concrete]\nchannels = " + repr([8] * 5000),
        "[data]\nsource = '/dev/zero'",
        "[data]\nsource = 'x\\u0000y'",
        "[data]\nsource = '" + "x" * 5000 + "'",
        "[train]\nstart = '/dev/null'",
        "schedule = [{name = 'a', epochs = 1000000000000}]\n[train]\nstart = 'nowhere'",
    ):
        # A dry run reads neither data nor the run that it starts from.
        unread: Must = "any" if "source" in line or "start" in line else "refuse"
        yield replaced(line[:60].replace("\n", " "), line.encode(), unread)
    yield from mutations.toml_file(rounds)


def _sweep(rounds: int) -> Iterator[Mutation]:
    for line in (
        "seeds = [" + "9" * 30 + "]",
        "seeds = []",
        "seeds = ['a']",
        "[factors.x]\n'a' = ['model.abstract.units=1000000000']",
        "[factors.x]\n'a' = ['model.abstract.units=" + "[" * DEEP + "']",
        "[factors.x]\n'a' = ['model.abstract.units=" + "9" * DIGITS + "']",
        "[factors.x]\n'a' = ['train.start=@a']",
        "[factors.x]\n'a' = ['x']",
        "[factors.x]\n'" + "a" * 5000 + "' = ['train.epochs=1']",
        "[factors.x]\n'../../a' = ['model.abstract.units=16']",
        "factors = [[[1]]]",
        "design = 'cross'\n"
        + "".join(f"[factors.f{i}]\n" + "".join(f"'l{i}{j}' = []\n" for j in range(9)) for i in range(9)),
    ):
        must: Must = "any" if "../" in line else "refuse"
        yield replaced(line[:60].replace("\n", " "), line.encode(), must)
    yield from mutations.toml_file(rounds)


RUN_VERBS: tuple[Words, ...] = (
    ("evaluate", "hybrid"),
    ("search", "hybrid", "red"),
    ("check", "hybrid"),
    ("export", "hybrid", "--no-lava", "--samples", "1", "--out", "new"),
    ("report", "hybrid", "--profile", "cmos45"),
    ("train", "hybrid", "--resume", "--out", "hybrid"),
)
WEIGHT_VERBS = RUN_VERBS[:4]
BUNDLE_VERBS: tuple[Words, ...] = (
    ("verify", "bundle", "--no-lava"),
    ("check", "bundle"),
    ("simulate", "bundle", "--on", "loihi"),
    ("report", "bundle", "--profile", "cmos45", "--out", "out"),
)
PROGRAM_VERBS = (BUNDLE_VERBS[0], *BUNDLE_VERBS[2:])  # `check` reads the graph alone
NIR_VERBS: tuple[Words, ...] = (
    ("check", "network.nir"),
    ("export", "network.nir", "--no-lava", "--samples", "1", "--out", "new"),
    ("simulate", "network.nir", "--inputs", "x.npy"),
    ("report", "network.nir", "--noise", "1", "--profile", "cmos45", "--out", "out"),
)
NET_VERBS: tuple[Words, ...] = (
    *(tuple(word.replace(".nir", ".net") for word in words) for words in NIR_VERBS[:2]),
    ("simulate", "network.net", "--on", "loihi"),
    ("report", "network.net", "--noise", "1", "--profile", "cmos45", "--out", "out"),
)
INPUT_VERBS: tuple[Words, ...] = (
    ("check", "network.nir", "--inputs", "x.npy"),
    ("simulate", "network.nir", "--inputs", "x.npy"),
    ("export", "network.nir", "--inputs", "x.npy", "--no-lava", "--samples", "1", "--out", "new"),
    ("report", "network.nir", "--inputs", "x.npy", "--profile", "cmos45", "--out", "out"),
)
NPZ_VERBS: tuple[Words, ...] = tuple(tuple(word.replace(".npy", ".npz") for word in words) for words in INPUT_VERBS)
RESUME: tuple[Words, ...] = (("train", "hybrid", "--resume", "--out", "hybrid"),)


TARGETS: tuple[Target, ...] = (
    *FURTHER,
    Target("network", "network.nir", containers.hdf5_file, 12, NIR_VERBS, "NIR graph"),
    Target("network", "network.net", containers.hdf5_file, 12, NET_VERBS, "lava-dl network"),
    Target("network", "x.npy", mutations.npy_file, 10, INPUT_VERBS, "inputs, .npy"),
    Target("network", "x.npz", mutations.npz_file, 10, NPZ_VERBS, "inputs, .npz"),
    Target("network", "bundle/manifest.json", mutations.json_file, 8, BUNDLE_VERBS, "bundle, manifest.json"),
    Target("network", "bundle/program.json", mutations.json_file, 10, PROGRAM_VERBS, "bundle, program.json"),
    Target("network", "bundle/certificate.json", mutations.json_file, 5, PROGRAM_VERBS, "bundle, certificate.json"),
    Target("network", "bundle/program.npz", mutations.npz_file, 8, PROGRAM_VERBS, "bundle, program.npz"),
    Target("network", "bundle/reference.npz", mutations.npz_file, 8, PROGRAM_VERBS, "bundle, reference.npz"),
    Target("network", "bundle/network.nir", containers.hdf5_file, 4, BUNDLE_VERBS, "bundle, network.nir"),
    Target(
        "network",
        "profile.toml",
        mutations.toml_file,
        8,
        (
            ("profiles", "show", "profile.toml"),
            ("report", "network.nir", "--noise", "1", "--profile", "profile.toml", "--out", "out"),
        ),
        "hardware profile",
    ),
    Target(
        "network",
        "gpu.json",
        mutations.json_file,
        4,
        (
            (
                "report",
                "network.nir",
                "--noise",
                "1",
                "--profile",
                "cmos45",
                "--measurements",
                "gpu.json",
                "--out",
                "out",
            ),
        ),
        "measurements",
    ),
    Target("run", "hybrid/config.json", mutations.json_file, 4, RUN_VERBS, "run, config.json"),
    Target("run", "hybrid/vocabulary.json", mutations.json_file, 3, WEIGHT_VERBS, "run, vocabulary.json"),
    Target(
        "run",
        "hybrid/labels.json",
        mutations.json_file,
        2,
        (("evaluate", "hybrid", "--task", "entailment"), *WEIGHT_VERBS),
        "run, labels.json",
    ),
    Target("run", "hybrid/model.safetensors", containers.weights_file, 8, WEIGHT_VERBS, "run, model.safetensors"),
    Target("run", "hybrid/trainer.pt", containers.trainer_file, 6, RESUME, "run, trainer.pt"),
    Target("run", "hybrid/metrics.jsonl", mutations.json_file, 2, (RUN_VERBS[4],), "run, metrics.jsonl", derived=True),
    Target(
        "run", "hybrid/evaluation.json", mutations.json_file, 3, (RUN_VERBS[4],), "run, evaluation.json", derived=True
    ),
    Target(
        "run", "hybrid/entailment.json", mutations.json_file, 2, (RUN_VERBS[4],), "run, entailment.json", derived=True
    ),
    Target(
        "run",
        "hybrid/bundle/origin.json",
        mutations.json_file,
        2,
        (RUN_VERBS[4], ("check", "hybrid"), ("verify", "hybrid", "--no-lava"), ("simulate", "hybrid")),
        "run, origin.json",
        derived=True,
    ),
    Target(
        "sweep",
        "out/cells/base-0/row.json",
        mutations.json_file,
        2,
        (("sweep", "sweep.toml", "--out", "out", "--limit", "0"),),
        "sweep, row.json",
        derived=True,
    ),
    Target(
        "sweep",
        "sweep.toml",
        _sweep,
        3,
        (
            ("sweep", "sweep.toml", "--out", "new", "--limit", "0"),
            ("sweep", "sweep.toml", "--out", "out", "--limit", "1"),
        ),
        "sweep, TOML",
    ),
    Target(
        "run",
        "settings.toml",
        _settings,
        0,
        (("train", "settings.toml", "--out", "new", "--dry-run"), ("train", "settings.toml", "--out", "new")),
        "settings",
    ),
    Target(
        "data", "pairs.jsonl", mutations.json_file, 6, data_verbs("pairs.jsonl"), "pairs, JSON lines", required=False
    ),
    Target("data", "pairs.json", mutations.json_file, 4, data_verbs("pairs.json"), "pairs, JSON", required=False),
    Target(
        "data", "pairs.coco.json", mutations.json_file, 6, data_verbs("pairs.coco.json"), "pairs, COCO", required=False
    ),
    Target("data", "pairs.csv", mutations.csv_file, 10, data_verbs("pairs.csv"), "pairs, CSV"),
    Target("data", "shard-000000.tar", containers.tar_file, 10, data_verbs("shard-000000.tar"), "shards, tar"),
    Target("data", "packed.tar.gz", containers.tar_file, 6, data_verbs("packed.tar.gz"), "shards, tar.gz"),
    Target("data", "0.png", containers.picture_file, 10, data_verbs("pairs.jsonl")[:1], "pictures, PNG"),
    Target("data", "0.jpg", containers.picture_file, 4, data_verbs(".")[:1], "pictures in a folder"),
)


def _pattern(pattern: str) -> Iterator[tuple[Target, Mutation, Words]]:
    nothing = Mutation(f"pattern {pattern}", "refuse", lambda path, rng: None)
    target = Target("data", "shard-000000.tar", lambda rounds: (nothing,), 0, (), "shards, pattern")
    yield target, nothing, ("data", "check", pattern)
    yield target, nothing, ("train", "tiny", "--out", "new", "--set", f"data.source={pattern}")


PATTERNS = (
    "shard-{000000..999999999}.tar",
    "shard-{0..99999999999999999999}.tar",
    "shard-{000000..000009}.tar",
    "shard-{9..0}.tar",
    "shard-{" + "0" * DIGITS + ".." + "9" * DIGITS + "}.tar",
    "shard-{000000..000000}.{0..999999999}.tar",
)


def all_cases() -> tuple[Case, ...]:
    """Return every case, in an order that mixes nothing: target by target."""
    numbers: Counter[str] = Counter()
    found: list[Case] = []

    def add(target: Target, mutation: Mutation, words: Words, fix_hash: bool = True) -> None:
        numbers[target.kind] += 1
        found.append(Case(numbers[target.kind], target, mutation, words, fix_hash))

    for target in TARGETS:
        words = cycle(target.verbs)
        for index, mutation in enumerate(target.damage(target.rounds)):
            add(target, mutation, next(words), index % 12 != 11)
    for pattern in PATTERNS:
        for one in _pattern(pattern):
            add(*one)
    return tuple(found)


def sample(count: int) -> tuple[Case, ...]:
    """Return ``count`` cases, evenly spaced."""
    cases = all_cases()
    return tuple(cases[number * len(cases) // count] for number in range(count))
