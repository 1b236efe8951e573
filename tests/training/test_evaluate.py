"""Retrieval by brute force, chance by counting, and spikes from elsewhere."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ashneuro.data.pairs import Pair
from ashneuro.data.tokens import build_vocabulary
from ashneuro.errors import DataError
from ashneuro.evaluation import Condition, Evaluation, SpikeSource
from ashneuro.reporting import words
from ashneuro.training.checkpoint import Run
from ashneuro.training.evaluate import Pool, chance, evaluate, input_currents, metrics
from ashneuro.training.loop import train
from tests.training import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ashneuro.training.data.load_splits", tiny.load_splits)
        return train(tiny.config(epochs=15), tmp_path_factory.mktemp("run") / "squares")


TEST = tiny.load_splits(tiny.CONFIG.data).test


def measure(run: Run, **arguments: object) -> Evaluation:
    return evaluate(run.model, run.vocabulary, TEST, run.config.data, split="squares, test", **arguments)


def test_metrics_match_a_sorted_list() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(40, 30))
    relevant = random.random((40, 30)) < 0.08
    relevant[:, 7] |= ~relevant.any(1)
    ranks = [min(np.flatnonzero(relevant[q][np.argsort(-scores[q])])) + 1 for q in range(40)]
    found = metrics(scores, relevant)
    for cut in (1, 5, 10):
        assert found[f"R@{cut}"] == pytest.approx(np.mean([rank <= cut for rank in ranks]))
    assert found["median_rank"] == np.median(ranks)


def test_equal_texts_are_hits(run: Run) -> None:
    """Twelve pictures with a text of their own and one that four of them share."""

    def shared(number: int, pair: Pair) -> Pair:
        return replace(pair, captions=(f"{pair.concept} square", ("Red  things", "red things")[number % 2]))

    pairs = [shared(number, pair) if number < 4 else pair for number, pair in enumerate(TEST)]
    data = replace(tiny.CONFIG.data, captions="separate")
    pool = Pool(pairs, build_vocabulary(["red"]), data)
    plain = [" ".join(text.lower().split()) for text in pool.texts]
    own = [{text for text, owner in zip(plain, pool.owners, strict=True) if owner == row} for row in range(12)]
    assert pool.relevant.tolist() == [[text in texts for text in plain] for texts in own]
    assert pool.relevant[:4].sum(1).tolist() == [1 + 4] * 4
    assert pool.shared == sum(sum(text in texts for texts in own) > 1 for text in plain) > 4
    evaluation = replace(Evaluation.from_json(measure(run).to_json()), shared_texts=pool.shared)
    assert Evaluation.from_json(evaluation.to_json()).shared_texts == pool.shared


def test_ties_rank_last() -> None:
    relevant = np.eye(20, dtype=bool)
    assert metrics(np.zeros((20, 20)), relevant) == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "median_rank": 20.0}


def test_nan_scores_rank_last() -> None:
    """A network that has diverged finds nothing; it does not find everything."""
    scores = np.eye(20)
    scores[3] = np.nan
    relevant = np.eye(20, dtype=bool)
    assert metrics(np.full((20, 20), np.nan), relevant) == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "median_rank": 20.0}
    assert metrics(scores, relevant)["R@1"] == pytest.approx(19 / 20)


def test_chance_is_the_mean_over_all_orders() -> None:
    relevant = np.array([[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0]], bool)
    orders = list(itertools.permutations(range(6)))
    ranks = np.array([[1 + min(np.flatnonzero(row[list(order)])) for order in orders] for row in relevant])
    expected = chance(relevant)
    assert expected["R@1"] == pytest.approx((ranks <= 1).mean())
    assert expected["R@5"] == pytest.approx((ranks <= 5).mean())
    assert expected["R@10"] == 1.0  # only six items
    assert expected["median_rank"] == np.median(ranks)


def test_hybrid_is_evaluated_whole_and_with_zeroed_branches(run: Run) -> None:
    evaluation = measure(run)
    assert [row.condition for row in evaluation.rows] == [Condition.WHOLE, Condition.A_ZEROED, Condition.C_ZEROED]
    names = [row["name"] for row in evaluation.to_json()["rows"]]
    assert names == ["hybrid", "hybrid, A zeroed", "hybrid, C zeroed"]
    assert (evaluation.images, evaluation.texts, evaluation.concepts) == (12, 12, 12)
    images = torch.stack([torch.from_numpy(pair.load()).movedim(-1, 0) for pair in TEST])
    tokens = torch.from_numpy(run.vocabulary.encode([", ".join(pair.captions) for pair in TEST], 5))
    with torch.no_grad():
        pixels = (images.float() - 127.5) / 63.75
        for row, zero in zip(evaluation.rows, (None, "abstract", "concrete"), strict=True):
            scores = (run.model.embed_images(pixels, zero=zero) @ run.model.embed_texts(tokens).T).numpy()
            assert row.image_to_text == metrics(scores, np.eye(12, dtype=bool))
            assert row.text_to_image == metrics(scores.T, np.eye(12, dtype=bool))
        layers = run.model.encode(pixels).layers
    assert evaluation.chance.image_to_text["R@1"] == pytest.approx(1 / 12)
    rates = {name: float((sent > 0).float().mean()) for name, sent in layers.items()}
    assert evaluation.firing_rate == pytest.approx(rates)
    ratio = run.model.ratio.detach().numpy()
    assert evaluation.ratio is not None and evaluation.ratio.mean == pytest.approx(ratio.mean(), rel=1e-5)
    assert (evaluation.ratio.min, evaluation.ratio.max) == (ratio.min(), ratio.max())
    assert len(evaluation.ratio.channels) == 8


def test_stua_head_alone_ranks_by_the_read_out(run: Run) -> None:
    row = measure(run, stua_head=True).rows[-1]
    assert row.condition is Condition.A_ALONE
    images = torch.stack([torch.from_numpy(pair.load()).movedim(-1, 0) for pair in TEST])
    tokens = torch.from_numpy(run.vocabulary.encode([", ".join(pair.captions) for pair in TEST], 5))
    model = run.model
    with torch.no_grad():
        encoded = model.encode((images.float() - 127.5) / 63.75)
        aligned = encoded.abstract[:, :, 0, 0] @ model.stua.weight.T + model.stua.bias
        scores = (aligned / aligned.norm(dim=1, keepdim=True) @ model.embed_texts(tokens).T).numpy()
    assert row.image_to_text == metrics(scores, np.eye(12, dtype=bool))
    assert row.text_to_image == metrics(scores.T, np.eye(12, dtype=bool))
    assert row.image_to_text["R@1"] > 1 / 12, "trained, it finds more than chance"


def test_spikes_of_another_encoder_are_used(run: Run) -> None:
    seen = []

    def same(parts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for currents in parts:
            seen.append(currents)
            with torch.no_grad():
                yield run.model.abstract(torch.tensor(currents[0]))["semantic.lif"].numpy().astype(np.uint8)

    here, there = measure(run), measure(run, encoder=same, spikes_from=SpikeSource.EMULATOR)
    (currents,) = seen
    assert currents.shape == (3, 12, *run.model.in_shape) and currents.dtype == np.float32
    assert (currents == currents[:1]).all()
    assert [replace(row, spikes_from=SpikeSource.TORCH) for row in there.rows] == list(here.rows)
    assert {row.spikes_from for row in there.rows} == {SpikeSource.EMULATOR}
    assert there.firing_rate == pytest.approx({"semantic.lif": here.firing_rate["semantic.lif"]})
    silent = measure(run, encoder=lambda x: [np.zeros((3, 5, 12), np.uint8), np.zeros((3, 7, 12), np.uint8)])
    assert silent.rows[0].image_to_text == here.rows[1].image_to_text  # no spikes: A = 0
    with pytest.raises(ValueError, match="shape"):
        measure(run, encoder=lambda x: [np.zeros((3, 11, 12), np.uint8)])


def test_separate_captions_are_separate_texts(run: Run) -> None:
    data = replace(run.config.data, captions="separate")
    evaluation = evaluate(run.model, run.vocabulary, TEST, data, split="squares")
    assert (evaluation.images, evaluation.texts) == (12, 24)
    # "red square" is a text of three squares, and "left" of four.
    assert evaluation.chance.image_to_text["R@1"] == pytest.approx(7 / 24)
    assert evaluation.shared_texts == 24


def test_any_item_of_the_concept_is_a_hit(run: Run) -> None:
    same = [replace(pair, concept="square") for pair in TEST]
    evaluation = evaluate(run.model, run.vocabulary, same, run.config.data, split="one concept")
    assert evaluation.concepts == 1
    assert evaluation.rows[0].image_to_text == {"R@1": 1.0, "R@5": 1.0, "R@10": 1.0, "median_rank": 1.0}


def test_examples_are_the_best_five(run: Run) -> None:
    evaluation = measure(run, examples=6)
    assert [example.kind for example in evaluation.examples] == ["text", "image"] * 3
    assert len({(example.kind, example.key) for example in evaluation.examples}) == 6
    keys = {pair.key: pair for pair in TEST}
    for example in evaluation.examples:
        assert len(example.hits) == 5
        assert [hit.score for hit in example.hits] == sorted((hit.score for hit in example.hits), reverse=True)
        for hit in example.hits:
            assert hit.correct == (keys[hit.key].concept == keys[example.key].concept)


def test_json_round_trip(run: Run, tmp_path: Path) -> None:
    evaluation = measure(run)
    evaluation.save(tmp_path / "evaluation.json")
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert values["schema"] == "ashneuro.evaluation/1"
    assert Evaluation.from_json(values) == Evaluation.load(tmp_path / "evaluation.json") == evaluation
    with pytest.raises(DataError, match="schema"):
        Evaluation.from_json({**values, "schema": "ashneuro.evaluation/0"})


@pytest.mark.parametrize(
    "kind, name", [("none", "no abstract encoder"), ("relu", "ReLU twin"), ("quantised-relu", "quantised-ReLU twin")]
)
def test_controls_are_named_and_do_not_spike(tmp_path: Path, kind: str, name: str) -> None:
    control = train(tiny.of_kind(kind, epochs=1), tmp_path / "run")
    evaluation = measure(control)
    assert evaluation.rows[0].spikes_from is SpikeSource.NONE
    first = evaluation.to_json()["rows"][0]
    assert (first["name"], first["spikes_from"]) == (name, "none") and words.network(evaluation) == name
    assert evaluation.firing_rate == {}
    assert len(evaluation.rows) == (1 if kind == "none" else 3)
    assert (evaluation.ratio is not None) == (kind != "none")


def test_empty_split_is_an_error(run: Run) -> None:
    with pytest.raises(DataError, match="empty"):
        evaluate(run.model, run.vocabulary, (), run.config.data, split="squares, validation")


def test_input_currents_match_the_model(run: Run) -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        expected = run.model.currents((images.float() - 127.5) / 63.75).numpy()
    parts = list(input_currents(run.model, images, size=3))
    assert [part.shape[:2] for part in parts] == [(3, 3), (3, 2)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1)[2], expected, atol=1e-6)
