"""What one step of training computes: the objectives of a batch, of the image–text pairs or of a task's questions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import TrainConfig
from ashneuro.data.pairs import Batch
from ashneuro.data.question_batches import QuestionBatch
from ashneuro.errors import ConfigError
from ashneuro.model.abstract import WithoutStatistics
from ashneuro.model.network import AshNet, Encoded
from ashneuro.model.spatial import mean_over_places
from ashneuro.spiking.kernels.multi_step import firing_rate
from ashneuro.training import objectives
from ashneuro.training.processes import everyones

# Inverse temperature of L_CL: 1/0.1, the customary value for two views.
VIEW_SCALE = 10.0
MAX_SCALE = 100.0
MASKED_SHARE = 0.15

Terms = dict[str, Tensor]
"""Weighted objectives by name, scalars."""


class Learner(nn.Module):
    """A model, and what only training needs: the maps of L_STUA's rival readings.

    Args:
        mask: index of the word that masked words become.

    Raises:
        ConfigError: an objective asks for a part that the model does not have.
    """

    def __init__(self, model: AshNet, config: TrainConfig, mask: int) -> None:
        super().__init__()
        if (config.itm or config.mlm) and not model.config.multimodal.layers:
            raise ConfigError(
                "train.itm and train.mlm need the multimodal transformer",
                "model.multimodal.layers is 0",
                "--set model.multimodal.layers=2",
            )
        self.model, self.config, self.mask = model, config, mask
        self.words = len(model.text.weights.weight)
        if model.abstract is not None and config.stua_reading == "reconstruction":
            self.from_text = nn.Linear(model.config.embedding, model.in_shape[0])
        if model.abstract is not None and config.stua_reading == "bag-of-words":
            self.to_words = nn.Linear(model.config.concrete.width, self.words)
        self.fan_out = model.abstract.fan_out() if model.abstract is not None and config.synops else {}

    def forward(
        self, batch: Batch | QuestionBatch, config: TrainConfig, random: torch.Generator
    ) -> tuple[Terms, Terms]:
        """Return the weighted objectives, and the mean firing rate of every spiking layer, by name (scalars)."""
        if isinstance(batch, QuestionBatch):
            return self._answer(batch, config)
        return self._match(batch, config, random)

    def _match(self, batch: Batch, config: TrainConfig, random: torch.Generator) -> tuple[Terms, Terms]:
        model = self.model
        encoded = model.encode(batch.images)
        words = model.text.features(batch.tokens)
        own_texts = model.text.pool(words, batch.tokens).float()
        # Contrasts see the batches of all processes.
        images, texts, concepts = everyones(encoded.embedding.float()), everyones(own_texts), everyones(batch.concepts)
        scale = model.log_scale.exp().clamp(max=MAX_SCALE)
        terms: Terms = {}
        if config.itc:
            terms["itc"] = config.itc * objectives.itc(images, texts, concepts, scale, config.label_smoothing)
        if config.itm:
            similarity = scale * encoded.embedding.float() @ own_texts.T
            terms["itm"] = config.itm * self._matching(encoded, batch, similarity, random)
        if config.mlm:
            hidden, targets = objectives.mask_words(batch.tokens, MASKED_SHARE, self.mask, self.words, random)
            scores = model.mlm(model.read(model.places(encoded), hidden)[:, 1:])
            terms["mlm"] = config.mlm * objectives.mlm(scores.float(), targets)
        if model.abstract is None or encoded.current is None:
            return terms, {}
        if batch.views is not None and config.contrast:
            views = (
                F.normalize(model.view(mean_over_places(x)).float(), dim=-1)
                for x in (encoded.current, model.currents(batch.views))
            )
            first, second = (everyones(view) for view in views)
            loss = objectives.contrast(first, second, concepts, VIEW_SCALE, config.beta, config.synthetic)
            terms["contrast"] = config.contrast * loss
        if config.stua:
            stua = config.stua * self._stua(encoded, own_texts, texts, batch.tokens, concepts, scale.detach(), config)
            terms["stua"] = stopping_at(encoded.concrete, stua) if config.stua_stops_at_concrete else stua
        return self._sparse(encoded, terms, config)

    def _answer(self, batch: QuestionBatch, config: TrainConfig) -> tuple[Terms, Terms]:
        model = self.model
        pictures = batch.images.shape[1]
        encoded = model.encode(batch.images.flatten(0, 1))
        places = model.places(encoded)
        scores = model.answer(batch.task, places.reshape(-1, pictures, *places.shape[1:]), batch.tokens).float()
        loss = (
            objectives.answer_loss(scores, batch.targets)
            if batch.task == "vqa"
            else objectives.label_loss(scores, batch.targets)
        )
        return self._sparse(encoded, {batch.task: loss}, config)

    def _matching(self, encoded: Encoded, batch: Batch, similarity: Tensor, random: torch.Generator) -> Tensor:
        """L_ITM of the pairs, of each picture with a hard text, and of each text with a hard picture."""
        model = self.model
        places = model.places(encoded)
        other_text = objectives.hard_negatives(similarity, batch.concepts, random)
        other_image = objectives.hard_negatives(similarity.T, batch.concepts, random)
        left, right = other_text >= 0, other_image >= 0
        seen = torch.cat([places, places[left], places[other_image[right]]])
        tokens = torch.cat([batch.tokens, batch.tokens[other_text[left]], batch.tokens[right]])
        matched = torch.zeros(len(seen), dtype=torch.long, device=seen.device)
        matched[: len(places)] = 1
        return objectives.itm(model.itm(model.read(seen, tokens)[:, 0]).float(), matched)

    def _stua(
        self,
        encoded: Encoded,
        own_texts: Tensor,
        texts: Tensor,
        tokens: Tensor,
        concepts: Tensor,
        scale: Tensor,
        config: TrainConfig,
    ) -> Tensor:
        model, reading = self.model, self.config.stua_reading
        if reading == "bag-of-words":
            return objectives.stua_words(self.to_words(encoded.abstract.flatten(1)).float(), tokens)
        if reading == "reconstruction":
            assert model.abstract is not None and encoded.current is not None
            current = self.from_text(own_texts.detach().to(encoded.current))[..., None, None].expand_as(encoded.current)
            with WithoutStatistics(model.abstract):
                abstract, _ = model.read_out(model.abstract(current)["semantic.lif"])
            rebuilt = F.normalize(model.stua(abstract.flatten(1)).float(), dim=-1)
            return objectives.stua_reconstruction(rebuilt, own_texts)
        aligned = everyones(F.normalize(model.stua(encoded.abstract.flatten(1)).float(), dim=-1))
        read = objectives.stua if reading == "uni" else objectives.stua_symmetric
        return read(aligned, texts.detach() if config.stua_stops_at_concrete else texts, concepts, scale)

    def _sparse(self, encoded: Encoded, terms: Terms, config: TrainConfig) -> tuple[Terms, Terms]:
        """Add what keeps the spiking encoder cheap and its codebook near."""
        if encoded.codes is not None and config.codebook:
            terms["codebook"] = config.codebook * objectives.codebook_loss(
                encoded.codes.z.float(), encoded.codes.entries.float()
            )
        if self.model.config.abstract.kind != "spiking":
            return terms, {}
        rates = {
            name: encoded.rates[name] if name in encoded.rates else firing_rate(spikes)
            for name, spikes in encoded.layers.items()
        }
        if config.firing_rate_weight:
            everywhere = [everyones(rate[None]).mean() for rate in rates.values()]
            terms["firing"] = config.firing_rate_weight * objectives.firing_rate_penalty(everywhere, config.firing_rate)
        if config.synops:
            count = everyones(objectives.synops(encoded.layers, self.fan_out)[None]).mean()
            terms["synops"] = config.synops_weight * objectives.synops_penalty(count, config.synops)
        return terms, {name: rate.detach() for name, rate in rates.items()}


def stopping_at(inner: Tensor, loss: Tensor) -> Tensor:
    """Return ``loss`` with the same gradients, but none at ``inner`` and before it.

    Both sides of ``inner`` stay in one graph, for the losses that do reach through it: minus ``∂loss/∂inner · inner`` is added, and
    the same number taken away again. What follows ``inner`` is passed twice backwards, the first time without gradients of its
    parameters; a detached ``inner`` would need a second forward pass as well.
    """
    if not (inner.requires_grad and loss.requires_grad):
        return loss
    with torch.autocast(inner.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(loss, inner, retain_graph=True, allow_unused=True)
        if gradient is None:
            return loss
        known = (inner * gradient).sum().to(loss.dtype)
    return loss + (known.detach() - known)


def whole_loss(terms: Terms) -> Tensor:
    """Return the sum of all objectives."""
    return torch.stack(list(terms.values())).sum()
