"""Files that are written whole or not at all, and files that are read within limits.

Whoever reads a file that may come from elsewhere goes through these functions, or through
`ashneuro.arrays` and `ashneuro.program.hdf5`: they open regular files alone, compare sizes with a
limit before anything is allocated, and raise nothing but `OSError` and `ValueError`, with a reason
that can be shown.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
import textwrap
import tomllib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from pydantic import ValidationError

Written = TypeVar("Written")

LARGEST_JSON = 1 << 30
"""Bytes of the largest JSON, table or picture that is read: COCO's captions have 0.1 GB."""
LARGEST_TOML = 4 << 20
"""Bytes of the largest TOML that is read; ours have 10 kB."""
DEEPEST_TOML = 100
"""Levels of the most nested TOML that is read. tomllib takes time with the square of a key's
dots."""

_LONG_KEY = re.compile(rf"^[ \t]*\[*[\w-]+(?:[ \t]*\.[ \t]*[\w-]+){{{DEEPEST_TOML}}}", re.MULTILINE)

LARGEST_EXPANDED = 1 << 30
"""Bytes that a file may hold when it is unpacked, if it is small itself."""
EXPANSION = 32
"""A larger file may hold this many times its own size."""
EXPANDED_GIB = "ASHNEURO_LARGEST_GIB"
"""Environment variable: another `LARGEST_EXPANDED`, in GiB."""

_TEMPORARY = re.compile(r"\.(?:.+\.)?\d+-[0-9a-f]+(?:\..*)?")

_KINDS: dict[Callable[[int], bool], str] = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a new file through ``write`` and move it to ``path``.

    A reader sees the old file or the new one, never a part; where writing fails, as on a full disk,
    the old one stays. A device or a pipe, such as /dev/stdout, is written directly, and a link
    stays a link.

    Args:
        write: takes the path of the new file, which has the suffix of ``path``.
    """
    if path.exists() and not path.is_file():
        write(path)
        return
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    # Two processes may write at once, and on a shared disk two machines may have the same number.
    # The name is short: that of the file may be as long as the file system allows.
    temporary = target.with_name(f".{os.getpid()}-{secrets.token_hex(4)}{target.suffix[:32]}")
    try:
        write(temporary)
        temporary.replace(target)
    except OSError as error:
        # A user knows the file by its name; a write that fails names none.
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Return True for the name of a new file of `replace_file`, which a killed process leaves.

    Older versions began it with the name of the file.
    """
    return _TEMPORARY.fullmatch(name) is not None


def replace_files(folder: Path, write: Callable[[Path], Written], last: str = "") -> Written:
    """Write files through ``write``, and move them into ``folder`` once all of them are complete.

    Where writing fails, as on a full disk, the old files stay, and no part of a new one. Other
    files in the folder stay as they are.

    Args:
        folder: made with its parents; taken away again if nothing is written.
        write: takes a new, empty folder on the same disk, and returns what this function returns.
        last: file that is moved after all others, as a manifest that says what they are.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{os.getpid()}-{secrets.token_hex(4)}"
    try:
        fresh.mkdir()
        found = write(fresh)
        for path in sorted(fresh.iterdir(), key=lambda path: (path.name == last, path.name)):
            path.replace(folder / path.name)
        made = False
        return found
    except OSError as error:
        if error.filename is not None and Path(error.filename).parent == fresh:
            error.filename = str(folder / Path(error.filename).name)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if made:
            with suppress(OSError):
                folder.rmdir()


def copy_folder(source: Path, target: Path, leave_out: Callable[[str], bool]) -> None:
    """Copy the files of a folder, and of folders in it, into another one, which may exist.

    Args:
        leave_out: True for names that are not copied.

    Raises:
        OSError: see `require_own`, or something cannot be written.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if leave_out(path.name):
            continue
        require_own(path, source)
        if path.is_dir():
            copy_folder(path, target / path.name, leave_out)
        else:
            shutil.copy2(path, target / path.name)


def require_own(path: Path, folder: Path) -> None:
    """Raise `OSError` unless ``path`` is a regular file of ``folder``, or a folder that is no link.

    A link may lead to a file that whoever made the folder has no right to, or to a device.
    """
    if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(folder.resolve())):
        raise OSError(errno.EINVAL, "it is a link out of its folder", str(path))
    if not path.is_dir():
        require_regular(path)


