"""Messages on files that are neither NIR nor netx, and on nodes that are no primitives."""

import codecs

import h5py
import nir
import numpy as np
import pytest

from ashneuro.errors import GraphError
from ashneuro.program.check import check
from ashneuro.program.foreign import INSTEAD, INSTEAD_OF_OTHERS, instead_of
from ashneuro.program.netx.read import read_netx
from ashneuro.program.nir_file import load_graph
from ashneuro.spiking.contract import Contract
from ashneuro.workflows.networks import open_network
from tests.program import networks

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"

CONTENTS = [
    (LFS, "pointer of Git LFS", "git lfs pull"),
    (codecs.BOM_UTF8 + LFS, "pointer of Git LFS", "git lfs pull"),
    (LFS.decode().encode("utf-16"), "pointer of Git LFS", "git lfs pull"),
    (b"\r\n" + LFS, "pointer of Git LFS", "git lfs pull"),
    (b"version https://hawser.github.com/spec/v1\n", "pointer of Git LFS", "git lfs pull"),
    (b" \n\n", "it is empty", "download it again"),
    (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "answer of a server", "download it again"),
    (b"404: Not Found", "answer of a server", "download it again"),
    (b"net.nir" + bytes(250) + b"ustar", "a tar archive", "tar xf it"),
    (b"BZh91AY", "compressed with bzip2", "bunzip2 it"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unxz it"),
    (b"/annex/objects/MD5E-s92--2df.nir\n", "pointer of git-annex", "git annex get"),
    (b"../.git/annex/objects/x/MD5E-s92--2df.nir\n", "pointer of git-annex", "git annex get"),
    (b"", "it is empty", "download it again"),
    (b"\n<!DOCTYPE html><html>404</html>", "a web page", "download the file itself"),
    (b"PK\x03\x04rest", "zip archive", None),
    (b"\x80\x04\x95", "a pickle", None),
    (b"\x1f\x8b\x08", "compressed with gzip", "gunzip it"),
    (b"\x93NUMPY\x01", "an array of numpy", None),
    (b'{"nodes": []}\n', """text file that begins with '{"nodes": []}'""", None),
    ("Grüße".encode(), "text file that begins with 'Grüße'", None),
    (b"\x00\x01\x02\x03\x04", "binary data that begins with 00 01 02 03", None),
]


@pytest.mark.parametrize(("content", "found", "remedy"), CONTENTS)
@pytest.mark.parametrize("name", ["x.nir", "x.net", "x.h5"])
def test_content_of_a_foreign_file_is_named(tmp_path, content, found, remedy, name):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (open_network, load_graph, read_netx):
        with pytest.raises(GraphError) as error:
            read(path)
        assert str(path) in error.value.what and "not an HDF5 file" in error.value.why and found in error.value.why
        assert (remedy or ("export_hdf5" if name == "x.net" else "nir.write")) in error.value.do
        assert ("lava-dl network" in error.value.what) == (name == "x.net")


def test_other_hdf5_is_told_by_its_groups(tmp_path):
    path = tmp_path / "keras.nir"
    with h5py.File(path, "w") as file:
        file.create_group("model_weights")
    with pytest.raises(GraphError, match="it holds 'model_weights'") as error:
        open_network(path)
    assert "NIR file" in error.value.what and "nir.write" in error.value.do
    network = path.rename(tmp_path / "keras.net")
    with pytest.raises(GraphError, match="no group 'layer'") as error:
        open_network(network)
    assert "lava-dl network" in error.value.what and "export_hdf5" in error.value.do


def with_types(tmp_path, **types):
    """Return the path of a graph whose nodes have these types."""
    rng = np.random.default_rng(0)
    nodes = [networks.affine(4, 4, rng) for _ in types]
    graph = networks.chain((4,), *nodes, networks.lif((4,), rng))
    path = tmp_path / "foreign.nir"
    nir.write(path, graph)
    with h5py.File(path, "r+") as file:
        for name, kind in types.items():
            del file[f"node/nodes/{name}/type"]
            file[f"node/nodes/{name}/type"] = kind
    return path


def test_file_that_was_not_finished_is_named(tmp_path):
    """nir 1.0.8 cannot write single numbers, and leaves what it has written so far."""
    rng = np.random.default_rng(0)
    lif = nir.LIF(*(np.array(value) for value in (2e-3, 1.0, 0.0, 1.0, 0.0)))
    graph = networks.chain((4,), networks.affine(4, 3, rng), lif, type_check=False)
    with pytest.raises(TypeError):
        nir.write(tmp_path / "half.nir", graph)
    with pytest.raises(GraphError) as error:
        load_graph(tmp_path / "half.nir")
    assert "did not finish" in error.value.why and "atleast_1d" in error.value.do
    for key in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
        setattr(lif, key, np.atleast_1d(getattr(lif, key)))
    nir.write(tmp_path / "whole.nir", graph)
    assert set(load_graph(tmp_path / "whole.nir").nodes) == set(graph.nodes)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("MaxPool2d", "SumPool2d"),
        ("BatchNorm2d", "fold it into weights and bias"),
        ("BatchNorm1d", "fold it"),
        ("Dropout", "remove it"),
        ("ALIF", "use LIF or CubaLIF"),
        ("Reset", "remove it"),
        ("ReLU", "use IF or LIF"),
        ("LayerNorm", "train with BatchNorm"),
        ("ConvTranspose2d", "the matrix that it is"),
        ("Conv3d", "Conv1d or Conv2d"),
        ("Lif", "write the type as LIF"),
        ("LIFNode", "use LIF"),
        ("RLIF", "a Linear from it to itself"),
        ("Leaky", "use LIF"),
        ("LIFRefractory", "ashneuro.dynamics = refractory"),
        ("AvgPool1d", "Conv1d"),
        ("ZeroPad2d", "padding of the convolution"),
        ("PoissonEncoder", "on the host"),
        ("Frobnicator", INSTEAD_OF_OTHERS),
    ],
)
def test_unknown_type_says_what_to_use(tmp_path, kind, said):
    with pytest.raises(GraphError) as error:
        load_graph(with_types(tmp_path, n0=kind))
    assert f"n0: {kind!r} is not a primitive of NIR" in error.value.why
    assert error.value.do.startswith(f"{kind}: ") and said in error.value.do


def test_every_unknown_type_has_its_remedy(tmp_path):
    with pytest.raises(GraphError) as error:
        load_graph(with_types(tmp_path, n0="MaxPool2d", n1="BatchNorm2d", n2="MaxPool2d"))
    assert "3 node(s)" in error.value.what and error.value.why.count("MaxPool2d") == 2
    assert error.value.do.count("MaxPool2d") == 1 and "BatchNorm2d: fold" in error.value.do


def test_unknown_node_in_memory():
    class MaxPool2d(nir.Flatten):
        pass

    rng = np.random.default_rng(0)
    graph = networks.chain((4,), MaxPool2d({"input": np.array([4])}, 0), networks.lif((4,), rng), type_check=False)
    (found,) = [finding for finding in check(graph, Contract(), "nir") if finding.rule == "known_primitive"]
    assert found.remedy == INSTEAD["maxpool"]


def test_dimension_and_case_of_a_type_do_not_matter():
    assert {instead_of(kind) for kind in ("maxpool", "MaxPool", "MaxPool3D", "max_pool2d")} == {INSTEAD["maxpool"]}
    assert instead_of("LSTMCell") == INSTEAD["lstm"] and instead_of("ALIFNode") == INSTEAD["alif"]
