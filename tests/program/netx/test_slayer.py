"""Layers of Slayer beyond conv and dense, against loops over its definitions, and in Lava."""

import h5py
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.netx.file import NetxReading
from ashneuro.program.netx.read import netx_findings, read_netx
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.synapse import matrix
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.session import Lava
from tests.program.netx.test_read import CUBA, FAST, changed, dense_net, even, toward_zero, write

STEPS, SAMPLES = 40, 3


def transpose_conv(x, weight, stride, padding, dilation, groups):
    """Add every input pixel's kernel to the output, then cut off the padding."""
    (sy, sx), (py, px), (dy, dx) = stride, padding, dilation
    _, per_group, ky, kx = weight.shape
    _, height, width = x.shape
    out = np.zeros((per_group * groups, (height - 1) * sy + dy * (ky - 1) + 1, (width - 1) * sx + dx * (kx - 1) + 1))
    for i, o, y, z, a, b in np.ndindex(len(x), per_group, height, width, ky, kx):
        channel = i // (len(x) // groups) * per_group + o
        out[channel, y * sy + a * dy, z * sx + b * dx] += x[i, y, z] * weight[i, o, a, b]
    return out[:, py : out.shape[1] - py, px : out.shape[2] - px]


def unpool(x, weight, stride, padding, dilation):
    tall = transpose_conv(x.reshape(1, -1, x.shape[2]), weight, stride, padding, dilation, 1)[0]
    return tall.reshape(len(x), -1, tall.shape[1])


