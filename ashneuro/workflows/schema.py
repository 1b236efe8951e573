"""JSON schema of the settings, for editors that check and complete them."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from ashneuro import config
from ashneuro.config import AbstractConfig, RunConfig, StageConfig, StageNeuron, TrainConfig
from ashneuro.schemas import CONFIG

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# A stage repeats settings of the run, which are described there.
_REPEATS: dict[type, type] = {StageConfig: TrainConfig, StageNeuron: AbstractConfig}


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a run's settings, as TOML or ``config.json``.

    Types, limits and choices are those that `load_config` checks; descriptions are the docstrings'.
    Rules that several settings share are not in it: `load_config` checks those.
    """
    from pydantic import TypeAdapter

    schema = TypeAdapter(RunConfig).json_schema()
    for name, definition in ((RunConfig.__name__, schema), *schema["$defs"].items()):
        described = getattr(config, name, None)
        if isinstance(described, type) and is_dataclass(described):
            _describe(definition, described)
    schema["properties"]["schema"] = {"const": CONFIG.schema, "description": "Version of a run's `config.json`."}
    return {"$schema": DIALECT, **schema, "title": "Settings of ashneuro train"}


def _describe(definition: dict[str, Any], described: type) -> None:
    """Add the texts of a dataclass's docstring to its definition, and forbid unknown keys."""
    summary, texts = _docstring(described)
    if repeated := _REPEATS.get(described):
        texts = {**_docstring(repeated)[1], **texts}
    definition["additionalProperties"] = False
    definition["description"] = summary
    for name, value in definition.get("properties", {}).items():
        if name in texts:
            value["description"] = texts[name]


def _docstring(described: type) -> tuple[str, dict[str, str]]:
    """Return the first line of a docstring, and the texts of its arguments by name."""
    from docstring_parser import DocstringStyle, parse

    parsed = parse(described.__doc__ or "", style=DocstringStyle.GOOGLE)
    texts = {
        name: " ".join((argument.description or "").split()).replace("``", "`")
        for argument in parsed.params
        for name in argument.arg_name.split(", ")  # "image_column, caption_column: names of …"
    }
    return (parsed.short_description or "").replace("``", "`"), texts
