"""Spiking layers, their kernels, Loihi's integers, and the contract of a graph's neurons."""
