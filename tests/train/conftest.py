"""Train on the squares of `tests.train.tiny`."""

from __future__ import annotations

import pytest

from ashneuro.train import loop
from tests.train import tiny


@pytest.fixture(autouse=True)
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "load_splits", tiny.load_splits)
