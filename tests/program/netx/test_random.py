"""Random lava-dl networks: the definition in whole numbers, the emulator and Lava agree."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional

from ashneuro.program.netx.file import NetxReading
from ashneuro.program.netx.read import read_netx
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.layout import is_lagged
from ashneuro.simulation.lava.session import Lava
from tests.program.netx.test_read import CUBA, even, toward_zero, write
from tests.simulation.lava.test_random_graphs import in_one

STEPS, SAMPLES = 14, 2
PLANAR = ("conv", "pool", "convT", "unpool")


def geometry(fields):
    return {name: fields[name] for name in ("stride", "padding", "dilation")}


def sums(fields, spikes):
    """Return the weighted sums (B, T, …) of spikes (B, T, …), without delays, as torch has them."""
    flat = torch.tensor(spikes.reshape(-1, *spikes.shape[2:]), dtype=torch.float64)
    weight, kind = torch.tensor(fields["weight"], dtype=torch.float64), fields["type"]
    if kind in ("dense", "dense_rec"):
        out = flat.flatten(1) @ weight.T
    elif kind == "conv":
        out = functional.conv2d(flat, weight, **geometry(fields), groups=fields["groups"])
    elif kind == "convT":
        out = functional.conv_transpose2d(flat, weight, **geometry(fields), groups=fields["groups"])
    else:
        count, channels, height, width = flat.shape
        if kind == "pool":
            flat = functional.pad(flat, (0, width % weight.shape[3], 0, height % weight.shape[2]))
        tall = flat.reshape(count, 1, -1, flat.shape[3])
        apply = functional.conv2d if kind == "pool" else functional.conv_transpose2d
        out = apply(tall, weight, **geometry(fields))
        out = out.reshape(count, channels, -1, out.shape[3])
    return out.numpy().astype(int).reshape(*spikes.shape[:2], *out.shape[1:])


def late_sums(fields, spikes):
    """Return the weighted sums with the delays of channels, neurons or synapses."""
    delay = np.asarray(fields.get("delay", 0), int)
    if delay.ndim == 2:
        parts = [{**fields, "weight": np.where(delay == steps, fields["weight"], 0)} for steps in np.unique(delay)]
        return sum(shift(sums(part, spikes), steps) for part, steps in zip(parts, np.unique(delay), strict=True))
    whole = sums(fields, spikes)
    per_channel = np.broadcast_to(delay, whole.shape[2])
    return np.stack([shift(whole[:, :, c], steps) for c, steps in enumerate(per_channel)], axis=2)


def shift(values, steps):
    return np.concatenate([np.zeros_like(values[:, :steps]), values[:, : values.shape[1] - steps]], axis=1)


def outputs(fields, a, comparison):
    """Return the spikes or, without neurons, the potentials (B, T, …) of sums ``a``."""
    neuron = fields.get("neuron")
    if neuron is None:
        return 64 * np.cumsum(a, axis=1)
    fires = np.greater_equal if comparison == "inclusive" else np.greater
    line = (-1, *[1] * (a.ndim - 3))
    keep_u, keep_v = (4096 - np.asarray(neuron[name]).reshape(line) for name in ("iDecay", "vDecay"))
    bias = np.asarray(fields.get("bias", 0), int).reshape(line)
    u, v, sent = np.zeros_like(a[:, 0]), np.zeros_like(a[:, 0]), []
    base, r, held = 64 * neuron["vThMant"], 0 * v, 0 * v
    theta = base + 0 * v
    for t in range(a.shape[1]):
        now = a[:, t] * 2 ** neuron.get("wgtExp", 0)
        if fields["type"] == "dense_rec" and t:
            now = now + sent[-1] @ np.asarray(fields["weight_rec"], int).T * 2 ** neuron.get("wgtExp", 0)
        u = toward_zero(u, keep_u) + 64 * now
        v = np.where(held > 0, v, toward_zero(v, keep_v) + u + 64 * bias)
        if neuron["type"] == "ALIF":  # lava-dl 0.6.0: slayer/neuron/dynamics/adaptive_threshold.py
            theta = toward_zero(theta - base, 4096 - neuron["thDecay"]) + base
            r = toward_zero(r, 4096 - neuron["refDecay"])
            sent.append((v >= theta + r).astype(int))
            theta, r = theta + 64 * neuron["vThStep"] * sent[-1], r + 2 * theta * sent[-1]
            continue
        sent.append(fires(v, base).astype(int))
        v = np.where(sent[-1], 0, v)
        held = np.where(sent[-1], neuron["refDelay"] - 1, np.maximum(held - 1, 0))
    return np.stack(sent, axis=1)


def resonator(rng, spikes):
    """Return the fields of a dense layer of resonators, and its spikes, as in lava-dl 0.6.0."""
    shape = (6, int(np.prod(spikes.shape[2:])))
    parts = [{"type": "dense", "weight": even(rng, *shape)} for _ in range(2)]
    x, y = (64 * sums(part, spikes) for part in parts)
    each = shape[0] if rng.random() < 0.5 else None  # shared_param=False: a turn per neuron
    angle, radius = 2 * np.pi / rng.uniform(4, 12, each), rng.uniform(3300, 4050, each)
    sin, cos = (np.trunc(radius * part(angle)).astype(int) for part in (np.sin, np.cos))
    kind = str(rng.choice(["RF_PHASE", "RF_IZHIKEVICH"]))
    threshold = int(0.3 * x.std() / 64) + 1
    v, w, sent = 0 * x[:, 0], 0 * x[:, 0], []
    for t in range(x.shape[1]):
        last = w
        v, w = (
            toward_zero(v, cos) - toward_zero(w, sin) + x[:, t],
            toward_zero(v, sin) + toward_zero(w, cos) + y[:, t],
        )
        if kind == "RF_PHASE":
            sent.append(((v >= 64 * threshold) & (w >= 0) & (last < 0)).astype(int))
            continue
        sent.append((w >= 64 * threshold).astype(int))
        v, w = np.where(sent[-1], 0, v), np.where(sent[-1], 64 * threshold - 1, w)
    neuron = {"type": kind, "sinDecay": sin, "cosDecay": cos, "vThMant": threshold, "gradedSpike": False}
    fields = {"type": "dense", "shape": [6], "weight/real": parts[0]["weight"], "weight/imag": parts[1]["weight"]}
    return {**fields, "neuron": neuron}, np.stack(sent, axis=1)


def synapses(rng, kind, shape):
    """Return the fields of random synapses of a kind that take ``shape``."""
    into = shape[0]
    groups = int(rng.choice([1, 2])) if into % 2 == 0 else 1
    kernel, out = rng.integers(1, 4, 2), groups * int(rng.integers(1, 3))
    plain = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]}
    if kind in ("dense", "dense_rec"):
        return {"weight": even(rng, 6, int(np.prod(shape)))}
    if kind == "conv":
        kernel = np.minimum(kernel, shape[1:])
        weight = even(rng, out, into // groups, *kernel)
        return {**plain, "padding": list(rng.integers(0, 2, 2)), "groups": groups, "weight": weight}
    if kind == "convT":
        free = {"stride": list(rng.integers(1, 3, 2)), "dilation": list(rng.integers(1, 3, 2))}
        return {**plain, **free, "groups": groups, "weight": even(rng, into, out // groups, *kernel)}
    if rng.random() < 0.5:  # windows that see two channels
        return {**plain, "padding": [1, 1], "weight": even(rng, 1, 1, 3, 3) + 6}
    return {**plain, "stride": [2, 2], "weight": np.full((1, 1, 2, 2), 2.0 * rng.integers(1, 60))}


def draw(rng, comparison):
    """Return (layers, input spikes, outputs by layer) of a random network."""
    shape = (int(rng.integers(1, 5)), int(rng.integers(3, 7)), int(rng.integers(3, 7)))
    x = (rng.random((SAMPLES, STEPS, *shape)) < 0.4).astype(int)
    kinds = [*rng.choice(PLANAR, rng.integers(1, 4)), *rng.choice(["dense", "dense_rec"], rng.integers(0, 3))]
    layers, spikes, wanted = [], x, []
    for kind in map(str, kinds):
        if kind == "dense" and rng.random() < 0.4:
            fields, spikes = resonator(rng, spikes)
            layers.append(fields)
            wanted.append(spikes)
            continue
        fields = {"type": kind, **synapses(rng, kind, spikes.shape[2:])}
        if kind == "dense_rec":
            fields["weight_rec"] = even(rng, len(fields["weight"]), len(fields["weight"]))
        count = sums(fields, spikes[:, :1]).shape[2]
        if kind != "dense_rec" and rng.random() < 0.5:
            size = fields["weight"].shape if kind == "dense" and rng.random() < 0.5 else count
            fields["delay"] = rng.integers(0, 4, size).astype(np.float32)
        if rng.random() < 0.4:
            fields["bias"] = even(rng, count, size=3)
        a = late_sums(fields, spikes)
        decays = count if rng.random() < 0.5 else None
        neuron = {"iDecay": rng.integers(500, 4097, decays), "vDecay": rng.integers(0, 3000, decays)}
        wgt = int(rng.integers(0, 3)) if rng.random() < 0.3 else 0
        # Even thresholds are often met exactly.
        threshold = 2 * (int(0.3 * a.std() * 2**wgt) + 1)
        fields["neuron"] = {**CUBA, **neuron, "wgtExp": wgt, "vThMant": threshold}
        if rng.random() < 0.25:
            own = {"thDecay": int(rng.integers(100, 2000)), "refDecay": int(rng.integers(300, 3000))}
            fields["neuron"] |= {"type": "ALIF", **own, "vThStep": threshold // 2}
        elif comparison == "strict" and rng.random() < 0.4:
            fields["neuron"]["refDelay"] = int(rng.integers(2, 5))
        layers.append(fields)
        spikes = outputs(fields, a, comparison)
        wanted.append(spikes)
    if rng.random() < 0.5:
        layers.append({"type": "dense", "weight": even(rng, 3, int(np.prod(spikes.shape[2:])))})
        wanted.append(outputs(layers[-1], sums(layers[-1], spikes), comparison))
    return layers, x, wanted


def read(path, seed):
    """Return (program, input spikes by time, outputs by layer and time) of a random network."""
    rng = np.random.default_rng(seed)
    comparison = ("strict", "inclusive")[seed % 2]
    layers, x, wanted = draw(rng, comparison)
    reading = NetxReading(comparison, x.shape[2:])
    program = read_netx(write(path / f"{seed}.net", layers, tSample=STEPS), reading)
    return program, x.swapaxes(0, 1).astype(np.uint8), [values.swapaxes(0, 1) for values in wanted]


def expect(seed, program, wanted, rasters):
    for layer, values in zip(program.layers, wanted, strict=True):
        scale = 1 if layer.neuron.spiking else 64  # a read-out is given in units of the weights
        np.testing.assert_array_equal(rasters[layer.name] * scale, values, err_msg=f"{seed}: {layer.name}")


def emulated(path, seed, kinds):
    """Compare a random network with the emulator; return its spikes, and count its dynamics."""
    program, given, wanted = read(path, seed)
    names = [layer.name for layer in program.layers]
    for backend in ("numpy", "native"):
        expect(seed, program, wanted, run_program(program, given, rasters=names, backend=backend).rasters)
    kinds.update(layer.neuron.dynamics for layer in program.layers if layer.neuron.spiking)
    return sum(int(values.sum()) for layer, values in zip(program.layers, wanted, strict=True) if layer.neuron.spiking)


def compare_in_lava(path, seeds):
    """Compare random networks with Lava, as parts of two: with loops and without."""
    parts = {seed: read(path, seed) for seed in seeds}
    with Lava() as lava:
        for lagged in (False, True):
            some = [seed for seed, (program, *_) in parts.items() if is_lagged(program) == lagged]
            if not some:
                continue
            whole = in_one([parts[seed][0] for seed in some])
            given = {f"{i}.{parts[seed][0].inputs[0].name}": parts[seed][1] for i, seed in enumerate(some)}
            rasters = lava.run(whole, given, rasters=[layer.name for layer in whole.layers]).rasters
            for i, seed in enumerate(some):
                program, _, wanted = parts[seed]
                expect(seed, program, wanted, {one.name: rasters[f"{i}.{one.name}"] for one in program.layers})


def test_emulator_matches_definition(tmp_path):
    kinds = Counter()
    assert sum(emulated(tmp_path, seed, kinds) > 50 for seed in range(40)) > 30
    assert min(kinds[name] for name in ("lif", "adaptive", "refractory")) >= 8
    assert min(kinds["resonate"], kinds["izhikevich"]) >= 2


@pytest.mark.lava
def test_lava_matches_definition(tmp_path):
    compare_in_lava(tmp_path, range(100, 125))


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.parametrize("first", range(1000, 1275, 25))
def test_lava_matches_definition_of_many(tmp_path, first):
    compare_in_lava(tmp_path, range(first, first + 25))
