"""Event-driven synapses against torch's dense products: equal currents and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import sparse_synapses
from ashneuro.spiking.kernels.cpp import NativeError
from ashneuro.spiking.kernels.dispatch import VARIABLE
from ashneuro.spiking.kernels.sparse_synapses import dense_currents, synaptic_currents


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch) -> None:
    try:
        sparse_synapses.library()
    except NativeError as error:
        pytest.skip(f"{error}; install one, for example: apt install g++")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sparse_synapses, "MIN_MACS", 0)
    monkeypatch.setattr(sparse_synapses, "MIN_CHANNELS", 0)
    monkeypatch.setattr(sparse_synapses, "MAX_DENSITY", 1.0)


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Names of the event-driven functions that ran."""
    done: list[str] = []
    for name in ("_currents", "_weight_gradient"):
        plain = getattr(sparse_synapses, name)
        monkeypatch.setattr(
            sparse_synapses, name, lambda *args, name=name, plain=plain: done.append(name) or plain(*args)
        )
    return done


def spikes(*shape: int, rate: float = 0.2, seed: int = 5) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def layer(*sizes: int, bias: bool = False, **how) -> nn.Conv2d | nn.Linear:
    torch.manual_seed(3)
    return nn.Conv2d(*sizes, bias=bias, **how) if len(sizes) == 3 else nn.Linear(*sizes, bias=bias)


def computed(linear: nn.Module, x: Tensor, dense: bool = False) -> list[Tensor]:
    """Return currents, and gradients of a weighted sum of them at spikes, weight and bias."""
    x = x.detach().requires_grad_()
    linear.zero_grad()
    currents = linear(x) if dense else synaptic_currents(linear, x)
    weights = torch.linspace(-1, 1, currents.numel(), dtype=torch.float64).reshape(currents.shape).to(currents)
    (currents * weights).sum().backward()
    return [currents.detach(), x.grad, *(parameter.grad.clone() for parameter in linear.parameters())]


def agrees(linear: nn.Module, x: Tensor) -> None:
    """Compare with float64, within the rounding of float32."""
    ours = computed(linear, x)
    wanted = computed(linear.double(), x.double(), dense=True)
    linear.float()
    for one, other in zip(ours, wanted, strict=True):
        assert one.dtype == torch.float32 and one.shape == other.shape
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-5 * max(1e-9, other.abs().max().item()))


CONVOLUTIONS = [
    ((4, 2, 5, 7), (2, 3, 3), {"padding": 1}),
    ((3, 65, 4, 4), (65, 17, 3), {"padding": 1, "stride": 2}),
    ((9, 64, 8, 8), (64, 96, 3), {"padding": 1, "stride": 2}),
    ((5, 7, 9, 6), (7, 130, (3, 2)), {"padding": (2, 0), "stride": (1, 3), "dilation": (2, 1)}),
    ((70, 130, 1, 1), (130, 257, 1), {}),
    ((33, 3, 5, 5), (3, 16, 5), {"bias": True}),
    ((2, 20, 11, 11), (20, 48, 1), {"bias": True, "stride": 2}),
    ((1, 1, 1, 1), (1, 1, 3), {"padding": 1}),
    ((23, 200, 6, 6), (200, 130, 3), {"padding": 1}),  # several words of channels, chunks and blocks of images
    ((30, 40, 7, 9), (40, 20, 3), {"padding": 2, "stride": (2, 3), "dilation": (1, 2)}),
]


@pytest.mark.parametrize("shape, sizes, how", CONVOLUTIONS)
def test_convolution(shape: tuple[int, ...], sizes: tuple, how: dict, calls: list[str]) -> None:
    agrees(layer(*sizes, **how), spikes(*shape))
    assert calls == ["_currents", "_weight_gradient"]


@pytest.fixture
def direct(monkeypatch, calls: list[str]) -> list[str]:
    """Names of the functions that ran, with the direct input gradient forced."""
    monkeypatch.setattr(sparse_synapses, "_direct", lambda connection: True)
    plain = sparse_synapses._direct_gradient
    monkeypatch.setattr(
        sparse_synapses, "_direct_gradient", lambda *args: calls.append("_direct_gradient") or plain(*args)
    )
    return calls


