"""The one neuron: its contract, its Norse step, the spiking layers."""
