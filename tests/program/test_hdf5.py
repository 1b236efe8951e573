"""HDF5 files whose arrays lie elsewhere, nowhere, or in a circle."""

from __future__ import annotations

import random
from pathlib import Path

import h5py
import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.hdf5 import open_hdf5
from ashneuro.program.nir_file import load_graph
from tests.fuzz.containers import hdf5_file
from tests.fuzz.mutations import Mutation

NAMES = {
    "external storage",
    "an external link",
    "a virtual dataset",
    "4.8 GB that were never written",
    "8 TB that were never written",
    "10¹² numbers in chunks",
    "a soft link to itself",
    "a link to its group",
    "a link to nothing",
    "2,000 nested groups",
    "records",
    "references",
}
ELSEWHERE = [one for one in hdf5_file(0) if one.name in NAMES]


def write(path: Path) -> Path:
    ones = np.ones(10)
    lif = nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones)
    nodes = {"linear": nir.Linear(np.ones((10, 4))), "lif": lif}
    nir.write(path, nir.NIRGraph(nodes, [("linear", "lif")], type_check=False))
    return path


@pytest.mark.parametrize("mutation", ELSEWHERE, ids=lambda one: one.name)
def test_entries_that_are_not_read(mutation: Mutation, tmp_path: Path) -> None:
    path = write(tmp_path / "x.nir")
    mutation.apply(path, random.Random(1))
    with pytest.raises(GraphError, match="is damaged"):
        load_graph(path)


def test_a_file_of_another_user_is_not_copied(tmp_path: Path) -> None:
    path = write(tmp_path / "x.nir")
    (tmp_path / "secret").write_bytes(bytes(400))
    with h5py.File(path, "r+") as file:
        del file["node/nodes/linear/weight"]
        file["node/nodes/linear"].create_dataset(
            "weight", (10, 4), "<f8", external=[(str(tmp_path / "secret"), 0, 400)]
        )
    with pytest.raises(ValueError, match="in another file"), open_hdf5(path):
        pass


def test_sound_files_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("packed", data=np.arange(1000.0), chunks=(100,), compression="gzip")
        file["group/text"] = "a text"
        file["nothing"] = h5py.Empty("f")
        file["none"] = np.zeros((0, 3))
    with open_hdf5(path) as file:
        assert set(file) == {"packed", "group", "nothing", "none"}
