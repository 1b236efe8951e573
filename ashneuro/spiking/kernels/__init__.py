"""Neuron and synapse kernels: one interface, four back ends."""
