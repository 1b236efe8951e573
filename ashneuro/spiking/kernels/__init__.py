"""The neuron kernels: one interface, four back ends."""
