import h5py
import nir
import numpy as np
import pytest

import ashneuro as ash
from ashneuro.errors import AshneuroError, GraphError
from ashneuro.program.netx.file import NetxReading
from ashneuro.program.netx.read import is_netx, netx_findings, read_netx, reading_of
from ashneuro.program.rules.loihi import check_program
from ashneuro.program.synapse import matrix
from ashneuro.simulation.emulator.run_program import run_program

CUBA = {"type": "CUBA", "iDecay": 1024, "vDecay": 400, "vThMant": 60, "refDelay": 1, "gradedSpike": False}
FAST = {**CUBA, "iDecay": 4096, "vDecay": 1024, "vThMant": 25}
LOIHI = {**FAST, "type": "LOIHI", "wgtExp": 0, "theta": 1600, "tauRho": 0.5, "scaleRho": 1.0}


def write(path, layers, **simulation):
    """Write a file as the blocks' export_hdf5 of lava-dl does."""
    with h5py.File(path, "w") as file:
        for index, fields in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for name, value in fields.items():
                if name == "type":
                    group.create_dataset("type", (1,), "S10", [value.encode("ascii")])
                elif name == "neuron":
                    for key, number in value.items():
                        group.create_dataset(f"neuron/{key}", data=number)
                else:
                    group.create_dataset(name, data=value if isinstance(value, str) else np.asarray(value))
        for name, value in simulation.items():
            file[f"simulation/{name}"] = value
    return path


def even(rng, *shape, size=20):
    return 2.0 * rng.integers(-size, size + 1, shape)


def every_layer(rng):
    """Input 2×7×6, conv (groups, uneven stride), pool, dense (delays), dense_rec, a read-out."""
    conv = {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2], "groups": 2, "kernelSize": [3, 2]}
    pool = {"stride": [2, 2], "padding": [0, 0], "dilation": [1, 1], "kernelSize": [2, 2]}
    axons = {"delay": rng.integers(0, 6, 9).astype(np.float32)}
    loop = {"weight_rec": even(rng, 5, 5, size=100), "bias": even(rng, 5, size=6)}
    return [
        {"type": "input", "shape": [2, 7, 6], "weight": np.float32(40), "bias": np.float32(6), "neuron": LOIHI},
        {
            "type": "conv",
            "shape": [4, 4, 8],
            **conv,
            "weight": even(rng, 4, 1, 3, 2),
            "bias": even(rng, 4),
            "neuron": FAST,
        },
        {"type": "pool", "shape": [4, 2, 4], **pool, "weight": np.full((1, 1, 2, 2), 30.0), "neuron": FAST},
        {"type": "flatten", "shape": [32, 1, 1]},
        {"type": "dense", "shape": [9, 1, 1], "weight": even(rng, 9, 32), **axons, "neuron": CUBA},
        {"type": "dense_rec", "shape": [5], "weight": even(rng, 5, 9, size=60), **loop, "neuron": CUBA},
        {"type": "dense", "shape": [3], "weight": even(rng, 3, 5)},
    ]


def toward_zero(x, keep):
    return np.sign(x) * ((np.abs(x) * keep) >> 12)


class Neurons:
    """Lava's fixed_pt LIF with netx's parameters, on an array of any shape."""

    def __init__(self, shape, bias, params):
        self.u, self.v, self.bias = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.asarray(bias, np.int64)
        self.du, self.dv, self.vth = params["iDecay"] - 1, params["vDecay"], params["vThMant"]

    def step(self, a, extra_bias=0):
        self.u = toward_zero(self.u, 4096 - (self.du + 1)) + 64 * a.astype(np.int64)
        self.v = (
            toward_zero(self.v, 4096 - self.dv) + self.u + 64 * (self.bias + np.asarray(extra_bias).astype(np.int64))
        )
        spikes = self.v > 64 * self.vth
        self.v[spikes] = 0
        return spikes.astype(np.int64)


