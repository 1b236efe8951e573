"""Real Lava, in its own interpreter, against the reference that knows neither matrices nor lags."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ashneuro.errors import LavaError
from ashneuro.simulate.inputs import check_inputs
from ashneuro.simulate.lava import ROWS, Lava
from ashneuro.simulate.lava_env import WORKER, find_interpreter
from ashneuro.simulate.neurons import read_out
from tests.simulate import machine_reference, nets

pytestmark = pytest.mark.lava


@pytest.fixture(scope="module")
def lava():
    with Lava() as running:
        yield running


def expect_equal(program, record, x):
    wanted = machine_reference.run(program, check_inputs(program.inputs, None, {"input": x}))
    for layer in program.layers:
        got = record.layers[layer.name]
        if layer.neuron.spiking:
            np.testing.assert_array_equal(got.raster, wanted[layer.name])
            np.testing.assert_array_equal(got.counts, wanted[layer.name].sum((0, 1)))
        else:
            np.testing.assert_allclose(got.raster, read_out(layer, wanted[layer.name], program.precision), rtol=0, atol=1e-12)
    return wanted


def run(lava, program, x, **kwargs):
    return lava.run(program, x, rasters=[layer.name for layer in program.layers], **kwargs)


def test_versions(lava):
    assert lava.versions["lava-nc"] == "0.10.0"
    assert lava.versions["python"].startswith("3.10.")


@pytest.mark.parametrize("precision", ["float", "integer"])
@pytest.mark.parametrize("net", nets.NETS)
def test_streams_samples_without_a_mismatch(lava, net, precision):
    random, program = nets.NETS[net](29, precision)
    x = random.inputs(program.inputs[0], 8, 6)
    told = []
    record = run(lava, program, x, progress=lambda done, total: told.append((done, total)))
    wanted = expect_equal(program, record, x)
    assert sum(0 < wanted[layer.name].mean() < 1 for layer in program.layers if layer.neuron.spiking) >= 2
    assert told[-1] == (6, 6)
    if net != "recurrent":  # there samples run side by side
        assert len(told) > 1, f"more than one request of {ROWS} steps"


def test_wraps_and_saturates(lava):
    random, program = nets.overflow_net(1)
    x = random.inputs(program.inputs[0], 40, 2)
    wanted = expect_equal(program, run(lava, program, x), x)
    assert all(0 < spikes.mean() < 1 for spikes in wanted.values())


@pytest.mark.parametrize("timesteps", [1, 2])
def test_a_sample_shorter_than_the_network_is_deep(lava, timesteps):
    """Then the reset of a layer at depth d comes at an offset of d + 1 steps, which is several samples."""
    random, program = nets.conv_net(8, "integer")
    x = 4 * random.inputs(program.inputs[0], timesteps, 9)
    wanted = expect_equal(program, run(lava, program, x), x)
    assert wanted["e"].any() or wanted["d"].any()


def test_the_reset_is_what_separates_samples(lava, monkeypatch):
    """One step off, and samples leak into each other: the comparison above can fail."""
    import ashneuro.simulate.lava as module

    original = module._describe

    def late(*args):
        description, arrays = original(*args)
        description["layers"][1]["offset"] += 1
        return description, arrays

    monkeypatch.setattr(module, "_describe", late)
    random, program = nets.dense_net(29, "float")
    x = random.inputs(program.inputs[0], 8, 6)
    with pytest.raises(AssertionError, match="not equal"):
        expect_equal(program, run(lava, program, x), x)


def group_of(worker):
    """Process ids of the worker's group."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid="], capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid, group in (line.split() for line in listed.splitlines()) if int(group) == worker]


def child_of(worker):
    """A process of the worker's that computes: the last one that it forked."""
    return max(pid for pid in group_of(worker) if "worker.py" in Path(f"/proc/{pid}/cmdline").read_text())


def segments_of(worker):
    """Names of the shared-memory segments that the worker's processes have mapped."""
    mapped = set()
    for pid in group_of(worker):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            mapped |= {line.split("/dev/shm/")[1].split()[0] for line in lines if "/dev/shm/" in line}
    return mapped


def expect_nothing_left(worker, held):
    assert held
    assert not group_of(worker)
    assert not held & set(os.listdir("/dev/shm"))


