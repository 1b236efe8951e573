"""The learning verbs, small: a run with a task, search among pictures, a sweep that is interrupted, data check, a dry run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ashneuro.training.sweep import claim
from tests.commands.conftest import SMALL, Command, settings

TASK = 'schedule=[{name="pretrain",epochs=1},{name="finetune",epochs=1,task="entailment"}]'
MULTIMODAL = ("model.multimodal.layers=1", "model.multimodal.width=16", "model.multimodal.heads=2")


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hybrid that learned retrieval and entailment from 36 pictures."""
    from ashneuro.config import load_config
    from ashneuro.training.loop import train

    folder = tmp_path_factory.mktemp("learning") / "run"
    train(load_config("tiny", [f"data.source={pairs}", *SMALL, *MULTIMODAL, TASK]), folder)
    return folder


def test_a_task_is_evaluated_beside_retrieval(ashneuro: Command, run: Path) -> None:
    said = ashneuro("evaluate", run, "--task", "entailment", "--part", "train", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["rows"][0]["name"] == "hybrid" and found["task"] == "entailment"
    assert json.loads((run / "entailment-train.json").read_text())["rows"] == found["rows"]
    assert "text alone" in ashneuro("evaluate", run, "--task", "entailment", "--part", "train", "--samples", 4).out
    other = ashneuro("evaluate", run, "--task", "vqa")
    assert other.code == 2 and "trained on entailment" in other.err
    assert json.loads(ashneuro("evaluate", run, "--json").out)["rows"][0]["name"] == "hybrid"


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with a bundle, without what `evaluate` left in it."""
    from ashneuro.workflows.export import export

    folder = tmp_path_factory.mktemp("exported") / "hybrid"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("entailment*", "evaluation*"))
    export(folder, samples=2)
    return folder


def test_a_task_is_answered_with_spikes_from_the_emulator(ashneuro: Command, exported: Path) -> None:
    words = ("evaluate", exported, "--task", "entailment", "--part", "train", "--samples", 6)
    here, there = (json.loads(ashneuro(*words, *more, "--json").out) for more in ((), ("--abstract-on", "loihi")))
    assert [row["spikes_from"] for row in there["rows"]] == ["integer emulator"] * 4 + ["none"]
    assert [row["name"] for row in there["rows"]] == [row["name"] for row in here["rows"]]
    assert {row["name"]: row["accuracy"] for row in here["rows"][2:]}.items() <= {
        r["name"]: r["accuracy"] for r in there["rows"]
    }.items()
    assert (exported / "entailment-loihi-train-6.npz").exists(), "what the emulator counted is kept"


@pytest.mark.lava
def test_a_task_is_answered_with_spikes_from_lava(ashneuro: Command, exported: Path) -> None:
    words = ("evaluate", exported, "--task", "entailment", "--samples", 2)
    emulator = json.loads(ashneuro(*words, "--abstract-on", "loihi", "--json").out)
    lava = ashneuro(*words, "--abstract-on", "lava")
    assert lava.code == 0, lava.err
    assert "spikes from Lava, integer" in lava.out and "spikes from Lava in " in lava.out
    rows = json.loads((exported / "entailment-lava-fixed-2.json").read_text())["rows"]
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in emulator["rows"]], (
        "the same integers, the same answers"
    )


def test_the_report_answers_the_tasks_that_a_run_was_trained_on(
    ashneuro: Command, exported: Path, pairs: Path, tmp_path: Path
) -> None:
    from ashneuro.config import load_config
    from ashneuro.training.loop import train

    other = tmp_path / "control"
    train(load_config("tiny", [f"data.source={pairs}", *SMALL, *MULTIMODAL, TASK, "model.abstract.kind=none"]), other)
    said = ashneuro("report", exported, other, "--out", tmp_path)
    assert said.code == 0, said.err
    evaluation = json.loads((exported / "entailment.json").read_text())
    assert evaluation["split"].endswith("test"), "what was missing was evaluated, and kept"
    report = json.loads((tmp_path / "report.json").read_text())
    assert evaluation in report["tasks"] and "entailment" not in str(report["missing"])
    hybrid, control = (json.loads((run / "entailment.json").read_text())["rows"] for run in (exported, other))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (said.out, page):
        assert all(
            text.count(name) >= 1
            for name in ("hybrid, A zeroed", "hybrid, C zeroed", "hybrid, text alone", "most frequent answer")
        )
        assert f"{100 * hybrid[0]['accuracy']:.1f}" in text and f"{100 * control[0]['accuracy']:.1f}" in text
    assert f"visual entailment accuracy {100 * control[0]['accuracy']:.1f} %" in said.out, (
        "beside what the control costs"
    )
    assert "Visual entailment" in page and "multimodal transformer" in page
    one = exported.parent / "again"
    shutil.copytree(exported, one)
    twins = json.loads(ashneuro("report", exported, one, "--out", tmp_path, "--json").out)["tasks"]
    assert {item["rows"][0]["name"] for item in twins} == {"hybrid", "again"}, "two hybrids are told apart"


def test_a_report_says_which_task_could_not_be_answered(ashneuro: Command, exported: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    shutil.copytree(exported, lost, ignore=shutil.ignore_patterns("entailment*"))
    settings = json.loads((lost / "config.json").read_text())
    settings["tasks"]["entailment"] |= {"format": "snli-ve", "train": str(tmp_path / "gone.jsonl")}
    (lost / "config.json").write_text(json.dumps(settings))
    said = ashneuro("report", lost, "--out", tmp_path)
    assert said.code == 0, said.err
    assert "entailment of lost: not run, cannot read" in said.out and "gone.jsonl" in said.out
    assert "entailment of lost" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_scales_are_chosen_on_pictures_that_the_run_is_for(run: Path, pairs: Path, tmp_path: Path) -> None:
    from ashneuro.config import load_config
    from ashneuro.training.checkpoint import load_run
    from ashneuro.training.loop import train
    from ashneuro.workflows.calibration import calibration_currents
    from ashneuro.workflows.export import run_accuracy
    from ashneuro.workflows.runs import pictures_of_run

    for part, count in (("train", 20), ("test", 4)):
        (tmp_path / part / "images").mkdir(parents=True)
        for number in range(count):
            shutil.copy(pairs.parent / "0.png", tmp_path / part / "images" / f"{number}.png")
        rows = [["is it a face?", "yes" if number % 2 else "no", number] for number in range(count)]
        (tmp_path / part / "questions.json").write_text(json.dumps(rows))
    settings = [f"data.source={pairs}", *SMALL, *MULTIMODAL, "tasks.vqa.format=easy-vqa", f"tasks.vqa.train={tmp_path}"]
    stages = ('{name="v",epochs=1,task="vqa"}', '{name="p",epochs=1}')
    both, alone = (
        load_config("tiny", [*settings, f"schedule=[{','.join(chosen)}]"]) for chosen in (stages, stages[:1])
    )
    own = ["train/images/0.png", "train/images/10.png"]
    trained = train(alone, tmp_path / "run")
    assert [picture.key for picture in pictures_of_run(trained, "validation")] == own
    assert calibration_currents(load_run(tmp_path / "run"))["input"].shape[1] == 2
    assert run_accuracy(load_run(tmp_path / "run"), None) == {}, "R@1 of what never learned to retrieve says nothing"
    mixed = [picture.key for picture in pictures_of_run(replace(trained, config=both), "validation")]
    assert mixed[1:4:2] == own and mixed[0].endswith(".png") and "/" not in mixed[0] and len(mixed) == 2 + 9
    assert len(pictures_of_run(load_run(run), "validation")) == 9, "derived questions are about the pairs' own pictures"


def test_search_prints_and_draws_the_best(ashneuro: Command, run: Path, pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for number in range(4):
        (tmp_path / "mine" / f"{number}.png").write_bytes((pairs.parent / f"{number}.png").read_bytes())
    (tmp_path / "mine" / "broken.jpg").write_text("no picture")
    drawn = tmp_path / "best.png"
    words = ("search", run, "a face zxzx", "--images", tmp_path / "mine", "--n", 3, "--out", drawn)
    said = ashneuro(*words, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert len(found["best"]) == 3 and found["pictures"] == 4
    scores = [hit["cosine"] for hit in found["best"]]
    assert scores == sorted(scores, reverse=True) and {hit["picture"] for hit in found["best"]} < {
        f"{n}.png" for n in range(4)
    }
    assert "zxzx" in found["unknown_words"] and "broken.jpg" in found["unreadable"][0]
    assert Image.open(drawn).size[0] > 300
    alone = ashneuro("search", run, "A, face", "--images", tmp_path / "mine", "--n", 3, "--out", drawn, "--json")
    assert [hit["cosine"] for hit in json.loads(alone.out)["best"]] == scores, "an unknown word is of no effect"
    assert ashneuro("search", run, "zxzx-face", "--out", drawn).code == 0
    kept = tmp_path / "away" / "run"
    shutil.copytree(run, kept)
    held = json.loads((kept / "config.json").read_text())
    held["data"]["source"] = str(tmp_path / "gone.csv")
    (kept / "config.json").write_text(json.dumps(held))
    away = ashneuro("search", kept, "face", "--images", tmp_path / "mine", "--out", drawn)
    assert away.code == 0, "one's own pictures are searched without the data that the run learned from"
    said = ashneuro("search", run, "face", "--out", drawn)
    assert said.code == 0 and "cosine" in said.out
    assert "none of its words" in ashneuro("search", run, "!!!", "--out", drawn).err
    nothing = ashneuro("search", run, "zxzx", "--out", drawn)
    assert nothing.code == 2 and "none of its words" in nothing.err
    assert ashneuro("search", run, "face", "--images", tmp_path / "none").code == 2
    (tmp_path / "empty").mkdir()
    empty = ashneuro("search", run, "face", "--images", tmp_path / "empty")
    assert empty.code == 2 and "no pictures in" in empty.err and "do:" in empty.err
    assert "at least one" in ashneuro("search", run, "face", "--n", 0, "--out", drawn).err
    unwritable = ashneuro("search", run, "face", "--out", tmp_path / "absent" / "best.png")
    assert unwritable.code == 2 and "absent/best.png" in unwritable.err and "do:  check the path" in unwritable.err


def test_a_sweep_goes_on_and_makes_a_table_and_a_figure(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    changes = json.dumps([f"data.source={pairs}", *SMALL, "train.epochs=1"])
    levels = '"no encoder" = ["model.abstract.kind=none"]\n"low-bit" = ["model.abstract.kind=quantised-relu"]\n'
    config = tmp_path / "sweep.toml"
    config.write_text(f"seeds = [0, 1]\nenergy_images = 4\nset = {changes}\n[factors.kind]\n{levels}")
    out, elsewhere = tmp_path / "sweep", tmp_path / "elsewhere"
    assert "no run is finished" in ashneuro("sweep", config, "--out", out, "--limit", 0).out
    with claim(out / "cells" / "no-encoder-0"):
        said = ashneuro("sweep", config, "--out", out, "--seeds", 0)
        assert said.code == 0 and "no encoder, seed 0 is in the hands of process" in said.out
    assert [row["variant"] for row in json.loads((out / "sweep.json").read_text())["runs"]] == ["base", "low-bit"], (
        "what is free is done"
    )
    assert "1 runs are still to come" in (out / "sweep.md").read_text()
    before = (out / "cells" / "base-0" / "model.safetensors").stat().st_mtime_ns
    shutil.copytree(
        out / "cells" / "base-0", out / "cells" / "no-encoder-0"
    )  # as one looks that was begun with other settings
    (out / "cells" / "no-encoder-0" / "row.json").unlink()
    begun = ashneuro("sweep", config, "--out", out, "--seeds", 0)
    assert (
        begun.code == 2
        and "no-encoder-0 was made with other settings" in begun.err
        and "abstract.kind is 'spiking' there" in begun.err
    )
    shutil.rmtree(out / "cells" / "no-encoder-0")
    assert ashneuro("sweep", config, "--out", elsewhere, "--seeds", 1, "--limit", 2).code == 0
    shutil.copytree(elsewhere / "cells", out / "cells", dirs_exist_ok=True)
    said = ashneuro("sweep", config, "--out", out, "--seeds", 0, "--limit", 0)
    assert "of other seeds too: --seeds 0 1" in said.out
    there = (out / "cells" / "base-1" / "model.safetensors").stat().st_mtime_ns
    said = ashneuro("sweep", config, "--out", out, "--json")
    assert said.code == 0, said.err
    assert (out / "cells" / "base-1" / "model.safetensors").stat().st_mtime_ns == there, (
        "what was made elsewhere counts"
    )
    assert not list((out / "cells").glob("*.claim"))
    content = json.loads(said.out)
    assert [(row["variant"], row["seed"]) for row in content["runs"]] == [
        (variant, seed) for seed in (0, 1) for variant in ("base", "no encoder", "low-bit")
    ]
    assert (out / "cells" / "base-0" / "model.safetensors").stat().st_mtime_ns == before, (
        "what was done is not done again"
    )
    base, none, low = content["summaries"]
    assert base["seeds"] == none["seeds"] == 2
    assert {"accuracy_a_zeroed", "accuracy_c_zeroed", "synops", "firing_rate"} <= base["mean"].keys()
    assert not {"accuracy_a_zeroed", "synops"} & none["mean"].keys() and "synops" not in low["mean"]
    assert none["mean"]["energy_j"] < low["mean"]["energy_j"], "what is left out costs nothing"
    assert base["mean"]["host_macs"] > none["mean"]["host_macs"]
    rows = json.loads((out / "sweep.json").read_text())["runs"]
    exact = [row["accuracy"] for row in rows if row["variant"] == "base"]
    assert base["mean"]["accuracy"] == pytest.approx(sum(exact) / 2)
    table = (out / "sweep.md").read_text()
    assert table.count("| base ") == 1 and "±" in table and "host MACs" in table
    figure = (out / "sweep.svg").read_text()
    assert figure.startswith("<svg") and "var(--" not in figure and "no encoder" in figure
    assert (out / "sweep.csv").read_text().count("\n") == 7
    changed = ashneuro("sweep", config, "--out", out, "--set", "train.epochs=2")
    assert changed.code == 2 and "other settings" in changed.err and "train.epochs is 1 there and 2 now" in changed.err
    config.write_text(f'profile = "h100"\n{config.read_text()}')
    assert "on one node" in ashneuro("sweep", config, "--out", out).err
    assert "trains none" in ashneuro("sweep", config, "--out", out, "--limit", -1).err


def test_a_run_that_fails_stops_no_other(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    changes = json.dumps([f"data.source={pairs}", *SMALL, "train.epochs=1", "model.abstract.kind=none"])
    levels = '"wild" = ["train.learning_rate=1e30"]\n"slow" = ["train.learning_rate=1e-4"]\n'
    config = tmp_path / "sweep.toml"
    config.write_text(f"seeds = [0]\nset = {changes}\n[factors.rate]\n{levels}")
    for words in ((), ("--json",)):
        said = ashneuro("sweep", config, "--out", tmp_path / "sweep", *words)
        assert said.code == 2 and "wild, seed 0: training has diverged" in said.err
    content = json.loads(said.out)
    assert [row["variant"] for row in content["runs"]] == ["base", "slow"] and list(content["failed"]) == [
        "wild, seed 0"
    ]
    assert "1 runs are still to come" in (tmp_path / "sweep" / "sweep.md").read_text()


def test_data_check_finds_what_is_wrong(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    said = ashneuro("data", "check", pairs)
    assert said.code == 0 and "no problem found" in said.out
    broken = tmp_path / "pairs.jsonl"
    broken.write_text(pairs.read_text() + '\n{"image": "none.png", "caption": "gone", "split": "test"}')
    said = ashneuro("data", "check", broken, "--images", pairs.parent, "--format", "jsonl", "--json")
    assert said.code == 1
    assert json.loads(said.out)["problems"] == ["line 37 (none.png): there is no such file"]
    assert "webdataset" in ashneuro("data", "formats").out
    listed = [item["name"] for item in json.loads(ashneuro("data", "formats", "--json").out)]
    assert listed[:2] == ["coco", "karpathy"] and "easy-vqa" in listed
    sheet = tmp_path / "sheet.png"
    shown = json.loads(ashneuro("data", "show", pairs, "--split", "file", "--n", 2, "--out", sheet, "--json").out)
    assert sum(shown["parts"]["train"]["images"].values()) > 0 and Path(shown["sheet"]) == sheet and sheet.is_file()


def test_a_dry_run_trains_nothing(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    said = ashneuro(
        "train",
        "tiny",
        "--out",
        tmp_path / "run",
        *settings(pairs),
        "--dry-run",
        "--pairs",
        100,
        "--gpus",
        2,
        "--tflops",
        10,
    )
    assert said.code == 0, said.err
    assert "memory per process" in said.out and "10 TFLOP/s sustained on each of 2" in said.out
    told = json.loads(ashneuro("train", "tiny", *settings(pairs), "--dry-run", "--pairs", 100, "--json").out)
    (stage,) = told["stages"]
    assert stage["memory_bytes"] > stage["fixed_bytes"] > 0 and told["seconds_at_tflops"] > 0 and told["tflops"] == 50
    assert "--dry-run" in ashneuro("train", "tiny", "--json").err
    assert not (tmp_path / "run").exists()
