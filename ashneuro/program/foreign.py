"""Files and nodes that are not ours: what they are, and what helps.

Both are told from their content alone, so that a message names the user's file or module.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ashneuro.errors import GraphError

NIR_EXPORT = "write it with nir.write(path, graph)"
NETX_EXPORT = "write it with lava-dl: export every block with block.export_hdf5(handle)"

LFS = ("it is a pointer of Git LFS, a few lines that stand for the file", "git lfs pull")
# Start of a file: what it is, and what helps; empty: export the network.
STARTS: Mapping[bytes, tuple[str, str]] = {
    b"version https://git-lfs": LFS,
    b"version https://hawser": LFS,  # before its first release
    b"/annex/objects/": ("it is a pointer of git-annex, a line that stands for the file", "git annex get"),
    b"PK\x03\x04": ("it is a zip archive, perhaps of torch.save", ""),
    b"\x80": ("it is a pickle, perhaps of torch.save", ""),
    b"\x1f\x8b": ("it is compressed with gzip", "gunzip"),
    b"BZh": ("it is compressed with bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("it is compressed with xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("it is compressed with zstd", "unzstd"),
    b"7z\xbc\xaf\x27\x1c": ("it is a 7z archive", "7z x"),
    b"\x93NUMPY": ("it is an array of numpy", ""),
}
WEB_PAGE = re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)
RAW = "download the file itself, not the page that shows it"
# The answer of a server that has no such file, saved under its name.
ANSWER = re.compile(
    rb"\s*(<\?xml[^>]*>\s*<Error>|[45]\d\d[: ]+\w|(Entry |File )?Not Found\b|Access Denied\b)", re.IGNORECASE
)
TAR = slice(257, 262)  # of its first header: "ustar"


def kind_of_file(path: Path) -> tuple[str, str, str]:
    """Return the kind of network that a file's name says, its HDF5 group, and how to write it."""
    lava_dl = path.suffix == ".net"
    return ("a lava-dl network", "layer", NETX_EXPORT) if lava_dl else ("a NIR file", "node", NIR_EXPORT)


def foreign_file(path: Path) -> GraphError:
    """Return the error for a readable file that is not HDF5: what it is, and what helps."""
    wanted, _, export = kind_of_file(path)
    with path.open("rb") as file:
        start = file.read(512)
    found, remedy = _content(start)
    return GraphError(f"{path} is not {wanted}", f"it is not an HDF5 file: {found}", remedy or export)


def _content(start: bytes) -> tuple[str, str]:
    """Return (what a file is that starts so, what helps); empty: nothing but an export."""
    # Editors and shells may have saved it with a mark of its encoding, or blank lines in front.
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if start.startswith(mark):
            start = start.removeprefix(mark).decode(encoding, "replace").encode()
    start = start.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n\t ")
    if not start:
        return "it is empty", "copy or download it again"
    if WEB_PAGE.match(start):
        return "it is a web page", RAW
    if ANSWER.match(start):
        return f"it is the answer of a server that did not send it: {_line(start)!r}", "download it again"
    if start[TAR] == b"ustar":
        return "it is a tar archive", "tar xf it"
    # git-annex writes relative paths too.
    for begin, (found, remedy) in STARTS.items():
        if start.startswith(begin) or (begin == b"/annex/objects/" and begin in start.split(b"\n")[0]):
            return found, f"{remedy} {'in its repository' if remedy.startswith('git') else 'it'}" if remedy else ""
    line = _line(start)
    if b"\0" in start or not line.isprintable():
        return f"it is binary data that begins with {start[:4].hex(' ')}", ""
    return f"it is a text file that begins with {line!r}", ""


def _line(start: bytes) -> str:
    """Return the first line of a text, at most 60 characters."""
    return start.decode("utf8", "replace").splitlines()[0].strip()[:60]


