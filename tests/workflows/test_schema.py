"""JSON schema of the settings."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ashneuro.config import RunConfig, dump_config, presets
from ashneuro.workflows.schema import settings_schema
from tests.commands.conftest import ashneuro  # noqa: F401 - a fixture

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = settings_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", presets().values(), ids=presets())
def test_presets_are_valid(path: Path, validator: Any) -> None:
    validator.validate(tomllib.loads(path.read_text(encoding="utf-8")))


def test_settings_of_a_run_are_valid(validator: Any) -> None:
    validator.validate(json.loads(json.dumps(dump_config(RunConfig()))))


@pytest.mark.parametrize(
    "values",
    [
        {"train": {"epoch": 3}},
        {"train": {"epochs": -1}},
        {"model": {"abstract": {"kind": "spikes"}}},
        {"schedule": [{"name": "one", "no_such": 1}]},
        {"no_such": {}},
    ],
    ids=["unknown key", "below its limit", "no such choice", "unknown key of a stage", "unknown section"],
)
def test_refused_settings_are_invalid(values: dict[str, Any], validator: Any) -> None:
    assert not validator.is_valid(values)


def test_every_setting_is_described() -> None:
    schema = settings_schema()
    silent = [
        f"{name}.{key}"
        for name, definition in schema["$defs"].items()
        for key, value in definition.get("properties", {}).items()
        if not value.get("description") and "$ref" not in value
    ]
    assert not silent


def test_command_prints_the_schema(ashneuro: Any) -> None:  # noqa: F811
    result = ashneuro("train", "--schema")
    assert result.code == 0 and json.loads(result.out) == settings_schema()