def make_room(path: Path) -> None:
    """Make the folder of a file that can be made again, and take away what stands in the file's
    place: a folder, a pipe, a device.

    Raises:
        OSError: the folder cannot be made, or what stands there is a folder that holds something.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    elif path.is_symlink() or (path.exists() and not path.is_file()):
        path.unlink()


def require_regular(path: str | Path, limit: int | None = None) -> int:
    """Return the size of a regular file in bytes; links are followed.

    To open a named pipe waits for its writer, and a device may never end.

    Raises:
        OSError: it is something else, is missing, or is larger than ``limit``; ``strerror`` is the
            reason.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((word for test, word in _KINDS.items() if test(found.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    if limit is not None and found.st_size > limit:
        raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes; at most {limit:,} are read", str(path))
    return found.st_size


def is_file(path: Path) -> bool:
    """Return True if ``path`` is a file; False also for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def reason_of(error: Exception) -> str:
    """Return why a file could not be read, without its name, on one line."""
    text = getattr(error, "strerror", None) or (f"it has no {error}" if isinstance(error, KeyError) else str(error))
    return " ".join(text.split()) or type(error).__name__


def require_unpacked(expanded: int, size: int) -> None:
    """Raise `ValueError` if a file of ``size`` bytes claims to hold too many when it is unpacked.

    Nothing is allocated for a claim that fails here.
    """
    try:
        least = int(float(os.environ[EXPANDED_GIB]) * (1 << 30))
    except (KeyError, ValueError, OverflowError):
        least = LARGEST_EXPANDED
    if expanded > (limit := max(least, EXPANSION * size)):
        raise ValueError(
            f"it has {size:,} bytes and claims to hold {expanded:,}; at most {limit:,} are read, or as many GiB as the "
            f"environment variable {EXPANDED_GIB} says"
        )


def read_bytes(path: str | Path, limit: int = LARGEST_JSON) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: see `require_regular`.
    """
    require_regular(path, limit)
    return Path(path).read_bytes()


def read_text(path: str | Path, limit: int = LARGEST_JSON) -> str:
    """Return the content of a regular file of UTF-8.

    Raises:
        OSError: see `require_regular`.
        ValueError: it is not UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8")


def read_json(path: str | Path, limit: int = LARGEST_JSON) -> Any:
    """Return the value in a JSON file; see `parse_json`.

    Raises:
        OSError: see `require_regular`.
        ValueError: it is not JSON, or not UTF-8.
    """
    return parse_json(read_text(path, limit))


def parse_json(text: str, *, finite: bool = True) -> Any:
    """Return the value of a JSON text.

    Args:
        finite: its numbers must be finite.

    Raises:
        ValueError: it is not JSON, holds NaN or an infinite number, is nested too deeply, or has an
            integer of thousands of digits.
    """
    try:
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite) if finite else json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise _plain(error) from error


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the values in a TOML file; see `parse_toml`.

    Raises:
        OSError: see `require_regular`.
        ValueError: it is not TOML, or not UTF-8.
    """
    return parse_toml(read_text(path, LARGEST_TOML))


def parse_toml(text: str) -> dict[str, Any]:
    """Return the values of a TOML text.

    Raises:
        ValueError: it is not TOML, is nested too deeply, or has an integer of thousands of digits.
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"it has a key of more than {DEEPEST_TOML} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise _plain(error) from error


def conform(values: Any, model: Any) -> Any:
    """Return parsed JSON as a value of a model.

    Args:
        model: a dataclass or another type. Types are compared strictly; keys that it does not have
            may be there.

    Raises:
        ValueError: the values are not those of the model; the message names the first of them.
    """
    from pydantic import ValidationError

    try:
        return _adapter(model).validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise ValueError(_problems(error)) from None


@cache
def _adapter(model: Any) -> Any:
    # Imported here: `--help` and `check` start without it.
    from pydantic import TypeAdapter

    return TypeAdapter(model)


def _problems(error: ValidationError) -> str:
    """Return the first five faults of values, on one line."""
    found = []
    for item in error.errors(include_context=False):
        *parents, last = item["loc"] or ("it",)
        if item["type"] == "missing":
            found.append(f"{'.'.join(map(str, parents)) or 'it'} has no {last!r}")
        else:
            value = textwrap.shorten(repr(item["input"]), 60, placeholder=" …")
            found.append(f"{'.'.join(map(str, (*parents, last)))} is {value}: {item['msg']}")
    return "; ".join([*found[:5], *([f"and {len(found) - 5} more"] if len(found) > 5 else [])])


def _plain(error: ValueError) -> ValueError:
    # Python advises to lift its limit of digits, which would make such a file slow, not sound.
    return ValueError("it has an integer of thousands of digits") if "integer string" in str(error) else error


def _not_finite(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}, which is not a number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it holds {text[:40]}, which is larger than any number here")
    return value


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8 by `replace_file`.

    A byte of a path that is no UTF-8 is written as ``\udcXX``, which JSON reads back.
    """
    content = text.encode("utf-8", errors="backslashreplace")
    replace_file(path, lambda file: file.write_bytes(content))


def named(path: Path) -> Path:
    """Return a path that ends in a name, which ``.``, ``..`` and an empty one do not."""
    if path.name in ("", ".."):
        path = Path(os.path.abspath(path))
    return path if path.name else path / "root"  # the root folder has no name at all


def user_path(text: str | Path) -> Path:
    """Return a path with ``~`` as the user's home; ``~name`` of no user stays as it is."""
    return Path(os.path.expanduser(text))  # Path.expanduser raises for an unknown user
