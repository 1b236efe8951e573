"""The VQA score against a loop over the ten leave-one-out subsets."""

from __future__ import annotations

import random

import pytest

from ashneuro.data.answers import normalise_answer, soft_score


@pytest.mark.parametrize(
    "said, compared",
    [
        ("The Dogs!", "dogs"),
        ("a dog, and the cat", "dog and cat"),
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("two", "2"),
        ("None", "0"),
        ("1,000", "1000"),
        ("1.5", "1.5"),
        ("U.S.", "us"),
        ("dont know", "don't know"),
        ("  yes\n", "yes"),
        ("t-shirt", "t shirt"),
    ],
)
def test_answers_are_normalised_as_in_the_official_script(said: str, compared: str) -> None:
    assert normalise_answer(said) == compared


def test_score_is_the_mean_over_leave_one_out_subsets() -> None:
    dice = random.Random(0)
    for _ in range(50):
        given = [dice.choice(["yes", "no", "maybe"]) for _ in range(10)]
        subsets = [given[:left_out] + given[left_out + 1 :] for left_out in range(10)]
        expected = sum(min(subset.count("yes") / 3, 1) for subset in subsets) / 10
        assert soft_score("Yes", given) == pytest.approx(expected)
    assert [soft_score("a dog", ["dog"] * n + ["cat"] * (10 - n)) for n in range(5)] == pytest.approx(
        [0, 0.3, 0.6, 0.9, 1.0]
    )


def test_answer_of_all_people_is_right_whatever_their_number() -> None:
    assert [soft_score("dog", ["dog"] * n) for n in range(1, 12)] == [1.0] * 11
    assert soft_score("dog", ["dog", "cat", "cat"]) == pytest.approx(1 / 3)
    assert soft_score("dog", ["dog", "dog", "cat"]) == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert soft_score("dog", ["dog"] + ["cat"] * 3) == pytest.approx(3 / 4 * 1 / 3)  # the official rule
    assert soft_score("dog", ["dog"] * 2 + ["cat"] * 3) == pytest.approx((2 * 1 / 3 + 3 * 2 / 3) / 5)


def test_single_answer_scores_zero_or_one() -> None:
    assert soft_score("Circle", ["circle"]) == 1.0 and soft_score("square", ["circle"]) == 0.0