def pool(x, weight, stride, padding, dilation):
    ky, kx = weight.shape[2:]
    x = np.pad(x, ((0, 0), (0, x.shape[1] % ky), (0, x.shape[2] % kx)))
    tall = np.pad(x.reshape(-1, x.shape[2]), [(p, p) for p in padding])
    rows, columns = (
        (n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(tall.shape, (ky, kx), stride, dilation, strict=True)
    )
    out = np.zeros((rows, columns))
    for y, z, a, b in np.ndindex(rows, columns, ky, kx):
        pixel = tall[y * stride[0] + a * dilation[0], z * stride[1] + b * dilation[1]]
        out[y, z] += pixel * weight[0, 0, a, b]
    return out.reshape(len(x), -1, columns)


GEOMETRY = ("stride", "padding", "dilation")
DEFINED = {"unpool": unpool, "pool": pool}


def weighted(fields, x):
    """Return the weighted sums of one step's spikes, without delays."""
    geometry = [fields[name] for name in GEOMETRY if name in fields]
    if fields["type"] == "dense":
        return fields["weight"] @ x.ravel()
    if fields["type"] == "convT":
        return transpose_conv(x, fields["weight"], *geometry, fields["groups"])
    return DEFINED[fields["type"]](x, fields["weight"], *geometry)


def run_layer(fields, spikes, scale=1):
    """Return a layer's spikes (T, …) from those that reach it, in whole numbers.

    The input of output channel c is delayed by ``delay[c]`` steps.
    """
    inputs = scale * np.array([weighted(fields, x) for x in spikes])
    delay = np.broadcast_to(np.asarray(fields.get("delay", 0), int).ravel(), inputs.shape[1])
    late = np.zeros_like(inputs)
    for channel, steps in enumerate(delay):
        late[steps:, channel] = inputs[: len(inputs) - steps, channel]
    neuron = fields["neuron"]
    line = (-1, *[1] * (inputs.ndim - 2))
    decay_u, decay_v = (np.asarray(neuron[name]).reshape(line) for name in ("iDecay", "vDecay"))
    bias = np.asarray(fields.get("bias", 0), int).reshape(line)
    u, v, out = np.zeros(inputs.shape[1:], int), np.zeros(inputs.shape[1:], int), []
    for a in late.astype(int):
        u = toward_zero(u, 4096 - decay_u) + 64 * a
        v = toward_zero(v, 4096 - decay_v) + u + 64 * bias
        out.append(v > 64 * neuron["vThMant"])
        v = np.where(out[-1], 0, v)
    return np.array(out, np.uint8)


def window(stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    return {"stride": list(stride), "padding": list(padding), "dilation": list(dilation)}


def apart(rng, count):
    """Return neurons with a decay per channel."""
    return {**CUBA, "iDecay": rng.integers(800, 3000, count), "vDecay": rng.integers(100, 1200, count)}


def every_new_layer(rng):
    """Return layers from 4×7×6 on: pools, transposed convolutions, delays, decays that differ."""
    down = {"type": "pool", **window((2, 2)), "weight": np.full((1, 1, 2, 2), 40.0), "neuron": FAST}
    up = {"type": "unpool", **window((2, 2)), "weight": np.full((1, 1, 2, 2), 70.0), "neuron": FAST}
    across = {"type": "unpool", **window((1, 1), (1, 1)), "weight": even(rng, 1, 1, 3, 3, size=30) + 8, "neuron": FAST}
    over = {"type": "pool", **window((1, 1), (1, 1)), "weight": even(rng, 1, 1, 3, 3, size=30) + 8, "neuron": FAST}
    grouped = {"type": "convT", **window((2, 1), (1, 0), (1, 2)), "groups": 2, "neuron": apart(rng, 6)}
    plain = {"type": "convT", **window((2, 2), (1, 1)), "groups": 1, "neuron": FAST}
    return [
        {**down, "delay": np.float32([1, 0, 5, 1])},
        {**grouped, "weight": even(rng, 4, 3, 3, 2, size=60), "bias": even(rng, 6, size=2)},
        up,
        across,
        {**down, "neuron": apart(rng, 6)},
        over,
        {**plain, "weight": even(rng, 6, 3, 3, 3, size=40), "delay": np.float32([0, 3, 1])},
        {"type": "dense", "weight": even(rng, 5, 3 * 15 * 13), "neuron": apart(rng, 5)},
    ]


def network(tmp_path, layers, shape, comparison="strict"):
    """Return (program, names of its layers) of layers that begin at ``shape``."""
    path = write(tmp_path / "slayer.net", [{"type": "input", "shape": shape}, *layers])
    program = read_netx(path, NetxReading(comparison))
    assert all(finding.ok for finding in check_program(program) if finding.rule != "current_does_not_wrap")
    return program, [layer.name for layer in program.layers]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_layers_match_their_definition(tmp_path, seed):
    rng = np.random.default_rng(seed)
    layers = every_new_layer(rng)
    program, names = network(tmp_path, layers, [4, 7, 6])
    x = (rng.random((STEPS, SAMPLES, 4, 7, 6)) < 0.4).astype(np.uint8)
    record = run_program(program, x, rasters=names)
    for sample in range(SAMPLES):
        spikes = x[:, sample]
        for name, fields in zip(names, layers, strict=True):
            spikes = run_layer(fields, spikes)
            assert 0.01 < spikes.mean() < 0.99, name
            np.testing.assert_array_equal(record.layers[name].raster[:, sample], spikes, err_msg=name)


@pytest.mark.lava
@pytest.mark.parametrize("comparison", ["strict", "inclusive"])
def test_layers_match_lava(tmp_path, comparison):
    rng = np.random.default_rng(4)
    layers = every_new_layer(rng)
    program, names = network(tmp_path, layers, [4, 7, 6], comparison)
    x = (rng.random((20, 2, 4, 7, 6)) < 0.4).astype(np.uint8)
    wanted = run_program(program, x, rasters=names)
    with Lava() as lava:
        record = lava.run(program, x, rasters=names)
    for name in names:
        assert 0.01 < wanted.layers[name].raster.mean() < 0.99, name
        np.testing.assert_array_equal(record.layers[name].raster, wanted.layers[name].raster, err_msg=name)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_with_delays(tmp_path, groups):
    rng = np.random.default_rng(groups)
    weight = even(rng, 6, 4 // groups, 3, 3)
    conv = {"type": "conv", **window((1, 1), (1, 1)), "groups": groups, "weight": weight, "neuron": FAST}
    plain, _ = network(tmp_path, [conv], [4, 7, 6])
    late, _ = network(tmp_path, [{**conv, "delay": np.float32([3, 0, 3, 0, 62, 1])}], [4, 7, 6])
    assert [(c.synapse.kind, c.delay) for c in late.layers[0].connections] == [("conv", n) for n in (0, 1, 3, 62)]
    x = (rng.random((80, 2, 4, 7, 6)) < 0.3).astype(np.uint8)
    whole, moved = (run_program(one, x, rasters=["conv1"]).layers["conv1"].raster for one in (plain, late))
    for channel, steps in enumerate([3, 0, 3, 0, 62, 1]):
        np.testing.assert_array_equal(moved[steps:, :, channel], whole[: 80 - steps, :, channel])
        assert not moved[:steps, :, channel].any() and whole[:, :, channel].any()
    alike, _ = network(tmp_path, [{**conv, "delay": np.float32([2])}], [4, 7, 6])
    assert [c.delay for c in alike.layers[0].connections] == [2]


@pytest.mark.parametrize(
    ("exponent", "weight", "held"),
    [
        ({"wgtExp": 2}, [[254, -256], [2, 0]], 4),
        ({"wgtExp": -1}, [[254, -256], [2, 0]], 0.5),
        ({"weight_exp": np.float32([1])}, [[252, -256], [4, 0]], 0.5),
        ({"weight_exp": np.float32([-2])}, [[254, -256], [2, 0]], 4),
        ({"wgtExp": 1, "weight_exp": 1}, [[254, -256], [2, 0]], 1),
    ],
)
def test_exponents_of_neurons(tmp_path, exponent, weight, held):
    layers = dense_net(weight, neuron={**FAST, **exponent, "vThMant": 300}, bias=[4.0, 8.0])
    program = read_netx(write(tmp_path / "x.net", layers))
    (connection,) = program.layers[0].connections
    acting = matrix(connection.synapse).toarray() * 2.0**connection.weight_exp
    np.testing.assert_array_equal(acting, np.multiply(weight, held))
    norm = float(np.ravel(exponent.get("weight_exp", 0))[0])
    np.testing.assert_array_equal(program.layers[0].neuron.bias, np.ldexp([4, 8], -int(norm)))
    rng = np.random.default_rng(0)
    x = (rng.random((60, 1, 1, 1, 2)) < 0.5).astype(np.uint8)
    fields = {**layers[1], "weight": np.array(weight), "bias": np.ldexp([4, 8], -int(norm))}
    wanted = run_layer(fields, x[:, 0], held)
    record = run_program(program, x, rasters=["dense1"])
    assert wanted.any()
    np.testing.assert_array_equal(record.layers["dense1"].raster[:, 0], wanted)


def test_recurrent_weights_have_the_exponent(tmp_path):
    layers = dense_net(even(np.random.default_rng(0), 3, 2), neuron={**FAST, "wgtExp": 1})
    layers[1] |= {"type": "dense_rec", "weight_rec": even(np.random.default_rng(1), 3, 3)}
    program = read_netx(write(tmp_path / "x.net", layers))
    for connection, field in zip(program.layers[0].connections, ("weight", "weight_rec"), strict=True):
        acting = matrix(connection.synapse).toarray() * 2.0**connection.weight_exp
        np.testing.assert_array_equal(acting, 2 * layers[1][field])


REFUSED = {
    "neuron_exponent": [
        (8, {"neuron_wgtExp": 9}, "dense8 .*neuron/wgtExp = 9"),
        (8, {"neuron_wgtExp": [0, 1, 0, 1, 0]}, "dense8 .*neuron/wgtExp = 0 … 1"),
        (8, {"neuron_wgtExp": 0.5}, "dense8 .*neuron/wgtExp = 0.5"),
        (8, {"neuron_wgtExp": -2}, "dense8 .*neuron/wgtExp = -2, which leaves fractions"),
        (3, {"neuron_weight_exp": 4}, "unpool3 .*neuron/weight_exp = 4"),
        (2, {"neuron_weight_exp": -1}, "convT2 .*neuron/weight_exp = -1, neuron/iDecay = "),
    ],
    "one_value": [
        (8, {"neuron_vThMant": [10, 11, 12, 13, 14]}, "dense8 .*vThMant = 10 … 14, 5 values"),
        (2, {"neuron_iDecay": [800, 900]}, "convT2 .*iDecay = 800 … 900, 2 values for 6×7×5 neurons"),
    ],
    "delays": [(7, {"delay": [1, 2]}, "convT7 .*2 delays for 3 channels")],
    "agreeing_shapes": [
        (2, {"groups": 3}, "convT2 .*groups 3"),
        (2, {"weight": np.zeros((6, 3, 3, 2))}, "convT2 .*takes 6 channels, 4 come in"),
        (2, {"bias": np.zeros(4)}, "convT2 .*4 biases for 6 channels"),
        (4, {"padding": [0, 0]}, "unpool4 .*no multiple of its 6 channels"),
        (3, {"shape": [6, 14, 9]}, "unpool3 .*its shape is 6×14×9, its weights give 6×14×10"),
    ],
    "weight_bits": [(2, {"weight": np.full((4, 3, 3, 2), 257.0)}, "convT2 .*they lie in 257")],
}


@pytest.mark.parametrize(
    ("rule", "index", "fields", "said"), [(rule, *case) for rule, cases in REFUSED.items() for case in cases]
)
def test_inexpressible_layers_are_refused(tmp_path, rule, index, fields, said):
    layers = [{"type": "input", "shape": [4, 7, 6]}, *every_new_layer(np.random.default_rng(0))]
    path = write(tmp_path / "x.net", changed(layers, index, **fields))
    with pytest.raises(GraphError, match=said) as refused:
        read_netx(path)
    assert refused.value.do
    assert rule in {finding.rule for finding in netx_findings(path) if finding.level == "error"}


ODD = [None, "text", np.nan, -1.0, 0.0, 1e300, 1e9, np.zeros(0), np.full((2, 2, 2, 2, 2, 2), 3.0), [1, 2]]


def test_random_values_are_refused_or_run(tmp_path):
    layers = [{"type": "input", "shape": [4, 7, 6]}, *every_new_layer(np.random.default_rng(0))]
    path = write(tmp_path / "x.net", layers)
    sound = path.read_bytes()
    fields = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: fields.append(name) if isinstance(item, h5py.Dataset) else None)
    for number, field in enumerate([*fields, *(f"layer/{n}/neuron/wgtExp" for n in (1, 2, 3, 8))]):
        for value in ODD[number % 5 :: 5]:
            path.write_bytes(sound)
            with h5py.File(path, "r+") as file:
                file.pop(field, None)
                if value is not None:
                    file[field] = value
            try:
                program = read_netx(path)
            except GraphError as error:
                assert error.what and error.why and error.do
            else:
                assert [layer.shape for layer in program.layers][-1] == (5,)


def test_delayed_bias_of_a_convolution_gives_a_note(tmp_path):
    rng = np.random.default_rng(0)
    conv = {"type": "conv", **window(), "groups": 1, "weight": even(rng, 2, 1, 3, 3), "neuron": FAST}
    path = write(tmp_path / "x.net", [{**conv, "delay": [1.0, 2.0], "bias": [2.0, 4.0]}])
    assert "its bias is not delayed" in read_netx(path, NetxReading(input_shape=(1, 5, 5))).notes[0]
