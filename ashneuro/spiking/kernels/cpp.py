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
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

from ashneuro.config import cache_dir

COMPILERS = ("c++", "g++", "clang++")
# -ffp-contract=off: without fused multiply-adds, results agree with Norse's to the last bit.
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-fopenmp-simd", "-ffp-contract=off", "-fno-math-errno")
NATIVE = "-march=native"
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


def load(source: Path, **definitions: str) -> ctypes.CDLL:
    """Return the library of ``source`` with macros ``definitions``; compiling takes about a second.

    Raises:
        NativeError: there is no compiler, it failed, or the cache folder cannot be written to. The
            error is cached too.
    """
    loaded = _load(source, tuple(sorted(definitions.items())), compiler(), cache_dir())
    if isinstance(loaded, NativeError):
        raise loaded
    return loaded


@cache
def _load(
    source: Path, definitions: tuple[tuple[str, str], ...], program: str, home: Path
) -> ctypes.CDLL | NativeError:
    defined = [f"-D{name}={value}" for name, value in definitions]
    folder = home / "kernels"
    try:
        binary = Path(program).resolve().stat()
        parts = (
            source.read_bytes(),
            defined,
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
            _compile(source, [program, *FLAGS, *defined], target)
        try:
            return ctypes.CDLL(str(target))
        except OSError:  # a damaged file
            _compile(source, [program, *FLAGS, *defined], target)
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


def in_slices(run: Callable[[int, int], object], count: int, threads: int) -> None:
    """Call ``run(begin, end)`` for ``threads`` slices of 0 … ``count``, each in its own thread.

    ``run`` must release the GIL. An error in a slice is raised here.
    """
    threads = max(1, min(threads, count))
    edges = [count * part // threads for part in range(threads + 1)]
    waiting: list[Future[object]] = []
    if threads > 1:
        waiting = [
            _pool(threads - 1, os.getpid()).submit(run, edges[part], edges[part + 1]) for part in range(1, threads)
        ]
    run(edges[0], edges[1])
    for one in waiting:
        one.result()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return a pool of idle threads; one per process, because a fork inherits no threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")
