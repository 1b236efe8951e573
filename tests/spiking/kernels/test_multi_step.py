"""Every back end against Norse's steps under autograd, and against the reference in float64."""

from __future__ import annotations

import itertools
import os
import warnings
from contextlib import nullcontext
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from ashneuro.errors import ConfigError
from ashneuro.spiking.kernels import backend_native
from ashneuro.spiking.kernels import multi_step as engine
from ashneuro.spiking.kernels.cpp import NativeError
from ashneuro.spiking.kernels.dispatch import VARIABLE, choose_backend, describe_kernels
from ashneuro.spiking.kernels.interface import Neurons, State
from ashneuro.spiking.kernels.surrogate import SURROGATES
from ashneuro.spiking.lif import IF, LI, LIF, CubaLIF
from tests import reference

SUBTRACTING = ["lif-subtract", "cuba-lif-subtract", "if-subtract"]
SPIKING = ["lif", "cuba-lif", "if", *SUBTRACTING]
KINDS = [*SPIKING, "li"]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Interpreted in a process of its own by test_backend_triton.py, for real by `make test-gpu`.
TRITON = pytest.param("triton", marks=[pytest.mark.triton] if INTERPRETED else [pytest.mark.gpu])
BACKENDS = ["torch", "native", TRITON]


def multi_step(x: Tensor, given: Neurons, state: State | None = None, hold: int = 1) -> tuple[Tensor, State]:
    """`engine.multi_step` where the kernels run, with everything else on the CPU."""
    if given.kernels != "triton" or INTERPRETED:
        return engine.multi_step(x, given, state, hold=hold)

    def there(value):
        return value.cuda() if isinstance(value, Tensor) else value

    values = {field.name: there(getattr(given, field.name)) for field in fields(given)}
    output, last = engine.multi_step(
        there(x), Neurons(**values), None if state is None else State(*map(there, state)), hold=hold
    )
    return output.cpu(), State(*(None if value is None else value.cpu() for value in last))


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    if request.param == "native":
        try:
            backend_native.library("lif", torch.float32, torch.float32)
        except NativeError as error:
            pytest.skip(f"{error}; install one, for example: apt install g++")
    return request.param


def inputs(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 3) -> Tensor:
    return 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def neurons(kind: str, kernels: str, **changed) -> Neurons:
    """Return neurons of a kind in `KINDS`: "lif-subtract" is LIF that resets by subtraction."""
    values = {"decay": 0.3, "synapse": 0.6, "threshold": 0.4, "leak": 0.1, "reset": -0.2} | changed
    if kind in SUBTRACTING:
        values["reset_kind"] = "subtract"
    return Neurons(kind.removesuffix("-subtract"), kernels=kernels, **values)


def layer(kind: str, **options) -> nn.Module:
    """Return a layer of a kind in `KINDS`."""
    if kind in SUBTRACTING:
        options["reset"] = "subtract"
    kind = kind.removesuffix("-subtract")
    if kind == "if":
        return IF(**options)
    return {"lif": LIF, "li": LI, "cuba-lif": partial(CubaLIF, 2e-3)}[kind](2e-3, dt=1e-3, **options)


