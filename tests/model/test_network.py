"""The assembled network against its equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ashneuro.config import AbstractConfig, MultimodalConfig, relu_bits
from ashneuro.model.abstract import QuantisedReLU
from ashneuro.model.network import AshNet
from ashneuro.spiking.kernels.dispatch import choose_backend
from tests.model.tiny import CONFIG, SIZE, WORDS, images, model

KINDS = ["spiking", "none", "relu", "quantised-relu"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_unit_embeddings_and_gradients(kind: str) -> None:
    net = model(kind).train()
    encoded = net.encode(images(6))
    texts = net.embed_texts(torch.randint(1, 20, (6, WORDS)))
    torch.testing.assert_close(encoded.embedding.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(6))
    ((encoded.embedding @ texts.T) ** 2).sum().backward()
    without = {name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert without <= {"log_scale", "stua.weight", "stua.bias", "view.weight", "view.bias"}


def test_firing_rates_are_layer_means() -> None:
    net = model()
    layers, rates, weighted = net.abstract.with_rates(net.currents(images(4)))
    counting = choose_backend("auto", torch.device("cpu")) == "native"  # the other kernels leave it to who asks
    assert rates.keys() == (layers.keys() if counting else set())
    for name, rate in rates.items():
        torch.testing.assert_close(rate, layers[name].mean())
    assert not weighted
    net.abstract.weigh({"entry.lif": torch.full((), 3.0)})
    encoded = net.encode(images(4))
    assert set(encoded.weighted) == ({"entry.lif"} if counting else set())
    for name, mean in encoded.weighted.items():
        torch.testing.assert_close(mean, 3 * rates[name])
    assert encoded.rates.keys() == rates.keys() <= encoded.layers.keys()
    assert not model("relu").encode(images(4)).rates


def test_fusion_is_c_plus_r_times_a() -> None:
    net = model()
    x = images(4)
    concrete = net.concrete(x)
    spikes = net.abstract(net.currents(x))["semantic.lif"]
    weighted = sum(omega * step for omega, step in zip(net.omega, spikes, strict=True))
    a = (weighted @ net.readout.weight.T)[:, :, None, None].expand_as(concrete)
    for zero, v in {None: concrete + net.ratio * a, "abstract": concrete, "concrete": net.ratio * a}.items():
        expected = F.normalize(net.project(v.mean((2, 3))), dim=-1)
        torch.testing.assert_close(net.embed_images(x, zero=zero), expected)
    assert concrete.shape == (4, 6, 5, 5)


@pytest.mark.parametrize("codebook", [0, 4])
def test_positions_have_a_of_their_own(codebook: int) -> None:
    """V = C + r ⊙ A at the positions of the last block, to which C is averaged."""
    net = model(positions=True, codebook=codebook, codebook_groups=3)
    x = images(4)
    encoded = net.encode(x)
    spikes = encoded.layers["semantic.lif"]
    assert spikes.shape == (3, 4, *net.abstract.out_shape) == (3, 4, 9, 2, 2)
    read = sum(omega * step for omega, step in zip(net.omega, spikes, strict=True)).permute(0, 2, 3, 1)
    if codebook:
        read = net.codebook(read.reshape(16, 9))[0].reshape(4, 2, 2, 9)
    a = (read @ net.readout.weight.T).permute(0, 3, 1, 2)
    assert a.std((2, 3)).min() > 0, "it differs between positions"
    torch.testing.assert_close(encoded.abstract, a)
    concrete = encoded.concrete
    averaged = F.adaptive_avg_pool2d(concrete, 2)
    for zero, v, pooled in (
        (None, averaged + net.ratio * a, concrete.mean((2, 3)) + (net.ratio * a).mean((2, 3))),
        ("abstract", averaged, concrete.mean((2, 3))),
        ("concrete", net.ratio * a, (net.ratio * a).mean((2, 3))),
    ):
        torch.testing.assert_close(net.visual_tokens(encoded, zero), v.flatten(2).transpose(1, 2))
        torch.testing.assert_close(net.embed_images(x, zero=zero), F.normalize(net.project(pooled), dim=-1))
    torch.testing.assert_close(net.align(encoded.abstract), F.normalize(net.stua(a.mean((2, 3))), dim=-1))


@pytest.mark.parametrize("positions", [False, True])
def test_given_spikes_replace_the_encoder(positions: bool) -> None:
    net = model(positions=positions)
    x = images(4)
    encoded = net.encode(x)
    spikes = encoded.layers["semantic.lif"].detach().numpy().astype(np.uint8)
    assert 0 < spikes.mean() < 1
    torch.testing.assert_close(net.embed_images(x, spikes=spikes), encoded.embedding)
    assert not torch.allclose(net.embed_images(x, spikes=1 - spikes), encoded.embedding)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("zero", [None, "abstract", "concrete", "both"])
def test_heads_see_the_products_that_retrieval_sums(zero: str | None, positions: bool) -> None:
    wide = MultimodalConfig(width=8, layers=1, heads=2)
    abstract = replace(CONFIG.abstract, positions=positions)
    net = AshNet(replace(CONFIG, abstract=abstract, multimodal=wide), 20, 16, WORDS).eval()
    pictures, tokens = torch.rand(4, 3, 16, 16), torch.randint(1, 20, (4, WORDS))
    encoded = net.encode(pictures, zero=zero)
    seen = net.summarise(net.visual_tokens(encoded, zero), tokens)
    assert seen.shape == (4, 8 + CONFIG.embedding)
    cosines = (encoded.embedding * net.embed_texts(tokens)).sum(1)
    torch.testing.assert_close(seen[:, 8:].sum(1), CONFIG.embedding * cosines)
    torch.testing.assert_close(net.match(net.visual_tokens(encoded, zero), tokens), net.itm(seen))
    alone = AshNet(replace(CONFIG, multimodal=replace(wide, similarity=False)), 20, 16, WORDS).eval()
    assert alone.summarise(alone.visual_tokens(alone.encode(pictures)), tokens).shape == (4, 8)


def test_questions_of_other_word_order_are_other_questions() -> None:
    torch.manual_seed(0)
    pictures, tokens = torch.rand(1, 3, 16, 16), torch.randint(1, 20, (1, WORDS))
    for ordered in (True, False):
        wide = MultimodalConfig(width=8, layers=1, heads=2, word_order=ordered)
        net = AshNet(replace(CONFIG, multimodal=wide), 20, 16, WORDS).eval()
        if net.multimodal.order is not None:
            torch.nn.init.normal_(net.multimodal.order)
        visual = net.visual_tokens(net.encode(pictures))
        said, turned = net.summarise(visual, tokens), net.summarise(visual, tokens.flip(1))
        assert torch.allclose(said, turned, atol=1e-5) is not ordered


def test_population_names_shapes_and_spikes() -> None:
    net = model()
    layers = net.encode(images(4)).layers
    assert list(layers) == ["entry.lif"] + [f"block{b}.lif{i}" for b in (1, 2) for i in (1, 2, 3)] + ["semantic.lif"]
    assert layers["entry.lif"].shape == (3, 4, *net.in_shape) == (3, 4, 4, 5, 5)
    assert layers["semantic.lif"].shape == (3, 4, 9)
    for spikes in layers.values():
        assert spikes.unique().tolist() == [0.0, 1.0]


def test_controls_have_the_hybrid_topology() -> None:
    def shapes(net: AshNet) -> dict[str, torch.Size]:
        return {
            name: value.shape
            for name, value in net.named_parameters()
            if not name.endswith(".step") and name != "omega"
        }

    assert shapes(model("relu")) == shapes(model("quantised-relu")) == shapes(model("spiking"))
    assert model("none").abstract is None
    with pytest.raises(ValueError, match="no input current"):
        model("none").currents(images(1))


@pytest.mark.parametrize("timesteps, bits", [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4)])
def test_a_quantised_relu_has_the_bits_of_a_spike_count_or_its_own(timesteps: int, bits: int) -> None:
    assert relu_bits(AbstractConfig(timesteps=timesteps)) == bits
    assert relu_bits(AbstractConfig(timesteps=timesteps, bits=5)) == 5
    net = model("quantised-relu", timesteps=1, bits=3)
    assert {module.bits for module in net.modules() if isinstance(module, QuantisedReLU)} == {3}


def test_quantised_relu_levels_and_gradients() -> None:
    layer = QuantisedReLU(3, step=0.5)
    x = torch.linspace(-2, 6, 801, requires_grad=True)
    y = layer(x)
    assert y.unique().tolist() == [0.5 * level for level in range(8)]
    torch.testing.assert_close(layer(torch.tensor([-3.0, 0.2, 1.6, 1.8, 9.0])), torch.tensor([0.0, 0.0, 1.5, 2.0, 3.5]))
    y.sum().backward()
    assert x.grad[(x > 0.01) & (x < 3.49)].eq(1).all()
    assert x.grad[(x < -0.01) | (x > 3.51)].eq(0).all()
    clipped, inside = (x.detach() > 3.5).sum(), (x.detach() > 0) & (x.detach() < 3.5)
    expected = 7 * clipped + ((x.detach() / 0.5).round() - x.detach() / 0.5)[inside].sum()
    torch.testing.assert_close(layer.step.grad, expected, atol=8, rtol=0.01)


@pytest.mark.parametrize("layers", [0, 1])
def test_padding_does_not_change_text_embeddings(layers: int) -> None:
    net = model(layers=layers)
    short, padded = torch.tensor([[3, 4, 5]]), torch.tensor([[3, 4, 5, 0, 0]])
    torch.testing.assert_close(net.embed_texts(short), net.embed_texts(padded))
    assert net.embed_texts(torch.zeros(2, 3, dtype=torch.long)).isfinite().all()


def test_only_a_transformer_sees_word_order() -> None:
    forward, back = torch.tensor([[3, 4, 5]]), torch.tensor([[5, 4, 3]])
    torch.testing.assert_close(model(layers=0).embed_texts(forward), model(layers=0).embed_texts(back))
    assert not torch.allclose(model(layers=1).embed_texts(forward), model(layers=1).embed_texts(back), atol=1e-4)


def test_grid_follows_the_image_size() -> None:
    assert images(1).shape[-1] == SIZE == 9  # odd on purpose: 9 → 5 → 3 → 2
    assert model().abstract.dense.linear.weight.shape[1:] == (7, 2, 2)


def test_compiling_the_network_breaks_no_graph() -> None:
    net = model().train()
    x, before = images(4), {name: values.clone() for name, values in net.state_dict().items()}
    wanted = net.encode(x).embedding
    wanted.square().mul(torch.arange(wanted.numel()).reshape(wanted.shape)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}
    net.zero_grad()
    net.load_state_dict(before)
    torch._dynamo.reset()
    result = torch.compile(lambda x: net.encode(x).embedding, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(result, wanted)
    result.square().mul(torch.arange(wanted.numel()).reshape(wanted.shape)).sum().backward()
    for name, parameter in net.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], msg=lambda text, name=name: f"{name}: {text}")
    assert gradients["abstract.w_in.weight"].any()
