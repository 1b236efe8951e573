"""A NIR file that leaves its contract open, spikes for it, and the counts of its simulation."""

import sys

import nir
import numpy as np

if sys.argv[1:] == ["counts"]:
    import ashneuro
    from ashneuro.simulation.record import save_counts

    save_counts(ashneuro.simulate("leaky.bundle", on="loihi"), "leaky-counts.npz")
else:
    random = np.random.default_rng(0)
    leaky = nir.LIF(*(np.full(4, value) for value in (2.5e-3, 2.5, 0.0, 1.0, 0.0)))
    nodes = {
        "input": nir.Input(np.array([6])),
        "linear": nir.Linear(random.normal(size=(4, 6))),
        "leaky": leaky,
        "output": nir.Output(np.array([4])),
    }
    edges = [("input", "linear"), ("linear", "leaky"), ("leaky", "output")]
    nir.write("leaky.nir", nir.NIRGraph(nodes, edges))
    np.save("x.npy", (random.random((20, 2, 6)) < 0.4).astype(np.uint8))
