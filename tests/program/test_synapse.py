import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from ashneuro.program.program import Synapse
from ashneuro.program.synapse import compose, conv_shape, dense_macs, fan_out, matrix, signed_sums, sparse

CONVS = [
    # channels in, spatial, channels out, kernel, stride, padding, dilation, groups
    (3, (7,), 4, (3,), (1,), ((0, 0),), (1,), 1),
    (4, (9,), 6, (4,), (2,), ((3, 3),), (2,), 2),
    (2, (6, 5), 3, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    (4, (8, 7), 4, (3, 2), (2, 3), ((2, 2), (0, 0)), (2, 1), 4),
    (6, (5, 5), 9, (5, 1), (1, 2), ((2, 2), (1, 1)), (1, 1), 3),
]


def conv(case, rng, dtype=np.float64):
    c_in, spatial, c_out, kernel, stride, padding, dilation, groups = case
    weight = rng.integers(-8, 9, (c_out, c_in // groups, *kernel)).astype(dtype)
    in_shape = (c_in, *spatial)
    return Synapse(
        "conv",
        in_shape,
        conv_shape(in_shape, kernel, c_out, stride, padding, dilation),
        weight,
        stride,
        padding,
        dilation,
        groups,
    )


def torch_conv(synapse, x):
    function = torch.nn.functional.conv1d if len(synapse.in_shape) == 2 else torch.nn.functional.conv2d
    weight = torch.from_numpy(synapse.weight)
    padding = [before for before, _ in synapse.padding]
    return function(
        torch.from_numpy(x), weight, None, synapse.stride, padding, synapse.dilation, synapse.groups
    ).numpy()


def random_synapses(rng):
    yield from (conv(case, rng) for case in CONVS)
    yield Synapse("dense", (2, 3), (4,), rng.integers(-2, 3, (4, 6)).astype(float))
    yield Synapse("dense", (5, 3), (5, 4), rng.integers(-2, 3, (4, 3)).astype(float))
    yield Synapse("scale", (3, 2), (3, 2), rng.integers(-1, 2, (3, 1)).astype(float))
    yield sparse(csr_matrix(rng.integers(-1, 2, (4, 6)).astype(float)), (2, 3), (4,))


@pytest.mark.parametrize("case", CONVS)
def test_conv_matrix_equals_torch(case):
    rng = np.random.default_rng(0)
    synapse = conv(case, rng)
    x = rng.integers(-3, 4, (5, *synapse.in_shape)).astype(float)
    y = (matrix(synapse) @ x.reshape(5, -1).T).T.reshape(5, *synapse.out_shape)
    np.testing.assert_array_equal(y, torch_conv(synapse, x))


def test_conv_with_asymmetric_padding():
    rng = np.random.default_rng(1)
    synapse = conv((2, (6,), 2, (4,), (1,), ((1, 2),), (1,), 1), rng)
    assert synapse.out_shape == (2, 6)
    x = rng.integers(-3, 4, (1, 2, 6)).astype(float)
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(np.pad(x, ((0, 0), (0, 0), (1, 2)))), torch.from_numpy(synapse.weight)
    )
    np.testing.assert_array_equal(matrix(synapse) @ x.ravel(), expected.numpy().ravel())


def test_dense_matrix_on_all_axes_and_on_the_last():
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((4, 6))
    x = rng.standard_normal((2, 3))
    np.testing.assert_allclose(matrix(Synapse("dense", (2, 3), (4,), weight)) @ x.ravel(), weight @ x.ravel())
    weight = rng.standard_normal((4, 3))
    np.testing.assert_allclose(matrix(Synapse("dense", (2, 3), (2, 4), weight)) @ x.ravel(), (x @ weight.T).ravel())


def test_scale_matrix_multiplies_each_element():
    x = np.arange(1.0, 7).reshape(3, 2)
    for weight in (np.array(2.0), np.array([1.0, 0.5]), np.array([[1.0], [2.0], [0.0]])):
        np.testing.assert_array_equal(
            matrix(Synapse("scale", (3, 2), (3, 2), weight)) @ x.ravel(), (x * weight).ravel()
        )


def test_matrix_keeps_integers_and_drops_zeros():
    synapse = Synapse("dense", (3,), (2,), np.array([[1, 0, -2], [0, 0, 3]], np.int32))
    result = matrix(synapse)
    assert result.dtype == np.int32 and result.nnz == 3
    assert matrix(sparse(result, (3,), (2,))).toarray().tolist() == [[1, 0, -2], [0, 0, 3]]


def test_fan_out_counts_non_zero_weights():
    for synapse in random_synapses(np.random.default_rng(3)):
        expected = (matrix(synapse).toarray() != 0).sum(axis=0).reshape(synapse.in_shape)
        np.testing.assert_array_equal(fan_out(synapse), expected)
        assert fan_out(synapse).dtype == np.int64


def test_signed_sums_equal_row_sums():
    for synapse in random_synapses(np.random.default_rng(6)):
        weights = matrix(synapse).toarray()
        negative, positive = signed_sums(synapse)
        np.testing.assert_allclose(negative, np.minimum(weights, 0).sum(axis=1))
        np.testing.assert_allclose(positive, np.maximum(weights, 0).sum(axis=1))
        whole = signed_sums(Synapse(**vars(synapse) | {"weight": synapse.weight.astype(np.int32)}))
        assert all(sums.dtype == np.int64 for sums in whole)


def test_dense_macs_count_zero_weights_but_not_padding():
    rng = np.random.default_rng(4)
    for synapse in random_synapses(rng):
        if synapse.kind == "sparse":
            assert dense_macs(synapse) == np.count_nonzero(synapse.weight)
        else:
            everything = Synapse(**vars(synapse) | {"weight": np.ones_like(synapse.weight)})
            assert dense_macs(synapse) == matrix(everything).nnz


def chains(rng):
    """Yield pairs of synapses in a row, with the kind that the merged one must have."""

    def window(c_in, size, c_out, k, s=1, p=0, d=1, groups=1):
        return conv((c_in, (size, size), c_out, (k, k), (s, s), ((p, p), (p, p)), (d, d), groups), rng)

    def scale(shape, per):
        return Synapse("scale", shape, shape, rng.integers(1, 5, per).astype(float))

    yield window(3, 8, 3, 2, 2, groups=3), window(3, 4, 5, 3, p=1), "conv"
    yield window(3, 7, 3, 2, 2, groups=3), window(3, 3, 5, 3, p=1), "sparse"
    yield window(3, 9, 3, 2, 2, groups=3), window(3, 4, 5, 3), "conv"
    yield window(3, 8, 4, 3, p=1), window(4, 8, 4, 2, 2, groups=4), "conv"
    yield window(4, 8, 6, 3, groups=2), window(6, 6, 6, 3, 2, groups=6), "conv"
    yield window(4, 8, 4, 2, 2, groups=4), window(4, 4, 6, 3, 2, 1, groups=2), "conv"
    yield window(2, 9, 3, 3, 2, 1, d=2), window(3, 4, 2, 3, d=1), "conv"
    yield window(2, 9, 3, 3), window(3, 7, 2, 3, p=1), "sparse"
    for pad in ((1, 0), (0, 1)):
        yield window(2, 9, 3, 3), conv((3, (7, 7), 2, (3, 3), (1, 1), (pad, pad), (1, 1), 1), rng), "sparse"
    yield window(4, 6, 4, 3, groups=2), window(4, 4, 4, 3, groups=2), "sparse"
    yield scale((3, 6, 6), (3, 1, 1)), window(3, 6, 4, 3, p=1), "conv"
    yield scale((4, 6, 6), (4, 1, 1)), window(4, 6, 6, 3, p=1, groups=2), "conv"
    yield scale((3, 6, 6), (6, 6)), window(3, 6, 4, 3, p=1), "sparse"
    yield window(3, 6, 4, 3, p=1), scale((4, 6, 6), (4, 1, 1)), "conv"
    yield window(3, 6, 4, 3, p=1), scale((144,), (144,)), "sparse"
    yield window(3, 6, 4, 3), Synapse("dense", (64,), (5,), rng.integers(1, 4, (5, 64)).astype(float)), "dense"
    yield Synapse("dense", (6,), (5,), rng.integers(-3, 4, (5, 6)).astype(float)), scale((5,), (5,)), "dense"
    yield scale((2, 3), (2, 3)), Synapse("dense", (6,), (5,), rng.integers(-3, 4, (5, 6)).astype(float)), "dense"
    yield scale((5,), ()), scale((5,), (5,)), "scale"


def test_compose_gives_the_product_in_the_narrowest_kind():
    for first, second, kind in chains(np.random.default_rng(5)):
        merged = compose(first, second)
        np.testing.assert_array_equal(matrix(merged).toarray(), (matrix(second) @ matrix(first)).toarray())
        assert merged.kind == kind and merged.in_size == first.in_size and merged.out_size == second.out_size
        if kind == "conv":  # the shape that a simulator works out is the one that is written down
            x = np.ones((1, *merged.in_shape))
            assert torch_conv(merged, x).shape[1:] == merged.out_shape
