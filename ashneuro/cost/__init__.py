"""Counts first, joules second: workload, hardware profiles, estimates."""
