"""A sweep's table as Markdown and CSV: two variants with known measures."""

from __future__ import annotations

import json
from pathlib import Path

from ashneuro.sweep_config import SweepConfig
from ashneuro.training.sweep import Row, Summary, summarise
from ashneuro.workflows.sweep_table import matches_table, write_sweep

PLANNED = SweepConfig(base="tiny", seeds=(0, 1), factors={"kind": {"no encoder": ("model.abstract.kind=none",)}})
ROWS = (
    Row(
        "base",
        {},
        0,
        {
            "epochs": 12,
            "accuracy": 0.25,
            "accuracy_float": 0.5,
            "accuracy_a_zeroed": 0.125,
            "firing_rate": 0.0625,
            "synops": 1000.0,
            "host_macs": 20000.0,
            "energy_j": 2e-6,
            "energy_low_j": 1e-6,
            "energy_high_j": 4e-6,
        },
        Path("cells/base-0"),
    ),
    Row(
        "base",
        {},
        1,
        {
            "epochs": 12,
            "accuracy": 0.75,
            "accuracy_float": 0.75,
            "accuracy_a_zeroed": 0.125,
            "firing_rate": 0.0625,
            "synops": 3000.0,
            "host_macs": 20000.0,
            "energy_j": 4e-6,
            "energy_low_j": 3e-6,
            "energy_high_j": 6e-6,
        },
        Path("cells/base-1"),
    ),
    Row(
        "no encoder",
        {"kind": "no encoder"},
        0,
        {"accuracy": 0.5, "accuracy_a_zeroed": None, "synops": None, "host_macs": 5e3},
        Path("cells/no-encoder-0"),
    ),
)

MARKDOWN = """\
3 runs of tiny; accuracy: mean of R@1 image → text and text → image, test part

| variant | seeds | epochs | accuracy, % | in floats, % | A zeroed, % | C zeroed, % | A alone, % \
| firing rate, % | synops per image | host MACs per image | energy, µJ (low–high) | on the front |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|
| base | 2 | 12 | 50.0 ± 35.4 | 62.5 ± 17.7 | 12.5 ± 0.0 | – | – | 6.2 ± 0.0 | 2,000 ± 1,414 | 20,000 ± 0 \
| 3.00 ± 1.41 (2.00–5.00) | low, typical, high |
| no encoder | 1 | – | 50.0 | – | – | – | – | – | – | 5,000 | – | – |

mean ± standard deviation over seeds. A alone: through the STUA head, where it was trained. Accuracy is measured in \
the integers that are priced, on the host in floats; epochs include those of the runs that a run started from; firing \
rate is measured in floats, synops (products of graded messages included) and MACs are counted, energy is estimated \
(cmos45, 8-bit weights, values between layers of the abstract encoder with their own bits; the host, in int8, is in \
the sum). On the front: no other variant is at least as accurate and as cheap, in that case of energy. 1 runs are \
still to come.
"""

CSV = """\
variant,seed,epochs,accuracy,accuracy_float,accuracy_a_zeroed,firing_rate,synops,host_macs,energy_j,energy_low_j,\
energy_high_j,folder
base,0,12,0.25,0.5,0.125,0.0625,1000.0,20000.0,2e-06,1e-06,4e-06,cells/base-0
base,1,12,0.75,0.75,0.125,0.0625,3000.0,20000.0,4e-06,3e-06,6e-06,cells/base-1
no encoder,0,,0.5,,,,,5000.0,,,,cells/no-encoder-0
"""


def test_files_of_two_variants(tmp_path: Path) -> None:
    files = write_sweep(tmp_path, PLANNED, ROWS, 4, summarise(ROWS))
    assert [file.name for file in files] == ["sweep.json", "sweep.csv", "sweep.md", "sweep.svg"]
    assert (tmp_path / "sweep.md").read_text(encoding="utf-8") == MARKDOWN
    assert (tmp_path / "sweep.csv").read_text(encoding="utf-8") == CSV
    content = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert [row["variant"] for row in content["runs"]] == ["base", "base", "no encoder"]
    assert content["sweep"]["seeds"] == [0, 1] and content["summaries"][0]["mean"]["energy_j"] == 3e-6
    svg = (tmp_path / "sweep.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg") and "accuracy of 1 variants" in svg


def test_no_figure_without_energy(tmp_path: Path) -> None:
    rows = ROWS[2:]
    files = write_sweep(tmp_path, PLANNED, rows, 1, summarise(rows))
    assert [file.name for file in files] == ["sweep.json", "sweep.csv", "sweep.md"]
    assert "still to come" not in (tmp_path / "sweep.md").read_text(encoding="utf-8")


def summary(variant: str, accuracy: float, deviation: float, energy: float, **more: float) -> Summary:
    mean = {"accuracy": accuracy, "energy_low_j": energy / 2, "energy_j": energy, "energy_high_j": 4 * energy, **more}
    return Summary(variant, {}, 3, mean, {"accuracy": deviation}, mean, mean)


def test_spiking_variants_meet_the_cheapest_ann_that_is_as_accurate() -> None:
    large, small = summary("large", 0.45, 0.01, 10e-6), summary("small", 0.42, 0.01, 2e-6)
    spiking = summary("graded", 0.43, 0.01, 4e-6, synops=1e5)
    best = summary("best", 0.50, 0.01, 4e-6, synops=1e5)
    table = matches_table([large, small, spiking, best])
    assert table is not None
    assert table.rows[0] == ("graded", "43.0 ± 1.0", "small", "42.0 ± 1.0", "2 ×", "2 ×", "2 ×")
    assert table.rows[1] == ("best", "50.0 ± 1.0", "none is as accurate", "–", "–", "–", "–")
    assert matches_table([large, small]) is None and matches_table([spiking]) is None
