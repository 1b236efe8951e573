"""Pages of docs: their Python runs, and the drawings are current."""

from __future__ import annotations

import re
import runpy
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest

import ashneuro
from tests.program.netx.test_read import FAST, even, write

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FRAMEWORKS = {
    "snntorch": "snntorch",
    "norse": "norse",
    "sinabs": "sinabs",
    "spikingjelly": "spikingjelly.activation_based",
    "rockpool": "rockpool.nn.modules.torch",
}


def code(page: Path) -> str:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks, f"{page.name} has no Python"
    return "\n".join(blocks)


def run(page: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code(page), page.name, "exec"), {"__name__": page.stem})
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_page_of_a_framework_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "rockpool":
        monkeypatch.setitem(sys.modules, "samna", sys.modules.get("samna"))  # as the page does
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = f"{name} is not installed: pip install -e '.[frameworks]'"
        pytest.importorskip(FRAMEWORKS[name], reason=reason)
    monkeypatch.chdir(tmp_path)
    said = run(DOCS / f"from_{name}.md", capsys)
    assert re.search(r"mismatches=0", said) and not re.search(r"mismatches=[1-9]", said)
    assert "ANN" in said.splitlines()[-1] and "spikes=0," not in said


def test_page_of_lava_dl_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    source = {"type": "input", "shape": [2, 1, 1], "neuron": FAST}
    dense = {"type": "dense", "shape": [8], "neuron": FAST, "weight": even(random, 8, 2)}
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "network.net", [source, dense])
    assert "{" in run(DOCS / "from_lava_dl.md", capsys)


def test_first_example_of_the_readme_names_public_functions() -> None:
    text = code(ROOT / "README.md")
    used = set(re.findall(r"\bash\.(\w+)", text))
    assert used >= {"from_torch", "check", "export", "simulate", "compare"} and used <= set(ashneuro.__all__)


def test_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_page_on_installing_lists_every_extra() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert not [extra for extra in extras if f"`{extra}`" not in table]


@pytest.mark.slow
@pytest.mark.lava
def test_first_example_of_the_readme_gives_its_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("snntorch", reason="snntorch is not installed: pip install -e '.[frameworks]'")
    from ashneuro.reporting import tables

    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(compile(code(ROOT / "README.md"), "README.md", "exec"), found)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in tables.proof.certificate(found["exported"].certificate)[0].rows[:4]:  # type: ignore[attr-defined]
        cells = [re.escape(re.sub(r" \(.*?\)", "", str(cell))) for cell in row[:4]]
        assert re.search(r".*?\s{2,}".join(cells), page.replace(" (snnTorch 1.0.0, torch 2.14.1+cu130)", "")), cells
    assert found["costs"].verdict.partition(" (")[0] in page  # type: ignore[attr-defined]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_drawing_of_the_pipeline_is_current(theme: str) -> None:
    script = runpy.run_path(str(DOCS / "draw_pipeline.py"))
    drawn = script["drawn"](script["THEMES"][theme])
    assert (DOCS / f"pipeline-{theme}.svg").read_text(encoding="utf-8") == drawn, "run: python docs/draw_pipeline.py"


def test_reference_has_every_public_name() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    named = {found.rpartition(".")[2] for found in re.findall(r"^::: (\S+)$", pages, re.MULTILINE)}
    assert not {name for name in ashneuro.__all__ if name != "__version__"} - named


def test_every_page_has_a_place_in_the_site() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    placed = set(re.findall(r": ([\w/]+\.md)$", settings, re.MULTILINE))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert placed == pages | GENERATED


# Pages that `docs/site_hooks.py` makes of the notebooks.
GENERATED = {f"notebooks/{path.stem}.md" for path in (DOCS / "notebooks").glob("*.py")}
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s#]+)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert not [target for target, _ in links if target not in GENERATED and not (page.parent / target).exists()]
