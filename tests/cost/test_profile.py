"""Hardware profiles: bundled files, units, faults, look-up."""

import subprocess
import sys
import tomllib
from copy import deepcopy
from pathlib import Path

import pytest

from ashneuro.cost.profile import (
    TABLES,
    UNITS,
    Quantity,
    Range,
    list_profiles,
    load_profile,
    load_profiles,
    parse_profile,
    profile_folder,
)
from ashneuro.errors import ProfileError

NUMBER = {
    "value": 20,
    "unit": "pJ",
    "covers": "a synapse",
    "boundary": "op",
    "basis": "measured",
    "status": "published",
    "check": "V",
    "source": "a",
    "locator": "Table 1",
}
PROFILE = {
    "schema": 1,
    "name": "chip",
    "title": "A chip",
    "kind": "neuromorphic",
    "boundary": "core",
    "excludes": ["I/O"],
    "energy": {"synop": NUMBER},
    "sources": {"a": {"title": "A", "link": "x"}, "b": {"title": "B", "link": "y"}},
}


def broken(**changes):
    values = deepcopy(PROFILE)
    for path, change in changes.items():
        *tables, key = path.split("__")
        target = values
        for table in tables:
            target = target[table]
        if change is None:
            del target[key]
        else:
            target[key] = change
    return values


@pytest.mark.parametrize("name", list(list_profiles()))
def test_bundled_profiles_are_valid_and_sourced(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.excludes and profile.reads
    quantities = dict(profile.quantities())
    assert quantities
    for path, quantity in quantities.items():
        assert quantity.source in profile.sources, path
        assert quantity.covers and quantity.locator, path
    used = {source for quantity in quantities.values() for source in (quantity.source, *quantity.bounds_sources)}
    assert used == profile.sources.keys()


def test_published_values():
    loihi = load_profile("loihi1")
    assert loihi.energy["synop"].range == Range(23.6e-12, 23.6e-12, 35.5e-12)
    assert loihi.energy["neuron_update_inactive"].range == Range(52e-12, 52e-12, 52e-12)
    cmos = load_profile("cmos45").energy
    assert cmos["mult_fp32"].value + cmos["add_fp32"].value == pytest.approx(4.6)
    assert cmos["mult_int8"].value + cmos["add_int8"].value == pytest.approx(0.23)


def test_loihi2_has_no_citable_energy():
    assert not any(quantity.citable for quantity in load_profile("loihi2").energy.values())


def test_recalled_and_estimated_numbers_are_not_citable():
    def quantity(**changes):
        return Quantity(**{**NUMBER, **changes})

    assert quantity(check="S").citable
    assert not quantity(check="R").citable
    assert not quantity(status="estimate").citable


def test_units_convert_to_si():
    for unit, (dimension, factor) in UNITS.items():
        assert Quantity(**{**NUMBER, "unit": unit}).range == Range(20 * factor, 20 * factor, 20 * factor)
        assert dimension in {*TABLES.values(), "bandwidth"}
    only_bounds = Quantity(**{**{k: v for k, v in NUMBER.items() if k != "value"}, "low": 2, "high": 3})
    assert only_bounds.range == Range(2e-12, None, 3e-12)


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"energy__synop": 23.6}, "energy.synop: a bare number"),
        ({"energy__synop__source": None}, "energy.synop.source: Field required"),
        ({"energy__synop__source": "c"}, "energy.synop.source: 'c' is not in"),
        ({"energy__synop__locator": ""}, "energy.synop.locator: it is empty"),
        ({"energy__synop__unit": "pj"}, "energy.synop.unit: 'pj' is not a unit of energy; allowed: fJ, pJ"),
        ({"energy__synop__unit": "mW"}, "energy.synop.unit: 'mW' is not a unit of energy"),
        ({"energy__synop__value": "20"}, "energy.synop.value: '20' is not a number"),
        ({"energy__synop__value": True}, "energy.synop.value: True is not a number"),
        ({"energy__synop__value": 0}, "energy.synop.value: 0 is not above 0"),
        ({"energy__synop__value": -1}, "energy.synop.value: -1 is not above 0"),
        ({"energy__synop__value": float("nan")}, "energy.synop.value"),
        ({"energy__synop__value": None}, "energy.synop.value: no number"),
        ({"energy__synop__low": 30}, "energy.synop: low ≤ value ≤ high does not hold: low 30, value 20"),
        ({"energy__synop__check": "A"}, "energy.synop.check: Input should be 'V', 'Q', 'S' or 'R'"),
        ({"energy__synop__valeu": 3}, "energy.synop.valeu: unknown key"),
        ({"energy__synap": NUMBER}, "energy.synap: no such event.*did you mean synop"),
        (
            {"energy__hop_ew": {**NUMBER, "source": "b"}},
            r"numbers of 2 sets are mixed \(a: energy.synop; b: energy.hop_ew\)",
        ),
        ({"energy__synop__bounds_sources": ["b"]}, "energy.synop.bounds_from: bounds of another source"),
        ({"exclude": []}, "exclude: unknown key"),
        ({"schema": 2}, "schema: Input should be 1"),
        ({"kind": "chip"}, "kind: Input should be 'neuromorphic', 'asic', 'gpu' or 'cpu'"),
        ({"time": {"stpe": {**NUMBER, "unit": "ns"}}}, "time.stpe: no such time number.*did you mean step"),
        (
            {"overhead": {"board": {**NUMBER, "unit": "mW"}}},
            "overhead.board: it adds to static.board, which is missing",
        ),
        ({"limits": {"neurons": {**NUMBER, "unit": "1"}}}, "limits.neurons: no such limits number"),
    ],
)
def test_faults_are_named(changes, fault):
    parse_profile(PROFILE)
    with pytest.raises(ProfileError, match=fault):
        parse_profile(broken(**changes))


