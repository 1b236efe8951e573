"""The script of a bundle, run with its folder alone by Lava's interpreter."""

import os
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from itertools import count, islice
from typing import get_args

import numpy as np
import pytest

from ashneuro.program.bundle import Reference
from ashneuro.program.lower import lower
from ashneuro.program.quantise import quantise
from ashneuro.program.serialise import save_programs
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.describe import hold_currents
from ashneuro.simulation.lava.environment import find_interpreter
from ashneuro.simulation.lava.layout import is_lagged
from ashneuro.simulation.lava.script import SCRIPT, lava_script
from ashneuro.spiking.dynamics import DYNAMICS
from ashneuro.spiking.message import MessageKind
from tests.simulation import nets
from tests.simulation.lava.test_random_graphs import in_one, names, peak
from tests.simulation.random_graphs import draw, seeded

pytestmark = pytest.mark.lava


@cache
def seeds_of_loops():
    """Return the seeds of four graphs with loops or delays whose neurons spike before the sample
    arrives, which fail without `hold`.
    """

    def chosen(seed):
        case = draw(seeded(seed), integers=True)
        program = lower(case.graph, case.contract)
        return is_lagged(program) and any(hold_currents(layer, integer=False) is not None for layer in program.layers)

    return tuple(islice(filter(chosen, count()), 4))


@cache
def seeds_of_every_kind():
    """Return seeds of graphs that stream, and that have every message and all dynamics."""
    missing, found = {*(kind for kind in get_args(MessageKind)), *DYNAMICS}, []
    for seed in count():
        case = draw(seeded(seed), integers=True)
        program = lower(case.graph, case.contract)
        kinds = {kind for layer in program.layers for kind in (layer.neuron.message.kind, layer.neuron.dynamics)}
        if kinds & missing and not is_lagged(program):
            found.append(seed)
            missing -= kinds
        if not missing:
            return tuple(found)


def drawn(seeds):
    """Return graphs as one network of unconnected parts: (float, integer, inputs)."""
    floats, integers, inputs = [], [], {}
    for number, seed in enumerate(seeds):
        case = draw(seeded(seed), integers=True)
        floats.append(lower(case.graph, case.contract))
        integers.append(quantise(floats[-1], input_peak=peak(case)).program)
        inputs |= {f"{number}.{name}": x[:8, :2] for name, x in case.inputs.items()}
    return in_one(floats), in_one(integers), inputs


def write(folder, program, integer, inputs):
    """Write the files of a bundle that the script reads, and the script."""
    folder.mkdir()
    save_programs(folder, {"float": program, "integer": integer})
    spikes = {
        part: {name: run_program(p, inputs, rasters=names(p)).layers[name].raster for name in names(p)}
        for part, p in (("spikes", program), ("integer", integer))
    }
    reference = Reference(inputs, spikes["spikes"], spikes["integer"])
    arrays = {f"inputs/{name}": x for name, x in reference.inputs.items()}
    arrays |= {f"{part}/{name}": x for part in spikes for name, x in spikes[part].items()}
    np.savez_compressed(folder / "reference.npz", **arrays)
    (folder / SCRIPT).write_text(lava_script(program))
    return spikes