def lava_conv(x, fields, pool=False):
    """Lava's convolution: arrays (X, Y, C), kernels (C_out, X, Y, C_in), flipped when applied."""
    weight = np.asarray(fields["weight"])
    if pool:
        weight = np.repeat(weight, x.shape[2], axis=0)
    weight = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    (sx, sy), (px, py), (dx, dy) = (
        tuple(int(n) for n in fields[key][::-1]) for key in ("stride", "padding", "dilation")
    )
    padded = np.pad(x, ((px, px), (py, py), (0, 0)))
    out, kx, ky, per_group = weight.shape
    width, height = (
        (n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(padded.shape, (dx, dy), (kx, ky), (sx, sy), strict=False)
    )
    result = np.zeros((width, height, out))
    groups = x.shape[2] // per_group
    for o, i, j, a, b in np.ndindex(out, width, height, kx, ky):
        first = (o // (out // groups)) * per_group
        pixel = padded[i * sx + a * dx, j * sy + b * dy, first : first + per_group]
        result[i, j, o] += pixel @ weight[o, kx - 1 - a, ky - 1 - b]
    return result


def as_lava_dl(layers, image, steps):
    """Return the output of each layer of `every_layer`, (steps, …), in the layer's own step."""
    inp, conv, pool, _, dense, rec, end = layers
    x = image.transpose(2, 1, 0)  # lava-dl's (X, Y, C)
    sent = {name: [] for name in ("input0", "conv1", "pool2", "dense4", "dense_rec5", "dense6")}
    first = Neurons(x.shape, 0, inp["neuron"])
    second = Neurons((8, 4, 4), conv["bias"], FAST)
    third = Neurons((4, 2, 4), 0, FAST)
    fourth, fifth = Neurons(9, 0, CUBA), Neurons(5, rec["bias"], CUBA)
    potential, loop = np.zeros(3), np.zeros(5)
    for t in range(steps):
        a = first.step(np.zeros(x.shape), np.rint(40 * x) + 6)
        b = second.step(lava_conv(a, conv))
        c = third.step(lava_conv(b, pool, pool=True))
        sent["pool2"].append(c.transpose(2, 1, 0))
        # Row n of the weights takes the input of delay[n] steps ago.
        heard = [sent["pool2"][t - int(d)].ravel() if t >= d else np.zeros(32) for d in dense["delay"]]
        d = fourth.step(np.array([row @ line for row, line in zip(dense["weight"], heard, strict=True)]))
        e = fifth.step(rec["weight"] @ d + rec["weight_rec"] @ loop)
        loop = e
        potential = potential + end["weight"] @ e
        sent["input0"].append(a.transpose(2, 1, 0))
        sent["conv1"].append(b.transpose(2, 1, 0))
        sent["dense4"].append(d)
        sent["dense_rec5"].append(e)
        sent["dense6"].append(potential)
    return {name: np.array(rows) for name, rows in sent.items()}


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_all_layers_match_lava_dl(tmp_path, seed):
    rng = np.random.default_rng(seed)
    layers = every_layer(rng)
    program = read_netx(write(tmp_path / "all.net", layers, Ts=1, tSample=40))
    image = rng.uniform(-0.2, 1, (2, 7, 6))
    wanted = as_lava_dl(layers, image, 40)
    record = run_program(program, np.broadcast_to(image, (40, 1, 2, 7, 6)), rasters=list(wanted), backend="numpy")
    assert list(record.layers) == list(wanted)
    without = as_lava_dl(changed(layers, 5, weight_rec=np.zeros((5, 5))), image, 40)
    assert (without["dense_rec5"] != wanted["dense_rec5"]).sum() > 20  # recurrence matters
    for name, want in wanted.items():
        assert len(np.unique(want)) > 1, f"{name} does nothing"
        np.testing.assert_array_equal(record.layers[name].raster[:, 0], want, err_msg=name)


def test_program_has_the_files_parameters(tmp_path):
    program = read_netx(write(tmp_path / "all.net", every_layer(np.random.default_rng(0)), Ts=2, tSample=40))
    assert (program.precision, program.dt_s, program.timesteps, program.outputs) == ("integer", 0.002, 40, ("dense6",))
    port = program.inputs[0]
    assert (port.name, port.shape, port.coding, port.scale, port.limit) == ("input", (2, 7, 6), "current", 40.0, 4089)
    assert [(layer.name, layer.shape, layer.depth) for layer in program.layers] == [
        ("input0", (2, 7, 6), 0),
        ("conv1", (4, 4, 8), 1),
        ("pool2", (4, 2, 4), 2),
        ("dense4", (9,), 3),
        ("dense_rec5", (5,), 4),
        ("dense6", (3,), 5),
    ]
    neuron = program.layer("conv1").neuron
    assert (int(neuron.du), int(neuron.dv), int(neuron.v_threshold), neuron.bias.shape, neuron.bias_exp) == (
        4095,
        1024,
        25,
        (4, 1, 1),
        6,
    )
    assert program.layer("conv1").connections[0].synapse.weight.dtype == np.int32
    assert program.layer("dense4").connections[0].nir == ("flatten3", "dense4")
    assert [connection.source for connection in program.layer("dense_rec5").connections] == ["dense4", "dense_rec5"]
    assert program.notes == ("dense6: it has no neurons: the result is its membrane potential, not its spikes",)


def dense_net(weight, **fields):
    weight = np.asarray(weight, float)
    return [
        {"type": "input", "shape": [1, 1, weight.shape[1]]},
        {"type": "dense", "shape": [len(weight)], "weight": weight, "neuron": CUBA, **fields},
    ]


def weights(program):
    """Return (delay, weights as they act) of the last layer's connections."""
    return [
        (connection.delay, matrix(connection.synapse).toarray() * 2.0**connection.weight_exp)
        for connection in program.layers[-1].connections
    ]


@pytest.mark.parametrize(
    ("weight", "held", "exponent"),
    [
        ([[254, -256], [2, 0]], [[254, -256], [2, 0]], 0),
        ([[255, 3], [0, 1]], [[255, 3], [0, 1]], 0),
        ([[-255, -3], [0, -1]], [[-255, -3], [0, -1]], 0),
        ([[127, -128], [1, 0]], [[254, -256], [2, 0]], -1),
        ([[-256, -2], [0, 0]], [[-128, -1], [0, 0]], 1),
        ([[1016, -1024], [8, 0]], [[254, -256], [2, 0]], 2),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 0),
    ],
)
def test_weights_are_exact(tmp_path, weight, held, exponent):
    program = read_netx(write(tmp_path / "x.net", dense_net(weight)))
    connection = program.layers[0].connections[0]
    assert connection.synapse.weight.tolist() == held and connection.weight_exp == exponent
    np.testing.assert_array_equal(weights(program)[0][1], weight)
    run_program(program, np.ones((3, 1, 1, 1, 2)), backend="numpy")  # the emulator agrees that the hardware holds them


@pytest.mark.parametrize(
    ("delay", "grid"),
    [
        ([0, 3], [[0, 0], [3, 3]]),  # also one per input, but lava-dl takes it as one per neuron
        (2, [[2, 2], [2, 2]]),
        ([[0, 1], [62, 0]], [[0, 1], [62, 0]]),
    ],
)
def test_delays_become_connections(tmp_path, delay, grid):
    weight = np.array([[-256, 254], [6, -8]])
    program = read_netx(write(tmp_path / "x.net", dense_net(weight, delay=np.asarray(delay, np.float32))))
    found = weights(program)
    assert [steps for steps, _ in found] == sorted(set(np.ravel(grid)))
    for steps, part in found:
        np.testing.assert_array_equal(part, np.where(np.equal(grid, steps), weight, 0))
    run_program(program, np.ones((3, 1, 1, 1, 2)), backend="numpy")


def test_delays_per_input(tmp_path):
    weight = np.array([[2, 4, 6], [8, -10, 12]])
    found = weights(read_netx(write(tmp_path / "x.net", dense_net(weight, delay=[1, 0, 1]))))
    assert [steps for steps, _ in found] == [0, 1]
    np.testing.assert_array_equal(found[0][1], [[0, 4, 0], [0, -10, 0]])


def test_highest_threshold_is_a_read_out(tmp_path):
    highest = {**CUBA, "vThMant": (1 << 18) - 1}
    program = read_netx(write(tmp_path / "x.net", dense_net([[2.0, 4.0]], neuron=highest)))
    neuron = program.layers[0].neuron
    assert not neuron.spiking and int(neuron.v_threshold) == 131071 and int(neuron.du) == 1023
    assert "its vThMant is 262143" in program.notes[0]


def test_average_is_computed_by_the_host(tmp_path):
    layers = [*dense_net(np.full((4, 2), 2.0)), {"type": "average", "shape": [2, 1, 1]}]
    program = read_netx(write(tmp_path / "x.net", layers))
    assert program.outputs == ("dense1",) and program.notes == ("average2: the host averages over 2 groups of neurons",)


def test_undelayed_bias_gives_a_note(tmp_path):
    program = read_netx(write(tmp_path / "x.net", dense_net([[2.0], [4.0]], delay=[0, 1], bias=[0.0, 5.0])))
    assert "its bias is not delayed" in program.notes[0]


def test_network_without_input_layer(tmp_path):
    program = read_netx(write(tmp_path / "x.net", dense_net([[2.0, 4.0, 6.0]])[1:]))
    assert program.inputs[0].shape == (3,) and program.inputs[0].coding == "spikes" and program.layers[0].depth == 1


def changed(layers, index, **fields):
    """Return ``layers`` with fields of one replaced (``neuron_x``: of its neurons) or removed."""
    result = [dict(layer) for layer in layers]
    for name, value in fields.items():
        target = result[index]
        if name.startswith("neuron_"):
            target = result[index]["neuron"] = dict(result[index]["neuron"])
            name = name.removeprefix("neuron_")
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value
    return result


ALIF = {"neuron_type": "ALIF", "neuron_thDecay": 100, "neuron_refDecay": 500, "neuron_vThStep": 20}
EVEN = np.full((9, 32), 2.0)
RF = {"weight": None, "weight/real": EVEN, "weight/imag": EVEN, "bias": None, "delay": None, "neuron_type": "RF_PHASE"}
RF |= {"neuron_sinDecay": 1500, "neuron_cosDecay": 3700}

BROKEN = {
    "known_layers": [(2, {"type": "concat"}, "concat2.*its type is 'concat'")],
    "layer_order": [
        (4, {"type": "input"}, "input4.*it is layer 4"),
        (3, {"type": "average"}, "average3.*layers follow it"),
        (1, {"neuron": None}, "conv1.*it has no neurons"),
    ],
    "needed_fields": [
        (1, {"stride": None, "groups": None}, "conv1.*missing: stride, groups"),
        (5, {"weight_rec": None}, "dense_rec5.*missing: weight_rec"),
        (4, {"neuron_vDecay": None}, "dense4.*missing: neuron/vDecay"),
        (4, {"neuron_type": "ALIF"}, "dense4.*missing: neuron/thDecay, neuron/refDecay, neuron/vThStep"),
        (4, {"weight": None, "weight/imag": np.ones(3)}, "dense4.*missing: weight"),
        (4, {**RF, "neuron_cosDecay": None}, "dense4.*missing: neuron/cosDecay"),
    ],
    "complex_weights": [
        (4, {name: RF[name] for name in RF if name[:6] == "weight"}, "dense4.*its weights are complex"),
        (4, {**RF, "weight": EVEN, "weight/real": None, "weight/imag": None}, "a dense layer with real weights"),
        (1, {name: RF[name] for name in RF if name[:6] != "weight"}, "conv1.*RF neurons in a conv layer"),
        (4, {**RF, "bias": np.ones(9)}, "dense4.*it has a bias, which netx 0.6.0 ignores"),
        (4, {**RF, "delay": 2.0}, "dense4.*it has a delay, which netx 0.6.0 ignores"),
        (4, {**RF, "neuron_wgtExp": 1}, "dense4.*neuron/wgtExp = 1"),
        (4, {**RF, "weight/imag": EVEN[:, 2:]}, "dense4.*9×32 real, 270 imaginary weights"),
    ],
    "neuron_type": [(4, {"neuron_type": "ADRF_IZ"}, "dense4.*its neurons are 'ADRF_IZ'")],
    "sigma_delta": [
        (4, {"neuron_type": "SDNN", "neuron_activation": "tanh"}, "dense4.*neuron/activation = tanh"),
        (4, {"neuron_type": "SDNN", "neuron_messageBits": 17}, "dense4.*neuron/messageBits = 17"),
    ],
    "binary_spikes": [
        (4, {"neuron_gradedSpike": True}, "dense4.*neuron/gradedSpike = 1"),
        (4, {"neuron_messageBits": 16}, "dense4.*neuron/messageBits = 16"),
    ],
    "plain_neuron": [
        (4, {"neuron_refDelay": -2}, "dense4.*neuron/refDelay = -2"),
        (4, {"neuron_refDelay": 2.5}, "dense4.*neuron/refDelay = 2.5"),
        (4, {"neuron_refDelay": [1, 2]}, "dense4.*neuron/refDelay = 1 … 2"),
        (4, {**ALIF, "neuron_refDelay": 2}, "dense4.*neuron/refDelay = 2, and ALIF neurons have dynamics"),
        (0, {"neuron_wgtExp": 1}, "input0.*neuron/wgtExp = 1"),
    ],
    "one_value": [
        (4, {"neuron_iDecay": [1024, 1025]}, "dense4.*neuron/iDecay = 1024 … 1025"),
        (4, {**ALIF, "neuron_thDecay": range(9)}, "dense4.*neuron/thDecay = 0 … 8"),
        (4, {**RF, "neuron_sinDecay": range(8)}, "dense4.*neuron/sinDecay = 0 … 7, 8 values for 9 neurons"),
        (4, {**RF, "neuron_vThMant": range(60, 69)}, "dense4.*neuron/vThMant = 60 … 68"),
    ],
    "decay_range": [
        (4, {"neuron_iDecay": 0}, "dense4.*neuron/iDecay = 0"),
        (4, {"neuron_vDecay": 4096}, "dense4.*neuron/vDecay = 4096"),
        (4, {"neuron_vDecay": 0.5}, "dense4.*neuron/vDecay = 0.5"),
        (4, {**ALIF, "neuron_refDecay": 4096}, "dense4.*neuron/refDecay = 4096"),
        (4, {**RF, "neuron_sinDecay": 4097}, "dense4.*neuron/sinDecay = 4097"),
    ],
    "threshold_range": [
        (4, {"neuron_vThMant": 131072}, "dense4.*neuron/vThMant = 131072"),
        (4, {**ALIF, "neuron_vThMant": 0}, "dense4.*neuron/vThMant = 0"),
        (4, {**ALIF, "neuron_vThStep": -1}, "dense4.*neuron/vThStep = -1"),
    ],
    "analog_input": [(0, {"neuron_iDecay": 2048}, "input0.*neuron/iDecay = 2048")],
    "whole_numbers": [
        (4, {"weight": np.full((9, 32), 0.5)}, "dense4.*288 of 288 values of weight are not, such as 0.5"),
        (1, {"bias": [0.0, np.nan, 2.0, 4.0]}, "conv1.*1 of 4 values of bias are not, such as nan"),
    ],
    "weight_bits": [
        (4, {"weight": np.tile([129.0, -2.0], (9, 16))}, "dense4.*they lie in -2 … 129"),
        (5, {"weight_rec": np.tile([1.0, -1.0, 256.0, 0.0, 0.0], (5, 1))}, "dense_rec5"),
        (2, {"weight": np.full((1, 1, 2, 2), 257.0)}, "pool2.*they lie in 257"),
    ],
    "bias_bits": [(1, {"bias": [0.0, -4097.0, 2.0, 4.0]}, "conv1.*it is -4097 … 4")],
    "delays": [
        (4, {"delay": np.full(9, -1.0)}, "dense4.*they are -1"),
        (4, {"delay": np.zeros(5)}, "dense4.*5 delays for 9×32 weights"),
        (1, {"delay": np.zeros(3)}, "conv1.*3 delays for 4 channels"),
        (5, {"delay": np.zeros(5)}, "dense_rec5.*it is a dense_rec layer"),
    ],
    "agreeing_shapes": [
        (1, {"groups": 1}, "conv1.*it takes 1 channels, 2 come in"),
        (1, {"shape": [4, 4, 7]}, "conv1.*its shape is 4×4×7, its weights give 4×4×8"),
        (1, {"stride": [0, 1]}, "conv1.*stride 0×1"),
        (1, {"padding": [1, -2]}, "conv1.*padding 1×-2"),
        (1, {"bias": np.zeros(3)}, "conv1.*3 biases for 4 channels"),
        (1, {"weight": np.zeros((4, 1, 3))}, "conv1.*its weights have shape 4×1×3"),
        (4, {"weight": np.zeros((9, 31))}, "dense4.*it takes 31 inputs, 32 come in"),
        (5, {"weight_rec": np.zeros((5, 4))}, "dense_rec5.*weight_rec has 20 values for 5 neurons"),
        (0, {"shape": [2, 0, 6]}, "input0.*its shape is 2×0×6"),
        (0, {"bias": [1.0, 2.0]}, "input0.*its bias has 2 values, not 1"),
    ],
}


@pytest.mark.parametrize(
    ("rule", "index", "fields", "said"), [(rule, *case) for rule, cases in BROKEN.items() for case in cases]
)
def test_inexpressible_files_are_refused(tmp_path, rule, index, fields, said):
    path = write(tmp_path / "x.net", changed(every_layer(np.random.default_rng(0)), index, **fields))
    with pytest.raises(GraphError, match=said) as refused:
        read_netx(path)
    assert str(path) in refused.value.what and refused.value.do
    assert rule in {finding.rule for finding in netx_findings(path) if finding.level == "error"}


def test_refractory_layer_needs_a_strict_comparison(tmp_path):
    layers = changed(every_layer(np.random.default_rng(0)), 4, neuron_refDelay=2)
    path = write(tmp_path / "x.net", layers)
    assert read_netx(path).layers[3].neuron.dynamics == "refractory"
    with pytest.raises(GraphError, match=r"dense4.*refDelay = 2, read as v ≥ vThMant"):
        read_netx(path, NetxReading("inclusive"))


def test_neurons_unlike_netx_give_a_note(tmp_path):
    layers = changed(changed(every_layer(np.random.default_rng(0)), 4, neuron_refDelay=3), 1, **ALIF)
    path = write(tmp_path / "x.net", layers)
    notes = [finding for finding in netx_findings(path) if finding.rule == "unlike_netx"]
    assert [(note.node, note.level) for note in notes] == [("conv1", "note"), ("dense4", "note")]
    assert "v stays at 0 for 2 step(s)" in notes[1].actual and "ALIF" in notes[0].actual
    assert reading_of(read_netx(path)) == NetxReading("strict", (2, 7, 6))


def test_resonators_keep_the_files_numbers(tmp_path):
    """netx cuts what it computes again from a period and a decay."""
    layers = every_layer(np.random.default_rng(0))
    path = write(tmp_path / "x.net", changed(layers, 4, **{**RF, "neuron_cosDecay": 3600}))
    neuron = read_netx(path).layers[3].neuron
    assert (neuron.dynamics, neuron.parameters["sin"], neuron.parameters["cos"]) == ("resonate", 1500, 3600)
    assert neuron.dv == round(4096 - np.hypot(1500, 3600))
    (note,) = [finding for finding in netx_findings(path) if finding.rule == "unlike_netx"]
    assert note.level == "note" and "netx 0.6.0 computes 1499 and 3600" in note.actual
    alike = write(tmp_path / "alike.net", changed(layers, 4, **RF))
    assert not [finding for finding in netx_findings(alike) if finding.rule == "unlike_netx"]


def test_resonators_may_differ(tmp_path):
    """`shared_param=False` gives every neuron its own period and decay."""
    layers = every_layer(np.random.default_rng(0))
    sin, cos = np.linspace(900, 2400, 9).astype(int), np.linspace(3600, 2500, 9).astype(int)
    path = write(tmp_path / "x.net", changed(layers, 4, **{**RF, "neuron_sinDecay": sin, "neuron_cosDecay": cos}))
    neuron = read_netx(path).layers[3].neuron
    np.testing.assert_array_equal(neuron.parameters["sin"], sin)
    np.testing.assert_array_equal(neuron.parameters["cos"], cos)
    np.testing.assert_array_equal(neuron.dv, np.rint(4096 - np.hypot(sin, cos)))
    (note,) = [finding for finding in netx_findings(path) if finding.rule == "unlike_netx"]
    assert "as the file says; netx 0.6.0 computes" in note.actual and "more neuron(s)" in note.actual


def test_all_findings_are_reported_at_once(tmp_path):
    layers = changed(every_layer(np.random.default_rng(0)), 1, neuron_refDelay=0.5)
    layers = changed(layers, 4, neuron_type="ADRF_IZHIKEVICH")
    layers = changed(layers, 5, bias=np.full(5, 0.5))
    with pytest.raises(GraphError) as refused:
        read_netx(write(tmp_path / "x.net", layers))
    assert all(name in refused.value.why for name in ("conv1", "dense4", "dense_rec5"))


def test_foreign_files_are_refused(tmp_path):
    text = tmp_path / "text.net"
    text.write_text("layer")
    with pytest.raises(GraphError, match="not an HDF5 file"):
        read_netx(text)
    with pytest.raises(GraphError, match="No such file"):
        read_netx(tmp_path / "absent.net")
    weight = np.ones((1, 1))
    graph = tmp_path / "graph.nir"
    nir.write(graph, nir.NIRGraph.from_list(nir.Linear(weight)))
    with pytest.raises(GraphError, match="not a netx network"):
        read_netx(graph)
    gap = write(tmp_path / "gap.net", dense_net(weight))
    with h5py.File(gap, "a") as file:
        file.move("layer/1", "layer/2")
    with pytest.raises(GraphError, match="not numbered 0 to 1"):
        read_netx(gap)
    only_input = write(tmp_path / "input.net", dense_net(weight)[:1])
    with pytest.raises(GraphError, match="no layer has weights"):
        read_netx(only_input)
    assert is_netx(gap) and not is_netx(graph) and not is_netx(text) and not is_netx(tmp_path)


ODD = [None, "text", np.nan, -1.0, 0.0, 1e300, np.zeros(0), np.full((2, 2, 2, 2, 2, 2), 3.0)]


@pytest.mark.parametrize("field", ["weight", "bias", "shape", "neuron/refDelay"])
def test_texts_in_place_of_numbers_are_not_left_out(tmp_path, field):
    path = write(tmp_path / "x.net", dense_net(np.ones((1, 1))))
    with h5py.File(path, "a") as file:
        file["layer/1"].pop(field, None)
        file[f"layer/1/{field}"] = "text"
    with pytest.raises(GraphError, match=f"/layer/1/{field} does not hold numbers"):
        read_netx(path)


def test_random_values_are_refused_or_run(tmp_path):
    layers = [*every_layer(np.random.default_rng(0)), {"type": "average", "shape": [3, 1, 1]}]
    path = write(tmp_path / "x.net", layers, Ts=1, tSample=4)
    sound = path.read_bytes()
    fields = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: fields.append(name) if isinstance(item, h5py.Dataset) else None)
    refused = 0
    for number, field in enumerate(fields):
        for value in ODD[number % 4 :: 4]:
            path.write_bytes(sound)
            with h5py.File(path, "r+") as file:
                del file[field]
                if value is not None:
                    file[field] = value
            try:
                program = read_netx(path)
                assert program.layers and all(np.isfinite(layer.neuron.bias).all() for layer in program.layers)
            except GraphError:
                refused += 1
    assert refused > len(fields)


