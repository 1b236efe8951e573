"""Failures while Lava runs: the error, nothing left on the machine, and the next run works."""

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ashneuro.errors import LavaError
from ashneuro.simulation.lava import layout, network
from ashneuro.simulation.lava import worker as worker_module
from ashneuro.simulation.lava.environment import WORKER, find_interpreter
from ashneuro.simulation.lava.session import Lava
from ashneuro.simulation.lava.worker import Worker, worker_command
from tests.simulation import nets
from tests.simulation.lava.test_session import expect_equal, run

pytestmark = pytest.mark.lava


class Watched(Lava):
    """A session that notes process groups and shared memory of its workers, to check their end."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.groups, self.held = set(), set()

    def look(self, *_):
        """Note the present process groups and segments; return the groups."""
        now = {slot.worker.pid for slot in self._pool.slots if slot.worker is not None}
        self.groups |= now
        self.held |= set().union(*(segments_of(group) for group in now))
        return now

    def expect_nothing_left(self):
        assert self.groups and self.held
        assert not [pid for group in self.groups for pid in group_of(group)]
        assert not self.held & set(os.listdir("/dev/shm"))


def group_of(worker):
    """Return the process ids of the worker's group."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid="], capture_output=True, text=True, check=True).stdout
    return [int(pid) for pid, group in (line.split() for line in listed.splitlines()) if int(group) == worker]


def child_of(worker):
    """Return a process that computes: the last one that the worker forked."""
    return max(pid for pid in group_of(worker) if "worker.py" in Path(f"/proc/{pid}/cmdline").read_text())


def segments_of(worker):
    """Return the names of the shared-memory segments that the worker's processes have mapped."""
    mapped = set()
    for pid in group_of(worker):
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            mapped |= {line.split("/dev/shm/")[1].split()[0] for line in lines if "/dev/shm/" in line}
    return mapped


def wait_until(holds, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds()


def test_no_remains_after_success():
    random, program = nets.dense_net(2, "integer")
    with Watched() as lava:
        lava.run(program, random.inputs(program.inputs[0], 4, 5), progress=lava.look)
    lava.expect_nothing_left()


def test_no_remains_after_interrupt():
    random, program = nets.dense_net(2, "integer")
    lava = Watched()

    def interrupt(done, total):
        assert len(group_of(*lava.look())) > 8
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), lava:
        lava.run(program, random.inputs(program.inputs[0], 16, 20), progress=interrupt)
    lava.expect_nothing_left()


FAULTS = {
    "worker killed": lambda worker: os.kill(worker, signal.SIGKILL),
    "process of Lava killed": lambda worker: os.kill(child_of(worker), signal.SIGKILL),
    "Lava hangs": lambda worker: os.kill(child_of(worker), signal.SIGSTOP),
}
HANGS = (
    r"does not answer\nwhy: no reply within 300 s, while the worker lives:"
    r" Lava is at step, after step \d+, \d+ processes of it"
)


@pytest.mark.parametrize(
    ("fault", "times", "message"),
    [
        ("worker killed", 1, ""),
        pytest.param("process of Lava killed", 2, r"ProcessEnded\n.*exit status -9", marks=pytest.mark.slow),
        ("Lava hangs", 2, HANGS),
    ],
    ids=["worker killed", "process of Lava killed", "Lava hangs"],
)
def test_lost_worker_is_replaced_once(fault, times, message, monkeypatch):
    monkeypatch.setattr(layout, "CHUNK_STEPS", 4096)  # one chunk, of many requests
    random, program = nets.spike_input_net(5, "integer")
    x = random.inputs(program.inputs[0], 16, 40)
    struck = set()

    def strike(done, total):
        for group in lava.look() - struck:
            if len(struck) < times:
                struck.add(group)
                FAULTS[fault](group)
                # A reply that is due is late at once; later ones may take as long as they take.
                passed[0] += 1000.0 if fault == "Lava hangs" else 0.0

    passed = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0], sleep=time.sleep)
    monkeypatch.setattr(worker_module, "time", clock)
    monkeypatch.setattr(worker_module, "WAIT_S", 0.2)
    lava = Watched()
    with lava:
        if times > 1:
            with pytest.raises(LavaError, match=message):
                lava.run(program, x, stock=None, progress=strike)
        expect_equal(program, run(lava, program, x, stock=None, progress=strike), x)
        assert len(struck) == times and len(lava.groups) == times + 1
    lava.expect_nothing_left()


