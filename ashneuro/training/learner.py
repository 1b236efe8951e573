"""Objectives of one training step, for image–text pairs and for the questions of a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import TrainConfig
from ashneuro.data.pairs import Batch, Unpaired
from ashneuro.data.question_batches import QuestionBatch
from ashneuro.errors import ConfigError
from ashneuro.model.abstract import FrozenStatistics
from ashneuro.model.network import AshNet, Encoded, split_encoded
from ashneuro.model.spatial import global_average_pool
from ashneuro.spiking.kernels.multi_step import firing_rate
from ashneuro.training import objectives
from ashneuro.training.branches import StepGraph
from ashneuro.training.processes import all_gather
from ashneuro.training.teacher import Taught
from ashneuro.training.text_targets import MomentumText, TextQueue

VIEW_SCALE = 10.0
"""Inverse temperature of L_CL: 1/0.1, the customary value for two views."""

MAX_SCALE = 100.0
"""Upper limit of the learned inverse temperature, as in CLIP."""

MASKED_SHARE = 0.15
"""Share of the words that L_MLM masks, as in BERT."""

Terms = dict[str, Tensor]
"""Scalars by name: weighted objectives, or firing rates."""


class Learner(nn.Module):
    """A model with the projections and constants that only training needs.

    Settings that a stage may change are not kept here: `forward` gets them.

    Args:
        model: the model to train.
        config: ``[train]``: which objectives there are.
        schedule: settings of the stages, where they differ.
        mask: index of the mask word.

    Raises:
        ConfigError: an objective needs a part that the model does not have.
    """

    def __init__(self, model: AshNet, config: TrainConfig, mask: int, schedule: Sequence[TrainConfig] = ()) -> None:
        super().__init__()
        if (config.itm or config.mlm) and not model.config.multimodal.layers:
            raise ConfigError(
                "train.itm and train.mlm need the multimodal transformer",
                "model.multimodal.layers is 0",
                "--set model.multimodal.layers=2",
            )
        self.model, self.mask = model, mask
        self.words = len(model.text.weights.weight)
        if config.momentum_text and (config.unlabelled or model.abstract is not None):
            self.momentum_text = MomentumText(model.text, config.momentum_text)
        if config.unlabelled:
            self.queue = TextQueue(model.config.embedding)
        self._fan_out: dict[str, str] = {}  # name of the buffer, by population
        self._alike: dict[str, float] = {}  # fan-out of populations whose neurons share it
        if model.abstract is None:
            return
        if config.stua_reading == "reconstruction":
            self.from_text = nn.Linear(model.config.embedding, model.in_shape[0])
        if config.stua_reading == "bag-of-words":
            self.to_words = nn.Linear(model.config.concrete.width, self.words)
        if any(settings.synops or settings.changes for settings in schedule or (config,)):
            for population, synapses in model.abstract.fan_out().items():
                # Names of buffers must not have dots. The values follow from the weights' shapes,
                # so checkpoints do not hold them.
                self._fan_out[population] = f"fan_out_{population.replace('.', '_')}"
                self.register_buffer(self._fan_out[population], synapses, persistent=False)
                if synapses.min() == synapses.max():
                    self._alike[population] = float(synapses.max())
            parted = {name: values for name, values in self.fan_out.items() if name not in self._alike}
            model.abstract.weigh(parted)

    @property
    def fan_out(self) -> dict[str, Tensor]:
        """Synapses reached by a spike of each neuron, by population; empty where unused."""
        return {population: self.get_buffer(buffer) for population, buffer in self._fan_out.items()}

    def forward(
        self,
        batch: Batch | QuestionBatch,
        settings: TrainConfig,
        random: torch.Generator,
        taught: Taught | None = None,
        graph: StepGraph | None = None,
    ) -> tuple[Terms, Terms]:
        """Return the weighted objectives, and the mean firing rate of every spiking layer.

        A graded message counts as a spike.

        Args:
            settings: training settings of the stage.
            random: draws masked words and negatives.
            taught: embeddings of the pairs by a teacher.
            graph: of the step; by default whole.
        """
        if isinstance(batch, QuestionBatch):
            return self._question_objectives(batch, settings)
        return self._pair_objectives(batch, settings, random, taught, graph or StepGraph())

    def _pair_objectives(
        self,
        batch: Batch,
        settings: TrainConfig,
        random: torch.Generator,
        taught: Taught | None,
        graph: StepGraph,
    ) -> tuple[Terms, Terms]:
        model = self.model
        unpaired = batch.unpaired if settings.unlabelled else None
        pictures = batch.images if unpaired is None else torch.cat([batch.images, unpaired.views])
        concrete = graph.cut(model.concrete(pictures))
        current = None if model.abstract is None else model.abstract.current(concrete)
        # Branches beside the abstract encoder.
        wait_for_texts = graph.start(lambda: model.embed_texts(batch.tokens).float())
        views, wait_for_view = batch.views if model.abstract is not None and settings.contrast else None, None
        if views is not None:
            wait_for_view = graph.start(lambda: self._embed_current(model.currents(views)))
        whole = model.latents(concrete, current)
        own_texts, second_view = wait_for_texts(), None if wait_for_view is None else wait_for_view()
        encoded, lone = (whole, None) if unpaired is None else split_encoded(whole, len(batch.images))
        # Contrasts see the batches of all processes.
        images, texts, concepts = (
            all_gather(encoded.embedding.float()),
            all_gather(own_texts),
            all_gather(batch.concepts),
        )
        same = objectives.same_texts(concepts, None if batch.texts is None else all_gather(batch.texts))
        scale = model.log_scale.exp().clamp(max=MAX_SCALE)
        terms: Terms = {}
        if settings.itc:
            terms["itc"] = settings.itc * objectives.itc(images, texts, same, scale, settings.label_smoothing)
        if taught is not None:
            terms |= _distilled(images, texts, scale, taught, settings)
        if settings.itm:
            similarity = scale * encoded.embedding.float() @ own_texts.T
            terms["itm"] = settings.itm * self._itm(encoded, batch, similarity, random)
        if settings.mlm:
            hidden, targets = objectives.mask_words(batch.tokens, MASKED_SHARE, self.mask, self.words, random)
            scores = model.mlm(model.multimodal_features(model.visual_tokens(encoded), hidden)[:, 1:])
            terms["mlm"] = settings.mlm * objectives.mlm(scores.float(), targets)
        aligns = settings.stua > 0 or unpaired is not None
        own_targets, targets = self._text_targets(batch, own_texts, texts, settings) if aligns else (own_texts, texts)
        candidates, stopped = None, []  # losses whose gradients stop at C
        if unpaired is not None and lone is not None:
            candidates, loss, spikes = self._unlabelled(lone, unpaired, targets, scale.detach(), settings)
            terms["unlabelled"] = settings.unlabelled * (loss + spikes)
            stopped.append(settings.unlabelled * spikes)
        if model.abstract is None or encoded.current is None:
            return terms, {}
        if second_view is not None:
            first, second = all_gather(self._embed_current(encoded.current)), all_gather(second_view)
            loss = objectives.contrast(first, second, concepts, VIEW_SCALE, settings.beta, settings.synthetic)
            terms["contrast"] = settings.contrast * loss
        if settings.changes:
            terms["changes"] = settings.changes * self._changes(encoded, batch.images, random)
        if settings.stua:
            loss = self._stua(encoded, own_targets, targets, candidates, batch.tokens, same, scale.detach(), settings)
            terms["stua"] = settings.stua * loss
            stopped.append(terms["stua"])
        if stopped and settings.stua_stops_at_concrete:
            name = "stua" if settings.stua else "unlabelled"
            terms[name] = terms[name] + graph.stop(concrete, torch.stack(stopped).sum())
        return self._with_penalties(whole, terms, settings)

    def _embed_current(self, current: Tensor) -> Tensor:
        """Return the unit vectors (B, E) that L_CL compares, of currents x (B, C, H, W)."""
        return F.normalize(self.model.view(global_average_pool(current)).float(), dim=-1)

    def _text_targets(
        self, batch: Batch, own_texts: Tensor, texts: Tensor, settings: TrainConfig
    ) -> tuple[Tensor, Tensor]:
        """Return the text features of this process and of all that L_STUA aligns images to.

        They are the momentum text tower's, if there is one. The symmetric reading moves the texts,
        so it has the text encoder's own.
        """
        momentum: MomentumText | None = getattr(self, "momentum_text", None)
        if momentum is None:
            return own_texts, texts
        momentum.update(self.model.text)
        if settings.stua_reading == "symmetric":
            return own_texts, texts
        own = self.momentum_text(batch.tokens)
        return own, all_gather(own)

    def _unlabelled(
        self, lone: Encoded, unpaired: Unpaired, texts: Tensor, scale: Tensor, settings: TrainConfig
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return candidate texts (N, E), the loss of unlabelled images and texts, and of spikes.

        The first loss is `objectives.pseudo_alignment` of images plus `objectives.text_contrast`,
        the second `objectives.pseudo_alignment` of the images' read-outs through the STUA head.
        Images are assigned to the texts of the batch, as they are without augmentation.

        Args:
            lone: latents of the unlabelled images' views.
            texts: features of the labelled texts of all processes.
        """
        model = self.model
        with torch.no_grad():
            plain = all_gather(model.encode(unpaired.images).embedding.float())
            tower = self.momentum_text if settings.momentum_text else model.text
            own = tower(unpaired.tokens)
            own_texts = all_gather(own.float())
            here = torch.cat([texts.detach(), own_texts])
            candidates = self.queue.push(here)
            assigned = objectives.balanced_assignment(plain, here, scale)
        fragments, tokens = all_gather(model.embed_texts(unpaired.fragments).float()), all_gather(unpaired.tokens)
        loss = objectives.text_contrast(fragments, own_texts, tokens, scale)
        images = all_gather(lone.embedding.float())
        loss = loss + objectives.pseudo_alignment(images, assigned, here, scale)
        if model.abstract is None:
            return candidates, loss, loss.new_zeros(())
        spikes = all_gather(model.align(lone.abstract))
        return candidates, loss, objectives.pseudo_alignment(spikes, assigned, here, scale)

    def _question_objectives(self, batch: QuestionBatch, settings: TrainConfig) -> tuple[Terms, Terms]:
        model = self.model
        pictures = batch.images.shape[1]
        encoded = model.encode(batch.images.flatten(0, 1))
        places = model.visual_tokens(encoded)
        scores = model.answer(batch.task, places.reshape(-1, pictures, *places.shape[1:]), batch.tokens).float()
        loss = (
            objectives.answer_loss(scores, batch.targets)
            if batch.task == "vqa"
            else objectives.label_loss(scores, batch.targets)
        )
        return self._with_penalties(encoded, {batch.task: loss}, settings)

    def _itm(self, encoded: Encoded, batch: Batch, similarity: Tensor, random: torch.Generator) -> Tensor:
        """L_ITM of the pairs, of images with a hard text, and of texts with a hard image."""
        model = self.model
        places = model.visual_tokens(encoded)
        same = objectives.same_texts(batch.concepts, batch.texts)
        other_text = objectives.hard_negatives(similarity, same, random)
        other_image = objectives.hard_negatives(similarity.T, same.T if batch.texts is not None else same, random)
        # −1: no negative, because all other pairs of the batch are of the same concept.
        left, right = other_text >= 0, other_image >= 0
        seen = torch.cat([places, places[left], places[other_image[right]]])
        tokens = torch.cat([batch.tokens, batch.tokens[other_text[left]], batch.tokens[right]])
        matched = torch.zeros(len(seen), dtype=torch.long, device=seen.device)
        matched[: len(places)] = 1
        return objectives.itm(model.match(seen, tokens).float(), matched)

    def _stua(
        self,
        encoded: Encoded,
        own_texts: Tensor,
        texts: Tensor,
        candidates: Tensor | None,
        tokens: Tensor,
        concepts: Tensor,
        scale: Tensor,
        settings: TrainConfig,
    ) -> Tensor:
        """L_STUA as ``stua_reading`` says; ``own_texts`` of this process, ``texts`` of all.

        Soft targets compare with ``candidates`` (N, E), if there are any.
        """
        model, reading = self.model, settings.stua_reading
        if reading == "bag-of-words":
            return objectives.stua_words(self.to_words(encoded.abstract.mean((2, 3))).float(), tokens)
        if reading == "reconstruction":
            assert model.abstract is not None and encoded.current is not None
            current = self.from_text(own_texts.detach().to(encoded.current))[..., None, None].expand_as(encoded.current)
            # Batch norms keep the statistics of images, which is what evaluation and export apply.
            with FrozenStatistics(model.abstract):
                abstract, _ = model.read_out(model.abstract(current)["semantic.lif"])
            return objectives.stua_reconstruction(model.align(abstract), own_texts)
        aligned = all_gather(model.align(encoded.abstract))
        if reading == "soft":
            return objectives.stua_soft(aligned, texts, scale, candidates)
        align = objectives.stua if reading == "uni" else objectives.stua_symmetric
        return align(aligned, texts.detach() if settings.stua_stops_at_concrete else texts, concepts, scale)

    def _changes(self, encoded: Encoded, images: Tensor, random: torch.Generator) -> Tensor:
        """L_changes between the images (B, 3, S, S) and the same moved by a pixel."""
        encoder = self.model.abstract
        assert encoder is not None
        # Batch norms keep the statistics of the images themselves.
        with FrozenStatistics(self.model):
            moved = encoder(self.model.currents(objectives.shifted(images, random)))
        return objectives.changes(encoded.layers, moved, encoder.units(encoded.layers), self.fan_out)

    def _with_penalties(self, encoded: Encoded, terms: Terms, settings: TrainConfig) -> tuple[Terms, Terms]:
        """Return the terms with codebook loss and spike penalties added, and the firing rates."""
        if encoded.codes is not None and settings.codebook:
            terms["codebook"] = settings.codebook * objectives.codebook_loss(
                encoded.codes.z.float(), encoded.codes.entries.float()
            )
        if self.model.config.abstract.kind != "spiking":
            return terms, {}
        assert self.model.abstract is not None
        # Some kernels return the rates with the spikes; else they cost a pass over the spikes.
        # Synops follow from a rate where all neurons reach as many synapses, else from a
        # weighted one.
        known = [
            name
            for name in encoded.layers
            if name in encoded.rates and (not settings.synops or name in self._alike or name in encoded.weighted)
        ]
        needed = [name for name in encoded.layers if name not in known]
        events = self.model.abstract.events({name: encoded.layers[name] for name in needed})
        rates = {
            name: encoded.rates[name] if name in encoded.rates else firing_rate(events[name]) for name in encoded.layers
        }
        # Penalties are not linear, so they apply to means over all processes.
        if settings.firing_rate_weight:
            means = [all_gather(rate[None]).mean() for rate in rates.values()]
            terms["firing"] = settings.firing_rate_weight * objectives.firing_rate_penalty(means, settings.firing_rate)
        if settings.synops:
            counted = [
                objectives.synops_at_rate(encoded.rates[name], encoded.layers[name], self._alike[name])
                if name in self._alike
                else objectives.synops_at_rate(encoded.weighted[name], encoded.layers[name], 1.0)
                for name in known
            ]
            if needed:
                counted.append(objectives.synops(events, self.fan_out))
            count = all_gather(torch.stack(counted).sum()[None]).mean()
            terms["synops"] = settings.synops_weight * objectives.synops_penalty(count, settings.synops)
        return terms, {name: rate.detach() for name, rate in rates.items()}


def _distilled(images: Tensor, texts: Tensor, scale: Tensor, taught: Taught, settings: TrainConfig) -> Terms:
    """Return the weighted objectives of distillation; ``images`` and ``texts`` of all processes."""
    theirs, terms = all_gather(taught.images), Terms()
    if settings.distil:
        teacher = theirs, all_gather(taught.texts), taught.scale.clamp(max=MAX_SCALE)
        terms["distil"] = settings.distil * objectives.distil(images, texts, scale, *teacher)
    if settings.distil_embedding:
        terms["distil_embedding"] = settings.distil_embedding * objectives.distil_embedding(images, theirs)
    return terms


def whole_loss(terms: Terms) -> Tensor:
    """Return the sum of all objectives."""
    return torch.stack(list(terms.values())).sum()
