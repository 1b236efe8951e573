"""Sound pictures with captions, in the usual formats."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np


def pictures(folder: Path) -> None:
    """Write eight pictures, their captions as tables, and both as shards."""
    from PIL import Image

    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    names = [f"{number}.png" for number in range(8)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(folder / name)
    Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(folder / "0.jpg")
    Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(folder / "0.tiff")
    texts = [f"a thing of kind {number}" for number in range(8)]
    tables = {
        "jsonl": "".join(json.dumps({"image": n, "caption": t}) + "\n" for n, t in zip(names, texts, strict=True)),
        "json": json.dumps([{"image": n, "caption": t} for n, t in zip(names, texts, strict=True)]),
        "csv": "image,caption\n" + "".join(f"{n},{t}\n" for n, t in zip(names, texts, strict=True)),
        "coco.json": json.dumps(
            {
                "images": [{"id": i, "file_name": n} for i, n in enumerate(names)],
                "annotations": [{"id": i, "image_id": i, "caption": t} for i, t in enumerate(texts)],
            }
        ),
    }
    for suffix, text in tables.items():
        (folder / f"pairs.{suffix}").write_text(text)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for number, (name, text) in enumerate(zip(names, texts, strict=True)):
            for suffix, data in (("png", (folder / name).read_bytes()), ("txt", text.encode())):
                member = tarfile.TarInfo(f"{number:03}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    (folder / "shard-000000.tar").write_bytes(packed.getvalue())
    (folder / "packed.tar.gz").write_bytes(gzip.compress(packed.getvalue(), mtime=0))
