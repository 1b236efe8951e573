"""The Lava script of a bundle: runs and verifies the network with lava-nc and numpy alone.

Its template is `lava_worker/standalone/run_lava.py`. Two parts are filled in: the Lava Processes of
the worker, word for word, and a function that adds the network's layers and synapses in order.
"""

from __future__ import annotations

import hashlib
import json

from ashneuro.program.program import Connection, Layer, Program
from ashneuro.simulation.lava.environment import WORKER
from ashneuro.simulation.lava.layout import is_lagged

SCRIPT = "run_lava.py"


def lava_script(program: Program) -> str:
    """Return the text of ``run_lava.py``, the same for a network's float and integer programs."""
    return _fill(_template(), "network", _build(program))


def template_sha256() -> str:
    """Return the SHA-256 of all of ``run_lava.py`` but the function of the network.

    A bundle records it, so that a script of another version is told from one that was changed.
    """
    return hashlib.sha256(_template().encode()).hexdigest()


def _template() -> str:
    text = (WORKER / "standalone" / SCRIPT).read_text(encoding="utf-8")
    imports, processes = (WORKER / "processes.py").read_text(encoding="utf-8").split("class Source(", 1)
    imports = imports[imports.index("from lava") :].strip() + "\n"
    text = _fill(text, "imports", imports)
    return _fill(text, "processes", f"class Source({processes}")


def _fill(text: str, part: str, content: str) -> str:
    before, rest = text.split(f"# <{part}>\n")
    return before + content + rest.split(f"# </{part}>\n")[1]


def _build(program: Program) -> str:
    lines = [
        "def build(net: Network) -> None:",
        '    """Add every layer and every synapse of this network, in the order in which they compute."""',
    ]
    for index, layer in enumerate(program.layers):
        kind = "spiking neurons" if layer.neuron.spiking else "neurons that give their membrane potential"
        kind = f"neurons that send {layer.neuron.message.words}" if layer.neuron.payload else kind
        parts = f"; NIR: {_words(', '.join(layer.nir))}" if layer.nir else ""
        lines += ["", f"    # {_words(layer.name)}: {_shape(layer.shape)} {kind} at depth {layer.depth}{parts}"]
        lines.append(f"    net.neurons({index}, {_quoted(layer.name)}, depth={layer.depth})")
    lines.append("")
    for index, layer in enumerate(program.layers):
        for number, connection in enumerate(layer.connections):
            lines.append(f"    # {_sentence(layer, connection)}")
            lines.append(
                f"    net.synapse({index}, {number}, source={_quoted(connection.source)}, target={_quoted(layer.name)})"
            )
    if is_lagged(program):
        lines += [
            "",
            "    # Spikes from before the sample would arrive within it: the layers are held silent until then.",
        ]
        lines += [f"    net.hold({_quoted(layer.name)})" for layer in program.layers if layer.depth]
    return "\n".join(lines).rstrip() + "\n"


def _sentence(layer: Layer, connection: Connection) -> str:
    synapse = connection.synapse
    what = "as it is" if synapse is None else f"{synapse.kind} {_shape(synapse.weight.shape) or 'factor'}"
    late = f", {connection.delay} step(s) later" if connection.delay else ""
    nir = f" ({', '.join(connection.nir)})" if connection.nir else ""
    return _words(f"{connection.source} → {layer.name}: {what}{late}{nir}")


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(str(size) for size in shape)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _words(text: str) -> str:
    """Return ``text`` on one line: names of nodes may contain line breaks."""
    return " ".join(text.split())
