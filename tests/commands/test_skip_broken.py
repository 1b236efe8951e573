"""``--skip-broken``: no verb stops at a picture that cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.commands.conftest import Command, settings


def test_every_verb_leaves_out_broken_pictures(ashneuro: Command, pairs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    shutil.copytree(pairs.parent, folder)
    for name in ("1.png", "3.png"):  # of the training and of the test part
        (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    (folder / "2.png").unlink()
    run, source = tmp_path / "run", folder / "pairs.jsonl"
    stopped = ashneuro("train", "tiny", "--out", run, *settings(source))
    assert stopped.code == 2 and "2.png" in stopped.err and "--skip-broken" in stopped.err
    result = ashneuro("train", "tiny", "--out", run, *settings(source, "train.epochs=1"), "--skip-broken")
    assert result.code == 0, result.err
    assert "3 broken picture(s) or entries are left out. They are listed in" in result.out
    assert "do not fill a batch of 8" in result.out
    listed = (run / "left-out.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in listed] == ["line 2 (1.png)", "line 3 (2.png)", "line 4 (3.png)"]

    # A run that was trained before pictures broke.
    config = json.loads((run / "config.json").read_text())
    config["data"]["skip_broken"] = False
    (run / "config.json").write_text(json.dumps(config))
    (run / "left-out.txt").unlink()
    assert ashneuro("evaluate", run).code == 2
    result = ashneuro("evaluate", run, "--skip-broken")
    assert result.code == 0, result.err
    assert "3 broken picture(s)" in result.out and (run / "left-out.txt").is_file()
    assert json.loads((run / "evaluation.json").read_text())["images"] == 8
    result = ashneuro("export", run, "--samples", 1, "--no-lava", "--skip-broken")
    assert result.code == 0 and "3 broken picture(s)" in result.out, result.err
    result = ashneuro("search", run, "face", "--skip-broken", "--out", tmp_path / "a.png", "--json")
    assert result.code == 0 and json.loads(result.out)["pictures"] == 8, result.err
    result = ashneuro("search", run, "face", "--images", folder, "--out", tmp_path / "a.png")
    assert result.code == 0 and "2 broken picture(s)" in result.out, result.err
    assert (tmp_path / "a-left-out.txt").read_text().startswith("1.png: ")
