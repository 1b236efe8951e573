"""Integer units: the images that they are calibrated on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from ashneuro.config import load_config
from ashneuro.workflows.calibration import calibration_currents
from ashneuro.workflows.export import run_accuracy
from ashneuro.workflows.runs import pictures_of_run
from ashneuro.workflows.train import train
from tests.commands.conftest import TASK_SETTINGS


def test_calibration_uses_images_of_every_task(pairs: Path, tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 4)):
        (tmp_path / part / "images").mkdir(parents=True)
        for number in range(count):
            shutil.copy(pairs.parent / "0.png", tmp_path / part / "images" / f"{number}.png")
        rows = [["is it a face?", "yes" if number % 2 else "no", number] for number in range(count)]
        (tmp_path / part / "questions.json").write_text(json.dumps(rows))
    settings = [f"data.source={pairs}", *TASK_SETTINGS]
    derived = load_config("tiny", settings)
    settings += ["tasks.vqa.format=easy-vqa", f"tasks.vqa.train={tmp_path}"]
    alone = load_config("tiny", [*settings, 'schedule=[{name="v",epochs=1,task="vqa"}]'])
    both = load_config("tiny", [*settings, 'schedule=[{name="v",epochs=1,task="vqa"},{name="p",epochs=1}]'])

    own = ["train/images/0.png", "train/images/10.png"]
    trained = train(alone, tmp_path / "run")
    assert [picture.key for picture in pictures_of_run(trained, "validation")] == own
    assert calibration_currents(trained)["input"].shape[1] == 2
    assert run_accuracy(trained, None) == {}, "a run that was never trained on retrieval has no R@1"

    mixed = [picture.key for picture in pictures_of_run(replace(trained, config=both), "validation")]
    assert mixed[1:4:2] == own and len(mixed) == 2 + 9
    assert mixed[0].endswith(".png") and "/" not in mixed[0]
    # Questions derived from captions are about the pairs' own pictures.
    assert len(pictures_of_run(replace(trained, config=derived), "validation")) == 9
