"""Versions of files: what is written, what is read, and what is refused."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from ashneuro import schemas
from ashneuro.config import RunConfig, dump_config, load_config
from ashneuro.data.tokens import Vocabulary, load_words
from ashneuro.errors import AshneuroError
from ashneuro.exchange import EpochMetrics, TrainingMetrics, read_metrics
from ashneuro.schemas import Format, LaterVersionError
from ashneuro.spiking.integers import IntegerLayer, Integers
from ashneuro.training.claims import claim
from ashneuro.training.provenance import origin_problem, recorded_exports
from ashneuro.training.sweep import Row

PACKAGE = Path(schemas.__file__).parent
KIND = Format("kind", dict[str, int], version=2)
BARE = Format("kind", dict[str, int], bare=True)


def test_the_newest_version_is_written_and_every_known_one_is_read() -> None:
    assert KIND.stamped({"a": 1}) == {"schema": "kind/2", "a": 1}
    for version in (1, 2):
        values = {"schema": f"kind/{version}", "a": 1}
        assert KIND.version_of(values) == version and KIND.check(values) == KIND.parse(values) == {"a": 1}
    assert BARE.version_of({"a": 1}) == 0 and BARE.check({"a": 1}) == {"a": 1}


def test_a_later_version_is_told_from_damage() -> None:
    with pytest.raises(LaterVersionError, match=r"'kind/3', of a later version .* reads kind/1 to 2") as later:
        KIND.check({"schema": "kind/3", "a": "of another type"})
    assert "update ashneuro" in schemas.remedy_of(later.value, "export again")
    assert schemas.remedy_of(ValueError("damaged"), "export again") == "export again"


@pytest.mark.parametrize("stated", [None, 2, "", "kind", "kind/0", "kind/02", "kind/two", "other/1", "kind/1\n", [1]])
def test_another_schema_is_refused(stated: Any) -> None:
    for form in (KIND, BARE):
        with pytest.raises(ValueError, match="it has the schema") as error:
            form.check({"schema": stated, "a": 1})
        assert not isinstance(error.value, LaterVersionError)


def test_a_file_that_must_state_its_schema_does() -> None:
    with pytest.raises(ValueError, match="it has the schema 'None'"):
        KIND.check({"a": 1})
    with pytest.raises(ValueError, match="it holds list, not an object"):
        KIND.check([])
    with pytest.raises(ValueError, match=r"a is 'x'"):
        KIND.check({"schema": "kind/1", "a": "x"})


WORDS = ("<padding>", "<unknown>", "cat")


def written(folder: Path) -> dict[str, Any]:
    """Write a file of each kind that once had no schema; return its reader by name."""
    Vocabulary(WORDS).save(folder / "vocabulary.json")
    (folder / "metrics.jsonl").write_text(TrainingMetrics((EpochMetrics(1, 2.0),)).to_jsonl())
    Row("base", {}, 0, {"accuracy": 0.5}).save(folder / "row.json")
    (folder / "integers.json").write_text(Integers({"lif": IntegerLayer(64.0, 100, 409)}, 2.0, 128).dumps())
    origin = schemas.ORIGIN.stamped({"run": "run", "weights_sha256": "0"})
    (folder / "origin.json").write_text(json.dumps(origin))
    (folder / "config.json").write_text(json.dumps(schemas.CONFIG.stamped(dump_config(RunConfig()))))
    return {
        "vocabulary.json": load_words,
        "metrics.jsonl": read_metrics,
        "row.json": Row.load,
        "integers.json": lambda path: Integers.loads(path.read_text()),
        "origin.json": lambda path: origin_problem(path.parent),
        "config.json": load_config,
    }


def test_files_without_a_schema_still_open(tmp_path: Path) -> None:
    for name, read in written(tmp_path).items():
        found = read(tmp_path / name)
        values = json.loads((tmp_path / name).read_text())
        assert values.pop("schema").endswith("/1"), name
        (tmp_path / name).write_text(json.dumps(values["words"] if name == "vocabulary.json" else values))
        assert read(tmp_path / name) == found, name


def test_files_of_a_later_version_name_the_remedy(tmp_path: Path) -> None:
    for name, read in written(tmp_path).items():
        values = json.loads((tmp_path / name).read_text())
        (tmp_path / name).write_text(json.dumps(values | {"schema": values["schema"].replace("/1", "/7")}))
        if name == "origin.json":
            assert "a later version of ashneuro" in read(tmp_path / name)
            continue
        with pytest.raises((AshneuroError, LaterVersionError)) as error:
            read(tmp_path / name)
        assert "a later version of ashneuro" in str(error.value), name
        assert name == "integers.json" or "update ashneuro" in error.value.do, name


def test_exports_and_claims_are_read_through_their_models(tmp_path: Path) -> None:
    for text in ("[]", '{"schema": "ashneuro-exports/1"}', '{"schema": "ashneuro-exports/1", "digests": {"a": 5}}'):
        (tmp_path / "exports.json").write_text(text)
        assert recorded_exports(tmp_path) == {}
    (tmp_path / "exports.json").write_text('{"schema": "ashneuro-exports/1", "digests": {"a": "0"}}')
    assert recorded_exports(tmp_path) == {"a": "0"}
    with claim(tmp_path / "run"):
        (held,) = tmp_path.glob("run.claim-*")
        assert json.loads(held.read_text())["schema"] == "ashneuro-claim/1"


def test_every_schema_is_one_of_a_format() -> None:
    """Return values of other functions would otherwise state versions that nothing compares."""
    # Written for other programs, and never read again.
    written_only = {"ashneuro.bench/1", "ashneuro.report/1", "ashneuro.validation/1", "ashneuro-sanafe/1"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                word = node.value
                if word.startswith("ashneuro") and word.rpartition("/")[2].isdigit():
                    found.add(word)
    assert found == written_only
