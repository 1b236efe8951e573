"""Explanations of hardware profiles and of their numbers."""

import pytest

from ashneuro.cost.profile import list_profiles, load_profile
from ashneuro.errors import ProfileError
from ashneuro.reporting import explain


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
