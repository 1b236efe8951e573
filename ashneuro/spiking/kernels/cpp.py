"""C++ kernels for the CPU, compiled on first use and kept in the user's cache.

No compiler is required: without one, callers fall back to another implementation. Nothing here
imports torch.

A compiled file is named by a hash of everything it depends on (source, definitions, flags, the
compiler's file, the processor's features), so it is never loaded for another source, and machines
may share a cache. It is written under a temporary name and moved into place whole. Only a file that
belongs to this user and that nobody else can write to is loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from ashneuro.config import cache_dir

COMPILERS = ("c++", "g++", "clang++")
# -ffp-contract=off: without fused multiply-adds, results agree with Norse's to the last bit.
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno")
NATIVE = "-march=native"
OPENMP = "-fopenmp"
PARALLEL = Path(__file__).with_name("parallel.cpp")
SECONDS = 300


class NativeError(Exception):
    """Kernels cannot be compiled or loaded; the message says why. Callers fall back."""


def compiler() -> str:
    """Return the C++ compiler's path: ``$CXX``, or the first of `COMPILERS` on PATH.

    Raises:
        NativeError: there is none.
    """
    found = _compiler(os.environ.get("CXX", ""), os.environ.get("PATH", ""))
    if isinstance(found, NativeError):
        raise found
    return found


@cache
def _compiler(chosen: str, path: str) -> str | NativeError:
    if os.name != "posix":
        return NativeError("compiled kernels need Linux or macOS")
    names = (chosen,) if chosen else COMPILERS
    found = next((program for program in (shutil.which(name, path=path) for name in names) if program), None)
    return found or NativeError(f"no C++ compiler ({', '.join(names)})")


def load(source: Path, options: tuple[str, ...] = (), **definitions: str) -> ctypes.CDLL:
    """Return the library of ``source`` with macros ``definitions``; compiling takes about a second.

    Args:
        options: of the compiler, beside `FLAGS`.

    Raises:
        NativeError: there is no compiler, it failed, or the cache folder cannot be written to. The
            error is cached too.
    """
    defined = tuple(f"-D{name}={value}" for name, value in sorted(definitions.items()))
    loaded = _load(source, (*options, *defined), compiler(), cache_dir())
    if isinstance(loaded, NativeError):
        raise loaded
    return loaded


@cache
def _load(source: Path, options: tuple[str, ...], program: str, home: Path) -> ctypes.CDLL | NativeError:
    folder = home / "kernels"
    try:
        binary = Path(program).resolve().stat()
        parts = (
            source.read_bytes(),
            options,
            FLAGS,
            program,
            binary.st_size,
            binary.st_mtime_ns,
            platform.platform(),
            _processor(),
        )
        target = folder / f"{source.stem}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}.so"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(target):
            _compile(source, [program, *FLAGS, *options], target)
        try:
            return ctypes.CDLL(str(target))
        except OSError:  # a damaged file
            _compile(source, [program, *FLAGS, *options], target)
            return ctypes.CDLL(str(target))
    except (OSError, subprocess.SubprocessError) as error:
        return NativeError(f"cannot compile {source.name} into {folder}: {error}")
    except NativeError as error:
        return error


def _ours(path: Path) -> bool:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return False
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022


def _compile(source: Path, command: list[str], target: Path) -> None:
    handle, unfinished = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    try:
        for flags in ([NATIVE], []):  # not every compiler knows -march=native
            done = subprocess.run(
                [*command, *flags, str(source), "-o", unfinished],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            if done.returncode == 0:
                os.chmod(unfinished, 0o700)
                os.replace(unfinished, target)
                return
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NativeError(f"{command[0]} cannot compile {source.name}: {said[0]}")
    finally:
        Path(unfinished).unlink(missing_ok=True)


@cache
def _processor() -> str:
    """Return the lines that distinguish processors which need different code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        dict.fromkeys(line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part")))
    )


def in_slices(function: Any, job: ctypes.Structure, count: int, threads: int) -> None:
    """Call the compiled ``function(job, begin, end)`` for ``threads`` slices of 0 … ``count``.

    Slices run in OpenMP's threads (``parallel.cpp``), or in Python's where the compiler has no
    OpenMP. ``function`` comes from a `ctypes.CDLL`, which releases the GIL.
    """
    pointer, threads = ctypes.byref(job), max(1, min(threads, count))
    if threads == 1:
        function(pointer, 0, count)
        return
    parallel = _openmp()
    if parallel is not None:
        parallel(function, pointer, count, threads)
        return
    edges = [count * part // threads for part in range(threads + 1)]

    def run(part: int) -> None:
        function(ctypes.byref(job), edges[part], edges[part + 1])  # keeps the job's memory alive after Ctrl-C

    waiting = [_pool(threads - 1, os.getpid()).submit(run, part) for part in range(1, threads)]
    run(0)
    for one in waiting:
        one.result()


@cache
def _openmp() -> Any:
    """Return `in_slices` of ``parallel.cpp``; ``None`` without OpenMP, and in a forked process.

    GNU's OpenMP waits for ever in a fork of a process that has used its threads.
    """
    if _forked:
        return None
    try:
        found = load(PARALLEL, (OPENMP,)).in_slices
    except NativeError:
        return None
    found.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    found.restype = None
    return found


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True
    _openmp.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return a pool of idle threads; one per process, because a fork inherits no threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")
