"""Text from files and exceptions, made harmless for a terminal.

Names of nodes, captions and paths may hold anything: escape sequences that change the title or
erase a line, carriage returns, line breaks in front of a made-up error, marks that turn the order
of letters. Everything that is printed passes `visible` or `visible_lines`.
"""

from __future__ import annotations

import re

# Control characters (C0 but the line break, DEL, C1), the marks that reorder text, the separators
# that some programs take for line breaks, and halves of surrogate pairs, which stand for bytes of a
# path that are no UTF-8. Joiners and emoji are kept.
_HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    r"""Return ``text`` on one line, with control characters as ``\x1b``, ``\n`` or ``\u202e``."""
    return _HARMFUL.sub(_escaped, str(text)).replace("\n", "\\n")


def visible_lines(text: object, indent: str) -> str:
    """Return ``text`` with its line breaks, and every line after the first behind ``indent``.

    What ashneuro writes over several lines stays so; a foreign line never begins at the margin,
    where errors do. Lines that are indented as far already stay where they are.
    """
    first, *others = _HARMFUL.sub(_escaped, str(text)).split("\n")
    return "\n".join([first, *(line if line.startswith(indent) else indent + line for line in others)])


def visible_json(text: str) -> str:
    r"""Return a JSON text with harmful characters, which stand in strings alone, as ``\uXXXX``.

    JSON escapes the C0 controls itself; the line breaks between its values are kept.
    """
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a path, see `os.fsdecode`
        return f"\\x{code - 0xDC00:02x}"
    known = {"\t": "\\t", "\r": "\\r"}.get(match[0])
    return known or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
