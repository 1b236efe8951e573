"""Malformed inputs straight into the readers, in this process: an error of ashneuro's, or a value.

The same mutations as in `tests.fuzz`, without those that take seconds to write.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ashneuro.arrays import load_arrays
from ashneuro.cost.measure import load_measurements
from ashneuro.cost.profile import load_profile
from ashneuro.errors import AshneuroError
from ashneuro.program.netx.read import read_netx
from ashneuro.program.nir_file import read_graph
from tests.fuzz import containers, mutations, seeds
from tests.fuzz.mutations import Mutation

SLOW = ("GiB", "3.2 GB", "200 MB", "10¹² numbers in chunks", "12,000")
READERS: dict[str, tuple[Callable[[Path], object], Callable[[int], Iterable[Mutation]], int]] = {
    "network.nir": (read_graph, containers.hdf5_file, 1),
    "network.net": (read_netx, containers.hdf5_file, 1),
    "x.npy": (load_arrays, mutations.npy_file, 3),
    "x.npz": (load_arrays, mutations.npz_file, 3),
    "profile.toml": (load_profile, mutations.toml_file, 2),
    "gpu.json": (load_measurements, mutations.json_file, 2),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "files"
    seeds.files(folder)
    return folder


@pytest.mark.parametrize("name", READERS)
def test_readers_raise_nothing_else(name: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, damage, rounds = READERS[name]
    monkeypatch.chdir(tmp_path)
    data = (sound / name).read_bytes()
    read(sound / name)
    accepted = []
    for number, mutation in enumerate(damage(rounds)):
        if any(word in mutation.name for word in SLOW):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(data)
        mutation.apply(folder / name, random.Random(number))
        try:
            read(folder / name)
            # An array is judged by who uses it.
            accepted += [mutation.name] if mutation.must == "refuse" and name[0] != "x" else []
        except AshneuroError as error:
            assert str(error)
        except (OSError, ValueError) as error:
            assert str(error) and name[0] == "x"
    assert not accepted and not (tmp_path / "EXECUTED").exists()
