"""Every remedy is applied once to a specimen that violates its rule; then the rule passes.

A rule, or an error of this package, for which no case is found below fails the last test.
"""

import ast
import re
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

import ashneuro.program
from ashneuro.errors import AshneuroError, GraphError
from ashneuro.program.check import RULES
from ashneuro.program.netx.file import open_netx
from ashneuro.program.rules import lava
from ashneuro.program.rules.finding import Violation, apply_rules
from ashneuro.program.wiring import wire
from ashneuro.simulation.emulator.run_program import run_program
from tests.program.netx.test_read import write
from tests.program.remedies import errors, graphs, netx, programs, sanafe

PACKAGE = Path(ashneuro.program.__file__).parent
CASES = [*graphs.CASES, *programs.CASES, *netx.CASES, *sanafe.CASES]
ELSEWHERE = "ashneuro simulate FILE --on loihi"  # another way to run what a target does not hold
# Errors that gather findings of rules, which have remedies of their own.
GATHERED = {"rules/finding.py": "require"}


def findings(table, subject, tmp_path):
    first, *rest = subject
    if table == "graph":
        first = wire(first)
    if table == "lava-dl network":
        first, rest = open_netx(write(tmp_path / "network.net", first), *rest), []
    return apply_rules(RULES[table], first, *rest, nir_type=lambda name: "NIRGraph")


def key(case):
    return f"{case.table}: {case.rule}: {case.says}"


def apply(case, tmp_path):
    found = [each for each in findings(case.table, case.broken, tmp_path) if each.rule == case.rule]
    meant = [each for each in found if re.search(case.says, each.remedy)]
    assert meant, [each.remedy for each in found]
    if case.says == ELSEWHERE:
        inputs = {port.name: np.ones((8, 1, *port.shape)) for port in case.broken[0].inputs}
        assert run_program(case.broken[0], inputs, backend="numpy").samples == 1
        return
    if case.cured is None:
        assert all(each.level == "note" and (not each.remedy or "nothing to do" in each.remedy) for each in meant)
        return
    after = findings(case.table, case.cured, tmp_path)
    assert [each for each in after if not each.ok] == []
    assert not [each for each in after if each.rule == case.rule and each.remedy in {one.remedy for one in meant}]


def fix(case, tmp_path):
    says, broken, cured = case
    with pytest.raises(GraphError) as caught:
        broken(tmp_path)
    assert says in caught.value.do
    cured(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=key)
def test_remedy_of_a_rule_helps(case, tmp_path):
    apply(case, tmp_path)


@pytest.mark.parametrize("case", errors.CASES, ids=lambda case: case[0])
def test_remedy_of_an_error_helps(case, tmp_path):
    fix(case, tmp_path)


def limited(monkeypatch, kind, amount):
    real = resource.getrlimit
    monkeypatch.setattr(lava.resource, "getrlimit", lambda what: (amount, amount) if what == kind else real(what))


def machine(rule, program):
    return [each.remedy for each in apply_rules(RULES["Lava"], program, nir_type=str) if each.rule == rule]


def try_limits(monkeypatch):
    for rule, kind, words in (
        ("lava_processes", resource.RLIMIT_NPROC, r"ulimit -u (\d+)"),
        ("lava_open_files", resource.RLIMIT_NOFILE, r"ulimit -Hn (\d+)"),
    ):
        limited(monkeypatch, kind, 8)
        (remedy,) = machine(rule, programs.SHALLOW)
        limited(monkeypatch, kind, int(re.search(words, remedy)[1]))
        assert machine(rule, programs.SHALLOW) == []


def try_shared_memory(monkeypatch):
    def memory(size):
        return lambda path: type("Free", (), {"f_bavail": size, "f_frsize": 1})()

    monkeypatch.setattr(lava.os.path, "isdir", lambda path: True)
    monkeypatch.setattr(lava.os, "statvfs", memory(8))
    (remedy,) = machine("lava_shared_memory", programs.SHALLOW)
    monkeypatch.setattr(lava.os, "statvfs", memory(int(re.search(r"size=(\d+)M", remedy)[1]) * 10**6))
    assert machine("lava_shared_memory", programs.SHALLOW) == []


def try_layers(monkeypatch):
    assert "fewer layers" in machine("lava_layers", programs.DEEP)[0] and machine("lava_layers", programs.SHALLOW) == []


MACHINE = (try_limits, try_shared_memory, try_layers)


@pytest.mark.parametrize("attempt", MACHINE)
def test_remedy_of_the_machine_helps(attempt, monkeypatch):
    attempt(monkeypatch)


def written_sites():
    """Return (file, first line, last line) of all places that make a Violation or a GraphError."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        file = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name in ("Violation", "GraphError") and file not in GATHERED:
                found.add((file, node.lineno, node.end_lineno))
    return found


def test_every_remedy_is_tried(monkeypatch, tmp_path):
    reached = set()

    def recorded(kind):
        original = kind.__init__

        def made(self, *args, **kwargs):
            frame = sys._getframe(1)
            reached.add((frame.f_code.co_filename, frame.f_lineno))
            original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "__init__", made)

    recorded(Violation)
    recorded(AshneuroError)
    for number, case in enumerate([*CASES, *errors.CASES]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (fix if isinstance(case, tuple) else apply)(case, folder)
    for attempt in MACHINE:
        with monkeypatch.context() as patch:
            attempt(patch)
    missed = {
        (file, first)
        for file, first, last in written_sites()
        if not any((str(PACKAGE / file), line) in reached for line in range(first, last + 1))
    }
    assert missed == set()
    tried = {(case.table, case.rule) for case in CASES} | {("Lava", rule) for rule in RULES["Lava"]}
    assert {(table, rule) for table, rules in RULES.items() for rule in rules} == tried
