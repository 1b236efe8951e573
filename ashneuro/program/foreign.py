"""Files and nodes that are not ours: what they are, and what helps.

Both are told from their content alone, so that a message names the user's file or module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ashneuro.errors import GraphError

NIR_EXPORT = "write it with nir.write(path, graph)"
NETX_EXPORT = "write it with lava-dl: export every block with block.export_hdf5(handle)"

# Start of a file: what it is, and what helps; empty: export the network.
STARTS: Mapping[bytes, tuple[str, str]] = {
    b"version https://git-lfs": ("it is a pointer of Git LFS, a few lines that stand for the file", "git lfs pull"),
    b"/annex/objects/": ("it is a pointer of git-annex, a line that stands for the file", "git annex get"),
    b"PK\x03\x04": ("it is a zip archive, perhaps of torch.save", ""),
    b"\x80": ("it is a pickle, perhaps of torch.save", ""),
    b"\x1f\x8b": ("it is compressed with gzip", "gunzip"),
    b"\x93NUMPY": ("it is an array of numpy", ""),
}
WEB_PAGE = re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)
RAW = "download the file itself, not the page that shows it"


def foreign_file(path: Path) -> GraphError:
    """Return the error for a readable file that is not HDF5: what it is, and what helps."""
    wanted, export = ("a lava-dl network", NETX_EXPORT) if path.suffix == ".net" else ("a NIR file", NIR_EXPORT)
    with path.open("rb") as file:
        start = file.read(512)
    found, remedy = _content(start)
    return GraphError(f"{path} is not {wanted}", f"it is not an HDF5 file: {found}", remedy or export)


def _content(start: bytes) -> tuple[str, str]:
    """Return (what a file is that starts so, what helps); empty: nothing but an export."""
    if not start:
        return "it is empty", "copy or download it again"
    if WEB_PAGE.match(start):
        return "it is a web page", RAW
    # git-annex writes relative paths too.
    for begin, (found, remedy) in STARTS.items():
        if start.startswith(begin) or (begin == b"/annex/objects/" and begin in start.split(b"\n")[0]):
            return found, f"{remedy} {'in its repository' if remedy.startswith('git') else 'it'}" if remedy else ""
    line = start.decode("utf8", "replace").splitlines()[0].strip()[:60]
    if b"\0" in start or not line.isprintable():
        return f"it is binary data that begins with {start[:4].hex(' ')}", ""
    return f"it is a text file that begins with {line!r}", ""


# Type of a node, in lower case and without its dimension: what to use instead.
INSTEAD: Mapping[str, str] = {
    "maxpool": "no target takes a maximum of spikes: use SumPool2d, AvgPool2d or a Conv2d with stride",
    "adaptiveavgpool": "use AvgPool2d with the kernel that it comes to",
    "avgpool": "use AvgPool2d, or a Conv1d with equal weights",
    "sumpool": "use SumPool2d, or a Conv1d with equal weights",
    "batchnorm": "fold it into weights and bias of the layer before it (torch.nn.utils.fusion), then remove it",
    "layernorm": "it depends on its input, which no synapse does: train with BatchNorm and fold that",
    "groupnorm": "it depends on its input, which no synapse does: train with BatchNorm and fold that",
    "instancenorm": "it depends on its input, which no synapse does: train with BatchNorm and fold that",
    "dropout": "remove it: it does nothing after training",
    "identity": "remove it, and join the nodes on both sides",
    "reset": "remove it: u and v are reset at the start of every sample",
    "alif": "NIR has none with an adaptive threshold: use LIF or CubaLIF with ashneuro.dynamics = adaptive in its"
    " metadata (docs/nir.md), if it steps like Lava's ATRLIF",
    "adlif": "NIR has none whose spikes adapt its current: use LIF or CubaLIF",
    "rf": "NIR has no resonate-and-fire neuron: use LIF with ashneuro.dynamics = resonate or izhikevich in its"
    " metadata (docs/nir.md), if it steps like Lava's RF or RF_IZ",
    "izhikevich": "NIR has no such neuron: use LIF or CubaLIF; ashneuro.dynamics = izhikevich in the metadata of a LIF"
    " (docs/nir.md), if it is a resonator and steps like Lava's RF_IZ",
    "plif": "its time constant is an ordinary parameter after training: use LIF",
    "relu": "use a Threshold with ashneuro.message = graded in its metadata (docs/nir.md), or use IF or LIF",
    "sigmoid": "a graph has no activations without spikes: use IF or LIF, or keep that part on the host",
    "softmax": "there is none for spikes: take it on the host, from the outputs",
    "attention": "there is none for spikes: keep that part on the host",
    "lstm": "there is none for spikes: use CubaLIF with recurrent weights",
    "gru": "there is none for spikes: use CubaLIF with recurrent weights",
    "convtranspose": "write it as the matrix that it is: Linear, or Affine with its bias",
    "upsample": "write it as the matrix that it is: Linear",
    "unpool": "write it as the matrix that it is: Linear",
    "conv": "use Conv1d or Conv2d: no convolution has three dimensions here",
    "embedding": "keep it on the host: inputs are arrays, not indices",
    "reshape": "use Flatten",
    "view": "use Flatten",
    "permute": "there is none: permute the rows or columns of the weights behind it",
    "concat": "write each branch as its own Linear, with edges into the same node: they are summed",
    "add": "remove it: edges into the same node are summed",
    "sequential": "use NIRGraph, with an Input and an Output",
}
INSTEAD_OF_OTHERS = "replace the module by layers that have a NIR primitive, and export again"


def instead_of(kind: str, primitives: Iterable[str] = ()) -> str:
    """Return the remedy for a node of a type that is no primitive.

    Args:
        kind: the type as written, e.g. ``"MaxPool2d"``.
        primitives: names of the primitives; one that differs in case alone is named.
    """
    same = [name for name in primitives if name.lower() == kind.lower()]
    if same:
        return f"write the type as {same[0]}"
    plain = re.sub(r"(\d+d?|d)$", "", re.sub(r"[_\W]", "", kind.lower()))
    plain = next(
        (name for name in (plain, plain.removesuffix("cell"), plain.removesuffix("node")) if name in INSTEAD), ""
    )
    return INSTEAD.get(plain, INSTEAD_OF_OTHERS)
