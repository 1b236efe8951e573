"""Which layers of a program can be computed one after the other, over all steps at once."""

from __future__ import annotations

from ashneuro.errors import GraphError
from ashneuro.program.program import Layer, Program


def blocks(program: Program) -> list[list[Layer]]:
    """Return the layers in order, grouped: within a group a layer feeds an earlier one or itself; between groups none does.

    Raises:
        GraphError: something would have to arrive before it is sent, or in the step in which a later layer sends it.
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
    """Whether layers of ``block`` feed themselves or each other."""
    names = {layer.name for layer in block}
    return any(connection.source in names for layer in block for connection in layer.connections)
