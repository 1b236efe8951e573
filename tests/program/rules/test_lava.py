import os
import resource

import numpy as np
import pytest

from ashneuro.program.check import check
from ashneuro.program.rules import lava
from ashneuro.spiking.contract import Contract
from tests.program import networks as net

CONTRACT = Contract(timesteps=4, input_coding="constant-current")


def notes(layers=3):
    rng = np.random.default_rng(0)
    parts = [part for _ in range(layers - 1) for part in (net.affine(5, 5, rng), net.lif((5,), rng, uniform=True))]
    graph = net.chain((5,), net.lif((5,), rng, uniform=True), *parts)
    return {f.rule: f for f in check(graph, CONTRACT, "lava", input_peak={"input": 1.0}) if f.rule.startswith("lava_")}


def test_sufficient_machine_has_no_findings():
    assert notes() == {}


@pytest.mark.parametrize(
    ("rule", "kind", "limit", "actual"),
    [
        # 3 populations, 3 sinks, 2 synapses, 1 source, 4 of the runtime; 8 channels.
        ("lava_processes", resource.RLIMIT_NPROC, 12, "13 processes, at most 12 here"),
        ("lava_open_files", resource.RLIMIT_NOFILE, 104, "105 open files, at most 104 here"),
    ],
)
def test_limits_of_the_machine(monkeypatch, rule, kind, limit, actual):
    real = resource.getrlimit
    for allowed, said in ((limit, {rule}), (limit + 1, set())):
        monkeypatch.setattr(lava.resource, "getrlimit", lambda what, n=allowed: (n, n) if what == kind else real(what))
        found = notes()
        assert set(found) == said
    monkeypatch.setattr(lava.resource, "getrlimit", lambda what: (limit, limit) if what == kind else real(what))
    finding = notes()[rule]
    assert finding.actual == actual and finding.ok and "--lava-command" in finding.remedy


def test_shared_memory(monkeypatch):
    def machine(free):
        return lambda path: os.statvfs_result((1, 1, free, free, free, 1, 1, 1, 0, 255))

    monkeypatch.setattr(lava.os.path, "isdir", lambda path: True)
    needed = (2 * (3 * 5 + 5) + 2 * 5) * 2 * 8  # neurons and input twice, synapses once; two messages of float64
    monkeypatch.setattr(lava.os, "statvfs", machine(needed))
    assert notes() == {}
    monkeypatch.setattr(lava.os, "statvfs", machine(needed - 1))
    assert "MB free in /dev/shm" in notes()["lava_shared_memory"].actual


def test_many_layers():
    assert set(notes(layers=101)) == {"lava_layers"}
