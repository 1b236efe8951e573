"""Workload counts, hardware profiles, energy and time estimates, and comparisons with ANNs."""