ADAPTIVE = (
    "NIR has none with an adaptive threshold: use LIF or CubaLIF with ashneuro.dynamics = adaptive in its metadata"
    " (docs/nir.md), if it steps like Lava's ATRLIF"
)
# Type of a node, in lower case and without its dimension: what to use instead.
INSTEAD: Mapping[str, str] = {
    "maxpool": "no target takes a maximum of spikes: use SumPool2d, AvgPool2d or a Conv2d with stride",
    "adaptiveavgpool": "use AvgPool2d with the kernel that it comes to",
    "spikingmaxpooling": "no target takes a maximum of spikes: use SumPool2d, AvgPool2d or a Conv2d with stride",
    "maxpool1d": "no target takes a maximum of spikes: use a Conv1d with equal weights and a stride, a mean",
    "avgpool1d": "use a Conv1d with equal weights and a stride, one group per channel",
    "sumpool1d": "use a Conv1d with weights of 1 and a stride, one group per channel",
    "avgpool": "use AvgPool2d, or a Conv1d with equal weights",
    "sumpool": "use SumPool2d, or a Conv1d with equal weights",
    "batchnorm": "fold it into weights and bias of the layer before it (torch.nn.utils.fusion), then remove it",
    "layernorm": "it depends on its input, which no synapse does: train with BatchNorm and fold that",
    "groupnorm": "it depends on its input, which no synapse does: train with BatchNorm and fold that",
    "instancenorm": "it depends on its input, which no synapse does: train with BatchNorm and fold that",
    "dropout": "remove it: it does nothing after training",
    "identity": "remove it, and join the nodes on both sides",
    "reset": "remove it: u and v are reset at the start of every sample",
    "alif": ADAPTIVE,
    "adaptivelif": ADAPTIVE,
    "adlif": "NIR has none whose spikes adapt its current: use LIF or CubaLIF",
    "rf": "NIR has no resonate-and-fire neuron: use LIF with ashneuro.dynamics = resonate or izhikevich in its"
    " metadata (docs/nir.md), if it steps like Lava's RF or RF_IZ",
    "izhikevich": "NIR has no such neuron: use LIF or CubaLIF; ashneuro.dynamics = izhikevich in the metadata of a LIF"
    " (docs/nir.md), if it is a resonator and steps like Lava's RF_IZ",
    "plif": "its time constant is an ordinary parameter after training: use LIF",
    "parametriclif": "its time constant is an ordinary parameter after training: use LIF",
    "leaky": "use LIF, with tau = dt / (1 − beta) and r = tau / dt",
    "lapicque": "use LIF, with tau = R·C and r = R",
    "rleaky": "use LIF, and a Linear from it to itself",
    "rlif": "use LIF, and a Linear from it to itself",
    "synaptic": "use CubaLIF, with w_in = tau_syn / dt and r = tau_mem / dt",
    "rsynaptic": "use CubaLIF, and a Linear from it to itself",
    "rcubalif": "use CubaLIF, and a Linear from it to itself",
    "cubaif": "use LI, then IF",
    "lifbox": "use LIF",
    "liftorch": "use CubaLIF",
    "iaf": "use IF",
    "expleak": "use LI",
    "expsyn": "use LI",
    "lifrefractory": "use LIF with ashneuro.dynamics = refractory in its metadata (docs/nir.md)",
    "ternarylif": "use LIF with ashneuro.dynamics = ternary in its metadata (docs/nir.md)",
    "delta": "use a Threshold with ashneuro.message = change in its metadata (docs/nir.md)",
    "sigmadelta": "use I, then Linear, then a Threshold with ashneuro.message = change in its metadata (docs/nir.md)",
    "sigma": "use I",
    "encoder": "keep it on the host: the graph's Input takes its spikes",
    "poissonencoder": "keep it on the host: the graph's Input takes its spikes",
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
    "cat": "write each branch as its own Linear, with edges into the same node: they are summed",
    "add": "remove it: edges into the same node are summed",
    "sum": "remove it: edges into the same node are summed",
    "sub": "put a Scale of −1 on the branch that is subtracted; edges into the same node are summed",
    "mul": "use Scale for a factor that does not change; products of signals have no form",
    "multiply": "use Scale for a factor that does not change; products of signals have no form",
    "div": "use Scale for a factor that does not change",
    "dense": "use Linear, or Affine with its bias",
    "fullyconnected": "use Linear, or Affine with its bias",
    "bias": "add it to the bias of the layer before it, or use Affine or a Conv1d or Conv2d with it",
    "pad": "write it as the padding of the convolution behind it",
    "zeropad": "write it as the padding of the convolution behind it",
    "interpolate": "write it as the matrix that it is: Linear",
    "squeeze": "remove it: shapes have no axes of batch and time; use Flatten for others",
    "unsqueeze": "remove it: shapes have no axes of batch and time",
    "sequential": "use NIRGraph, with an Input and an Output",
}
INSTEAD_OF_OTHERS = "replace the module by layers that have a NIR primitive (docs/nir.md lists them), and export again"


def instead_of(kind: str, primitives: Iterable[str] = ()) -> str:
    """Return the remedy for a node of a type that is no primitive.

    Args:
        kind: the type as written, e.g. ``"MaxPool2d"``.
        primitives: names of the primitives; one that differs in case alone is named.
    """
    same = [name for name in primitives if name.lower() == kind.lower()]
    if same:
        return f"write the type as {same[0]}"
    whole = re.sub(r"[_\W]", "", kind.lower())
    plain = re.sub(r"(\d+d?|d)$", "", whole)
    names = (whole, plain, plain.removesuffix("cell"), plain.removesuffix("node"))
    similar = {name.lower(): name for name in primitives}
    if (base := names[-1]) in similar and base != whole:  # LIFNode, IFNode
        return f"use {similar[base]}, if it computes the same"
    return next((INSTEAD[name] for name in names if name in INSTEAD), INSTEAD_OF_OTHERS)