def test_build_error_is_reported_and_next_network_runs():
    """Lava finds unequal shapes when it connects the network."""
    random, program = nets.dense_net(2, "float")
    broken = nets.Layer("z", (5,), random.neuron((5,)), (nets.connect("a", random.dense((7,), 6)),), 1)
    x = random.inputs(program.inputs[0], 4, 2)
    with Watched() as lava:
        with pytest.raises(LavaError, match=r"Lava failed: \w+\nwhy: Shapes \(6,\) and \(5,\)"):
            lava.run(random.program(program.inputs[0], [program.layers[0], broken]), x)
        expect_equal(program, run(lava, program, x, progress=lava.look), x)
    lava.expect_nothing_left()


def test_exception_within_lava_process_is_reported(monkeypatch):
    """Decays of another shape than the population fail in the first step, within the process."""
    original = network.describe

    def broken(*args, **options):
        description = original(*args, **options)
        description.arrays["layer.1.du"] = np.full(3, 0.5)
        return description

    monkeypatch.setattr(network, "describe", broken)
    random, program = nets.dense_net(2, "float")
    with pytest.raises(LavaError, match=r"Lava failed: \w+\nwhy: .*could not (be )?broadcast"), Lava() as lava:
        lava.run(program, random.inputs(program.inputs[0], 4, 2))


