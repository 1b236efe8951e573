"""A folder in the place of the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


def folder_hub(folder: Path) -> dict[str, Any]:
    """Return stand-ins of functions of huggingface_hub, by name, whose repositories are in
    ``folder``: ``HfApi`` and ``snapshot_download``.
    """
    from huggingface_hub.utils import filter_repo_objects

    def copy(source: Path, target: Path, patterns: list[str]) -> None:
        names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
        for name in filter_repo_objects(names, allow_patterns=patterns):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)

    class Api:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
            (folder / name).mkdir(parents=True, exist_ok=exist_ok)
            (folder / name / "visibility").write_text("private" if private else "public")
            return f"hub/{name}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], **_: Any) -> None:
            copy(Path(folder_path), folder / repo_id, allow_patterns)

    def download(name: str, *, revision: str | None, local_dir: Path, allow_patterns: list[str]) -> None:
        if not (folder / name).is_dir():
            raise OSError(f"404: no repository {name}")
        copy(folder / name, Path(local_dir), allow_patterns)

    return {"HfApi": Api, "snapshot_download": download}
