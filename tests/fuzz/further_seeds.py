"""Sound inputs of further formats: ONNX models, parquet tables, clips, questions."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np

from ashneuro.data.clip_pack import PackedClip, encode, write_pack
from ashneuro.exchange import Joules, StreamCoding, StreamEvaluation, StreamRate
from tests.fuzz.pictures import pictures


def onnx_model(path: Path) -> None:
    """Write a convolution and a matrix product on pictures (B, 2, 8, 8)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(2)
    weights = {
        "conv.weight": random.normal(size=(4, 2, 3, 3)).astype(np.float32),
        "conv.bias": random.normal(size=4).astype(np.float32),
        "fc.weight": random.normal(size=(144, 10)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["a"], name="conv"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Flatten", ["b"], ["c"], name="flat"),
        helper.make_node("MatMul", ["c", "fc.weight"], ["y"], name="fc"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))


def tables(folder: Path) -> None:
    """Write pairs as parquet and arrow with pictures in them, as imagefolders, with side-cars, and
    as a shard with JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures(folder / "pictures")
    names = [f"{number}.png" for number in range(8)]
    texts = [f"a thing of kind {number}" for number in range(8)]
    held = [{"bytes": (folder / "pictures" / name).read_bytes(), "path": name} for name in names]
    table = pa.table({"image": held, "caption": texts})
    pq.write_table(table, folder / "pairs.parquet")
    with pa.OSFile(str(folder / "pairs.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    for name in ("csv", "jsonl", "parquet", "sidecars"):
        shutil.copytree(folder / "pictures", folder / name, ignore=lambda place, found: set(found) - set(names))
    pq.write_table(pa.table({"file_name": names, "text": texts}), folder / "parquet" / "metadata.parquet")
    rows = [{"file_name": name, "text": text} for name, text in zip(names, texts, strict=True)]
    (folder / "jsonl" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = "".join(f"{name},{text}\n" for name, text in zip(names, texts, strict=True))
    (folder / "csv" / "metadata.csv").write_text(f"file_name,text\n{lines}")
    for number, text in enumerate(texts):
        car = folder / "sidecars" / f"{number}.{'json' if number % 2 else 'txt'}"
        car.write_text(json.dumps({"caption": text}) if number % 2 else f"{text}\n")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for number, (name, text) in enumerate(zip(names, texts, strict=True)):
            picture = (folder / "pictures" / name).read_bytes()
            for suffix, data in (("png", picture), ("json", json.dumps({"caption": text, "id": number}).encode())):
                member = tarfile.TarInfo(f"{number:03}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    shutil.rmtree(folder / "pictures")


def clips(folder: Path) -> None:
    """Write a pack of two clips, and an animated picture."""
    from PIL import Image

    random = np.random.default_rng(3)
    entries = []
    for key in ("a", "b"):
        frames = random.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
        entry = PackedClip(key, (f"a moving {key}",), key, key, "plain", len(frames), 1)
        entries.append((entry, encode(frames), ""))
    write_pack(folder / "pack", entries, frames_per_s=10.0, info={})
    frames = [Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(4)]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=50)


def questions(folder: Path) -> None:
    """Write questions of each format about the same pictures."""
    from PIL import Image

    folder.mkdir(parents=True)
    random = np.random.default_rng(4)
    names = ["images/0.png", "images/1.png", "1.jpg", "2.jpg", "dev-1-0-img0.png", "dev-1-0-img1.png"]
    names += ["COCO_val2014_000000000001.jpg", "COCO_val2014_000000000002.jpg"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(folder / name)
    asked = [{"question_id": n, "image_id": n, "question": f"is it {n}?"} for n in (1, 2)]
    answered = [{"question_id": n, "answers": [{"answer": "yes"}] * 3, "answer_type": "yes/no"} for n in (1, 2)]
    entailed = [
        {"pairID": f"{n}.jpg#0", "Flickr30K_ID": n, "sentence2": f"a thing {n}", "gold_label": "neutral"}
        for n in (1, 2)
    ]
    sentence = {"identifier": "dev-1-0-0", "sentence": "Both are red.", "label": "True"}
    for name, content in {
        "v2_questions.json": {"data_subtype": "val2014", "questions": asked},
        "v2_annotations.json": {"data_subtype": "val2014", "annotations": answered},
        "questions.json": [["is it red?", "yes", 0], ["which colour?", "red", 1]],
    }.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "snli_ve_dev.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entailed))
    (folder / "nlvr2").mkdir()
    (folder / "nlvr2" / "dev.json").write_text(json.dumps(sentence) + "\n")


def stream(path: Path) -> None:
    """Write an evaluation of a stream at one frame rate."""
    joules = Joules(1e-6, 2e-6, 3e-6)
    coding = StreamCoding("changes", 1200.4, 200_000.0, 800.0, 4, joules)
    at = StreamRate(8.0, 40, 0.5, {"R@1": 0.3}, {"R@1": 0.4}, 1e6, joules, 5e5, joules, (coding,))
    found = StreamEvaluation("hybrid", "shapes", 5, 4, 1.0, "loihi", "cmos45", (at,))
    path.write_text(json.dumps(found.to_json(), indent=1))
