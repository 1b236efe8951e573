"""Pretrained parts: timm backbones, and text towers of transformers and open_clip.

Weights come from a local file or folder, from what `ashneuro data fetch` keeps, or from the hub if
the config names one; nothing else is downloaded. A frozen part keeps its weights and stays in eval
mode.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ashneuro.config import ConcreteConfig, TextConfig
from ashneuro.data.fetch import PRETRAINED, weights_path
from ashneuro.errors import ConfigError, DataError, need, words_of
from ashneuro.files import user_path

# Images at once through a frozen backbone on a CPU: the allocator returns larger activations to the
# system after every layer, which took as long as the arithmetic.
PART = 8


class Backbone(nn.Module):
    """Feature map (B, F, H, W) of a timm model, for images of `ashneuro.data.batches.normalise`.

    Args:
        load: load ``config.weights``; else weights are random, to be replaced by a checkpoint's.

    Raises:
        ConfigError: timm has no such model, or the model no such feature map.
        DataError: the weights cannot be read, or belong to another model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ConcreteConfig, image_size: int, load: bool) -> None:
        super().__init__()
        timm = need("timm", extra="pretrained", purpose="model.concrete.backbone")
        self.tune = config.tune
        given: dict[str, Any] = {}
        if load and config.weights == "pretrained":
            given = {"pretrained": True}
        elif load and config.weights:
            path = user_path(weights_path(config.weights))
            if not path.is_file():
                raise DataError(
                    f"model.concrete.weights = {config.weights!r}",
                    "there is no such file",
                    f"give a checkpoint, 'pretrained', or fetched weights: {', '.join(PRETRAINED)}",
                )
            given = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
        try:
            with _quiet_timm():  # it warns that the classifier's weights are left out
                self.model = timm.create_model(config.backbone, features_only=True, **given)
            self.stage = range(len(self.model.feature_info.channels()))[config.stage]
            with torch.no_grad():
                found = self.model.eval()(torch.zeros(1, 3, image_size, image_size))[self.stage]
        except IndexError as error:
            maps = len(self.model.feature_info.channels())
            raise ConfigError(
                f"model.concrete.stage = {config.stage}",
                f"{config.backbone} has {maps} feature maps",
                f"give 0 to {maps - 1}",
            ) from error
        except Exception as error:  # timm has no error type of its own
            what = f"model.concrete.backbone = {config.backbone!r}"
            near = ", ".join(timm.list_models(f"*{config.backbone[:6]}*")[:5])
            do = f"see timm.list_models(); near are {near}" if near else "see timm.list_models()"
            raise (DataError if given else ConfigError)(what, words_of(error), do) from error
        self.channels = int(found.shape[1])
        self.side = int(found.shape[2])
        settings = self.model.pretrained_cfg if hasattr(self.model, "pretrained_cfg") else {}
        mean = (settings or {}).get("mean") or (0.485, 0.456, 0.406)
        std = (settings or {}).get("std") or (0.229, 0.224, 0.225)
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        self.requires_grad_(config.tune)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen backbone stays in eval mode."""
        return super().train(mode and self.tune)

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map of images (B, 3, S, S)."""
        if self.tune or images.is_cuda or len(images) <= PART:
            return self._features(images)
        return torch.cat([self._features(part) for part in images.split(PART)])  # type: ignore[no-untyped-call]

    def _features(self, images: Tensor) -> Tensor:
        # Undo `normalise` (0 … 255 to −2 … 2), and apply the backbone's own normalisation.
        pixels = ((images * 63.75 + 127.5) / 255 - self.mean) / self.std
        features: Tensor = self.model(pixels)[self.stage]
        return features


class TextTower(nn.Module):
    """Pretrained text model: word features (B, M, E_t) of word indices (B, M).

    Indices are those of its tokenizer plus one, so that 0 is padding for every tower.

    Raises:
        DataError: the folder or the model cannot be read.
        ConfigError: ``weights`` is empty.

    Attributes:
        remembers: keep the features of every text of a frozen tower in memory, where a later text
            with the same words finds them. A text is then computed alone, so that its features do
            not depend on the batch in which it came first.
    """

    remembers = False

    def __init__(self, config: TextConfig, load: bool) -> None:
        super().__init__()
        self.tune, self.kind = config.tune, config.tower
        if not config.weights:
            raise ConfigError(
                f"model.text.tower = {config.tower!r}",
                "which weights?",
                "set model.text.weights to a folder or a hub name",
            )
        try:
            model, self.width = TOWERS[config.tower](weights_path(config.weights), load)
            self.model: Any = model
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise DataError(
                f"model.text.weights = {config.weights!r}",
                words_of(error),
                "give a folder that save_pretrained wrote, or a hub name",
            ) from error
        self._known: dict[tuple[int, ...], Tensor] = {}
        self.requires_grad_(config.tune)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen tower stays in eval mode."""
        return super().train(mode and self.tune)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the features; those of padding mean nothing."""
        return self._remembered(tokens) if self.remembers and not self.tune else self._features(tokens)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _remembered(self, tokens: Tensor) -> Tensor:
        rows = [tuple(index for index in row if index) for row in tokens.tolist()]
        for row in set(rows) - self._known.keys():
            # A text without words is all padding.
            text = torch.tensor([row or (0,)], device=tokens.device)
            self._known[row] = self._features(text)[0]
        longest = tokens.shape[1]
        return torch.stack(
            [F.pad(known[:longest], (0, 0, 0, longest - len(known))) for known in map(self._known.__getitem__, rows)]
        )

    def _features(self, tokens: Tensor) -> Tensor:
        ids, words = (tokens - 1).clamp(min=0), tokens > 0
        if self.kind == "transformers":
            features: Tensor = self.model(input_ids=ids, attention_mask=words.long()).last_hidden_state
            return features
        model = self.model
        x = model.token_embedding(ids) + model.positional_embedding[: ids.shape[1]]
        mask = model.attn_mask[: ids.shape[1], : ids.shape[1]] if model.attn_mask is not None else None
        read: Tensor = model.ln_final(model.transformer(x, attn_mask=mask))
        return read


def _transformers(weights: str, load: bool) -> tuple[nn.Module, int]:
    transformers: Any = need("transformers", extra="pretrained", purpose="model.text.tower")
    name = str(user_path(weights)) if user_path(weights).exists() else weights
    if load:
        bars = transformers.utils.logging.is_progress_bar_enabled()
        transformers.utils.logging.disable_progress_bar()
        try:
            model = transformers.AutoModel.from_pretrained(name)
        finally:
            if bars:
                transformers.utils.logging.enable_progress_bar()
    else:
        model = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(name))
    # A two-tower model (CLIP) comes with an image tower that is not used here.
    model = getattr(model, "text_model", model)
    return model, int(model.config.hidden_size)


def _open_clip(weights: str, load: bool) -> tuple[nn.Module, int]:
    open_clip: Any = need("open_clip", extra="pretrained", purpose="model.text.tower")
    name, _, tag = weights.partition(":")
    whole = open_clip.create_model(name, pretrained=(tag or None) if load else None, force_custom_text=True)
    return whole.text, int(whole.text.ln_final.normalized_shape[0])


@contextmanager
def _quiet_timm() -> Iterator[None]:
    """Suppress timm's warnings while the block runs; errors are still printed."""
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


TOWERS = {"transformers": _transformers, "open_clip": _open_clip}