def gradients(x: Tensor, given: Neurons, state: State | None = None, hold: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, last v, and the gradient at x of a weighted sum of outputs and last state."""
    x = x.detach().requires_grad_()
    output, last = multi_step(x, given, state, hold)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape).to(output)
    ((output * weights).sum() + last.v.square().sum()).backward()
    return output.detach(), last.v.detach(), x.grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 3, 5), (7, 2, 3, 5, 2), (16, 2, 130), (64, 1, 9), (3, 1, 2100), (19, 2, 1111)]
)
def test_equals_norse(kind: str, shape: tuple[int, ...], backend: str) -> None:
    x = inputs(*shape)
    ours, theirs = gradients(x, neurons(kind, backend)), gradients(x, neurons(kind, "norse"))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    assert kind == "li" or x.numel() < 100 or 0.02 < ours[0].mean() < 0.6
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(kind: str, backend: str) -> None:
    x = inputs(40, 3, 11)
    firing = {"v_threshold": 0.4} | ({"reset": "subtract"} if kind in SUBTRACTING else {"v_reset": -0.2})
    leaky = {"dt": 1e-3, "v_leak": 0.1}
    kind_only = kind.removesuffix("-subtract")
    wanted = {
        "lif": lambda: reference.lif(x, tau=2e-3, **leaky, **firing)[0],
        "cuba-lif": lambda: reference.cuba_lif(x, tau_mem=2e-3, tau_syn=4e-3, **leaky, **firing)[0],
        "if": lambda: reference.if_(x, **firing)[0],
        "li": lambda: reference.li(x, tau=2e-3, **leaky),
    }[kind_only]()
    given = neurons(kind, backend, decay=0.5, synapse=0.25, leak=0.0 if kind_only == "if" else 0.1)
    np.testing.assert_allclose(multi_step(x, given)[0], wanted, rtol=0, atol=1e-12 if kind == "li" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_norse_in_float32_and_half_types(kind: str, dtype: torch.dtype, backend: str) -> None:
    x = inputs(12, 4, 33).to(dtype)
    spikes, v, gradient = gradients(x, neurons(kind, backend))
    wanted = gradients(x.float(), neurons(kind, "norse"))
    assert spikes.dtype == gradient.dtype == dtype and v.dtype == torch.float32
    assert torch.equal(v, wanted[1])
    if (backend, kind, dtype, INTERPRETED) == ("triton", "li", torch.bfloat16, True):
        # Triton's interpreter truncates to bf16; a GPU rounds.
        torch.testing.assert_close(spikes.float(), wanted[0], rtol=2**-7, atol=0)
    else:
        assert torch.equal(spikes, wanted[0].to(dtype))
    # bf16 keeps 8 bits, so the weights of `gradients` are rounded as well.
    close = {torch.float32: 1e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(gradient.float(), wanted[2], rtol=close, atol=close * wanted[2].abs().max().item())


def test_forward_equals_norse_bit_for_bit(backend: str) -> None:
    x = inputs(20, 8, 257, dtype=torch.float32)
    for kind in KINDS:
        one, other = multi_step(x, neurons(kind, backend)), multi_step(x, neurons(kind, "norse"))
        assert torch.equal(one[0], other[0]) and torch.equal(one[1].v, other[1].v)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_norse_backend_types_do_not_depend_on_parameters(kind: str, dtype: torch.dtype) -> None:
    x, each = inputs(12, 4, 33).to(dtype), torch.linspace(0.3, 0.6, 33, dtype=torch.float64)
    ours, theirs = (multi_step(x, neurons(kind, backend, threshold=each, decay=each)) for backend in ("torch", "norse"))
    assert theirs[0].dtype == dtype and torch.equal(ours[0], theirs[0])
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert one is other is None or (one.dtype == other.dtype and torch.equal(one, other))


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["lif", "lif-subtract"])
def test_surrogate_gradients_and_detached_reset(
    name: str, detached: bool, dtype: torch.dtype, kind: str, backend: str
) -> None:
    """Compare with autograd through the equations, with the surrogate put in by hand."""
    x = inputs(9, 2, 40, dtype=dtype)
    slope = 0.7
    ours = gradients(x, neurons(kind, backend, surrogate=name, slope=slope, detached=detached))[2]

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, margin):
            ctx.save_for_backward(margin)
            return (margin > 0).to(margin)

        @staticmethod
        def backward(ctx, g):
            (m,) = ctx.saved_tensors
            level = torch.sigmoid(slope * m)
            derivative = {
                "super": 1 / (1 + slope * m.abs()) ** 2,
                "atan": slope / 2 / (1 + (np.pi / 2 * slope * m) ** 2),
                "sigmoid": slope * level * (1 - level),
                "triangle": slope * (1 - m.abs()).clamp(min=0),
            }[name]
            return g * derivative

    leaf = x.clone().requires_grad_()
    v, outputs = torch.full_like(x[0], 0.1), []
    for current in leaf.unbind(0):
        v = v + 0.3 * (current + 0.1 - v)
        z = Spike.apply(v - 0.4)
        reset = z.detach() if detached else z
        v = v - reset * 0.4 if kind == "lif-subtract" else (1 - reset) * v + reset * -0.2
        outputs.append(z)
    spikes = torch.stack(outputs)
    weights = torch.linspace(-1, 1, spikes.numel(), dtype=torch.float64).reshape(spikes.shape).to(spikes)
    ((spikes * weights).sum() + v.square().sum()).backward()
    torch.testing.assert_close(ours, leaf.grad, rtol=1e-6, atol=1e-6 if dtype == torch.float32 else 1e-12)
    assert ours.abs().max() > 0


def test_surrogate_area_symmetry_and_peak() -> None:
    m = torch.linspace(-3, 3, 101, dtype=torch.float64)
    for name, shape in SURROGATES.items():
        # For α = 1 the area under a surrogate is the height of the step, 1; that of super is 2.
        wide = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
        area = torch.trapezoid(shape.derivative(wide, 1.0), wide).item()
        assert area == pytest.approx({"super": 2.0}.get(name, 1.0), abs=2e-3), name
        assert torch.allclose(shape.derivative(m, 1.3), shape.derivative(-m, 1.3), rtol=1e-12)
        assert shape.derivative(m, 1.3).argmax() == 50


PARAMETERS = {
    "lif": ["decay", "threshold", "leak", "reset"],
    "cuba-lif": ["decay", "synapse", "threshold", "leak", "reset"],
    "if": ["threshold", "reset"],
    "li": ["decay", "leak"],
    "lif-subtract": ["decay", "threshold", "leak"],
    "cuba-lif-subtract": ["decay", "synapse", "threshold", "leak"],
    "if-subtract": ["threshold"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (3, 1), (3, 5)])
def test_gradients_of_learned_parameters(kind: str, shape: tuple[int, ...], backend: str) -> None:
    start = {"decay": 0.3, "synapse": 0.6, "threshold": 0.4, "leak": 0.1, "reset": -0.2}
    spread = torch.linspace(0.9, 1.1, int(np.prod(shape)), dtype=torch.float64).reshape(shape)
    x, results = inputs(19, 2, 3, 5), []  # more steps than stay in registers
    for which in (backend, "norse"):
        learned = {name: (start[name] * spread).requires_grad_() for name in PARAMETERS[kind]}
        if kind.startswith("if"):
            learned |= {"leak": 0.0}
        result = gradients(x, neurons(kind, which, **learned))
        results.append((*result, *(learned[name].grad for name in PARAMETERS[kind])))
    for name, ours, theirs in zip(["output", "v", "x", *PARAMETERS[kind]], *results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
        assert ours.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_state_continues_a_sample(kind: str, cut: int, backend: str) -> None:
    x = inputs(9, 2, 7)
    whole, cubed = x.clone().requires_grad_(), x.clone().requires_grad_()
    given = neurons(kind, backend)
    output, last = multi_step(whole, given)
    first, state = multi_step(cubed[:cut], given)
    second, end = multi_step(cubed[cut:], given, state)
    assert torch.equal(torch.cat([first, second]), output)
    for part in ("v", "i") if kind.startswith("cuba-lif") else ("v",):
        assert torch.equal(getattr(end, part), getattr(last, part))
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
    (output * weights).sum().backward()
    (torch.cat([first, second]) * weights).sum().backward()
    torch.testing.assert_close(cubed.grad, whole.grad, rtol=1e-12, atol=1e-14)


def test_memory_layout_changes_nothing_and_is_kept(backend: str) -> None:
    x = inputs(5, 4, 3, 6, 8, dtype=torch.float32)
    given = neurons("cuba-lif", backend, threshold=torch.linspace(0.3, 0.6, 3)[:, None, None])
    for values in (given, neurons("lif", backend)):
        wanted = gradients(x, values)
        channels_last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (5, 4))
        strided = torch.stack([x, x], -1)[..., 0]
        transposed = x.transpose(0, 1).contiguous().transpose(0, 1)
        backwards = x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
        for other in (channels_last, strided, transposed, backwards):
            assert not other.is_contiguous() and torch.equal(other, x)
            for ours, theirs in zip(gradients(other, values), wanted, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        output = multi_step(channels_last, values)[0]
        assert output.stride() == channels_last.stride()  # the next convolution need not convert


def test_expanded_currents_equal_copies(backend: str) -> None:
    current = inputs(2, 6, dtype=torch.float32).requires_grad_()
    copies = current.detach().expand(7, 2, 6).clone().requires_grad_()
    one, many = (
        multi_step(current.expand(7, 2, 6), neurons("lif", backend))[0],
        multi_step(copies, neurons("lif", backend))[0],
    )
    assert torch.equal(one, many)
    one.sum().backward()
    many.sum().backward()
    torch.testing.assert_close(current.grad, copies.grad.sum(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "saves"),
    [(torch.float64, "full"), (torch.float32, "full"), (torch.float32, "bf16"), (torch.bfloat16, "full")],
)
def test_held_current_gets_the_sum_of_gradients(kind: str, dtype: torch.dtype, saves: str, backend: str) -> None:
    channels_last = inputs(1, 3, 2, 4, 5).to(dtype).permute(0, 1, 4, 2, 3)
    given = neurons(kind, backend, threshold=torch.linspace(0.2, 0.6, 5).reshape(5, 1, 1), saves=saves)
    spikes, v, gradient = gradients(channels_last, given, hold=11)
    wanted = gradients(channels_last.expand(11, 3, 5, 2, 4).clone(), given)
    assert torch.equal(spikes, wanted[0]) and torch.equal(v, wanted[1]) and gradient.shape == channels_last.shape
    close = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(gradient[0], wanted[2].double().sum(0).to(dtype), rtol=close, atol=close)


def test_hold_needs_a_single_step(backend: str) -> None:
    with pytest.raises(ValueError, match=r"\(1, B, ...\)"):
        engine.multi_step(inputs(2, 3, 4), neurons("lif", backend), hold=5)


@pytest.mark.parametrize("shape", [(4, 0, 5), (4, 2, 0), (0, 2, 5)])
@pytest.mark.parametrize("kind", ["lif", "cuba-lif"])
def test_empty_tensors(shape: tuple[int, ...], kind: str, backend: str) -> None:
    if shape[0]:
        x = torch.zeros(shape, requires_grad=True)
        output, state = multi_step(x, neurons(kind, backend))
        output.sum().backward()
        assert output.shape == x.grad.shape == shape and state.v.shape == shape[1:]
    else:
        with pytest.raises(ConfigError, match="at least one step"):
            multi_step(torch.zeros(shape), neurons(kind, backend))


def test_gradcheck_of_smooth_regions(backend: str) -> None:
    x, v, i = (inputs(*shape, seed=seed).requires_grad_() for shape, seed in (((4, 2, 3), 1), ((2, 3), 2), ((2, 3), 4)))
    # The last potential is a smooth function of the inputs if nothing spikes, or if the reset is
    # detached and no spike appears or vanishes.
    quiet = neurons(
        "cuba-lif", backend, threshold=50.0, surrogate="triangle"
    )  # whose derivative ends 1 below the threshold
    assert torch.autograd.gradcheck(lambda x, v, i: multi_step(x, quiet, State(v, i))[1], (x, v, i))
    for kind in ("lif", "lif-subtract"):
        firing = neurons(kind, backend, detached=True)
        assert multi_step(x, firing)[0].any()
        assert torch.autograd.gradcheck(lambda x, v, firing=firing: multi_step(x, firing, State(v))[1].v, (x, v))
    # By subtraction v depends on the threshold where it spiked, and no surrogate is in that.
    learned = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.3, 0.4, 0.1)]

    def last_v(decay: Tensor, threshold: Tensor, leak: Tensor) -> Tensor:
        changed = {"decay": decay, "threshold": threshold, "leak": leak}
        return multi_step(x.detach(), neurons("lif-subtract", backend, detached=True, **changed))[1].v

    assert torch.autograd.gradcheck(last_v, learned)
    decay = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, k: multi_step(x, neurons("li", backend, decay=k))[0], (x, decay))


def test_bf16_margins_keep_spikes_and_halve_memory(backend: str) -> None:
    # Margins smaller than the resolution of bf16 at the threshold.
    x = torch.tensor([0.4 + 1e-6, 0.4 - 1e-6, 1.0, -1.0], dtype=torch.float32).repeat(6, 1, 8)
    full, short = (gradients(x, neurons("if", backend, leak=0.0, saves=saves)) for saves in ("full", "bf16"))
    assert torch.equal(full[0], short[0]) and full[0][0, 0, :2].tolist() == [1.0, 0.0]
    torch.testing.assert_close(short[2], full[2], rtol=0.05, atol=0.02)
    assert not torch.equal(short[2], full[2])

    kept: list[Tensor] = []

    def sizes(saves: str) -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            multi_step(x.clone().requires_grad_(), neurons("if", backend, saves=saves))
        return sum(t.numel() * t.element_size() for t in kept if t.numel() > 1)

    assert sizes("full") == 4 * x.numel() and sizes("bf16") == 2 * x.numel()


def test_no_graph_without_gradients(backend: str) -> None:
    with torch.no_grad():
        assert multi_step(inputs(3, 2, 4).requires_grad_(), neurons("lif", backend))[0].grad_fn is None
    assert multi_step(inputs(3, 2, 4), neurons("lif", backend))[0].grad_fn is None


def test_results_do_not_depend_on_threads(backend: str) -> None:
    # Large enough for the native kernels to use several threads.
    x, results = inputs(*((16, 8, 4000) if backend != "triton" else (4, 2, 600)), dtype=torch.float32), []
    learned = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 1):
            torch.set_num_threads(threads)
            results.append(
                (
                    *gradients(x, neurons("lif", backend)),
                    multi_step(x, neurons("lif", backend, decay=learned))[1].v.detach(),
                )
            )
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((16, 8, 9000), torch.float32), ((17, 2, 65536), torch.bfloat16), ((700, 2, 70), torch.float32)],
)
@pytest.mark.parametrize("kind", ["cuba-lif", "cuba-lif-subtract"])
def test_arrays_larger_than_caches_and_tiles(
    shape: tuple[int, ...], dtype: torch.dtype, kind: str, backend: str
) -> None:
    if backend == "triton":
        shape = shape[0] // 8, shape[1], shape[2] // 8  # interpreted, step by step
    x = inputs(*shape, dtype=dtype)
    for ours, theirs in zip(gradients(x, neurons(kind, backend)), gradients(x, neurons(kind, "torch")), strict=True):
        # Triton's interpreter truncates to bf16; a GPU rounds.
        close = 2**-7 if (backend, dtype, INTERPRETED) == ("triton", torch.bfloat16, True) else 1e-6
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close)


@pytest.mark.parametrize("kind", SPIKING)
@pytest.mark.parametrize(("shape", "hold"), [((11, 2, 83), 1), ((1, 2, 83), 9), ((4, 3, 2000), 1)])
@pytest.mark.parametrize("per_neuron", [False, True])
def test_whole_sample_and_firing_rate(
    kind: str, shape: tuple[int, ...], hold: int, per_neuron: bool, backend: str
) -> None:
    changed = {"threshold": torch.linspace(0.3, 0.6, shape[-1])} if per_neuron else {}
    given, x = neurons(kind, backend, **changed), inputs(*shape, dtype=torch.float32)
    if backend == "triton" and not INTERPRETED:
        x = x.cuda()
    x, y = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, rate, _ = engine.whole_sample(x, given, hold=hold)
    wanted, _ = engine.multi_step(y, given, hold=hold)
    assert torch.equal(spikes, wanted)
    assert (rate is not None) == (backend == "native")  # the others leave it to `firing_rate`
    rate = engine.firing_rate(spikes) if rate is None else rate
    torch.testing.assert_close(rate, wanted.mean())
    weights = torch.linspace(-1, 1, spikes.numel(), device=x.device).reshape(spikes.shape)
    (10 * rate.square() + (spikes * weights).sum()).backward(retain_graph=True)
    (10 * wanted.mean().square() + (wanted * weights).sum()).backward(retain_graph=True)
    torch.testing.assert_close(x.grad, y.grad)
    for mean, leaf in (
        (rate, x),
        (wanted.mean(), y),
    ):  # nothing but the rate is wanted; nothing of it is left from before
        leaf.grad = None
        (1e4 * mean).backward(retain_graph=True)
    torch.testing.assert_close(x.grad, y.grad)
    assert x.grad.any()
    with torch.no_grad():
        again, unlearned, _ = engine.whole_sample(x, given, hold=hold)
    assert torch.equal(again, spikes) and (unlearned is None or torch.equal(unlearned, rate))


@pytest.mark.parametrize("kind", SPIKING)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("per_neuron", [False, True])
def test_weighted_mean_of_spikes(kind: str, per_neuron: bool, channels_last: bool, backend: str) -> None:
    changed = {"threshold": torch.linspace(0.3, 0.6, 7)[:, None, None]} if per_neuron else {}
    x = inputs(9, 3, 7, 5, 33, dtype=torch.float32)
    if channels_last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    x = x.cuda() if backend == "triton" and not INTERPRETED else x
    weights = torch.arange(5.0, device=x.device)[:, None] * torch.linspace(1, 2, 33, device=x.device)  # (H, W)
    x, y = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, rate, weighted = engine.whole_sample(x, neurons(kind, backend, **changed), weights)
    wanted, _ = engine.multi_step(y, neurons(kind, backend, **changed))
    assert torch.equal(spikes, wanted)
    assert (weighted is not None) == (rate is not None) == (backend == "native")
    if weighted is None or rate is None:
        return
    expected = (wanted * weights).mean()
    torch.testing.assert_close(weighted, expected)
    upstream = torch.linspace(-1, 1, spikes.numel()).reshape(spikes.shape)
    (9 * weighted.square() + 3 * rate + (spikes * upstream).sum()).backward()
    (9 * expected.square() + 3 * wanted.mean() + (wanted * upstream).sum()).backward()
    torch.testing.assert_close(x.grad, y.grad)
    assert x.grad is not None and x.grad.any()


def test_two_backward_passes_over_one_graph(backend: str) -> None:
    x = inputs(5, 2, 6).requires_grad_()
    spikes = multi_step(x, neurons("lif", backend))[0]
    (first,) = torch.autograd.grad(spikes.sum(), x, retain_graph=True)
    (second,) = torch.autograd.grad(spikes.sum(), x)
    assert torch.equal(first, second) and first.any()


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivative_raises(kind: str, backend: str) -> None:
    x = inputs(5, 2, 6).requires_grad_()
    spikes = multi_step(x, neurons(kind, backend))[0]
    with pytest.raises(ConfigError, match="create_graph"):
        torch.autograd.grad(spikes.sum(), x, create_graph=True)
    with pytest.raises(ConfigError, match="create_graph"):
        torch.autograd.functional.jvp(lambda x: multi_step(x, neurons(kind, backend))[0], x, x)
    if kind != "li":
        (gradient,) = torch.autograd.grad(multi_step(x, neurons(kind, "norse"))[0].sum(), x, create_graph=True)
        assert torch.autograd.grad(gradient.sum(), x)[0].any()


@pytest.mark.parametrize("learn", [(), ("tau",)])
def test_forward_mode_derivative_raises(learn: tuple[str, ...], backend: str) -> None:
    if backend == "triton" and not INTERPRETED:
        pytest.skip("test_backend_triton.py runs this, interpreted")
    layer, x = LIF(2e-3, 0.4, dt=1e-3, learn=learn, kernels=backend), inputs(5, 2, 6)
    with forward_ad.dual_level(), pytest.raises(ConfigError, match="forward-mode"):
        layer(forward_ad.make_dual(x, x))
    with pytest.raises(ConfigError, match="forward-mode"):
        torch.func.jvp(layer, (x,), (x,))
    with pytest.raises(ConfigError, match=r"torch\.func"):
        torch.func.grad(lambda x: layer(x).sum())(x)
    assert layer(x).any()


def test_vmap(backend: str) -> None:
    if backend == "triton" and not INTERPRETED:
        pytest.skip("test_backend_triton.py runs this, interpreted")
    layer, x = LIF(2e-3, 0.4, dt=1e-3, kernels=backend), inputs(5, 2, 3, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the operator is called for one after the other
        mapped = torch.func.vmap(layer, in_dims=2, out_dims=2)(x)
    assert torch.equal(mapped, layer(x))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_fake_tensors(kind: str, inside: bool, backend: str) -> None:
    x, fake = inputs(5, 2, 6, dtype=torch.float32), FakeTensorMode(allow_non_fake_inputs=True)
    made = layer(kind, kernels=backend)
    empty = fake.from_tensor(x).requires_grad_()
    with fake if inside else nullcontext():
        output, state = made.steps(empty)
        output.sum().backward()
    assert empty.grad.shape == x.shape and state.v.shape == x.shape[1:]
    assert output.shape == made(x).shape  # nothing of it is kept


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_output_may_be_changed_in_place(kind: str, dtype: torch.dtype, backend: str) -> None:
    x, y = (inputs(5, 2, 6).to(dtype).requires_grad_() for _ in range(2))
    sent = multi_step(x, neurons(kind, backend))[0]
    sent += x  # a skip connection
    added = multi_step(y, neurons(kind, backend))[0] + y
    sent.square().sum().backward()
    added.square().sum().backward()
    assert torch.equal(sent, added) and torch.equal(x.grad, y.grad)
    decay = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    learned = multi_step(x, neurons("li", backend, decay=decay))[0]
    learned += 1
    with pytest.raises(RuntimeError, match="inplace"):  # its backward pass needs what it gave
        learned.sum().backward()


def test_under_autocast(backend: str) -> None:
    layer = nn.Linear(12, 20)
    x = inputs(6, 4, 12, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        currents = layer(x)
        spikes = multi_step(currents, neurons("lif", backend))[0]
    assert spikes.dtype == currents.dtype == torch.bfloat16
    spikes.sum().backward()
    wanted = multi_step(currents.detach().float(), neurons("lif", "norse"))[0]
    assert torch.equal(spikes.float(), wanted) and layer.weight.grad.abs().max() > 0


@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_compiling_a_network_breaks_no_graph(reset: str, backend: str) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 9), nn.Linear(9, 4)
            self.lif = (
                LIF(2e-3, 0.3, dt=1e-3, kernels=backend, reset=reset, learn=("tau",))
                if backend == "torch"
                else LIF(2e-3, 0.3, dt=1e-3, kernels=backend, reset=reset)
            )
            self.cuba = CubaLIF(2e-3, 3e-3, 0.1, dt=1e-3, kernels=backend, reset=reset)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.lif(self.first(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            return self.cuba(self.second(spikes.flatten(0, 1)).unflatten(0, x.shape[:2])).mean(0)

    torch.manual_seed(1)
    device = "cuda" if backend == "triton" and not INTERPRETED else "cpu"
    network, x = Network().to(device), inputs(5, 3, 6, dtype=torch.float32).to(device)
    network(x).sum().backward()
    wanted = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    torch._dynamo.reset()
    whole = torch.compile(network, fullgraph=True, backend="aot_eager")
    result = whole(x)
    torch.testing.assert_close(result, network(x))
    result.sum().backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], msg=lambda text, name=name: f"{name}: {text}")
    assert wanted["first.weight"].abs().max() > 0


def test_operators_pass_opcheck() -> None:
    number = [torch.tensor(value, dtype=torch.float64) for value in (0.3, 0.6, 0.4, 0.1, -0.2)]
    x = inputs(3, 2, 4, dtype=torch.float32).requires_grad_()
    for kind, reset in (("lif", "value"), ("cuba-lif", "value"), ("lif", "subtract"), ("graded", "value")):
        for given, hold in ((x, 1), (x[:1], 4)):
            arguments = (given, None, None, *number, kind, reset, "super", 1.0, False, "full", "torch", hold, 2.0)
            torch.library.opcheck(torch.ops.ashneuro.neurons.default, arguments, raise_exception=True)


def test_layers_pass_options_to_kernels() -> None:
    x = inputs(6, 2, 5)
    layers = [
        LIF(2e-3, 0.3, dt=1e-3, surrogate="atan"),
        CubaLIF(2e-3, 3e-3, 0.1, dt=1e-3, surrogate="atan"),
        IF(0.3, surrogate="atan"),
    ]
    for layer in layers:
        plain = type(layer).__new__(type(layer))
        nn.Module.__init__(plain)
        plain.__dict__.update({**layer.__dict__, "options": {}})
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        layer(one).sum().backward()
        plain(other).sum().backward()
        assert not torch.equal(one.grad, other.grad)
    spikes, state = layers[1].steps(x[:3])
    assert torch.equal(torch.cat([spikes, layers[1].steps(x[3:], state)[0]]), layers[1](x))


def test_learned_parameters_keep_their_bounds() -> None:
    layer = LIF(2e-3, torch.tensor([[0.3], [0.5]]), dt=1e-3, learn=("tau", "v_threshold", "v_leak", "v_reset"))
    assert {name for name, _ in layer.named_buffers()} == {"dt"}
    torch.testing.assert_close(layer.tau, torch.tensor(2e-3, dtype=torch.float64))
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e4)
    layer(inputs(6, 3, 2, 5)).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in layer.parameters())
    optimiser.step()
    assert layer.tau >= 1e-3 and (layer.v_threshold >= 0).all()
    for wrong, message in (({"learn": ("tua",)}, "did you mean 'tau'"), ({"learn": ("tau",)}, "above 0.002")):
        with pytest.raises(ConfigError, match=message):
            LIF(2e-3, dt=2e-3, **wrong)
    with pytest.raises(ConfigError, match="threshold starts above 0"):
        IF(-1.0, learn=["v_threshold"])
    assert LI(2e-3, dt=1e-3, learn=("tau",)).state_dict().keys() == {"dt", "v_leak", "parametrizations.tau.original"}


def test_backend_choice_and_description(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert choose_backend("auto", cpu) in ("native", "torch") and choose_backend("torch", cpu) == "torch"
    monkeypatch.setenv(VARIABLE, "torch")
    assert choose_backend("auto", cpu) == "torch" and "because ASHNEURO_KERNELS=torch" in describe_kernels()
    assert choose_backend("norse", cpu) == "norse"  # what the layer says wins
    monkeypatch.setenv(VARIABLE, "quick")
    with pytest.raises(
        ConfigError, match=r"ASHNEURO_KERNELS=quick\nwhy: it must be one of auto, triton, native, torch, norse"
    ):
        multi_step(inputs(2, 1, 1), Neurons("lif"))
    assert "quick" in describe_kernels()
    monkeypatch.setenv(VARIABLE, "triton")
    with pytest.raises(ConfigError, match=r"triton kernels\n.*not on cpu"):
        multi_step(inputs(2, 1, 1), Neurons("lif"))


def test_torch_backend_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    backend_native.library.cache_clear()
    with monkeypatch.context() as context:
        context.setenv("PATH", str(tmp_path))
        assert choose_backend("auto", torch.device("cpu")) == "torch"
        assert "torch (no C++ compiler" in describe_kernels()
        assert multi_step(inputs(4, 2, 3), neurons("lif", "auto"))[0].any()
        with pytest.raises(ConfigError, match=r"native kernels\n.*no C\+\+ compiler"):
            multi_step(inputs(4, 2, 3), neurons("lif", "native"))


def test_unknown_surrogates_raise() -> None:
    with pytest.raises(ConfigError, match=r"surrogate 'artan'\n.*\n.*did you mean 'atan'"):
        multi_step(inputs(2, 1, 1), Neurons("lif", surrogate="artan"))
    for wrong in ({"surrogate": "atan"}, {"detached": True}):
        with pytest.raises(ConfigError, match="kernels = 'norse'"):
            multi_step(inputs(2, 1, 1), Neurons("lif", kernels="norse", **wrong))


@pytest.mark.parametrize("kind", ["cuba-lif", "cuba-lif-subtract"])
def test_every_combination_of_output_and_state_gradients(kind: str, backend: str) -> None:
    """Gradients at output, v and i, each present or absent."""
    x = inputs(5, 2, 4)
    for wanted in itertools.product((False, True), repeat=3):
        if not any(wanted):
            continue
        results = []
        for which in (backend, "norse"):
            leaf = x.clone().requires_grad_()
            output, state = multi_step(leaf, neurons(kind, which))
            parts = [part.square().sum() * (n + 1) for n, part in enumerate((output, state.v, state.i)) if wanted[n]]
            sum(parts).backward()
            results.append(leaf.grad)
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)
