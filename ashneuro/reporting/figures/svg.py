"""Figures as SVG: inline, in the colours of the HTML page, or as a file that stands alone."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ashneuro.errors import DataError
from ashneuro.files import replace_file, write_text
from ashneuro.reporting.figures.style import ANN, HOST, INK, LINE, MUTED, SERIES, SPIKE, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# CSS variables of the page for the colours of figures, so that these follow light and dark.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    SPIKE: "--spike",
    ANN: "--ann",
    HOST: "--host",
    SERIES: "--series",
}


def inline(figure: Figure, name: str, alt: str) -> str:
    """Return ``<svg>`` for the HTML page: transparent, in the page's colours and font.

    Equal figures give equal text.

    Args:
        name: prefix of all ids; unique on the page.
        alt: text alternative.
    """
    text = _written(figure, name, alt, transparent=True)
    text = re.sub(r"font-family: [^;\"]+", "font-family: inherit", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def alone(figure: Figure, name: str, alt: str) -> str:
    """Return an ``<svg>`` on white for a file of its own; arguments as of `inline`."""
    width, height = (72 * side for side in figure.get_size_inches())
    text = _written(figure, name, alt, transparent=False)
    text = text.replace("<svg ", f'<svg width="{width:g}pt" height="{height:g}pt" ', 1)
    return re.sub(r"font-family: [^;\"]+", "font-family: sans-serif", text)


def save(figure: Figure, path: Path, alt: str) -> None:
    """Write a figure to ``path``, in the format of its suffix: .svg, .png or .pdf.

    Raises:
        DataError: the suffix is missing or unknown, or the file cannot be written.
    """
    if not path.suffix:  # matplotlib would append a suffix of its choice
        raise DataError(f"cannot write {path}", "its suffix is the format of the figure", f"--figure {path}.svg")
    try:
        if path.suffix == ".svg":
            write_text(path, alone(figure, path.stem, alt))
        else:
            replace_file(path, lambda file: figure.savefig(file, dpi=150))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write {path}", str(error), "--figure NAME.svg, in a folder that exists") from error


def _written(figure: Figure, name: str, alt: str, *, transparent: bool) -> str:
    import matplotlib

    buffer = io.StringIO()
    # Ids are hashes of the salt and the content: the same from run to run.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=metadata, transparent=transparent)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    prefix = re.sub(r"\W", "-", name)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    width, height = (72 * side for side in figure.get_size_inches())
    label = html.escape(alt)
    head = f'<svg class="figure" role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}" '
    head += 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return head + f"<title>{label}</title>" + text[text.index(">") + 1 :].strip()
