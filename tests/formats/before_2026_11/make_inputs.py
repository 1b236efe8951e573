"""Write the inputs of the fixture: pictures of coloured shapes, a NIR graph and a lava-dl
network.
"""

import io
import tarfile
from itertools import pairwise

import h5py
import nir
import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": "#d22",
    "green": "#2a3",
    "blue": "#24d",
    "yellow": "#fc2",
    "black": "#111",
    "white": "#eee",
}
SHAPES = {
    "disc": lambda draw, box, colour: draw.ellipse(box, fill=colour),
    "square": lambda draw, box, colour: draw.rectangle(box, fill=colour),
    "ring": lambda draw, box, colour: draw.ellipse(box, outline=colour, width=2),
    "bar": lambda draw, box, colour: draw.rectangle((box[0], box[1] + 4, box[2], box[1] + 6), fill=colour),
    "pole": lambda draw, box, colour: draw.rectangle((box[0] + 4, box[1], box[0] + 6, box[3]), fill=colour),
}


def shapes() -> None:
    """Write three shards; test and validation have combinations of colour and shape that training
    has not.
    """
    parts = {"train": [], "validation": [], "test": []}
    for i, (colour, value) in enumerate(COLOURS.items()):
        for j, (shape, draw) in enumerate(SHAPES.items()):
            part = {0: "test", 1: "validation"}.get((i + j) % 5, "train")
            for k, (x, y) in enumerate([(1, 2), (4, 3)] if part != "validation" else [(2, 4)]):
                image = Image.new("RGB", (16, 16), "#888")
                draw(ImageDraw.Draw(image), (x, y, x + 10, y + 10), value)
                parts[part].append((f"{colour}-{shape}-{k}", f"{colour} {shape}", image))
    for part, samples in parts.items():
        with tarfile.open(f"shapes/{part}.tar.gz", "w:gz") as tar:
            for key, caption, image in samples:
                png = io.BytesIO()
                image.save(png, "PNG", optimize=True)
                for name, content in ((f"{key}.png", png.getvalue()), (f"{key}.txt", caption.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def graph() -> None:
    """Write an LIF layer and a CubaLIF layer between dense ones, without a contract in the
    metadata.
    """
    rng = np.random.default_rng(0)
    ones = np.ones
    lif = nir.LIF(tau=8e-3 * ones(12), r=ones(12), v_leak=np.zeros(12), v_threshold=ones(12))
    cuba = nir.CubaLIF(
        tau_syn=4e-3 * ones(5),
        tau_mem=8e-3 * ones(5),
        r=ones(5),
        v_leak=np.zeros(5),
        v_threshold=0.5 * ones(5),
    )
    nodes = {
        "input": nir.Input({"input": np.array([9])}),
        "fc1": nir.Affine(rng.normal(0, 3, (12, 9)), rng.normal(0, 0.2, 12)),
        "lif": lif,
        "fc2": nir.Linear(rng.normal(0.5, 4, (5, 12))),
        "cuba": cuba,
        "output": nir.Output({"output": np.array([5])}),
    }
    names = list(nodes)
    nir.write("lif_cubalif.nir", nir.NIRGraph(nodes, list(pairwise(names))))


def netx() -> None:
    """Write a file as lava-dl's `export_hdf5` does: a convolution, a dense layer with axonal
    delays, a dense layer.
    """
    rng = np.random.default_rng(0)

    def even(*shape: int) -> np.ndarray:
        return 2.0 * rng.integers(-20, 21, shape)

    def neuron(current: int, voltage: int, threshold: int) -> dict[str, int | str]:
        return {"type": "CUBA", "iDecay": current, "vDecay": voltage, "vThMant": threshold, "refDelay": 1}

    conv = {"stride": [2, 2], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "kernelSize": [3, 3]}
    layers = [
        {"type": "input", "shape": [2, 7, 7]},
        {"type": "conv", "shape": [4, 3, 3], **conv, "weight": even(4, 2, 3, 3), "bias": even(4)},
        {"type": "flatten", "shape": [36, 1, 1]},
        {"type": "dense", "shape": [6, 1, 1], "weight": even(6, 36), "delay": np.float32([0, 1, 2, 0, 1, 2])},
        {"type": "dense", "shape": [3, 1, 1], "weight": 5 * even(3, 6)},
    ]
    with h5py.File("conv_delays.net", "w") as file:
        for index, fields in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for name, value in fields.items():
                if name == "type":
                    group.create_dataset(name, (1,), "S10", [value.encode()])
                else:
                    group.create_dataset(name, data=np.asarray(value))
            if fields["type"] in ("conv", "dense"):
                for name, value in neuron(4096, 128, 60).items():
                    group[f"neuron/{name}"] = value
        file["simulation/Ts"], file["simulation/tSample"] = 1.0, 12


shapes()
graph()
netx()