def ties(rng, samples=6, steps=80):
    """Return a dense network whose v is often exactly at the threshold, and spikes for it."""
    weight = 2.0 * rng.integers(-4, 7, (12, 8))
    neuron = {**CUBA, "iDecay": 4096, "vDecay": 0, "vThMant": 12}
    x = (rng.random((steps, samples, 1, 1, 8)) < 0.3).astype(np.uint8)
    return [*dense_net(weight, neuron=neuron), {"type": "dense", "shape": [3], "weight": even(rng, 3, 12)}], x


def define(layers, x, comparison):
    """Return the spikes and the read-out of `ties`, step by step in Python's integers."""
    weight, last = np.asarray(layers[1]["weight"], int), np.asarray(layers[2]["weight"], int)
    fires = np.greater_equal if comparison == "inclusive" else np.greater
    v, total, spikes, sums = 0, 0, [], []
    for values in x.reshape(*x.shape[:2], 8).astype(int):
        v = v + 64 * (values @ weight.T)
        spikes.append(fires(v, 64 * 12))
        v = np.where(spikes[-1], 0, v)
        total = total + spikes[-1] @ last.T
        sums.append(total)
    return np.array(spikes, np.uint8), np.array(sums)


@pytest.mark.parametrize("comparison", ["strict", "inclusive"])
def test_comparison_with_the_threshold(tmp_path, comparison):
    layers, x = ties(np.random.default_rng(5))
    path = write(tmp_path / "ties.net", layers)
    reading = NetxReading(comparison)
    program = read_netx(path, reading)
    assert [layer.neuron.firing.comparison for layer in program.layers] == [comparison, "strict"]  # a read-out
    assert reading_of(program) == NetxReading(comparison, (1, 1, 8))
    spikes, sums = define(layers, x, comparison)
    record = run_program(program, x, rasters=["dense1", "dense2"])
    np.testing.assert_array_equal(record.layers["dense1"].raster, spikes)
    np.testing.assert_array_equal(record.layers["dense2"].raster, sums)
    assert (spikes != define(layers, x, "strict")[0]).any() == (comparison == "inclusive")
    (note,) = [finding for finding in netx_findings(path, reading) if finding.rule == "comparison"]
    read_as = {"strict": "read as v > vThMant, assumed for dense1", "inclusive": "read as v ≥ vThMant"}
    assert note.level == "note" and note.actual == read_as[comparison]
    assert ("--comparison inclusive" in note.remedy) == (comparison == "strict")


