"""All training tests use the squares of `tests.training.tiny`."""

from __future__ import annotations

import pytest

from ashneuro.training import data
from tests.training import tiny


@pytest.fixture(autouse=True)
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load_splits", tiny.load_splits)
