"""Simulation of programs and graphs: float64, Loihi's integers, Lava; proofs that they agree."""
