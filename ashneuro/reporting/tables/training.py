"""Training: memory and arithmetic of a run, from a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ashneuro.reporting.tables.table import Table, number

if TYPE_CHECKING:
    from ashneuro.exchange import DryRun


def dry_run(found: DryRun) -> Table:
    """Return memory per process and FLOP per pair of every stage."""
    rows = tuple(
        (
            stage.name,
            stage.task,
            number(stage.pairs),
            number(stage.batch),
            f"{stage.fixed_bytes / 2**30:.2f}",
            f"{stage.activation_bytes / 2**20:.1f}",
            f"{stage.memory_bytes / 2**30:.1f}",
            f"{stage.flops / 1e9:.2f}",
        )
        for stage in found.stages
    )
    columns = (
        "stage",
        "task",
        ">pairs in all",
        ">batch per process",
        ">weights and optimiser, GiB",
        ">activations per pair, MiB",
        ">memory per process, GiB",
        ">GFLOP per pair",
    )
    note = (
        "Activations are what the backward pass keeps, measured on batches of 2 and 4; workspace, fragmentation and "
        "images come on top. FLOP: products of a forward and a backward pass; neurons and norms are not counted."
    )
    return Table("Memory and FLOP of a training step, estimated from a few steps", columns, rows, note=note)
