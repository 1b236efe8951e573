"""Fuzz a binary reader, guided by the coverage of its Python code (Atheris; no dependency of ours).

pip install atheris
python -m tests.fuzz.guided arrays CORPUS 600 -artifact_prefix=FOUND/

Readers: ``arrays`` (.npy, .npz), ``hdf5`` (.nir, .net), ``state`` (trainer.pt). CORPUS is a folder
where inputs that reach new code are kept; small sound files are written to one that is empty or
missing. The number is how many seconds of processor time this run takes; several runs with the same
CORPUS go on from one another. What follows goes to libFuzzer. An error of another type than the
reader's own ends the run, and its input is written.

A run adds a line to CORPUS.jsonl when it ends: inputs read, seconds of processor time, errors of
another type. Imports are not counted.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

LONGEST = 65_536
"""Bytes of the longest input; libFuzzer cuts longer ones off."""
PROCESSOR_S = 20
"""Processor time of an input in seconds; more is a hang."""
PACKAGES = ("zipfile", "h5py", "nir", "ashneuro")
"""Packages whose branches guide the search."""
PARSERS = (
    ("numpy.lib._format_impl", ("_read_array_header", "_filter_header", "descr_to_dtype", "read_magic")),
    ("torch._weights_only_unpickler", ("Unpickler.load", "_read_global_instruction")),
    ("torch.serialization", ("load", "_load")),
)
"""Functions of other packages that do as well; to instrument all of those takes minutes."""


def readers() -> dict[str, Callable[[Path], object]]:
    """Return the readers by name; imported here, so that Atheris sees their imports."""
    from ashneuro.arrays import load_arrays
    from ashneuro.config import RunConfig
    from ashneuro.program.netx.read import is_netx, read_netx
    from ashneuro.program.nir_file import read_graph
    from ashneuro.training.state import read_state

    return {
        "arrays": load_arrays,
        "hdf5": lambda path: read_netx(path) if is_netx(path) else read_graph(path),
        "state": lambda path: read_state(path, RunConfig()),
    }


def write_sound(name: str, folder: Path) -> None:
    """Write small sound inputs of one reader into ``folder``, each shorter than `LONGEST`."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    spikes = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 2
    if name == "arrays":
        np.save(folder / "a.npy", spikes)
        np.save(folder / "b.npy", np.asfortranarray(spikes.astype(np.float32)))
        np.savez(folder / "a.npz", x=spikes, y=np.float64(1))
        np.savez_compressed(folder / "b.npz", x=spikes, y=np.arange(3))
    elif name == "hdf5":
        _write_networks(folder)
    else:
        _write_state(folder / "a.pt")


def _write_networks(folder: Path) -> None:
    import h5py
    import nir
    import numpy as np

    ones = np.ones(3, np.float32)
    nodes = {
        "input": nir.Input(np.array([2])),
        "fc": nir.Affine(np.ones((3, 2), np.float32), ones),
        "lif": nir.LIF(tau=4e-3 * ones, r=ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones),
        "output": nir.Output(np.array([3])),
    }
    nir.write(folder / "a.nir", nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")]))
    with h5py.File(folder / "a.net", "w") as file:
        for number, layer in enumerate(({"type": b"input", "shape": [2]}, {"type": b"dense", "shape": [3]})):
            group = file.create_group(f"layer/{number}")
            for key, value in layer.items():
                group[key] = value
        group["inFeatures"], group["outFeatures"], group["weight"] = 2, 3, np.ones((3, 2), np.float32)
        for key, neuron in {"type": b"CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1}.items():
            group[f"neuron/{key}"] = neuron


def _write_state(path: Path) -> None:
    import torch

    from ashneuro.spiking.integers import IntegerLayer, Integers

    weight = torch.ones(2, 3)
    moments = {0: {"step": torch.tensor(1.0), "exp_avg": weight, "exp_avg_sq": weight}}
    state = {
        "model": {"fc.weight": weight},
        "optimiser": {"state": moments, "param_groups": [{"lr": 0.001, "params": [0]}]},
        "stage": 0,
        "batch": 0,
        "sums": {"loss": torch.tensor(1.0)},
        "random": [[torch.zeros(8, dtype=torch.uint8)]],
        "rows": json.dumps([{"epoch": 1, "stage": "", "losses": {}, "loss": 1.0}]),
        "integers": Integers({"lif": IntegerLayer(64.0, 100, 409)}, 2.0, 128).dumps(),
    }
    torch.save(state, path)


def main(words: list[str]) -> None:
    """Fuzz the reader that the first word names; does not return."""
    import atheris  # type: ignore[import-not-found,unused-ignore]

    with atheris.instrument_imports(include=["zipfile"]):
        importlib.import_module("zipfile")
    for library in ("numpy", "torch", "pydantic"):
        importlib.import_module(library)
    with atheris.instrument_imports(include=list(PACKAGES)):
        from ashneuro.errors import AshneuroError

        read = readers()[words[0]]
    for module, functions in PARSERS:
        for function in functions:
            atheris.instrument_func(attrgetter(function)(importlib.import_module(module)))
    name, corpus, seconds = words[0], Path(words[1]), float(words[2])
    if not any(corpus.glob("*")):
        write_sound(name, corpus)
    folder = Path(tempfile.mkdtemp(prefix="guided-"))
    inputs, first = 0, time.process_time()

    def end(found: str = "") -> None:
        used = round(time.process_time() - first, 1)
        line = {"reader": name, "inputs": inputs, "processor_s": used, "found": found}
        with corpus.with_suffix(".jsonl").open("a") as record:
            record.write(json.dumps(line) + "\n")
        shutil.rmtree(folder)

    def one(data: bytes) -> None:
        nonlocal inputs
        inputs += 1
        (folder / "input").write_bytes(data)
        begun = time.process_time()
        try:
            read(folder / "input")
        except (AshneuroError, OSError, ValueError) as error:
            if not str(error):
                end("an error without words")
                raise AssertionError("an error without words") from error
        except BaseException as error:
            end(repr(error)[:500])
            raise
        if (used := time.process_time() - begun) > PROCESSOR_S:
            end(late := f"{used:.0f} s of processor time")
            raise AssertionError(late)
        if time.process_time() - first >= seconds:
            end()
            os._exit(0)  # libFuzzer knows the clock alone

    # Of the clock, for what never ends: a busy machine may stand still for a minute.
    limits = ["-timeout=600", "-rss_limit_mb=3000", f"-max_len={LONGEST}"]
    atheris.Setup([sys.argv[0], *limits, str(corpus), *words[3:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
