"""ANN controls: their price, and whose twins they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ashneuro.config import load_config
from ashneuro.cost.comparison.contenders import Role
from ashneuro.data.tokens import Vocabulary
from ashneuro.model.network import AshNet
from ashneuro.workflows.ann_control import control_workload, deployed_precision, same_layers, twin_role

SMALL = (
    "data.image_size=16",
    "model.concrete.channels=[8]",
    "model.abstract.channels=[8,8]",
    "model.abstract.units=16",
)


def run(*changes: str) -> Any:
    """A run without weights: settings, vocabulary and a model."""
    config = load_config("tiny", [*SMALL, *changes])
    vocabulary = Vocabulary(("red", "heart"))
    model = AshNet(config.model, len(vocabulary), config.data.image_size).eval()
    return SimpleNamespace(config=config, vocabulary=vocabulary, model=model, labels={})


@pytest.mark.parametrize(
    "changes, precision",
    [
        (("model.abstract.kind=relu",), "int8"),
        (("model.abstract.kind=quantised-relu",), "int3"),
        (("model.abstract.kind=quantised-relu", "model.abstract.bits=4"), "int4"),
        (("model.abstract.kind=quantised-relu", "model.abstract.bits=12"), "int8"),
        (("model.abstract.neuron=graded", "model.abstract.message_bits=6"), "int6"),
        (("model.abstract.neuron=graded", "model.abstract.message_bits=12"), "int8"),
        ((), "int8"),
    ],
)
def test_encoders_are_priced_with_the_bits_between_their_layers(changes: tuple[str, ...], precision: str) -> None:
    assert deployed_precision(load_config("tiny", changes).model.abstract) == precision


def test_only_layers_count_for_sameness() -> None:
    tiny = load_config("tiny").model
    assert same_layers(tiny, load_config("tiny", ["model.abstract.kind=quantised-relu", "model.abstract.bits=5"]).model)
    for change in ("model.abstract.units=64", "model.abstract.block=conv", "model.concrete.width=32"):
        assert not same_layers(tiny, load_config("tiny", [change]).model)


def test_controls_are_priced_by_their_own_layers() -> None:
    wide, narrow, none = (
        control_workload(run("model.abstract.kind=quantised-relu", *more))
        for more in ((), ("model.abstract.units=8",), ("model.abstract.kind=none",))
    )
    assert {layer.kind for layer in wide.part("deployed").layers} == {"ann"}
    assert wide.part("deployed").total("dense_macs") > narrow.part("deployed").total("dense_macs")
    assert not none.part("deployed").layers and none.part("host").layers


def test_twin_has_the_layers_and_the_bits() -> None:
    spiking = SimpleNamespace(neuron=SimpleNamespace(payload=False))
    graded = SimpleNamespace(neuron=SimpleNamespace(payload=True, message=SimpleNamespace(bits=8)))
    programs = {
        "lif": SimpleNamespace(timesteps=4, layers=(spiking,)),
        "graded": SimpleNamespace(timesteps=1, layers=(graded,)),
    }

    def role(program: str, *changes: str) -> Role | None:
        return twin_role(run(), programs[program], run(*changes))  # type: ignore[arg-type]

    assert role("lif", "model.abstract.kind=relu") is role("graded", "model.abstract.kind=relu") is Role.ANN_TWIN
    assert role("lif", "model.abstract.kind=quantised-relu") is Role.LOW_BIT_TWIN
    assert role("lif", "model.abstract.kind=quantised-relu", "model.abstract.bits=4") is None
    assert role("graded", "model.abstract.kind=quantised-relu") is None, "its low-bit twin has the bits of a message"
    assert role("lif", "model.abstract.kind=quantised-relu", "model.abstract.units=8") is None
    assert role("lif", "model.abstract.kind=none") is None
