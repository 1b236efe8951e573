"""The package: what is in wheel and sdist, its metadata, and how it is installed again."""

from __future__ import annotations

import email
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

import ashneuro
from ashneuro import errors
from ashneuro.errors import install_command

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and sdist, built without an environment of its own, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--sdist",
        "--outdir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> Message:
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


def test_twine_accepts_both(built: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0 and said.stdout.count("PASSED") == 2, said.stdout + said.stderr


def test_wheel_has_data_files(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    packed = {str(path.relative_to(ROOT)) for path in (ROOT / "ashneuro").rglob("*") if path.is_file()}
    packed = {name for name in packed if "__pycache__" not in name}
    profiles = {f"ashneuro/{path.relative_to(ROOT)}" for path in (ROOT / "hardware_profiles").rglob("*.toml")}
    assert packed | profiles | {"ashneuro/examples/tiny.toml"} <= names
    assert not [name for name in names if not name.startswith(("ashneuro/", f"ashneuro-{ashneuro.__version__}."))]


def test_sdist_has_what_the_wheel_is_built_from(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "NOTICE",
        "hardware_profiles/loihi1.toml",
        "tests/reference.py",
    } <= names
    assert not [name for name in names if name.startswith((".venv", ".git/"))]


def test_long_description_has_absolute_addresses(metadata: Message) -> None:
    text = str(metadata.get_payload())
    assert text.startswith("# ashneuro")
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'(?:src|srcset|href)="([^"]+)"', text)]
    assert len(links) > 5
    assert not [link for link in links if not link.startswith(("https://", "#"))]


def test_links_of_the_long_description_are_files_here(metadata: Message) -> None:
    places = re.findall(
        r"https://(?:raw\.)?github[\w.]*com/ashneuro/ashneuro/(?:blob/)?main/([^)\"\s#]+)", str(metadata.get_payload())
    )
    assert places and not [place for place in places if not (ROOT / place).exists()]


def test_metadata(metadata: Message) -> None:
    urls = dict(str(line).split(", ", 1) for line in metadata.get_all("Project-URL", []))
    assert {"Homepage", "Documentation", "Repository", "Issues", "Changelog"} <= urls.keys()
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
    assert metadata["License-Expression"] == "Apache-2.0" and metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier", [])
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(classifiers)


def test_ci_tests_every_python_of_the_classifiers() -> None:
    script = (ROOT / ".ci" / "pythons").read_text(encoding="utf-8")
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert named[0] == "3.11" and re.findall(r"^quick (3\.\d+) ", script, re.MULTILINE) == named[1:]


def test_torch_has_no_upper_bound() -> None:
    (torch,) = (line for line in PROJECT["optional-dependencies"]["train"] if re.match(r"torch\b", line))
    assert torch == "torch>=2.6"


def test_install_command_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert install_command("train") == f"pip install -e '{ROOT}[train]'"
    monkeypatch.chdir(ROOT)
    assert install_command("train") == "pip install -e '.[train]'"
    assert install_command() == "pip install -e '.'"


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'ashneuro[train]'"),
        ({"url": "file:///dist/a.whl", "archive_info": {}}, "pip install 'ashneuro[train] @ file:///dist/a.whl'"),
        (
            {"url": "https://host/a.git", "vcs_info": {"vcs": "git", "commit_id": "1f2e"}},
            "pip install 'ashneuro[train] @ git+https://host/a.git@1f2e'",
        ),
    ],
)
def test_install_command_of_a_package(
    origin: dict[str, object] | None, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = json.dumps(origin) if origin else None
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "site-packages" / "ashneuro" / "errors.py"))
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: SimpleNamespace(read_text=lambda file: text))
    assert install_command("train") == command


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").iterdir()),
]


@pytest.mark.parametrize("path", [path for path in PAGES if path.is_file()], ids=lambda path: path.name)
def test_no_page_installs_what_is_not_published(path: Path) -> None:
    assert not re.findall(r"pip\s+install\s+'?ashneuro", path.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs_into_a_clean_environment(kind: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    uv = [sys.executable, "-m", "uv"]
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*uv, "venv", "--python", sys.executable, str(tmp_path / "venv")], check=True, capture_output=True)
    file = built[kind == "sdist"]
    subprocess.run([*uv, "pip", "install", "--python", str(python), str(file)], check=True, capture_output=True)
    script = (
        "import nir, numpy as np\n"
        "one = np.ones(3)\n"
        "lif = nir.LIF(tau=4e-3 * one, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)\n"
        "nodes = {'input': nir.Input(np.array([2])), 'fc': nir.Linear(np.ones((3, 2))), 'lif': lif,"
        " 'output': nir.Output(np.array([3]))}\n"
        "nir.write('net.nir', nir.NIRGraph(nodes, [('input', 'fc'), ('fc', 'lif'), ('lif', 'output')]))\n"
    )
    subprocess.run([str(python), "-c", script], cwd=tmp_path, check=True)
    for words in (
        ["--version"],
        ["profiles"],
        ["report", "net.nir", "--dt", "1e-3", "--profile", "loihi1"],
        ["doctor"],
    ):
        command = [str(python.with_name("ashneuro")), *words]
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr
    assert (tmp_path / "net-report" / "report.html").is_file()
