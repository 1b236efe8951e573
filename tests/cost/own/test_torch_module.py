"""Counts of a user's torch module, by hooks, against convolutions of masks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ashneuro.cost.flops import count_flops
from ashneuro.cost.own.torch_module import OTHER, count_module
from ashneuro.errors import DataError

SAMPLES = 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def sparse(module, share=0.3):
    """Set a share of all weights to 0."""
    for parameter in module.parameters():
        parameter.data[torch.rand(parameter.shape) < share] = 0
    return module


def masks(layer, x):
    """Return (dense, effective) products by definition: the layer over ones, and over masks."""
    ones = sparse_copy(layer, lambda weight: torch.ones_like(weight))
    nonzero = sparse_copy(layer, lambda weight: (weight != 0).double())
    return int(ones(torch.ones_like(x).double()).sum()), int(nonzero((x != 0).double()).sum())


def sparse_copy(layer, change):
    import copy

    made = copy.deepcopy(layer).double()
    made.weight.data = change(layer.weight.data.double())
    if made.bias is not None:
        made.bias.data.zero_()
    return made


def activations(*shape):
    return functional.relu(torch.randn(SAMPLES, *shape))


LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear of tokens": (lambda: nn.Linear(7, 5, bias=False), (4, 7)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), (3, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 7, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 3, 4, 5)),
    "groups": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 5)),
    "dilation": (lambda: nn.Conv2d(2, 3, 3, padding=2, dilation=2), (2, 6, 6)),
    "same": (lambda: nn.Conv2d(2, 3, (4, 3), padding="same"), (2, 6, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 4, 5)),
    "transposed groups": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2, dilation=2), (4, 5)),
}


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
@pytest.mark.parametrize("case", LAYERS)
def test_products_of_a_layer(case):
    make, shape = LAYERS[case]
    layer, x = sparse(make()), activations(*shape)
    (row,) = count_module(layer, x).workload.layers
    assert (row.dense_macs, row.effective_macs) == masks(layer, x)
    assert 0 < row.effective_macs < row.dense_macs
    stored = list(layer.parameters())
    assert row.parameters == sum(each.numel() for each in stored)
    assert row.zero_parameters == sum(int((each == 0).sum()) for each in stored)
    assert row.inputs == x[0].numel() and row.neurons == layer(x)[0].numel()
    assert row.update_adds == 1 + (layer.bias is not None) and (row.kind, row.place) == ("ann", "deployed")


def test_padding_with_values_is_no_padding():
    layer, x = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), activations(2, 5, 5)
    (row,) = count_module(layer, x).workload.layers
    assert row.dense_macs == SAMPLES * 25 * 3 * 2 * 9


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.shared, self.out = nn.Linear(64, 64), nn.Linear(64, 3)
        self.drop = nn.Dropout(0.9)

    def forward(self, x):
        x = functional.relu(self.norm(self.conv(x))).flatten(1)
        x = functional.relu(self.shared(functional.relu(self.shared(self.drop(x)))))
        return self.out(x)


def test_network_with_shared_layers_and_batch_norm():
    net = Net().train()
    x = activations(2, 6, 6)
    counted = count_module(net, x)
    rows = {row.name: row for row in counted.workload.layers}
    assert list(rows) == ["conv", "shared", "out"] and net.training
    net.eval()
    hidden = functional.relu(net.norm(net.conv(x))).flatten(1)
    again = functional.relu(net.shared(hidden))
    for name, pairs in {
        "conv": [(net.conv, x)],
        "shared": [(net.shared, hidden), (net.shared, again)],
        "out": [(net.out, functional.relu(net.shared(again)))],
    }.items():
        wanted = np.sum([masks(layer, values) for layer, values in pairs], axis=0)
        assert (rows[name].dense_macs, rows[name].effective_macs) == tuple(wanted)
    # The batch norm is folded: its shift is the convolution's bias. Shared weights are stored once.
    assert rows["conv"].parameters == 72 + 4 and rows["conv"].update_adds == 2
    assert rows["shared"].parameters == 64 * 64 + 64 and rows["shared"].neurons == 2 * 64
    assert "relu" in counted.uncounted
    share = 1 - counted.workload.total("effective_macs") / counted.workload.total("dense_macs")
    assert counted.zero_share == pytest.approx(share) and f"{100 * share:.1f} % of them" in counted.sentence()


def test_attention_is_not_left_out():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    x = torch.randn(SAMPLES, 5, 8)
    counted = count_module(layer, x)
    rows = {row.name: row for row in counted.workload.layers}
    assert set(rows) == {"linear1", "linear2", OTHER} and rows[OTHER].effective_macs is None
    total = count_flops(lambda: layer.eval()(x)).macs
    assert counted.workload.total("dense_macs") == total
    # q, k, v and the output: 4·8·8 per token; scores and their use: 2·5·8 per token.
    assert rows[OTHER].dense_macs == SAMPLES * 5 * (4 * 64 + 2 * 5 * 8)


def test_zeros_of_noise_are_not_counted():
    counted = count_module(nn.Linear(4, 2), activations(4), measured_on="")
    assert counted.workload.layers[0].effective_macs is None and counted.zero_share is None
    assert "zeros not measured" in counted.sentence()


def test_sample_that_does_not_fit_is_an_error():
    with pytest.raises(DataError, match=r"sample of shape \(3, 5\)"):
        count_module(nn.Linear(4, 2), np.zeros((3, 5)))


def test_arrays_take_the_type_of_the_module():
    counted = count_module(nn.Linear(4, 2).double(), np.ones((2, 4), np.uint8))
    assert counted.workload.samples == 2 and counted.workload.layers[0].effective_macs == 2 * 8
