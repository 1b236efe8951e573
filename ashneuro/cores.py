"""Cores that this process may use, and how it shares them with others."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")

SPINS = 600
"""Turns of GNU's OpenMP before a waiting thread sleeps, some 10 µs. Many gaps between operations of
a training step are shorter, and to wake a thread takes 40 µs. Longer waits are faster alone, and
take time from other work (docs/learning.md).
"""


def usable_cores(groups: Path = CGROUPS) -> int:
    """Return the number of cores that this process may use: of the machine's, those that its
    affinity allows (``taskset``, a job scheduler), and no more than its containers' quotas.

    Args:
        groups: where the system shows the quotas: ``cpu.max`` (cgroup v2), ``cpu.cfs_quota_us``
            (v1).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *_quotas(groups)]))


def _quotas(groups: Path) -> Iterator[int]:
    """Iterate over the whole cores of every quota that holds for this process."""
    folders = [groups, groups / "cpu"]
    try:
        own = Path("/proc/self/cgroup").read_text()
        (name,) = (line.removeprefix("0::/") for line in own.splitlines() if line.startswith("0::/"))
        inner = groups / name
        folders += [folder for folder in (inner, *inner.parents) if groups in folder.parents]
    except (OSError, ValueError):  # another system, or cgroup v1 alone
        pass
    for folder in folders:
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                if int(quota) > 0:  # −1 in v1: no limit
                    yield int(quota) // int(period)
            except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max": no limit
                continue


def reading_threads() -> int:
    """Return the number of threads that decode pictures: one per usable core, and no more than
    ``OMP_NUM_THREADS`` asks for.

    Under torchrun, which sets it to 1, one process decodes while the others wait.
    """
    cores = usable_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if not asked.isdecimal() or int(asked) < 1 or int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        return cores
    return min(cores, int(asked))


def share_cores(environ: MutableMapping[str, str], processes: int = 1, groups: Path = CGROUPS) -> None:
    """Let OpenMP's threads sleep soon after they have begun to wait, and start no more than there
    are cores for each of ``processes``.

    By default they spin for long: a training beside other work then takes several times the
    processor time, and slows both down. Must be called before torch is imported; what the user has
    set stays.

    Args:
        environ: environment that OpenMP reads: ``OMP_WAIT_POLICY`` and ``GOMP_SPINCOUNT`` (GNU's,
            which torch's Linux wheels have), ``KMP_BLOCKTIME`` (LLVM's and Intel's, in
            milliseconds), ``OMP_NUM_THREADS``.
        processes: processes that compute at the same time, this one included.
        groups: see `usable_cores`; OpenMP reads affinity, and no quota.
    """
    if "OMP_WAIT_POLICY" not in environ:  # GNU's count of turns would overrule the user's policy
        environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environ.setdefault("KMP_BLOCKTIME", "0")
    cores = usable_cores(groups)
    if processes > 1 or cores < (os.cpu_count() or 1):
        environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
