"""Runs on the Hugging Face hub: a run's folder as a model repository, and back."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashneuro.errors import ConfigError, DataError, need
from ashneuro.files import reason_of, require_own
from ashneuro.workflows.networks import kind_of

if TYPE_CHECKING:
    from ashneuro.training.checkpoint import Run

# No *.pt: the state of the optimiser is a pickle, and nobody needs it to use a run.
FILES = (
    "README.md",
    "*.json",
    "*.jsonl",
    "model.safetensors",
    "report.html",
    "bundle/*",
    "stream/*",
    "tower/*",
)
PURPOSE = "the Hugging Face hub"


def push(run: str | Path | Run, name: str, *, private: bool = True) -> str:
    """Upload a run to the hub and return the address of its repository.

    Uploaded are settings, weights (safetensors), vocabulary, metrics, results, bundles and the card
    with its front matter; neither data nor the state of the optimiser. The token is that of
    ``hf auth login`` or ``$HF_TOKEN``.

    Args:
        run: a folder that `ashneuro train` wrote, or a loaded run.
        name: repository, ``"OWNER/NAME"``; it is made if there is none.
        private: visibility of a repository that is made.

    Raises:
        ConfigError: ``run`` is not a run, or the name is not of that form.
        DataError: the hub cannot be reached, or refuses; or a file of the run is a link to
            somewhere else.
        MissingDependency: huggingface_hub is not installed.
    """
    folder = Path(run) if isinstance(run, str | Path) else run.path
    _require_name(name)
    if kind_of(folder) != "run":
        raise ConfigError(f"{folder} is not a run", "only a run can be shared", f"ashneuro train tiny --out {folder}")
    hub = need("huggingface_hub", extra="hub", purpose=PURPOSE)
    _require_own_files(folder, hub)
    try:
        api = hub.HfApi()
        address = str(api.create_repo(name, private=private, exist_ok=True))
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=list(FILES), commit_message="Upload a run of ashneuro"
        )
    except _failures(hub) as error:
        raise _failed(f"cannot upload to {name}", error) from error
    return address


def pull(name: str, out: str | Path, *, revision: str | None = None) -> Run:
    """Download a run from the hub into a folder, and return it.

    Nothing that is downloaded is run: weights are safetensors, and what else is read is text or
    arrays. A bundle has its script for Lava, which `verify` compares with that of this version.

    Args:
        name: repository, ``"OWNER/NAME"``.
        out: folder of the run, which must not exist or be empty.
        revision: branch, tag or commit.

    Raises:
        ConfigError: the name is not of that form, or ``out`` has files.
        DataError: there is no such repository, the hub cannot be reached, or it holds no run.
        MissingDependency: huggingface_hub is not installed.
    """
    _require_name(name)
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} is not empty", "a run is downloaded into a folder of its own", "name another folder"
        )
    hub = need("huggingface_hub", extra="hub", purpose=PURPOSE)
    checkpoint = need("ashneuro.training.checkpoint", extra="train", purpose="reading a run")
    try:
        hub.snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=list(FILES))
    except _failures(hub) as error:
        raise _failed(f"cannot download {name}", error) from error
    loaded: Run = checkpoint.load_run(folder)
    return loaded


def _require_own_files(folder: Path, hub: Any) -> None:
    """Raise `DataError` if a file to be uploaded is a link out of the run, or no file."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    chosen = importlib.import_module(f"{hub.__name__}.utils").filter_repo_objects(names, allow_patterns=list(FILES))
    for name in sorted(chosen):
        try:
            require_own(folder / name, folder)
        except OSError as error:
            do = "put the file itself there, or take it out of the run"
            raise DataError(f"cannot upload {folder / name}", reason_of(error), do) from error


def _require_name(name: str) -> None:
    owner, slash, rest = name.partition("/")
    if not (owner and slash and rest) or "/" in rest or any(each.isspace() for each in name):
        raise ConfigError(f"{name!r} is not a repository", "its name is OWNER/NAME", "e.g. my-name/emoji-hybrid")


def _failures(hub: Any) -> tuple[type[Exception], ...]:
    """Return the errors of the hub that a user can mend: names, tokens, connections."""
    errors = importlib.import_module(f"{hub.__name__}.errors")  # the package imports it when it is asked for
    return (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, ValueError, OSError)


def _failed(what: str, error: Exception) -> DataError:
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return DataError(what, first, "check the name and the connection; for a private repository: hf auth login")
