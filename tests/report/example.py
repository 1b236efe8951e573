"""A report with every part, from a small network that was really run; recalls and curves are made up for the tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from ashneuro.cost.compare import compare
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import load_profile
from ashneuro.cost.workload import ann_twin, count
from ashneuro.report.summary import Example, Hit, Report
from ashneuro.simulate.certificate import Certificate, Comparison, LayerComparison
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


def recall(name, forward, backward, **extra):
    def metrics(first):
        return {"R@1": first, "R@5": min(1.0, 2 * first), "R@10": min(1.0, 2.5 * first), "median_rank": 4}

    return {
        "name": name,
        "image_to_text": metrics(forward),
        "text_to_image": metrics(backward),
        "chance_R@1": 0.0062,
        "images": 160,
        **extra,
    }


def certificate(names):
    def layers(differ=0):
        return tuple(LayerComparison(name, 6144, 900, differ, (1, 2, 7) if differ else None) for name in names)

    pairs = (
        Comparison("graph, float64", "float program", True, layers()),
        Comparison("integer program", "Lava, fixed_pt", True, layers()),
        Comparison("graph, float64", "Lava, floating_pt", True, reason="no Python 3.10 was found"),
        Comparison("graph, float64", "integer program", False, layers(21)),
    )
    return Certificate(6, 4, pairs, {"python": "3.11.7", "nir": "1.0.8"}, {"float": {"R@1": 0.278}, "integer": {"R@1": 0.272}})


def whole_report(**changes):
    program = networks.tiny_program(channels=16, size=8)
    record = networks.run(program, networks.images(program, 6, scale=0.9))
    hybrid, twin = count(program, record, networks.HOST), ann_twin(program, host_layers=networks.HOST)
    profiles = [load_profile(name) for name in ("cmos45", "loihi1", "loihi2", "h100")]
    by_name = {profile.name: profile for profile in profiles}
    rng = np.random.default_rng(0)
    fields = {
        "title": "a test's tiny network",
        "about": {"run": "runs/tiny", "weights": "sha256 0123456789abcdef"},
        "config": {"train": {"epochs": 8, "seed": 0}},
        "training": [
            {"epoch": epoch, "loss": 3 * 0.7**epoch + 0.4, "loss_itc": 2 * 0.7**epoch, "firing_rate": 0.1 + 0.1 * 0.8**epoch}
            | ({"validation_R@1": 0.3 * (1 - 0.7**epoch)} if epoch % 2 == 0 else {})
            for epoch in range(12)
        ],
        "evaluations": [
            recall("hybrid", 0.278, 0.342, basis="measured"),
            recall("hybrid, A = 0", 0.121, 0.162, basis="measured"),
            recall("hybrid, C = 0", 0.204, 0.251, basis="measured"),
            recall("no abstract encoder", 0.243, 0.287, basis="measured"),
            recall("quantised ReLU twin, 3 bit", 0.281, 0.339, basis="measured"),
            recall("hybrid, spikes from the emulator", 0.272, 0.336, basis="measured"),
            recall("hybrid, spikes from Lava", 0.281, 0.344, images=64, basis="measured on 64 images"),
        ],
        "facts": {"learned fusion ratio r": "mean 0.83, from 0.31 to 1.42 over 64 channels"},
        "workload": hybrid,
        "estimates": [estimate(hybrid.part("deployed"), by_name["loihi1"]), estimate(hybrid.part("deployed"), by_name["loihi2"])],
        "comparison": compare(hybrid, twin, node=by_name["cmos45"], chip=by_name["loihi1"], gpu=by_name["h100"]),
        "certificate": certificate([layer.name for layer in program.layers]).to_json(),
        "profiles": profiles,
        "raster": {layer.name: record.layers[layer.name].raster[:, 0] for layer in program.layers},
        "examples": [
            Example("a red apple", tuple(Hit(f"apple {i}", i == 1, 0.9 - 0.1 * i, picture(i)) for i in range(6))),
            Example(
                "grinning face",
                tuple(Hit(text, i == 0, 0.5, None) for i, text in enumerate(("grinning face", "smile", "cat <3"))),
                picture(9),
            ),
            Example("blue <b>car</b>", tuple(Hit(f"car {rng.integers(9)}", i in (0, 3), 0.4, picture(20 + i)) for i in range(6))),
        ],
    }
    return Report(**{**fields, **changes})
