"""Benchmarks: speeds on this machine, compared within one run."""