def conv_first(rng):
    """Return `every_layer` without its input layer, as Slayer writes it without an input block."""
    return every_layer(rng)[1:]


def test_conv_first_needs_the_input_shape(tmp_path):
    layers = conv_first(np.random.default_rng(1))
    path = write(tmp_path / "first.net", layers)
    with pytest.raises(GraphError, match=r"conv0 .*no shape of its input") as refused:
        read_netx(path)
    assert "--input-shape C,H,W" in refused.value.do and "input_shape=(C, H, W)" in refused.value.do
    (error,) = [finding for finding in netx_findings(path) if not finding.ok]
    assert error.rule == "input_shape"

    program = read_netx(path, NetxReading(input_shape=(2, 7, 6)))
    port = program.inputs[0]
    assert (port.shape, port.coding) == ((2, 7, 6), "spikes")
    with_input = read_netx(write(tmp_path / "input.net", [{"type": "input", "shape": [2, 7, 6]}, *layers]))
    x = (np.random.default_rng(2).random((30, 2, 2, 7, 6)) < 0.3).astype(np.uint8)
    records = [run_program(one, x, rasters=one.outputs) for one in (program, with_input)]
    spikes = [record.layers[one.outputs[0]].raster for record, one in zip(records, (program, with_input), strict=True)]
    assert len(np.unique(spikes[0])) > 2
    np.testing.assert_array_equal(*spikes)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((3, 7, 6), "conv0 .*takes 2 channels, 3 come in"),
        ((7, 6), "conv0 .*shape 7×6, not"),
        ((2, 9, 6), "conv0 .*its shape is 4×4×8, its weights give 4×5×8"),
        ((2, 1, 1), "conv0 .*its shape is 4×4×8, its weights give 4×1×3"),
    ],
)
def test_wrong_input_shape_is_an_error(tmp_path, shape, said):
    path = write(tmp_path / "first.net", conv_first(np.random.default_rng(1)))
    with pytest.raises(GraphError, match=said) as refused:
        read_netx(path, NetxReading(input_shape=shape))
    assert "--input-shape" in refused.value.do


