"""Gradients of the objectives: which parameters each of them reaches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ashneuro.config import RunConfig
from ashneuro.data.batches import Batches
from ashneuro.data.tokens import Vocabulary, build_vocabulary
from ashneuro.model.network import AshNet
from ashneuro.training.checkpoint import build_model
from ashneuro.training.learner import Learner, whole_loss
from tests.training import tiny


def step(config: RunConfig, dtype: torch.dtype = torch.float32) -> tuple[AshNet, dict[str, torch.Tensor]]:
    """Return a fresh model and the objectives of one batch."""
    torch.manual_seed(0)
    return step_of(build_model(config, vocabulary_of(config)).train(), config, dtype)


def vocabulary_of(config: RunConfig) -> Vocabulary:
    """Return the vocabulary of the training pairs."""
    return build_vocabulary(text for pair in tiny.load_splits(config.data).train for text in pair.captions)


def step_of(
    model: AshNet, config: RunConfig, dtype: torch.dtype = torch.float32
) -> tuple[AshNet, dict[str, torch.Tensor]]:
    """Return ``model`` and its objectives of one batch."""
    pairs, vocabulary = tiny.load_splits(config.data).train, vocabulary_of(config)
    (batch, *_) = Batches(pairs, vocabulary, config.data, config.train, views=config.train.contrast > 0).epoch(0)
    views = None if batch.views is None else batch.views.to(dtype)
    learner = Learner(model, config.train, 1).to(dtype)
    return model, learner(
        replace(batch, images=batch.images.to(dtype), views=views), config.train, torch.Generator().manual_seed(0)
    )[0]


def test_stua_gradient_stops_at_c_and_at_the_text() -> None:
    model, terms = step(tiny.config(contrast=0.0))
    whole_loss({"itc": 0 * terms["itc"], "stua": terms["stua"]}).backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {name.split(".")[0] for name in reached} == {"abstract", "omega", "readout", "stua"}
    assert "abstract.w_in.weight" in reached
    model, terms = step(tiny.config(contrast=0.0, stua_stops_at_concrete=False))
    whole_loss({"itc": 0 * terms["itc"], "stua": terms["stua"]}).backward()
    reached = {
        name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()
    }
    assert reached == {"concrete", "abstract", "omega", "readout", "stua"}


@pytest.mark.parametrize("reading", ["uni", "soft", "symmetric", "reconstruction", "bag-of-words"])
def test_stopping_stua_keeps_all_other_gradients(reading: str) -> None:
    """One backward pass equals two: the other losses to all parameters, L_STUA to those after C."""
    model, terms = step(tiny.config(stua_reading=reading), torch.float64)
    whole_loss(terms).backward()
    ours = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model, terms = step(tiny.config(stua_reading=reading, stua_stops_at_concrete=False), torch.float64)
    inner = model.abstract_parameters()
    wanted = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    names = {weight: name for name, weight in model.named_parameters()}
    for weight, gradient in zip(
        inner, torch.autograd.grad(terms["stua"], inner, retain_graph=True, allow_unused=True), strict=True
    ):
        wanted[names[weight]] += 0 if gradient is None else gradient
    whole_loss({name: term for name, term in terms.items() if name != "stua"}).backward()
    for name, weight in model.named_parameters():
        given = wanted[name] if weight.grad is None else wanted[name] + weight.grad
        torch.testing.assert_close(ours.get(name, torch.zeros_like(weight)), given, rtol=1e-10, atol=1e-12, msg=name)
    assert wanted["readout.weight"].any() and ours["concrete.trunk.0.weight"].any()


@pytest.mark.parametrize(("reading", "name"), [("reconstruction", "from_text"), ("bag-of-words", "to_words")])
@pytest.mark.parametrize("stops", [True, False])
def test_projections_of_a_stua_reading_learn_from_it_only(reading: str, name: str, stops: bool) -> None:
    settings = tiny.config(stua_reading=reading, stua_stops_at_concrete=stops)
    torch.manual_seed(0)
    pairs = tiny.load_splits(settings.data).train
    vocabulary = build_vocabulary(text for pair in pairs for text in pair.captions)
    learner = Learner(build_model(settings, vocabulary).train(), settings.train, 1)
    (batch, *_) = Batches(pairs, vocabulary, settings.data, settings.train, views=True).epoch(0)
    terms, _ = learner(batch, settings.train, torch.Generator().manual_seed(0))
    terms.pop("stua").backward(retain_graph=True)
    gradient = getattr(learner, name).weight.grad
    assert gradient is not None and gradient.any()
    before = gradient.clone()
    whole_loss(terms).backward()
    assert torch.equal(getattr(learner, name).weight.grad, before)


def test_reconstruction_keeps_batch_norm_statistics_of_images() -> None:
    """Evaluation and export apply the statistics of images' currents."""
    with_texts, without = (
        dict(step(tiny.config(stua_reading="reconstruction", stua=weight))[0].named_buffers()) for weight in (1.0, 0.0)
    )
    assert any("running_mean" in name for name in without)
    for name, value in without.items():
        torch.testing.assert_close(with_texts[name], value, msg=name)