def wait_until(holds, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds()


def test_nothing_is_left_after_success():
    random, program = nets.dense_net(2, "integer")
    held = set()
    with Lava() as lava:
        worker = lava._process.pid
        lava.run(program, random.inputs(program.inputs[0], 4, 5), progress=lambda done, total: held.update(segments_of(worker)))
    expect_nothing_left(worker, held)


def test_nothing_is_left_when_it_is_interrupted_while_lava_runs():
    random, program = nets.dense_net(2, "integer")
    lava, held = Lava(), set()

    def interrupt(done, total):
        assert len(group_of(lava._process.pid)) > 8
        held.update(segments_of(lava._process.pid))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), lava:
        lava.run(program, random.inputs(program.inputs[0], 16, 20), progress=interrupt)
    expect_nothing_left(lava._process.pid, held)


def test_a_failure_inside_lava_is_told_and_the_worker_goes_on(lava):
    """Shapes that do not fit are found by Lava when it connects the network."""
    random, program = nets.dense_net(2, "float")
    broken = nets.Layer("z", (5,), random.neuron((5,)), (nets.connect("a", random.dense((7,), 6)),), 1)
    x = random.inputs(program.inputs[0], 4, 2)
    with pytest.raises(LavaError, match=r"Lava failed: \w+\nwhy: Shapes \(6,\) and \(5,\)"):
        lava.run(random.program(program.inputs[0], [program.layers[0], broken]), x)
    expect_equal(program, run(lava, program, x), x)


@pytest.mark.parametrize(("whom", "message"), [("worker", "exit status -9"), ("child", r"ProcessEnded\n.*exit status -9")])
def test_a_killed_process_is_an_error_and_nothing_is_left(whom, message):
    random, program = nets.dense_net(2, "integer")
    lava, held = Lava(), set()

    def kill(done, total):
        worker = lava._process.pid
        held.update(segments_of(worker))
        os.kill(worker if whom == "worker" else child_of(worker), signal.SIGKILL)

    with pytest.raises(LavaError, match=message), lava:
        lava.run(program, random.inputs(program.inputs[0], 16, 200), progress=kill)
    expect_nothing_left(lava._process.pid, held)


def test_an_exception_inside_a_running_process_is_told(monkeypatch):
    """Decays of another shape than the population: found in the first step, by the process itself."""
    import ashneuro.simulate.lava as module

    original = module._describe

    def broken(*args):
        description, arrays = original(*args)
        return description, {**arrays, "layer.1.du": np.full(3, 0.5)}

    monkeypatch.setattr(module, "_describe", broken)
    random, program = nets.dense_net(2, "float")
    lava = Lava()
    with pytest.raises(LavaError, match=r"Lava failed: ValueError\nwhy: operands could not be broadcast.*subthr_dynamics"), lava:
        lava.run(program, random.inputs(program.inputs[0], 4, 2))
    assert not group_of(lava._process.pid)


HOST = """
import sys, time
sys.path.insert(0, {tests!r})
import nets
from ashneuro.simulate.lava import Lava
random, program = nets.dense_net(2, "integer")
with Lava() as lava:
    def forever(done, total):
        print(lava._process.pid, flush=True)
        {then}
    lava.run(program, random.inputs(program.inputs[0], 16, 40), progress=forever)
"""


@pytest.mark.parametrize("then", ["time.sleep(60)", "pass"], ids=["while it waits", "while it runs"])
def test_nothing_survives_a_host_killed_with_sigkill(then):
    script = HOST.format(tests=str(Path(__file__).parent), then=then)
    host = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(host.stdout.readline())
    assert len(group_of(worker)) > 8
    held = segments_of(worker)
    host.kill()
    host.wait()
    host.stdout.close()
    wait_until(lambda: not group_of(worker))
    expect_nothing_left(worker, held)


NOISY = """
import os, sys
sys.path.insert(0, {worker!r})
import worker
serve = worker._serve
def noisy(*args):
    print("from Python", flush=True)
    os.write(1, b"from below Python")
    os.system("echo from a child")
    serve(*args)
worker._serve = noisy
worker.main()
"""


def test_whatever_is_printed_stays_off_the_pipe():
    with Lava([str(find_interpreter()), "-c", NOISY.format(worker=str(WORKER))]) as lava:
        random, program = nets.graded_net(2, "integer")
        x = random.inputs(program.inputs[0], 3, 2)
        expect_equal(program, run(lava, program, x), x)
        assert lava._last_words().count("from ") == 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["/no/such/python"], "cannot be started\n.*No such file"),
        ([sys.executable, "-c", "print('hello')"], "reply cannot be read"),
        ([sys.executable, "-c", "raise SystemExit('no Lava here')"], "ended\n.*exit status 1; it printed:\nno Lava here"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "does not answer\n.*no reply within 1 s"),
    ],
)
def test_a_worker_that_does_not_start_is_explained(command, message):
    with pytest.raises(LavaError, match=message), Lava(command, timeout_s=1):
        pass