MORE = [
    ((1, 32, 8, 8), (32, 48, 3), {"padding": 1, "stride": 2}),
    ((3, 33, 7, 9), (33, 17, (2, 5)), {"padding": (1, 2), "stride": (3, 2)}),
    ((40, 80, 5, 4), (80, 9, (4, 1)), {"padding": (2, 0), "stride": (2, 1)}),
    ((2, 130, 6, 6), (130, 20, 1), {"stride": 3}),  # most places meet no tap
    ((7, 16, 9, 9), (16, 33, 3), {"padding": 2, "stride": 2, "dilation": 2}),
]


@pytest.mark.parametrize("size", [0, 1 << 14, 1 << 30])
@pytest.mark.parametrize("shape, sizes, how", CONVOLUTIONS + MORE)
def test_direct_input_gradient(
    shape: tuple, sizes: tuple, how: dict, size: int, direct: list[str], monkeypatch
) -> None:
    monkeypatch.setattr(sparse_synapses, "IMAGE_BLOCK_BYTES", size)
    agrees(layer(*sizes, **how), spikes(*shape))
    assert direct.count("_direct_gradient") == 1


@pytest.mark.parametrize("shape, sizes, how", CONVOLUTIONS + MORE)
def test_share_of_products_inside_the_image(shape: tuple, sizes: tuple, how: dict) -> None:
    linear = layer(*sizes, **{**how, "bias": False})
    connection = sparse_synapses._connection(linear, torch.zeros(shape))
    assert connection is not None
    met = nn.functional.conv2d(
        torch.ones(1, 1, *shape[2:]), torch.ones(1, 1, *linear.kernel_size), **{**how, "bias": None}
    )
    assert connection.inside == pytest.approx(met.mean().item() / connection.taps)


def test_choice_of_direct_input_gradient(monkeypatch) -> None:
    def chosen(shape=(32, 64, 8, 8), sizes=(64, 32, 3), **how) -> bool:
        connection = sparse_synapses._connection(layer(*sizes, **{"stride": 2, **how}), torch.empty(shape))
        assert connection is not None
        return sparse_synapses._direct(connection)

    fused = bool(sparse_synapses.library().has_fma())
    assert (
        chosen()
        == chosen((32, 64, 4, 4), stride=1, padding=1)
        == chosen(stride=(1, 2), padding=1)
        == chosen(sizes=(64, 32, 5))
        == fused
    )
    assert not any(
        (
            chosen(stride=1),
            chosen(stride=1, padding=1),
            chosen(dilation=2),
            chosen((31, 64, 8, 8)),
            chosen(sizes=(64, 31, 3)),
            chosen(sizes=(64, 32, (1, 6))),
            chosen((32, 65, 8, 8), (65, 32, 3)),
        )
    )
    monkeypatch.setattr(sparse_synapses.library(), "has_fma", lambda: False)
    assert not chosen()


@pytest.mark.parametrize("sizes", [(3, 5), (64, 16), (100, 300), (1536, 512), (1, 1)])
@pytest.mark.parametrize("rows", [1, 37, 300])
def test_dense_layer(sizes: tuple[int, int], rows: int, calls: list[str]) -> None:
    agrees(layer(*sizes, bias=rows == 1), spikes(rows, sizes[0]))
    assert calls == ["_currents", "_weight_gradient"]


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_spikes_and_all_spikes(rate: float, calls: list[str]) -> None:
    agrees(layer(20, 30, 3, padding=1), spikes(6, 20, 4, 4, rate=rate))
    agrees(layer(20, 30), spikes(6, 20, rate=rate))
    assert len(calls) == 4


def test_memory_layouts_and_channels_last_output() -> None:
    linear, x = layer(12, 20, 3, padding=1), spikes(6, 12, 5, 4)
    wanted = computed(linear, x)
    for other in (
        x.to(memory_format=torch.channels_last),
        torch.stack([x, x], -1)[..., 0],
        x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    ):
        for one, two in zip(computed(linear, other), wanted, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    linear.to(memory_format=torch.channels_last)
    currents, at_spikes, at_weight = computed(linear, x.to(memory_format=torch.channels_last))
    assert all(values.is_contiguous(memory_format=torch.channels_last) for values in (currents, at_spikes, at_weight))
    turned = spikes(12, 7).T
    assert not turned.is_contiguous()
    agrees(layer(12, 9), turned)


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, float("nan"), float("inf"), 1 + 2**-23])
@pytest.mark.parametrize("place", [0, 99, 6 * 100 - 1])
def test_non_binary_inputs_use_a_dense_product(value: float, place: int, calls: list[str]) -> None:
    linear, x = layer(100, 9), spikes(6, 100)
    x.view(-1)[place] = value
    torch.testing.assert_close(synaptic_currents(linear, x), linear(x), rtol=0, atol=0, equal_nan=True)
    assert calls == []