def test_contrast_reaches_only_the_input_current() -> None:
    model, terms = step(tiny.config())
    terms["contrast"].backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert {name.split(".")[0] for name in reached} == {"concrete", "abstract", "view"}
    assert {name for name in reached if name.startswith("abstract")} == {
        "abstract.w_in.weight",
        "abstract.norm.weight",
        "abstract.norm.bias",
    }


def test_penalties_count_graded_messages() -> None:
    settings = tiny.config(itc=0.0, contrast=0.0, stua=0.0, synops=50.0, firing_rate=0.02)
    abstract = replace(settings.model.abstract, neuron="graded", learn_threshold=True, timesteps=1)
    settings = replace(settings, model=replace(settings.model, abstract=abstract))
    model, terms = step(settings)
    assert set(terms) == {"firing", "synops"}
    sent: dict[str, torch.Tensor] = {}
    keep = model.abstract.with_rates

    def kept(current: torch.Tensor) -> object:
        layers, *means = keep(current)
        sent.update(layers)
        return layers, *means

    model.abstract.with_rates = kept
    model, terms = step_of(model, settings)
    messages = {name: (values > 0).float() for name, values in sent.items()}
    assert any((values > 0).any() and not torch.equal(values, messages[name]) for name, values in sent.items())
    excess = [max(0.0, float(one.mean()) / 0.02 - 1) ** 2 for one in messages.values()]
    terms_now = {name: term.item() for name, term in terms.items()}
    assert terms_now["firing"] == pytest.approx(sum(excess) / len(excess), rel=1e-5)
    fan_out = model.abstract.fan_out()
    count = sum(float((one * fan_out[name]).sum()) for name, one in messages.items()) / len(messages["entry.lif"][0])
    assert terms_now["synops"] == pytest.approx((count / 50 - 1) ** 2, rel=1e-5)
    whole_loss(terms).backward()
    # Fewer messages: the thresholds rise.
    learned = {name: weight.grad for name, weight in model.named_parameters() if "v_threshold" in name}
    assert len(learned) == 5 and float(learned["abstract.entry.parametrizations.v_threshold.original"]) < 0


def test_synops_from_rates_have_the_gradient_of_those_from_events() -> None:
    settings = tiny.config(itc=0.0, contrast=0.0, stua=0.0, synops=50.0, firing_rate_weight=0.0)
    abstract = replace(settings.model.abstract, neuron="graded", learn_threshold=True, timesteps=1)
    settings = replace(settings, model=replace(settings.model, abstract=abstract))
    found = []
    for rates in (True, False):
        torch.manual_seed(0)
        model = build_model(settings, vocabulary_of(settings)).train()
        assert model.abstract is not None
        if not rates:
            keep = model.abstract.with_rates
            model.abstract.with_rates = lambda current, keep=keep: (keep(current)[0], {}, {})  # type: ignore[method-assign]
        (term,) = step_of(model, settings, torch.float64)[1].values()
        term.backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        found.append({"term": term.detach()} | gradients)
    assert found[0].keys() == found[1].keys() and len(found[0]) > 5
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-5, atol=1e-9, check_dtype=False, msg=name)


def test_fan_out_moves_with_the_learner_and_is_not_saved() -> None:
    settings = tiny.config(synops=100.0)
    learner = Learner(build_model(settings, build_vocabulary(["red square"])), settings.train, 1)
    assert set(learner.fan_out) == set(learner.model.abstract.fan_out())
    assert {weights.device.type for weights in learner.to("meta").fan_out.values()} == {"meta"}
    assert all(name.startswith("model.") for name in learner.state_dict())


@pytest.mark.parametrize("abstract", [{"kind": "quantised-relu"}, {"kind": "relu"}, {"neuron": "graded"}])
def test_penalty_on_changes_lowers_them(abstract: dict[str, object]) -> None:
    """Its gradient reaches the encoder, and a step along it makes changes cheaper."""
    config = tiny.config(contrast=0.0, stua=0.0, firing_rate_weight=0.0, changes=1.0)
    config = replace(config, model=replace(config.model, abstract=replace(config.model.abstract, **abstract)))
    torch.manual_seed(0)
    model = build_model(config, vocabulary_of(config)).train()
    before = step_of(model, config)[1]["changes"]
    before.backward()
    assert model.abstract.w_in.weight.grad.abs().sum() > 0 and before.item() > 0
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad / (parameter.grad.norm() + 1e-12)
    after = step_of(model, config)[1]["changes"]
    assert after < before


def test_changes_leave_running_statistics_to_the_images() -> None:
    found = []
    for weight in (0.0, 1.0):
        model, _ = step(tiny.config(contrast=0.0, changes=weight))
        found.append({name: buffer for name, buffer in model.named_buffers() if "running" in name})
    assert len(found[0]) > 3 and all(torch.equal(found[0][name], buffer) for name, buffer in found[1].items())
