"""Arrays that are read within limits: claims, archives, kinds of values."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from ashneuro.arrays import load_arrays, load_npy, load_npz
from tests.fuzz.mutations import BAD_NPY, Mutation, npz_file

READ = {"a header of 60,000 bytes", "no elements", "no samples", "NaN", "infinity", "1e300", "of another shape"}
READ |= {"Fortran order", "true and false", "a single number"}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">i8", "?", "<f2"])
def test_arrays_are_those_of_numpy(order: str, dtype: str, tmp_path: Path) -> None:
    values = np.asarray(np.arange(24).reshape(2, 3, 4), dtype, order)  # type: ignore[call-overload]
    np.save(tmp_path / "x.npy", values)
    np.savez(tmp_path / "x.npz", a=values, b=values[0])
    np.savez_compressed(tmp_path / "y.npz", a=values, b=np.float32(3))
    one = load_npy(tmp_path / "x.npy")
    assert one.dtype == values.dtype and np.array_equal(one, values)
    one[0, 0, 0] = 1  # may be written to
    assert np.array_equal(load_npz(tmp_path / "x.npz")["b"], values[0])
    both = load_arrays(tmp_path / "y.npz")
    assert isinstance(both, dict) and both["b"].shape == () and np.array_equal(both["a"], values)


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, data, _ in BAD_NPY if name not in READ])
def test_bad_headers_are_value_errors(name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(ValueError):
        load_npy(tmp_path / "x.npy")
    assert not (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize(
    "mutation",
    [
        one
        for one in npz_file(0)
        if not one.name.startswith("member") and one.name not in ("a bomb of 3 GiB", "an empty zip")
    ],
    ids=lambda one: one.name,
)
def test_damaged_archives_are_named_or_read(mutation: Mutation, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(100), b=np.ones((3, 4)))
    mutation.apply(path, random.Random(3))
    try:
        load_npz(path)
        assert mutation.must == "any"
    except (OSError, ValueError) as error:
        assert str(error)


def test_claims_are_compared_before_anything_is_allocated(tmp_path: Path) -> None:
    """A gigabyte of zeros packs into a megabyte: what a small file may hold is limited."""
    path = tmp_path / "x.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASHNEURO_LARGEST_GIB", "0.001")
        np.savez_compressed(path, a=np.zeros(1 << 22, np.uint8))
        with pytest.raises(ValueError, match="claims to hold 4,194,"):
            load_npz(path)
    assert load_npz(path)["a"].nbytes == 1 << 22
