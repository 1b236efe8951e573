"""Training that is interrupted, damaged and resumed in any order ends as an undisturbed one."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ashneuro.errors import AshneuroError
from ashneuro.training import data
from ashneuro.training.loop import Progress, train
from tests.training import tiny

CONFIG = tiny.config(epochs=2, save_every=1)
FILES = ("model.safetensors", "trainer.pt", "metrics.jsonl", "vocabulary.json", "config.json")


@cache
def whole() -> bytes:
    """Return the weights of a run that was not interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        train(CONFIG, Path(folder) / "run")
        return (Path(folder) / "run" / "model.safetensors").read_bytes()


class Resumed(RuleBasedStateMachine):
    """A run's folder between calls of `train`."""

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.run = self.place / "run"

    @property
    def holds_run(self) -> bool:
        return (self.run / "config.json").exists()

    @rule(batches=st.integers(0, 4))
    def train_for(self, batches: int) -> None:
        """Train until so many reports of progress, then press Ctrl-C."""
        left = batches

        def stop(now: Progress) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            train(CONFIG, self.run, resume=self.holds_run, on_progress=stop)

    @precondition(lambda self: self.holds_run)
    @rule(share=st.floats(0, 0.99))
    def refuse_half_a_state(self, share: float) -> None:
        """A state that was cut off is refused, and nothing else in the folder changes."""
        state = self.run / "trainer.pt"
        content = state.read_bytes()
        state.write_bytes(content[: int(share * len(content))])
        before = {name: (self.run / name).read_bytes() for name in FILES}
        with pytest.raises(AshneuroError, match="cannot resume"):
            train(CONFIG, self.run, resume=True)
        assert {name: (self.run / name).read_bytes() for name in FILES} == before
        state.write_bytes(content)

    @precondition(lambda self: self.holds_run)
    @rule()
    def refuse_to_overwrite(self) -> None:
        with pytest.raises(AshneuroError, match="already holds a run"):
            train(CONFIG, self.run)

    @precondition(lambda self: self.holds_run)
    @rule()
    def leave_half_a_file(self) -> None:
        """A process that was killed while it wrote."""
        (self.run / ".model.safetensors.123-abcd").write_bytes(b"half")

    def teardown(self) -> None:
        if hasattr(self, "run"):
            train(CONFIG, self.run, resume=self.holds_run)
            assert (self.run / "model.safetensors").read_bytes() == whole()
            assert not list(self.run.glob(".*"))
            shutil.rmtree(self.place)


def check(examples: int, steps: int) -> None:
    checks = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_splits", tiny.load_splits)
        run_state_machine_as_test(Resumed, settings=checks)


def test_resumed_in_any_order() -> None:
    check(examples=2, steps=3)


@pytest.mark.slow
def test_resumed_in_any_order_at_length() -> None:
    check(examples=40, steps=8)