def test_dense_spikes_and_small_layers_use_a_dense_product(monkeypatch, calls: list[str]) -> None:
    linear = layer(64, 32)
    monkeypatch.setattr(sparse_synapses, "MAX_DENSITY", 0.3)
    few, many = spikes(50, 64, rate=0.25), spikes(50, 64, rate=0.35)
    synaptic_currents(linear, many)
    assert calls == []
    synaptic_currents(linear, few)
    assert calls == ["_currents"]
    for name, most in (("MIN_MACS", 50 * 64 * 32), ("MIN_CHANNELS", 64)):
        with monkeypatch.context() as context:
            context.setattr(sparse_synapses, name, most + 1)
            synaptic_currents(linear, few)
    assert calls == ["_currents"]


def test_unsupported_settings_use_torch(monkeypatch, calls: list[str]) -> None:
    x = spikes(5, 8, 6, 6)
    for how in ({"groups": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "circular"}):
        linear = layer(8, 6, 3, **how)
        assert torch.equal(synaptic_currents(linear, x), linear(x))
    linear = layer(8, 6, 3)
    assert torch.equal(synaptic_currents(linear.double(), x.double()), linear(x.double()))
    assert torch.equal(synaptic_currents(linear.float(), x[0]), linear(x[0]))
    with torch.autocast("cpu", torch.bfloat16):
        assert synaptic_currents(linear, x).dtype == torch.bfloat16
    assert synaptic_currents(linear, x[:0]).shape == (0, 6, 4, 4)
    for kernels in ("torch", "norse"):
        synaptic_currents(linear, x, kernels)
        monkeypatch.setenv(VARIABLE, kernels)
        synaptic_currents(linear, x)
        monkeypatch.delenv(VARIABLE)
    assert calls == []
    synaptic_currents(linear, x)
    assert calls == ["_currents"]


@pytest.mark.parametrize("channels", [32, 33, 63, 65, 128])
def test_shape_mismatch_raises(channels: int, calls: list[str]) -> None:
    for linear, x in ((layer(64, 30), spikes(40, channels)), (layer(64, 30, 3), spikes(4, channels, 6, 6))):
        with pytest.raises(RuntimeError, match=str(channels)):
            synaptic_currents(linear, x)
    with pytest.raises(RuntimeError, match=str(channels)):
        dense_currents(layer(64, 30).weight, spikes(40, channels))
    with pytest.raises(RuntimeError, match="Kernel size"):
        synaptic_currents(layer(channels, 30, 5), spikes(40, channels, 3, 3))
    assert calls == []


@pytest.mark.parametrize("sizes", [(20, 30), (20, 30, 3)])
def test_pruned_layer_trains_as_in_torch(sizes: tuple[int, ...], calls: list[str]) -> None:
    x = spikes(6, 20, 4, 4) if len(sizes) == 3 else spikes(6, 20)
    results = []
    for dense in (False, True):
        linear = layer(*sizes)
        prune.l1_unstructured(linear, "weight", 0.5)
        for _ in range(2):
            (linear(x) if dense else synaptic_currents(linear, x)).square().sum().backward()
            with torch.no_grad():
                linear.weight_orig -= 0.01 * linear.weight_orig.grad
        results.append(synaptic_currents(linear, x).detach())
    assert torch.equal(*results) and calls == []


