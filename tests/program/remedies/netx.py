"""Remedies of the rules on lava-dl networks."""

import numpy as np

from ashneuro.program.netx.file import AS_STATED, NetxReading
from tests.program.netx.test_read import ALIF, CUBA, EVEN, RF, changed, every_layer
from tests.program.remedies import Case

SOUND = every_layer(np.random.default_rng(0))
INCLUSIVE = NetxReading("inclusive")
CONV_FIRST = SOUND[1:]
SHAPE = NetxReading(input_shape=(2, 7, 6))


def case(rule, says, broken, cured=SOUND, reading=AS_STATED, afterwards=None):
    after = None if cured is None else (cured, afterwards or reading)
    return Case("lava-dl network", rule, says, (broken, reading), after)


def of(index, base=SOUND, **fields):
    return changed(base, index, **fields)


def dense(**fields):
    return [
        {"type": "input", "shape": [4]},
        {"type": "dense", "weight": np.full((3, 4), 2.0), "neuron": CUBA, **fields},
    ]


# Weights 2 · 2^1 and a bias, as they act.
DOUBLED = dense(weight=np.full((3, 4), 4.0))

COMPLEX = {name: RF[name] for name in RF if name[:6] == "weight"}
REAL = {**RF, "weight": EVEN, "weight/real": None, "weight/imag": None}
RESONATING = of(4, **RF)
CHANGES, SUMS, BIAS = {"neuron_type": "SDNN", "delay": None}, {"neuron_sigma_output": True}, np.full(9, 2.0)

