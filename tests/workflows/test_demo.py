"""The demo's runs: fair to one another, and where they lie."""

from __future__ import annotations

from pathlib import Path

from ashneuro.config import relu_bits
from ashneuro.workflows.demo import Demo


def test_every_run_has_the_same_budget_and_teacher(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    assert {cell.epochs for cell in demo.cells if cell.compared} == {demo.epochs}
    configs = demo.configs()
    teacher = str(tmp_path / "starts" / "start")
    for folder in (*demo.hybrids, *demo.controls):
        assert configs[folder].train.teacher == teacher
    alike = [tmp_path / name for name in ("graded", "subtraction", "lif", "twin")]
    assert {configs[folder].train.start for folder in alike} == {teacher}
    order = list(configs)
    starts = {folder: config.train.start for folder, config in configs.items() if config.train.start}
    assert all(order.index(Path(start)) < order.index(folder) for folder, start in starts.items())


def test_three_spiking_encoders_stand_beside_anns_of_two_sizes(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    configs = demo.configs()
    neurons = [(configs[folder].model.abstract.neuron, configs[folder].model.abstract.reset) for folder in demo.hybrids]
    assert neurons == [("graded", "value"), ("if", "subtract"), ("lif", "value")]
    assert demo.hybrid == tmp_path / "graded"
    twin, small, none = (configs[folder].model.abstract for folder in demo.controls)
    assert (twin.kind, small.kind, none.kind) == ("quantised-relu", "quantised-relu", "none")
    assert relu_bits(twin) == relu_bits(small) == 3
    assert twin.units == configs[demo.hybrid].model.abstract.units > small.units


def test_settings_change_every_run(tmp_path: Path) -> None:
    longer = Demo(tmp_path, ("train.epochs=24",))
    assert {config.train.epochs for config in longer.configs().values()} == {24} and longer.epochs == 72