def start(folder, *words):
    """Run the script in a clean environment, from another folder."""
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [str(find_interpreter()), str(folder / SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent, env=clean)


@pytest.mark.parametrize("lagged", [False, True], ids=["streams of every kind", "loops and delays"])
def test_script_verifies_random_graphs(tmp_path, lagged):
    """Without loops, the graphs have every message and all dynamics."""
    program, integer, inputs = drawn(seeds_of_loops() if lagged else seeds_of_every_kind())
    assert is_lagged(program) == lagged
    write(tmp_path / "made", program, integer, inputs)
    shutil.copytree(tmp_path / "made", tmp_path / "copy" / "bundle")
    shutil.rmtree(tmp_path / "made")
    said = start(tmp_path / "copy" / "bundle", "--verify")
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.count(" 0 differ\n") == 2 * len(program.layers)
    assert "float: equal" in said.stdout and "fixed: equal" in said.stdout


def test_script_probes_saves_and_detects_mismatch(tmp_path):
    random, program = nets.conv_net(3, "integer")
    x = random.inputs(program.inputs[0], 6, 2)
    spikes = write(tmp_path / "bundle", program, program, {"input": x})
    np.save(tmp_path / "x.npy", x)
    words = ("--inputs", tmp_path / "x.npy", "--probe", "d:7", "--probe", "d:3", "--save", tmp_path / "out.npz")
    said = start(tmp_path / "bundle", *words)
    assert said.returncode == 0, said.stderr
    activity = run_program(program, x, traces=["d"]).layers["d"]
    wanted = np.stack([activity.u.reshape(6, 2, -1)[..., [3, 7]], activity.v.reshape(6, 2, -1)[..., [3, 7]]], axis=2)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["trace/d"], wanted)
        for name, values in spikes["integer"].items():
            np.testing.assert_array_equal(found[f"sent/{name}"], values)
    assert f"d:7 sample 0 step 5: u = {wanted[5, 0, 0, 1]}, v = {wanted[5, 0, 1, 1]}\n" in said.stdout
    with np.load(tmp_path / "bundle" / "reference.npz") as archive:
        recorded = dict(archive)
    recorded["integer/c"][2, 1, 0, 0, 0] ^= 1
    np.savez_compressed(tmp_path / "bundle" / "reference.npz", **recorded)
    said = start(tmp_path / "bundle", "--verify")
    assert said.returncode == 1 and "fixed: 1 values differ" in said.stdout


def test_unknown_probe_error_lists_layers(tmp_path):
    random, program = nets.dense_net(3, "integer")
    write(tmp_path / "bundle", program, program, {"input": random.inputs(program.inputs[0], 3, 1)})
    said = start(tmp_path / "bundle", "--probe", "c:6")
    assert said.returncode == 2 and "a:0…6, b:0…8, c:0…5, out:0…3" in said.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x.astype(float) * 0.5, "takes spikes"),
        (lambda x: np.where(x, np.nan, 1.0), "NaN or infinity"),
        (lambda x: x.astype(str), "real numbers"),
        (lambda x: x[:, :0], "has shape (4, 0, "),
        (lambda x: x[0], "has shape (2, "),
        (lambda x: x.astype(object), "cannot read"),
        (None, "cannot read"),
    ],
)
def test_invalid_inputs_are_refused(tmp_path, change, says):
    _, program = nets.dense_net(3, "integer")
    (port,) = program.inputs
    program = replace(program, inputs=(replace(port, coding="spikes", scale=1.0, limit=1),))
    spikes = np.ones((4, 2, *port.shape), np.uint8)
    write(tmp_path / "bundle", program, program, {port.name: spikes})
    np.savez(tmp_path / "x.npz", **{port.name: spikes if change is None else change(spikes)})
    if change is None:
        (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    said = start(tmp_path / "bundle", "--inputs", tmp_path / "x.npz")
    assert said.returncode == 2 and says in said.stderr and "Traceback" not in said.stderr


def test_unequal_inputs_and_ignored_options_are_refused(tmp_path):
    program, integer, inputs = drawn(seeds_of_every_kind()[:2])
    write(tmp_path / "bundle", program, integer, inputs)
    fed = {port.name for port in integer.inputs if not port.constant}
    unequal = {name: inputs[name][:, : 1 + (number > 0)] for number, name in enumerate(sorted(fed))}
    np.savez(tmp_path / "x.npz", **unequal)
    for words, says in (
        (("--inputs", tmp_path / "x.npz"), "steps and samples (T, B) differ"),
        (("--verify", "--inputs", tmp_path / "x.npz"), "leave out --inputs"),
        (("--save", tmp_path / "nowhere" / "s.npz"), "there is no folder"),
    ):
        said = start(tmp_path / "bundle", *words)
        assert said.returncode == 2 and says in said.stderr, said.stderr


def test_missing_loihi2_extension_error(tmp_path):
    random, program = nets.dense_net(3, "integer")
    write(tmp_path / "bundle", program, program, {"input": random.inputs(program.inputs[0], 3, 1)})
    said = start(tmp_path / "bundle", "--on", "loihi2")
    assert said.returncode == 3 and "closed extension" in said.stderr