CASES = [
    case("known_layers", "from the layers named", of(2, type="concat"), SOUND),
    case("layer_order", "split the file", [*dense(), *dense()], dense()),
    case(
        "layer_order",
        "end the network there",
        of(3, type="average", shape=[2]),
        [*SOUND[:3], {"type": "average", "shape": [2]}],
    ),
    case("layer_order", "a dense layer in its place", of(3, type="average", shape=[2])),
    case("layer_order", "give the layer CUBA neurons", of(1, neuron=None)),
    case("layer_order", "every block with block.export_hdf5", SOUND[:1]),
    case("needed_fields", "every block", of(1, stride=None, groups=None)),
    case("needed_fields", "--input-shape", of(0, shape=None), of(0, shape=None), afterwards=SHAPE),
    case("needed_fields", "every block", of(4, neuron_vDecay=None)),
    case("complex_weights", "with RF neurons", of(4, **COMPLEX)),
    case("complex_weights", "a dense one of Slayer's block.rf", of(4, **REAL), RESONATING),
    case("complex_weights", "every block", of(4, **RF | {"weight/imag": EVEN[:, 2:]}), RESONATING),
    case("complex_weights", "without delays and norms", of(4, **RF | {"delay": 2.0}), RESONATING),
    case("complex_weights", "without delays and norms", of(4, **RF | {"neuron_wgtExp": 1}), RESONATING),
    case("neuron_type", "with CUBA neurons", of(4, neuron_type="ADRF_IZ")),
    case("sigma_delta", "activation = torch.relu", of(4, **CHANGES, neuron_activation="tanh"), of(4, **CHANGES)),
    case("sigma_delta", "without a norm", of(4, **CHANGES, neuron_weight_exp=1), of(4, **CHANGES)),
    case("sigma_delta", "write 16", of(4, **CHANGES, neuron_messageBits=24), of(4, **CHANGES, neuron_messageBits=16)),
    case("sigma_delta", "end the network there", of(4, **CHANGES, **SUMS), of(4, **CHANGES, **SUMS)[:5]),
    case("sigma_delta", "without a bias", of(4, **CHANGES, **SUMS, bias=BIAS)[:5], of(4, **CHANGES, **SUMS)[:5]),
    case("binary_spikes", "graded_spike = False", of(4, neuron_gradedSpike=True), of(4, neuron_gradedSpike=False)),
    case("plain_neuron", "a refractory delay of 1", of(4, neuron_refDelay=2.5), of(4, neuron_refDelay=1)),
    case("plain_neuron", "a refractory delay of 1", of(4, **ALIF, neuron_refDelay=2), of(4, **ALIF, neuron_refDelay=1)),
    case(
        "plain_neuron", "--comparison strict", of(4, neuron_refDelay=2), of(4, neuron_refDelay=2), INCLUSIVE, AS_STATED
    ),
    case("plain_neuron", "or a refractory delay of 1", of(4, neuron_refDelay=2), of(4, neuron_refDelay=1), INCLUSIVE),
    case("plain_neuron", "multiply the weight of the input", of(0, neuron_wgtExp=1), of(0, weight=np.float32(80))),
    case("neuron_exponent", "multiply the weights instead", dense(neuron={**CUBA, "wgtExp": 9}), DOUBLED),
    case(
        "neuron_exponent",
        "multiply the weights instead",
        dense(neuron={**CUBA, "wgtExp": -2}),
        dense(weight=np.full((3, 4), 1.0)),
    ),
    case(
        "neuron_exponent",
        "current_decay = 1",
        dense(neuron={**CUBA, "weight_exp": -1}),
        dense(neuron={**CUBA, "weight_exp": -1, "iDecay": 4096}),
    ),
    case("one_value", "shared_param = True", of(4, neuron_vThMant=np.arange(9) + 60), of(4, neuron_vThMant=60)),
    case("decay_range", "a decay in that range", of(4, neuron_vDecay=4096), of(4, neuron_vDecay=4095)),
    case("threshold_range", "a lower threshold", of(4, neuron_vThMant=131072), of(4, neuron_vThMant=131071)),
    case("threshold_range", "vThStep of at least 0", of(4, **ALIF | {"neuron_vThStep": -1}), of(4, **ALIF)),
    case("analog_input", "current_decay = 1", of(0, neuron_iDecay=2048), of(0, neuron_iDecay=4096)),
    case(
        "whole_numbers", "a quantisation hook", of(4, weight=np.full((9, 32), 0.5)), of(4, weight=np.full((9, 32), 2.0))
    ),
    case(
        "weight_bits",
        "8-bit weights",
        of(2, weight=np.full((1, 1, 2, 2), 257.0)),
        of(2, weight=np.full((1, 1, 2, 2), 255.0)),
    ),
    case("bias_bits", "a smaller bias", of(1, bias=[0.0, -4097.0, 2.0, 4.0]), of(1, bias=[0.0, -4096.0, 2.0, 4.0])),
    case("delays", "without delays", of(5, delay=np.zeros(5))),
    case("delays", "of at least 0", of(4, delay=np.full(9, -1.0)), of(4, delay=np.full(9, 62.0))),
    case("unlike_netx", "", of(4, delay=np.full(9, 63.0)), None),
    case("delays", "correct the delays in the file", of(4, delay=np.zeros(5)), of(4, delay=np.zeros(9))),
    case("input_shape", "leave --input-shape out", SOUND, SOUND, NetxReading(input_shape=(3, 3, 3)), AS_STATED),
    case("input_shape", "--input-shape C,H,W", CONV_FIRST, CONV_FIRST, AS_STATED, SHAPE),
    case("agreeing_shapes", "correct it in the file", of(1, groups=1)),
    case("agreeing_shapes", "--input-shape C,H,W", CONV_FIRST, CONV_FIRST, NetxReading(input_shape=(5, 7, 6)), SHAPE),
    case("comparison", "--comparison inclusive", SOUND, SOUND, AS_STATED, INCLUSIVE),
    case("comparison", "nothing to do", SOUND, None, INCLUSIVE),
    case("read_outs", "", SOUND, None),
    case("unlike_netx", "", of(4, **ALIF), None),
    case("unlike_netx", "", of(4, neuron_refDelay=3), None),
    case("unlike_netx", "", of(4, **RF | {"neuron_sinDecay": 1350, "neuron_cosDecay": 3701}), None),
    case("host_average", "", [*SOUND[:-1], {"type": "average", "shape": [5]}], None),
    case("undelayed_bias", "", of(4, bias=np.full(9, 2.0)), None),
]
