"""Draw the pipeline of README.md, light and dark: `python docs/draw_pipeline.py`.

Writes docs/pipeline-light.svg and docs/pipeline-dark.svg; a test checks that they are current.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent

ALT = (
    "A torch model, a NIR or lava-dl file, or a hybrid trained on image–text pairs becomes a NIR graph "
    "with a contract. It is checked, lowered to a float program and an integer program, and proved "
    "equal, spike for spike, in the float64 reference, the Loihi emulator and Lava. Counts of that run "
    "give the energy beside an ANN."
)


@dataclass(frozen=True)
class Theme:
    """Colours of one drawing."""

    paper: str
    ink: str
    muted: str
    line: str
    box: str
    spike: str
    ann: str


THEMES = {
    "light": Theme("#ffffff", "#101418", "#57606a", "#8c959f", "#f6f8fa", "#1d7a8c", "#b3601a"),
    "dark": Theme("#0d1117", "#e6edf3", "#9198a1", "#656c76", "#161b22", "#56c5d8", "#e8a15f"),
}


@dataclass(frozen=True)
class Box:
    """A box with a title and lines below it.

    Args:
        x, y, width, height: in pixels.
        accent: field of `Theme` that colours the left edge; empty for none.
    """

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    accent: str = ""

    @property
    def left(self) -> tuple[int, int]:
        """Middle of the left edge."""
        return self.x, self.y + self.height // 2

    @property
    def right(self) -> tuple[int, int]:
        """Middle of the right edge."""
        return self.x + self.width, self.y + self.height // 2


TRAINED = Box(10, 16, 224, 74, "Hybrid ANN–SNN", ("trained on image–text pairs,", "torch and Norse, CPU or GPU"), "ann")
MEMORY = Box(10, 106, 224, 74, "Your torch model", ("snnTorch, Norse, sinabs,", "SpikingJelly, Rockpool"), "ann")
FILE = Box(10, 196, 224, 74, "A file", (".nir of any tool,", ".net of lava-dl"), "ann")
GRAPH = Box(
    268, 91, 166, 104, "NIR graph", ("its neurons in full:", "dt, reset, comparison;", "checked for the target")
)
FLOAT = Box(466, 46, 166, 74, "Float program", ("float64,", "Lava floating_pt"), "spike")
INTEGER = Box(466, 166, 166, 74, "Integer program", ("Loihi's arithmetic,", "Lava fixed_pt"), "spike")
PROOF = Box(660, 46, 210, 74, "Proof", ("every spike compared,", "a script for lava-nc alone"), "spike")
REPORT = Box(660, 166, 210, 74, "Report", ("synops, energy, cores,", "beside an ANN as accurate"), "ann")
BOXES = (TRAINED, MEMORY, FILE, GRAPH, FLOAT, INTEGER, PROOF, REPORT)
ARROWS = (
    *((box.right, GRAPH.left) for box in (TRAINED, MEMORY, FILE)),
    *((GRAPH.right, box.left) for box in (FLOAT, INTEGER)),
    (FLOAT.right, PROOF.left),
    (INTEGER.right, PROOF.left),
    (INTEGER.right, REPORT.left),
)
WIDTH, HEIGHT = 880, 286


def drawn(theme: Theme) -> str:
    """Return the drawing as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' role="img" aria-labelledby="title" font-family="system-ui, sans-serif">',
        f'<title id="title">{escape(ALT)}</title>',
        f'<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{theme.line}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{theme.paper}"/>',
        *(_arrow(*ends, theme) for ends in ARROWS),
        *(_box(box, theme) for box in BOXES),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _arrow(start: tuple[int, int], end: tuple[int, int], theme: Theme) -> str:
    bend = (end[0] - start[0]) // 2
    path = f"M{start[0]} {start[1]}C{start[0] + bend} {start[1]} {end[0] - bend} {end[1]} {end[0] - 2} {end[1]}"
    return f'<path d="{path}" fill="none" stroke="{theme.line}" stroke-width="1.5" marker-end="url(#head)"/>'


def _box(box: Box, theme: Theme) -> str:
    parts = [
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6"'
        f' fill="{theme.box}" stroke="{theme.line}"/>'
    ]
    if box.accent:
        edge = f'x="{box.x}" y="{box.y + 10}" width="4" height="{box.height - 20}"'
        parts.append(f'<rect {edge} fill="{getattr(theme, box.accent)}"/>')
    parts.append(
        f'<text x="{box.x + 16}" y="{box.y + 26}" font-size="15" font-weight="600" fill="{theme.ink}">'
        f"{escape(box.title)}</text>"
    )
    for number, line in enumerate(box.lines):
        at = f'x="{box.x + 16}" y="{box.y + 46 + 18 * number}"'
        parts.append(f'<text {at} font-size="13" fill="{theme.muted}">{escape(line)}</text>')
    return "".join(parts)


if __name__ == "__main__":
    for name, theme in THEMES.items():
        (DOCS / f"pipeline-{name}.svg").write_text(drawn(theme), encoding="utf-8")
