"""`ashneuro profiles`: what a person reads about chips."""

import json

import pytest

from ashneuro.commands import profiles as verb
from ashneuro.cost.profile import list_profiles, load_profile
from ashneuro.errors import ProfileError
from ashneuro.reporting import explain


def said(capsys):
    return capsys.readouterr().out


@pytest.mark.parametrize("name", list(list_profiles()))
def test_every_profile_and_number_is_explained(name):
    profile = load_profile(name)
    text = "\n".join(explain.profile(profile))
    assert profile.title in text and profile.excludes[0] in text
    for path, quantity in profile.quantities():
        lines = "\n".join(explain.number(profile, path))
        assert quantity.covers in lines and quantity.locator in lines and "None" not in lines
        assert quantity.headline != ("estimates leave it out" in lines or "no headline rests on it" in lines)


def test_unknown_prices_are_named_with_reasons():
    text = "\n".join(explain.profile(load_profile("loihi2")))
    assert "not used unasked: energy.synop, because it is an estimate of the profile's writer" in text
    assert "not estimable: energy.neuron_update_active" in text
    assert "not estimable" not in "\n".join(explain.profile(load_profile("truenorth")))
    assert "seen in any source" in "\n".join(explain.profile(load_profile("cmos7")))


def test_unknown_number_suggests_the_nearest():
    with pytest.raises(ProfileError, match=r"did you mean energy\.synop\?"):
        list(explain.number(load_profile("loihi1"), "energy.sinop"))


@pytest.mark.parametrize("kind", ["neuromorphic", "asic", "gpu", "cpu"])
def test_new_profile_is_valid_and_without_numbers(kind, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    verb.new("mine", kind=kind, out=path)
    profile = load_profile(path)
    assert profile.kind == kind and not list(profile.quantities())
    filled = path.read_text()
    key = filled[filled.index("# [") + 3 :].split("]")[0]
    block = filled[filled.index(f"# [{key}]") :].split("\n\n")[0]
    lines = [line.removeprefix("# ") for line in block.splitlines()]
    lines = [line.replace("value = ", "value = 2").replace('""', '"x"') for line in lines]
    path.write_text(filled.replace(block, "\n".join(lines)))
    assert len(list(load_profile(path).quantities())) == 1
    with pytest.raises(ProfileError, match="exists"):
        verb.new("mine", out=path)
    with pytest.raises(ProfileError, match="lower-case"):
        verb.new("My chip", out=tmp_path / "other.toml")


def test_validation_prints_misses_and_reasons(capsys):
    verb.validate("loihi1", "loihi2")
    text = said(capsys)
    assert "above: predicted too low" in text and "inside the range" in text and "different" in text
    assert "counted by" in text and "the run waited for its input" in text
    verb.validate(json=True)
    content = json.loads(said(capsys))
    assert content["schema"] == "ashneuro.validation/1" and {row["verdict"] for row in content["energies"]} >= {
        "inside",
        "too low",
    }
    with pytest.raises(ProfileError, match="there is no hardware profile"):
        verb.validate("lohi")
