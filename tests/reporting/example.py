"""A report with every part: a small network is run, recalls and curves are invented."""

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
from ashneuro.evaluation import (
    AnsweredQuestion,
    Condition,
    Evaluation,
    FusionRatio,
    RetrievalExample,
    RetrievalHit,
    RetrievalRow,
    SpikeSource,
    TaskEvaluation,
    TaskRow,
)
from ashneuro.exchange import EpochMetrics
from ashneuro.program.certificate import Certificate, Comparison, Computation, LayerComparison
from ashneuro.reporting.summary import Report
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


def evaluation(rows, kind="spiking", source=SpikeSource.TORCH, images=160, ratio=True):
    """An evaluation whose rows are (condition, R@1 image → text, R@1 text → image)."""
    return Evaluation(
        kind=kind,
        split="emoji, style split, test",
        images=images,
        texts=2 * images,
        concepts=images,
        rows=tuple(
            RetrievalRow(condition, source, metrics(forward), metrics(backward))
            for condition, forward, backward in rows
        ),
        chance=RetrievalRow(Condition.CHANCE, SpikeSource.NONE, metrics(0.0062), metrics(0.0031)),
        ratio=FusionRatio(0.83, 0.31, 1.42, (0.31, 0.76, 1.42)) if ratio else None,
        firing_rate={"lif1": 0.268, "lif4": 0.55} if source is SpikeSource.TORCH else {},
        examples=(),
    )


def answers(rows, kind="spiking", source=SpikeSource.TORCH):
    """The evaluation of a task, rows are (condition, accuracy); of yes/no questions it is half."""
    return TaskEvaluation(
        task="vqa",
        kind=kind,
        split="squares, test",
        questions=40,
        pictures=20,
        rows=tuple(
            TaskRow(
                condition,
                SpikeSource.NONE if condition is Condition.MOST_FREQUENT else source,
                value,
                {"yes/no": value / 2},
                None,
            )
            for condition, value in rows
        ),
        answerable=0.95,
        firing_rate={},
        examples=(AnsweredQuestion(("a.png",), "what <i>colour</i>?", "red", ("red", "red"), 1.0),),
    )


def example(kind, key, text, hits):
    """A query whose hits are (text, correct); the text is the key too."""
    found = (RetrievalHit(text, text, 0.9 - 0.1 * rank, correct) for rank, (text, correct) in enumerate(hits))
    return RetrievalExample(kind, key, text, tuple(found))


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
    whole = Condition.WHOLE
    evaluations = [
        evaluation([(whole, 0.278, 0.342), (Condition.A_ZEROED, 0.121, 0.162), (Condition.C_ZEROED, 0.204, 0.251)]),
        evaluation([(whole, 0.243, 0.287)], "none", SpikeSource.NONE, ratio=False),
        evaluation([(whole, 0.281, 0.339)], "quantised-relu", SpikeSource.NONE),
        evaluation([(whole, 0.272, 0.336)], source=SpikeSource.EMULATOR),
        evaluation([(whole, 0.281, 0.344)], source=SpikeSource.LAVA_INTEGER, images=64),
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
                    (whole, 0.61),
                    (Condition.A_ZEROED, 0.51),
                    (Condition.V_ZEROED, 0.41),
                    (Condition.MOST_FREQUENT, 0.31),
                ]
            ),
            answers([(whole, 0.55), (Condition.MOST_FREQUENT, 0.31)], "none", SpikeSource.NONE),
            answers([(whole, 0.62)], source=SpikeSource.LAVA_INTEGER),
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
            example("text", "blue", "blue <b>car</b>", [(f"car {i}", i == 1) for i in range(5)]),
            example("image", "grin", "grinning face", [(f"face {i}", i == 0) for i in range(5)]),
            example("text", "gone", "a picture that is gone", [("absent", False)]),
        ],
        "pictures": {f"car {i}": picture(i) for i in range(5)} | {"grin": picture(9)},
    }
    return Report(**{**fields, **changes})
