"""Results as matplotlib figures, without pyplot; `svg` writes them into pages and files."""

from ashneuro.reporting.figures import bench, energy, network, svg, sweep, tasks, traces, training

__all__ = ["bench", "energy", "network", "svg", "sweep", "tasks", "traces", "training"]
