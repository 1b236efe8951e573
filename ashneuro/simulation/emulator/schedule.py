"""Grouping of a program's layers into blocks, each computed over all steps before the next one."""

from __future__ import annotations

from ashneuro.errors import GraphError
from ashneuro.program.program import Layer, Program


def blocks(program: Program) -> list[list[Layer]]:
    """Return the layers in blocks: loops are within a block, never between blocks.

    Raises:
        GraphError: spikes would have to arrive before they are sent, or in the step in which a
            later layer sends them.
    """
    order = {layer.name: index for index, layer in enumerate(program.layers)}
    last = []
    for index, layer in enumerate(program.layers):
        sources = [(connection, order.get(connection.source, -1)) for connection in layer.connections]
        for connection, position in sources:
            steps = program.lag(layer, connection)
            if steps < (position >= index):
                raise GraphError(
                    f"{connection.source} → {layer.name}",
                    f"its spikes would have to arrive {(position >= index) - steps} step(s) before they are sent",
                    "lower the graph again: the depths or the delays of this program are wrong",
                )
        last.append(max([index, *(position for _, position in sources)]))
    groups: list[list[Layer]] = []
    end = -1
    for index, layer in enumerate(program.layers):
        if index > end:
            groups.append([])
        groups[-1].append(layer)
        end = max(end, last[index])
    return groups


def is_recurrent(block: list[Layer]) -> bool:
    """Return True if layers of ``block`` feed themselves or each other."""
    names = {layer.name for layer in block}
    return any(connection.source in names for layer in block for connection in layer.connections)
