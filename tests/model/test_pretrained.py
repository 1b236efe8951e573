"""timm backbones and text towers of transformers and open_clip, with weights made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from tokenizers.implementations import BertWordPieceTokenizer

from ashneuro.config import ConcreteConfig, DataConfig, TextConfig, TrainConfig
from ashneuro.data.batches import Batches
from ashneuro.data.pairs import Pair, Question, Questions
from ashneuro.data.question_batches import QuestionBatches
from ashneuro.data.tokens import PretrainedWords, load_words
from ashneuro.errors import ConfigError, DataError
from ashneuro.model.deploy import host_layers
from ashneuro.model.network import AshNet
from ashneuro.model.pretrained import Backbone, TextTower
from tests.model import tiny

NAME = "test_resnet.r160_in1k"  # timm's own smallest, made for tests


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("timm") / "weights.pth"
    torch.save(timm.create_model(NAME).state_dict(), path)
    return path


def test_backbone_loads_weights_from_a_file(weights: Path) -> None:
    config = ConcreteConfig(backbone=NAME, stage=2, weights=str(weights), tune=False)
    backbone = Backbone(config, 64, load=True)
    original = timm.create_model(NAME, features_only=True)
    saved = torch.load(weights, weights_only=True)
    found = backbone.model.state_dict()
    assert all(torch.equal(found[name], saved[name]) for name in found if name in saved) and len(found) > 10
    original.load_state_dict(found)
    pixels = torch.randint(0, 256, (2, 3, 64, 64))
    mean, std = (torch.tensor(original.pretrained_cfg[name]).reshape(3, 1, 1) for name in ("mean", "std"))
    expected = original.eval()((pixels / 255 - mean) / std)[2]
    given = (pixels.float() - 127.5) / 63.75
    with torch.no_grad():
        torch.testing.assert_close(backbone(given), expected, atol=1e-4, rtol=1e-4)
    assert (backbone.channels, backbone.side) == tuple(expected.shape[1:3])


def test_frozen_backbone_does_not_change(weights: Path) -> None:
    frozen = Backbone(ConcreteConfig(backbone=NAME, weights=str(weights), tune=False), 64, load=True).train()
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    frozen(torch.randn(4, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    tuned = Backbone(ConcreteConfig(backbone=NAME, weights=str(weights)), 64, load=True).train()
    assert all(parameter.requires_grad for parameter in tuned.parameters()) and tuned.model.training


def test_model_accepts_backbone_features_for_images(weights: Path) -> None:
    config = replace(tiny.CONFIG, concrete=ConcreteConfig(backbone=NAME, stage=2, width=6, weights=str(weights)))
    net = AshNet(config, tiny.VOCABULARY, 64, tiny.WORDS).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.embed_images(images), net.embed_images(net.concrete.trunk(images)))
    rows = {row.name: row for row in host_layers(net)}
    assert rows["concrete.backbone"].dense_macs > 100_000
    assert rows["concrete.project"].inputs == net.concrete.features * net.concrete.grid**2


def test_backbone_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.concrete\.backbone") as error:
        Backbone(ConcreteConfig(backbone="resnet5"), 64, load=False)
    assert "resnet50" in error.value.do
    with pytest.raises(ConfigError, match="feature maps"):
        Backbone(ConcreteConfig(backbone=NAME, stage=9), 64, load=False)
    with pytest.raises(DataError, match="no such file"):
        Backbone(ConcreteConfig(backbone=NAME, weights=str(tmp_path / "none.pth")), 64, load=True)
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    with pytest.raises(DataError, match=r"model\.concrete\.backbone"):
        Backbone(ConcreteConfig(backbone=NAME, weights=str(tmp_path / "bad.pth")), 64, load=True)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "flow", "##er", "dog"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model with its tokenizer, as save_pretrained leaves it."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(4)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    pieces = BertWordPieceTokenizer(str(folder / "vocab.txt"))
    marks = {
        name: f"[{name.partition('_')[0].upper()}]"
        for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    }
    transformers.PreTrainedTokenizerFast(tokenizer_object=pieces._tokenizer, **marks).save_pretrained(folder)
    return folder


def test_transformers_tower_equals_the_library(bert: Path) -> None:
    words = PretrainedWords("transformers", str(bert))
    tokens = torch.from_numpy(words.encode(["a red flower", "dog"], 8))
    assert tokens.tolist() == [[3, 6, 7, 8, 9, 4], [3, 10, 4, 0, 0, 0]], "its own numbers plus one, 0 is padding"
    assert words.mask == 5 and len(words) == 11 and words.unknown("zebra") == []
    assert words.encode(["a red flower"], 4).tolist() == [[3, 6, 7, 4]], "a cut text keeps its end"
    tower = TextTower(TextConfig(tower="transformers", weights=str(bert), tune=False), load=True).train()
    model = transformers.AutoModel.from_pretrained(bert).eval()
    with torch.no_grad():
        expected = model(input_ids=(tokens - 1).clamp(min=0), attention_mask=(tokens > 0).long()).last_hidden_state
        torch.testing.assert_close(tower(tokens)[tokens > 0], expected[tokens > 0])
    assert not any(parameter.requires_grad for parameter in tower.parameters()) and not tower.model.training


def test_training_texts_keep_special_tokens(bert: Path) -> None:
    words = PretrainedWords("transformers", str(bert))
    pairs = [
        Pair(str(number), ("a red flower dog a red dog",), str(number), lambda: np.zeros((4, 4, 3), np.uint8))
        for number in range(8)
    ]
    settings = TrainConfig(batch_size=8, word_dropout=0.5)
    for epoch in range(4):
        (batch,) = Batches(pairs, words, DataConfig(image_size=4, max_words=5), settings, views=False).epoch(epoch)
        for row in batch.tokens.tolist():
            text = [index for index in row if index]
            assert (text[0], text[-1]) == (3, 4) and len(text) <= 5 and not {3, 4} & set(text[1:-1])
    asked = tuple(Question(pair.key, (pair.key,), "a red flower dog a red", ("yes",)) for pair in pairs)
    questions = Questions("vqa", asked, (), (), {pair.key: pair.load for pair in pairs}, "")
    (asked_batch,) = QuestionBatches(questions, ("yes",), words, DataConfig(image_size=4, max_words=5), settings).epoch(
        0
    )
    np.testing.assert_array_equal(asked_batch.tokens, words.encode([question.text for question in asked], 5))


def test_padding_does_not_change_tower_embeddings(bert: Path) -> None:
    config = replace(tiny.CONFIG, text=TextConfig(tower="transformers", weights=str(bert)))
    net = AshNet(config, 11, tiny.SIZE, 8).eval()
    short, padded = torch.tensor([[3, 6, 4]]), torch.tensor([[3, 6, 4, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(net.embed_texts(short), net.embed_texts(padded), atol=1e-5, rtol=1e-5)
    assert {row.part for row in host_layers(net)} == {"image", "text"}


def test_tower_tokenizer_is_saved_with_the_run(bert: Path, tmp_path: Path) -> None:
    words = PretrainedWords("transformers", str(bert))
    words.save(tmp_path / "vocabulary.json")
    again = load_words(tmp_path / "vocabulary.json")
    np.testing.assert_array_equal(again.encode(["a red dog"], 8), words.encode(["a red dog"], 8))
    assert again == words and again.weights != words.weights and words != PretrainedWords("open_clip", "RN50")
    with pytest.raises(DataError, match="no tokenizer"):
        PretrainedWords("transformers", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"model\.text\.weights"):
        TextTower(TextConfig(tower="transformers", weights=str(tmp_path / "none")), load=True)
    with pytest.raises(ConfigError, match="which weights"):
        TextTower(TextConfig(tower="transformers"), load=True)


def test_open_clip_tower_equals_the_library(tmp_path: Path) -> None:
    """With random weights saved to a file, as a download would be."""
    name = "RN50"
    torch.manual_seed(5)
    whole = open_clip.create_model(name, force_custom_text=True).eval()
    torch.save(whole.state_dict(), tmp_path / "clip.pt")
    tower = TextTower(TextConfig(tower="open_clip", weights=f"{name}:{tmp_path / 'clip.pt'}"), load=True).eval()
    words = PretrainedWords("open_clip", name)
    tokens = torch.from_numpy(words.encode(["a red flower"], 24))
    theirs = open_clip.get_tokenizer(name)(["a red flower"])
    assert (tokens[0] - 1).tolist() == theirs[0, : tokens.shape[1]].tolist()
    seen: list[torch.Tensor] = []
    whole.text.ln_final.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        whole.encode_text(theirs)
        torch.testing.assert_close(tower(tokens), seen[0][:, : tokens.shape[1]], atol=1e-4, rtol=1e-4)