HOST = """
import signal, sys, time
from pathlib import Path
from tests.simulation import nets
from ashneuro.simulation.lava import layout, session
layout.WIDTH, layout.CHUNK_STEPS, layout.ROUNDS_PER_IDLE = 2, 4, 1
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
random, program = nets.spike_input_net(5, "integer")
x = random.inputs(program.inputs[0], 4, 400)
try:
    with session.Lava() as running:
        def progress(done, total):
            print(running._pool.slots[0].worker.pid, done, flush=True)
            {then}
        print(running._pool.slots[0].worker.pid, 0, flush=True)
        running.run(program, x, resume=Path(sys.argv[1]), progress=progress)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start_host(folder, then="pass"):
    command = [sys.executable, "-c", HOST.format(then=then), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


@pytest.mark.parametrize("then", ["time.sleep(60)", "pass"], ids=["while it waits", "while it runs"])
def test_no_remains_after_host_is_killed(tmp_path, then):
    with start_host(tmp_path, then) as host:
        while int((line := host.stdout.readline()).split()[1]) < (1 if then != "pass" else 9):
            pass
        worker = int(line.split()[0])
        assert len(group_of(worker)) > 8
        held = segments_of(worker)
        host.kill()
    wait_until(lambda: not group_of(worker))
    assert held and not held & set(os.listdir("/dev/shm"))
    if then == "pass":
        assert len(list(tmp_path.glob("*/*.npz"))) >= 2


@pytest.mark.parametrize("after", [0.0, 0.3], ids=lambda seconds: f"{seconds} s")
def test_no_remains_after_ctrl_c(tmp_path, after):
    """While the network is built, and while it runs."""
    with start_host(tmp_path) as host:
        worker = int(host.stdout.readline().split()[0])
        time.sleep(after)
        host.send_signal(signal.SIGINT)
        host.stdout.read()
        assert host.wait(120) == 130
    assert not group_of(worker)


def test_killed_worker_is_not_waited_for(monkeypatch):
    """Though another process holds the pipe of its replies open, and its log is gone."""
    monkeypatch.setattr(worker_module, "KILL_S", 0.2)
    worker = Worker(worker_command(None))
    pipe = os.fstat(worker._process.stdout.fileno()).st_ino
    ends = [end for end in Path(f"/proc/{worker.pid}/fd").iterdir() if end.exists() and end.stat().st_ino == pipe]
    held = os.open(ends[0], os.O_WRONLY)
    try:
        worker.kill()
        worker.log.unlink()
        with pytest.raises(worker_module.WorkerLost, match="the Lava worker ended"):
            worker._receive(300.0)
    finally:
        os.close(held)
        worker.end()


HUGE = b'{"request": "step", "arrays": [{"name": "x", "dtype": "float64", "shape": [1000000, 1000000]}]}'


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"\xff\xff\xff\xff", "a header of 4294967295 bytes"),
        (struct.pack("<I", len(HUGE)) + HUGE, "arrays of 8000000000000 bytes"),
    ],
    ids=["damaged", "huge"],
)
def test_damaged_frame_ends_worker_with_error(frame, message):
    worker = Worker(worker_command(None), timeout_s=120.0)
    try:
        os.write(worker._process.stdin.fileno(), frame)
        with pytest.raises(LavaError, match=rf"Lava failed: FrameError\nwhy: .*{message}"):
            worker._receive(120.0)
        assert worker._process.wait(120.0) == -signal.SIGTERM
    finally:
        worker.end()
    assert not group_of(worker.pid)


def test_unknown_request_is_refused():
    worker = Worker(worker_command(None))
    try:
        with pytest.raises(LavaError, match="unknown request 'dance'"):
            worker.ask({"request": "dance"})
        with pytest.raises(LavaError, match="no network to step"):
            worker.ask({"request": "step", "steps": 1})
        assert worker.health().processes == 0
    finally:
        worker.close()
    assert worker.log.exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("/no/such/python", "cannot be started\n.*No such file"),
        (f"{sys.executable} -c \"print('hello')\"", "reply cannot be read"),
        (
            f"{sys.executable} -c \"raise SystemExit('no Lava here')\"",
            r"ended\nwhy: exit status 1; .*\.log ends with:\nno Lava here",
        ),
        (f"{sys.executable} -c 'import time; time.sleep(60)'", "does not answer\n.*no reply within 1 s"),
        (
            f"{sys.executable} -c \"import os; os.write(1, b'\\xff' * 8)\"",
            "reply cannot be read\n.*a header of 4294967295 bytes",
        ),
    ],
)
def test_start_failure_is_explained(command, message):
    wait_s = 1 if "sleep" in command else 120  # a busy machine may take seconds to start Python
    with pytest.raises(LavaError, match=message) as caught, Lava(command=command, timeout_s=wait_s):
        pass
    assert caught.value.do


def test_worker_of_other_version_is_refused(tmp_path):
    shutil.copytree(WORKER, tmp_path / "lava_worker")
    with (tmp_path / "lava_worker" / "network.py").open("a") as file:
        file.write("# older\n")
    with (
        pytest.raises(LavaError, match=r"another version\n.*\n.*scp -r"),
        Lava(command=f"{find_interpreter()} {tmp_path}/lava_worker/worker.py"),
    ):
        pass


# Stand-in for ssh: runs its words in a shell of another session, which our signals do not reach.
ELSEWHERE = """#!/bin/sh
host=$1; shift
cat | setsid -w sh -c "$*" | cat
"""


def test_remote_worker_ends_with_connection(tmp_path):
    ssh = tmp_path / "ssh"
    ssh.write_text(ELSEWHERE)
    ssh.chmod(0o755)
    shutil.copytree(WORKER, tmp_path / "lava_worker")
    command = f"{ssh} host {find_interpreter()} -B {tmp_path}/lava_worker/worker.py"
    random, program = nets.dense_net(2, "integer")
    x = random.inputs(program.inputs[0], 4, 5)
    with Lava(command=command) as lava:
        expect_equal(program, run(lava, program, x, stock=2), x)
        ours = lava._pool.slots[0].worker.pid
        theirs = remote(tmp_path)
        assert theirs and ours not in theirs
        os.killpg(ours, signal.SIGKILL)
        wait_until(lambda: not remote(tmp_path))


def remote(folder):
    """Return the process ids of the workers in ``folder``, without the commands that start them."""
    listed = subprocess.run(["ps", "-eww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in listed.splitlines()]
    return [
        int(pid)
        for pid, *args in lines
        if args[0] == str(find_interpreter()) and args[-1] == f"{folder}/lava_worker/worker.py"
    ]


SMALL_MACHINE = """
import os, sys
sys.path.insert(0, {worker!r})
import worker
statvfs = os.statvfs
small = os.statvfs_result((4096, 4096, 1, 1, 1, 1, 1, 1, 0, 255))
os.statvfs = lambda path: small if path == "/dev/shm" else statvfs(path)
worker.main()
"""


def test_too_little_shared_memory_error(tmp_path):
    """Otherwise it is a bus error in the middle of a step."""
    script = tmp_path / "small.py"
    script.write_text(SMALL_MACHINE.format(worker=str(WORKER)))
    random, program = nets.conv_net(2, "integer")
    with (
        pytest.raises(
            LavaError, match=r"MemoryError\nwhy: Lava's channels need \d+ MB in /dev/shm, which has 0 MB left"
        ),
        Lava(command=f"{find_interpreter()} {script}") as lava,
    ):
        lava.run(program, random.inputs(program.inputs[0], 4, 12))


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


def test_output_of_lava_goes_to_log(tmp_path):
    script = tmp_path / "noisy.py"
    script.write_text(NOISY.format(worker=str(WORKER)))
    with Lava(command=f"{find_interpreter()} {script}") as lava:
        random, program = nets.graded_net(2, "integer")
        x = random.inputs(program.inputs[0], 3, 2)
        expect_equal(program, run(lava, program, x), x)
        assert lava._pool.slots[0].worker.log.read_text().count("from ") == 3
