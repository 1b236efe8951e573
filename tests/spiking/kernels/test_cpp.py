"""Cache of compiled kernels: reuse, invalidation, file permissions, concurrent writers."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ashneuro.spiking.kernels import backend_native, cpp, sparse_synapses
from ashneuro.spiking.kernels.cpp import NativeError, in_slices, load
from ashneuro.spiking.kernels.interface import Neurons
from ashneuro.spiking.kernels.multi_step import multi_step

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, cpp.COMPILERS)), reason="no C++ compiler; install one, for example: apt install g++"
)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CXX", raising=False)
    file = tmp_path / "answer.cpp"
    file.write_text('extern "C" int answer() { return ANSWER; }\n')
    yield file
    cpp._load.cache_clear()


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home" / "kernels").iterdir())


@needs_compiler
def test_compiled_once_then_loaded_from_cache(source, tmp_path, monkeypatch) -> None:
    assert load(source, ANSWER="42").answer() == 42
    assert load(source, ANSWER="7").answer() == 7
    (first, second) = kept(tmp_path)
    cpp._load.cache_clear()
    monkeypatch.setattr(cpp, "_compile", lambda *arguments: pytest.fail("compiled again"))
    assert load(source, ANSWER="42").answer() == 42
    assert not first.stat().st_mode & 0o077 and not first.parent.stat().st_mode & 0o077
    assert second.suffix == ".so"


@needs_compiler
def test_changed_source_gets_a_new_file(source, tmp_path) -> None:
    load(source, ANSWER="1")
    source.write_text('extern "C" int answer() { return 2 * ANSWER; }\n')
    cpp._load.cache_clear()
    assert load(source, ANSWER="1").answer() == 2
    assert len(kept(tmp_path)) == 2


@needs_compiler
def test_file_writable_by_others_is_recompiled(source, tmp_path) -> None:
    load(source, ANSWER="5")
    (file,) = kept(tmp_path)
    cpp._load.cache_clear()
    file.chmod(0o777)
    before = file.stat().st_ino
    assert load(source, ANSWER="5").answer() == 5
    assert file.stat().st_ino != before and not file.stat().st_mode & 0o022 and len(kept(tmp_path)) == 1


@needs_compiler
def test_damaged_file_is_recompiled(source, tmp_path) -> None:
    load(source, ANSWER="6")
    (file,) = kept(tmp_path)
    # In another process: this one has the file loaded under its name.
    code = (
        "from pathlib import Path; from ashneuro.spiking.kernels.cpp import load; "
        f"print(load(Path({str(source)!r}), ANSWER='6').answer())"
    )
    other = file.with_name("cut")
    other.write_bytes(file.read_bytes()[:100])
    other.chmod(0o700)
    os.replace(other, file)
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "6\n"
    assert file.stat().st_size > 100 and len(kept(tmp_path)) == 1


@needs_compiler
def test_concurrent_compilations_leave_one_whole_file(source, tmp_path) -> None:
    target = tmp_path / "home" / "kernels" / "answer.so"
    target.parent.mkdir(parents=True)
    command = [cpp.compiler(), *cpp.FLAGS, "-DANSWER=3"]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(cpp._compile, source, command, target) for _ in range(4)]:
            done.result()
    assert kept(tmp_path) == [target]


@needs_compiler
def test_compile_error_is_raised_and_leaves_no_file(source, tmp_path) -> None:
    for _ in range(2):
        with pytest.raises(NativeError, match=r"cannot compile answer.cpp: .*(answer|ANSWER|WRONG)"):
            load(source, ANSWER="WRONG WRONG")
    assert kept(tmp_path) == []


@needs_compiler
def test_compiler_without_march_native(source, tmp_path, monkeypatch) -> None:
    fussy = tmp_path / "fussy"
    fussy.write_text(
        f'#!/bin/sh\nfor a in "$@"; do [ "$a" = -march=native ] && exit 1; done\nexec {shutil.which("c++")} "$@"\n'
    )
    fussy.chmod(0o755)
    monkeypatch.setenv("CXX", str(fussy))
    assert load(source, ANSWER="9").answer() == 9


def test_missing_compiler_or_unwritable_cache_raises(source, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as context:
        context.setenv("CXX", "no-such-compiler")
        with pytest.raises(NativeError, match=r"no C\+\+ compiler \(no-such-compiler\)"):
            load(source, ANSWER="1")
    (tmp_path / "home").write_text("a file where the folder would be")
    monkeypatch.setenv("CXX", shutil.which("sh") or "sh")
    with pytest.raises(NativeError, match=r"cannot compile answer\.cpp into"):
        load(source, ANSWER="1")


class Covered(ctypes.Structure):
    _fields_ = [("times", ctypes.c_int64 * 100)]


def covered(count: int, threads: int, tmp_path: Path) -> list[int]:
    """Return the times that each of ``count`` numbers was in a slice."""
    file = tmp_path / "cover.cpp"
    file.write_text(
        "#include <cstdint>\n"
        'extern "C" void cover(int64_t* times, int64_t n, int64_t end) { for (; n < end; n++) times[n]++; }'
    )
    job = Covered()
    function = load(file).cover
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64], None
    in_slices(function, job, count, threads)
    assert not any(job.times[count:])
    return list(job.times[:count])


@needs_compiler
@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize(("count", "threads"), [(1, 1), (10, 3), (2, 8), (0, 4)])
def test_slices_cover_the_range_once(count, threads, openmp, source, tmp_path, monkeypatch) -> None:
    if not openmp:
        monkeypatch.setattr(cpp, "_openmp", lambda: None)
    assert covered(count, threads, tmp_path) == [1] * count


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="torch's Linux wheels have GNU's OpenMP")
def test_slices_run_in_threads_of_torch() -> None:
    if cpp._openmp() is None:
        pytest.skip("this compiler has no OpenMP")
    maps = Path("/proc/self/maps").read_text().split()
    assert len({path for path in maps if "libgomp" in path}) == 1


@needs_compiler
def test_forked_process_has_threads_of_its_own(source) -> None:
    """In a fork, GNU's OpenMP would wait for ever for the threads of the parent."""
    source.write_text(
        'extern "C" void add(long* sum, long begin, long end) { __sync_fetch_and_add(sum, end - begin); }'
    )
    code = f"""if True:
        import ctypes, os, sys
        from pathlib import Path
        from ashneuro.spiking.kernels.cpp import in_slices, load
        class Job(ctypes.Structure):
            _fields_ = [("sum", ctypes.c_long)]
        add, job = load(Path({str(source)!r})).add, Job()
        add.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
        in_slices(add, job, 100, 2)
        if child := os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        in_slices(add, job, 100, 2)
        os._exit(job.sum != 200)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@needs_compiler
@pytest.mark.parametrize(
    ("module", "where", "allocate"), [(backend_native, Tensor, "new_empty"), (sparse_synapses, torch, "empty")]
)
def test_running_slice_keeps_memory_of_interrupted_caller_alive(module, where, allocate, monkeypatch) -> None:
    slices, made, plain = [], [], getattr(where, allocate)

    def recorded(*arguments, **named) -> Tensor:
        array = plain(*arguments, **named)
        made.append(weakref.ref(array))
        return array

    def interrupted(function, job, count: int, threads: int) -> None:
        slices.append(job)  # as a thread holds it that has not finished
        raise KeyboardInterrupt

    linear, x = nn.Linear(64, 512), torch.eye(64).repeat(64, 1)
    with monkeypatch.context() as context:
        context.setattr(where, allocate, recorded)
        context.setattr(module, "in_slices", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sparse_synapses.synaptic_currents(linear, x, "native") if module is sparse_synapses else multi_step(
                x[None], Neurons("lif", kernels="native")
            )
    gc.collect()
    assert made and all(array() is not None for array in made)
    slices.clear()
    gc.collect()
    assert all(array() is None for array in made)
