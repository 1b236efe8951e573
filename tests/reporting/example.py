"""A report with every part, from a small network that was really run; recalls and curves are made up for the tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from ashneuro.cost.compare import compare
from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.measure import Measurement, NotMeasured
from ashneuro.cost.profile import load_profile
from ashneuro.cost.workload import ann_twin, count, count_steps
from ashneuro.exchange import EpochMetrics
from ashneuro.program.certificate import Certificate, Comparison, Computation, LayerComparison
from ashneuro.reporting.summary import Example, Hit, Report
from tests.cost import networks


def picture(seed):
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (48, 48), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = rng.integers(2, 30, 2)
        draw.ellipse((x, y, x + 14, y + 14), fill=tuple(int(c) for c in rng.integers(40, 240, 3)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def metrics(first):
    return {"R@1": first, "R@5": min(1.0, 2 * first), "R@10": min(1.0, 2.5 * first), "median_rank": 4.0}


def evaluation(rows, spikes_from="torch", images=160, ratio=True):
    """The JSON of an evaluation: rows are name, R@1 image → text, R@1 text → image."""
    return {
        "schema": "ashneuro.evaluation/1",
        "kind": "spiking",
        "split": "emoji, style split, test",
        "images": images,
        "texts": 2 * images,
        "concepts": images,
        "rows": [
            {
                "name": name,
                "spikes_from": spikes_from,
                "image_to_text": metrics(forward),
                "text_to_image": metrics(backward),
            }
            for name, forward, backward in rows
        ],
        "chance": {"image_to_text": metrics(0.0062), "text_to_image": metrics(0.0031)},
        "ratio": {"mean": 0.83, "min": 0.31, "max": 1.42, "channels": [0.31, 0.76, 1.42]} if ratio else {},
        "firing_rate": {"lif1": 0.268, "lif4": 0.55} if spikes_from == "torch" else {},
        "examples": [],
    }


def answers(rows, spikes_from="torch", kind="spiking"):
    """The JSON of a task's evaluation: rows are name and accuracy; of yes/no questions it is half."""
    return {
        "schema": "ashneuro.task-evaluation/1",
        "task": "vqa",
        "kind": kind,
        "split": "squares, test",
        "questions": 40,
        "pictures": 20,
        "measure": "VQA accuracy",
        "rows": [
            {"name": name, "accuracy": value, "by_kind": {"yes/no": value / 2}, "consistency": None}
            | {"spikes_from": "none" if name == "most frequent answer" else spikes_from}
            for name, value in rows
        ],
        "answerable": 0.95,
        "firing_rate": {},
        "examples": [
            {"images": ["a.png"], "text": "what <i>colour</i>?", "said": "red", "answers": ["red", "red"], "score": 1.0}
        ],
    }


def certificate(names):
    def layers(differ=0):
        return tuple(LayerComparison(name, 6144, 900, differ, (1, 2, 7) if differ else None) for name in names)

    pairs = (
        Comparison(Computation.GRAPH, Computation.FLOAT, True, layers()),
        Comparison(Computation.INTEGER, Computation.LAVA_INTEGER, True, layers()),
        Comparison(Computation.GRAPH, Computation.LAVA_FLOAT, True, reason="no Python 3.10 was found"),
        Comparison(Computation.GRAPH, Computation.INTEGER, False, layers(21)),
    )
    return Certificate(
        6, 4, pairs, {"python": "3.11.7", "nir": "1.0.8"}, {"float": {"R@1": 0.278}, "integer": {"R@1": 0.272}}
    )


def training():
    return [
        EpochMetrics(
            epoch=epoch + 1,
            loss=3 * 0.7**epoch + 0.4,
            losses={"itc": 2 * 0.7**epoch, "stua": 0.7**epoch},
            firing_rate=0.1 + 0.1 * 0.8**epoch,
            firing_rates={"lif1": 0.2 * 0.9**epoch, "lif2": 0.1},
            learning_rate=1e-3,
            seconds=3.0,
            validation={"R@1_image_to_text": 0.3 - 0.3 * 0.7**epoch, "R@1_text_to_image": 0.2},
        )
        for epoch in range(12)
    ]


def whole_report(**changes):
    program = networks.tiny_program(channels=16, size=8)
    inputs = networks.images(program, 6, scale=0.9)
    record = networks.run(program, inputs)
    hybrid, twin = count(program, record, networks.HOST), ann_twin(program, host_layers=networks.HOST)
    profiles = {name: load_profile(name) for name in ("cmos45", "loihi1", "loihi2", "h100")}
    evaluations = [
        evaluation([("hybrid", 0.278, 0.342), ("hybrid, A zeroed", 0.121, 0.162), ("hybrid, C zeroed", 0.204, 0.251)]),
        evaluation([("no abstract encoder", 0.243, 0.287)], "none", ratio=False),
        evaluation([("quantised-ReLU twin", 0.281, 0.339)], "none"),
        evaluation([("hybrid", 0.272, 0.336)], "loihi"),
        evaluation([("hybrid", 0.281, 0.344)], "Lava", images=64),
    ]
    fields = {
        "title": "a test's tiny network",
        "about": {"run": "runs/tiny", "weights": "sha256 0123456789abcdef"},
        "config": {"train": {"epochs": 8, "seed": 0}},
        "training": training(),
        "evaluations": evaluations,
        "tasks": [
            answers(
                [
                    ("hybrid", 0.61),
                    ("hybrid, A zeroed", 0.51),
                    ("hybrid, text alone", 0.41),
                    ("most frequent answer", 0.31),
                ]
            ),
            answers([("no abstract encoder", 0.55), ("most frequent answer", 0.31)], "none", "none"),
            answers([("hybrid", 0.62)], "Lava, fixed"),
        ],
        "facts": {"seed": "0"},
        "workload": hybrid,
        "estimates": [estimate(hybrid.part("deployed"), profiles[name]) for name in ("loihi1", "loihi2")],
        "placements": [deploy(program, record, profiles[name]).placement for name in ("loihi1", "loihi2")],
        "steps": count_steps(program, record, {"input": inputs}),
        "step_samples": record.samples,
        "measurements": [
            Measurement(
                "NVIDIA Test",
                "board",
                "NVML",
                1.5e-3,
                2e-3,
                1.4e-3,
                1.6e-3,
                64,
                "fp16",
                80.0,
                "ANN twin",
                3e-3,
                "2026-01-01",
            ),
            NotMeasured("ANN twin", "cpu", "there is no counter"),
        ],
        "comparison": compare(
            hybrid, twin, node=profiles["cmos45"], chips=[profiles["loihi1"]], machines=[profiles["h100"]]
        ),
        "certificate": certificate([layer.name for layer in program.layers]),
        "profiles": list(profiles.values()),
        "raster": {layer.name: record.layers[layer.name].raster[:, 0] for layer in program.layers},
        "examples": [
            Example("blue <b>car</b>", tuple(Hit(f"car {i}", i == 1, 0.9 - 0.1 * i, picture(i)) for i in range(5))),
            Example("grinning face", tuple(Hit(f"face {i}", i == 0, 0.9 - 0.1 * i) for i in range(5)), picture(9)),
            Example("a picture that is gone", (Hit("absent", False, 0.3),)),
        ],
    }
    return Report(**{**fields, **changes})