def test_hooks_and_subclasses_are_respected(calls: list[str]) -> None:
    class Doubled(nn.Linear):
        def forward(self, arrays: Tensor) -> Tensor:
            return 2 * super().forward(arrays)

    linear, x, seen = layer(20, 30), spikes(6, 20).requires_grad_(), []
    for register in (
        linear.register_forward_pre_hook,
        linear.register_forward_hook,
        linear.register_full_backward_pre_hook,
        linear.register_full_backward_hook,
    ):
        handle = register(lambda *arguments: seen.append(arguments[0]))
        synaptic_currents(linear, x).sum().backward()
        handle.remove()
    assert len(seen) == 4 and calls == []
    doubled = Doubled(20, 30)
    assert torch.equal(synaptic_currents(doubled, x), doubled(x)) and calls == []
    synaptic_currents(linear, x)
    assert calls == ["_currents"]


def test_flop_counter_counts_the_dense_product(calls: list[str]) -> None:
    with FlopCounterMode(display=False) as counter:
        synaptic_currents(layer(20, 30), spikes(6, 20)).sum().backward()
    assert counter.get_total_flops() == 2 * 2 * 6 * 20 * 30 and calls == []  # forward, and the gradient of the weight


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:FutureWarning"
)  # torch, as it loads its forward-mode derivatives
def test_other_derivatives_use_torch_or_raise(calls: list[str]) -> None:
    linear, x = layer(20, 30), spikes(6, 20)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(synaptic_currents(linear, forward_ad.make_dual(x, x))).tangent
    assert torch.equal(tangent, x @ linear.weight.T)
    per_sample = torch.func.vmap(torch.func.grad(lambda x: synaptic_currents(linear, x[None]).sum()))(x)
    assert torch.allclose(per_sample, linear.weight.sum(0).expand(6, 20)) and calls == []
    leaf = x.clone().requires_grad_()
    currents = synaptic_currents(linear, leaf)
    with pytest.raises(ConfigError, match="create_graph"):
        torch.autograd.grad(currents.sum(), leaf, create_graph=True)


def test_only_wanted_gradients_are_computed(calls: list[str]) -> None:
    linear, x = layer(20, 30), spikes(6, 20)
    with torch.no_grad():
        assert synaptic_currents(linear, x).grad_fn is None
    synaptic_currents(linear, x).sum().backward()
    assert linear.weight.grad.any() and calls == ["_currents"] * 2 + ["_weight_gradient"]
    calls.clear()
    leaf = x.clone().requires_grad_()
    inner = leaf * 1
    currents = synaptic_currents(linear, inner)
    (first,) = torch.autograd.grad(currents.sum(), inner, retain_graph=True)
    assert calls == ["_currents"], "a pass for the spikes alone computes no gradient of the weights"
    (second,) = torch.autograd.grad(currents.sum(), leaf, retain_graph=True)
    assert torch.equal(first, second)
    linear.requires_grad_(False)
    synaptic_currents(linear, leaf).sum().backward()
    assert torch.equal(leaf.grad, first) and "_weight_gradient" not in calls
    assert synaptic_currents(linear, x).grad_fn is None


def test_spikes_are_saved_as_bits() -> None:
    linear, x = layer(64, 32, 3, padding=1), spikes(8, 64, 4, 4).requires_grad_()
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.nbytes}) or t, lambda t: t):
        synaptic_currents(linear, x)
    assert sum(kept.values()) == x.numel() // 8 + linear.weight.nbytes


@pytest.mark.parametrize("stride", [1, 2])
def test_results_do_not_depend_on_threads(stride: int, direct: list[str], monkeypatch) -> None:
    monkeypatch.setattr(sparse_synapses, "ADDITIONS_PER_THREAD", 1)
    linear, x = layer(70, 40, 3, padding=1, stride=stride), spikes(30, 70, 6, 6)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            results.append(computed(linear, x))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))
    assert direct.count("_direct_gradient") == 4


def test_results_do_not_depend_on_block_size(monkeypatch) -> None:
    linear, x = layer(10, 20, 3, padding=1, stride=2), spikes(23, 10, 5, 5)
    for size in (0, 1 << 12, 1 << 30):
        monkeypatch.setattr(sparse_synapses, "GRADIENT_BLOCK_BYTES", size)
        agrees(linear, x)


def test_compiling_breaks_no_graph() -> None:
    linear, x = layer(20, 30), spikes(6, 20)
    torch._dynamo.reset()
    whole = torch.compile(lambda x: synaptic_currents(linear, x) * 2, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(whole(x), 2 * synaptic_currents(linear, x))