def test_headline_needs_an_opened_source():
    number = Quantity(**{**NUMBER, "check": "V"})
    assert number.headline
    for change in ({"check": "Q"}, {"check": "S"}, {"check": "R"}, {"status": "estimate"}):
        assert not Quantity(**{**NUMBER, "check": "V", **change}).headline


def test_sources_behind_verdicts_were_opened():
    energies = load_profile("cmos45").energy
    assert all(quantity.headline for key, quantity in energies.items() if key != "add_int16")
    assert not any(quantity.headline for quantity in load_profile("cmos7").energy.values())


def test_one_set_may_have_two_sources():
    values = broken(energy__hop_ew={**NUMBER, "source": "b"})
    values["sources"] = {key: {**source, "set": "fit"} for key, source in values["sources"].items()}
    assert len(parse_profile(values).energy) == 2


def test_all_faults_are_reported_at_once():
    with pytest.raises(ProfileError) as caught:
        parse_profile(broken(energy__synop__unit="x", energy__synop__check=None, title=None, static={"chip": 3}))
    faults = [line.split(":")[0].strip() for line in caught.value.why.splitlines() if line]
    assert sorted(faults) == ["energy.synop.check", "energy.synop.unit", "static.chip", "title"]
    assert "4 fault(s)" in caught.value.what


def test_load_by_path_and_by_name(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(list_profiles()["loihi1"].read_text())
    assert load_profile(path) == load_profile("loihi1")
    with pytest.raises(ProfileError, match="did you mean loihi1"):
        load_profile("lohi1")
    with pytest.raises(ProfileError, match="cannot read"):
        load_profile(tmp_path / "absent.toml")
    path.write_text("schema = ")
    with pytest.raises(ProfileError, match="not TOML"):
        load_profile(path)


def test_duplicates_are_merged_and_name_clashes_refused(tmp_path):
    text = list_profiles()["loihi1"].read_text(encoding="utf-8")
    same, other = tmp_path / "same.toml", tmp_path / "other.toml"
    same.write_text(text, encoding="utf-8")
    other.write_text(text.replace("23.6", "2.36"), encoding="utf-8")
    assert [profile.name for profile in load_profiles(["loihi1", "cmos45", "loihi1", same])] == ["loihi1", "cmos45"]
    with pytest.raises(ProfileError, match="two profiles are called 'loihi1'"):
        load_profiles(["loihi1", other])


def test_profiles_are_found_in_an_installed_package(tmp_path):
    """A wheel carries the folder inside the package; the finder must prefer it there."""
    root = Path(__file__).parents[2]
    package = tmp_path / "ashneuro"
    (package / "cost").mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "files.py", "cost/__init__.py", "cost/profile.py"):
        (package / name).write_text((root / "ashneuro" / name).read_text())
    included = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "force-include"
    ]
    for source, target in included.items():
        if source == "hardware_profiles":
            (tmp_path / target).mkdir()
            (tmp_path / target / "loihi1.toml").write_text((root / source / "loihi1.toml").read_text())
    code = "from ashneuro.cost.profile import *; print(load_profile('loihi1').name, profile_folder())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["loihi1", str(package / "hardware_profiles")]
    assert profile_folder() == root / "hardware_profiles"
