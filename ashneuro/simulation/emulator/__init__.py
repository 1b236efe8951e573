"""Graphs in float64, float programs, and bit-exact integer programs, all samples at once."""
