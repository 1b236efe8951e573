"""Predictions in the formats of evaluation servers."""

from __future__ import annotations

import json

import numpy as np

from ashneuro.data.pairs import Question
from ashneuro.workflows.predictions import nlvr2, rankings, snli_ve, trec_run, vqa2


def asked(*keys: str) -> list[Question]:
    return [Question(key, ("a.png",), "what is it", ()) for key in keys]


def test_questions_need_no_answers():
    assert json.loads(vqa2(asked("9001", "own-id"), ["yes", "2"])) == [
        {"question_id": 9001, "answer": "yes"},
        {"question_id": "own-id", "answer": "2"},
    ]
    said = asked("test1-0-1-0", "test1-0-1-1")
    assert nlvr2(said, ["true", "false"]) == "test1-0-1-0,True\ntest1-0-1-1,False\n"
    assert json.loads(nlvr2(said, ["true", "false"], ".json")) == {"test1-0-1-0": "True", "test1-0-1-1": "False"}
    assert json.loads(snli_ve(asked("12.jpg#0r1n"), ["neutral"])) == {"pairID": "12.jpg#0r1n", "gold_label": "neutral"}


def test_rankings_are_a_trec_run():
    ranked = rankings(np.array([[0.1, 0.9], [0.5, 0.5]]), ["a b.png", "c.png"], ["a b.png#0", "c.png#0"])
    assert [item for item, _ in ranked["a b.png"]] == ["c.png#0", "a b.png#0"]
    assert [item for item, _ in ranked["c.png"]] == ["a b.png#0", "c.png#0"], "equal scores keep their order"
    first = trec_run(ranked).splitlines()[0]
    assert first == "a%20b.png Q0 c.png#0 1 0.900000 ashneuro"