def test_timesteps_that_a_file_leaves_open(tmp_path):
    """A last layer without neurons sums for as long as a sample lasts."""
    path = write(tmp_path / "all.net", every_layer(np.random.default_rng(1)))
    (error,) = [finding for finding in check_program(read_netx(path)) if not finding.ok]
    assert error.rule == "read_out_in_range" and "--timesteps N" in error.remedy
    network = ash.read(path, timesteps=12, comparison="strict")
    program = network.program
    assert program.timesteps == 12 and all(finding.ok for finding in check_program(program))
    x = np.random.default_rng(2).random((12, 2, 2, 7, 6)).astype(np.float32)
    bundle = ash.export(network, tmp_path / "bundle", inputs=x, lava=None).bundle
    assert bundle.program("integer").timesteps == 12
    ash.verify(bundle, lava=None)
    record = ash.simulate(bundle.folder, on="loihi")
    again = run_program(program, x, rasters=["dense6"])
    np.testing.assert_array_equal(record.layers["dense6"].raster, again.layers["dense6"].raster)
    with pytest.raises(AshneuroError, match="at least one step"):
        ash.read(path, timesteps=0)


def test_input_shape_agrees_with_the_file(tmp_path):
    path = write(tmp_path / "all.net", every_layer(np.random.default_rng(1)))
    assert read_netx(path, NetxReading(input_shape=(2, 7, 6))).inputs[0].shape == (2, 7, 6)
    with pytest.raises(GraphError, match=r"input0 .*file says 2×7×6, --input-shape says 2×6×7"):
        read_netx(path, NetxReading(input_shape=(2, 6, 7)))
    # An axis of size 1 is the reading's to say.
    _, conv, *_ = every_layer(np.random.default_rng(1))
    one_channel = {**conv, "groups": 1, "weight": conv["weight"][:, :1]}
    path = write(tmp_path / "flat.net", [{"type": "input", "shape": [7, 6]}, one_channel])
    with pytest.raises(GraphError, match=r"conv1 .*its input has shape 7×6, not \(C, H, W\)") as refused:
        read_netx(path)
    assert "--input-shape C,H,W" in refused.value.do
    assert read_netx(path, NetxReading(input_shape=(1, 7, 6))).inputs[0].shape == (1, 7, 6)
    no_shape = changed(every_layer(np.random.default_rng(1)), 0, shape=None)
    path = write(tmp_path / "none.net", no_shape)
    with pytest.raises(GraphError, match=r"input0 .*missing: shape") as refused:
        read_netx(path)
    assert "--input-shape" in refused.value.do
    assert read_netx(path, NetxReading(input_shape=(2, 7, 6))).inputs[0].shape == (2, 7, 6)
