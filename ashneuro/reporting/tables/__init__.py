"""Results as tables of text, for the terminal, the HTML page and notebooks alike."""

from ashneuro.reporting.tables import bench, energy, network, profiles, proof, table, tasks, validation

__all__ = ["bench", "energy", "network", "profiles", "proof", "table", "tasks", "validation"]
