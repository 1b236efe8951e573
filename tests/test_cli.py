"""The command line as a whole: commands, help, speed, imports and output streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from ashneuro import cli

VERBS = [
    "train",
    "evaluate",
    "sweep",
    "search",
    "check",
    "export",
    "simulate",
    "verify",
    "report",
    "profiles",
    "data",
    "doctor",
    "bench",
    "demo",
]


def test_list_of_commands() -> None:
    """The list is closed: a new ability becomes an option or a sub-command."""
    assert [verb for _, verb, _ in cli.VERBS] == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_command(verb: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ashneuro", verb, "--help"], capture_output=True, text=True, check=True
    )
    assert f"ashneuro {verb}" in result.stdout


@pytest.mark.parametrize(
    "verb, promise",
    [("check", "Exit code 1 if a finding forbids it"), ("verify", "68 MB, once"), ("sweep", "share one folder")],
)
def test_help_page_has_the_full_docstring(verb: str, promise: str) -> None:
    page, verbs = (
        " ".join(
            subprocess.run(
                [sys.executable, "-m", "ashneuro", *words], capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for words in ([verb, "--help"], ["--help"])
    )
    assert promise in page and "``" not in page
    assert promise not in verbs


def test_help_pages_wrap_paragraphs_and_show_only_defaults_that_say_something() -> None:
    page = subprocess.run(
        [sys.executable, "-m", "ashneuro", "train", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "400"},
    ).stdout
    assert page.startswith("Usage: ashneuro train")
    assert "small (one GPU, all tasks), base (COCO" in page, "one line, as the width allows"
    assert "[default: 10000]" in page and "[default: False]" not in page and "[default: None]" not in page


@pytest.mark.parametrize(
    "words, remedy",
    [
        (["train", "tiny", "--epochs", "3"], "--set train.epochs=…"),
        (["train", "tiny", "--weight-decay=1"], "--set train.weight_decay=…"),
        (["check", "x.nir", "--samples", "3"], "Options: ashneuro check --help"),
    ],
)
def test_unknown_option_names_the_remedy(words: list[str], remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="2"):
        patch.setattr(sys, "argv", ["ashneuro", *words])
        cli.main()
    assert remedy in " ".join(capsys.readouterr().err.split())


def test_help_loads_the_command_line_alone() -> None:
    """Half a second is what cyclopts and rich take to load; nothing of ours may come on top."""
    code = "import sys; sys.argv = ['ashneuro', '--help']\nfrom ashneuro.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stderr.split())
    assert not loaded & {"torch", "numpy", "scipy", "nir", "h5py", "matplotlib", "pydantic", "jinja2"}
    ours = {name for name in loaded if name.startswith("ashneuro")}
    assert ours == {"ashneuro", "ashneuro.cli", "ashneuro.cores", "ashneuro.errors"}


@pytest.mark.parametrize("words", [["--help"], ["profiles"], ["profiles", "show", "loihi1"]])
def test_light_commands_do_not_import_torch(words: list[str]) -> None:
    code = f"import sys; sys.argv = ['ashneuro', *{words!r}]\nfrom ashneuro.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules and 'norse' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize(
    "words", [["--help"], ["profiles", "show", "loihi1"], ["profiles", "show", "loihi1", "--json"]]
)
def test_output_in_ascii(words: list[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ashneuro", *words],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    if "--json" in words:
        content = json.loads(result.stdout.decode("ascii"))
        assert "–" in json.dumps(content, ensure_ascii=False), "characters are kept"


@pytest.mark.parametrize("words", ["--help", "train --help", "profiles show loihi1"])
def test_broken_pipe_exits_with_0(words: str) -> None:
    command = f"({sys.executable} -m ashneuro {words}; echo $? >&2) | true"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stderr == "0\n"


def test_closed_stdout_exits_with_0() -> None:
    result = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m ashneuro profiles show loihi1 >&-"], capture_output=True, check=True
    )
    assert not result.stderr


def test_waiting_is_passive_before_torch_is_imported() -> None:
    """OpenMP reads its settings once, when torch loads it."""
    code = (
        "import os, sys; from ashneuro import cli\n"
        "def loaded(*words, **options): print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])\n"
        "cli.app = type('App', (), {'__call__': loaded, '__getitem__': lambda *_: None})()\n"
        "sys.argv = ['ashneuro']; cli.main()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_"))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.split() == ["False", "PASSIVE"], result.stderr
