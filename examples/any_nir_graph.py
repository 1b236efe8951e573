"""Any NIR graph: check it, simulate it in float and in Loihi's integers, prove it, price it.

No training, no torch needed. python examples/any_nir_graph.py
"""

import nir
import numpy as np

import ashneuro as ash

random = np.random.default_rng(0)
ones = np.ones(64)
graph = nir.NIRGraph(
    {
        "input": nir.Input(np.array([100])),
        "hidden.weight": nir.Affine(random.normal(0, 0.2, (64, 100)), np.zeros(64)),
        "hidden": nir.LIF(tau=5e-3 * ones, r=5 * ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones),
        "output": nir.Output(np.array([64])),
    },
    [("input", "hidden.weight"), ("hidden.weight", "hidden"), ("hidden", "output")],
)
inputs = (random.random((32, 8, 100)) < 0.1).astype(np.uint8)  # (T, B, lines)

# NIR leaves open how long a step is, what the inputs are, and when a reset takes effect.
network = ash.read(graph, dt_s=1e-3, input_coding="spikes")
for finding in ash.check(network, "lava"):
    print(f"{finding.level:5}  {finding.node}: {finding.sentence} {finding.actual}")

exact = ash.simulate(network, inputs)
integer = ash.simulate(network, inputs, on="loihi")
print(f"float64: {exact.layers['hidden'].events} spikes; Loihi's integers: {integer.layers['hidden'].events}")

report = ash.report(network, inputs=inputs, profiles=["loihi1", "cmos45"])
(cost,) = report.estimates
low, high = cost.dynamic_j.low * 1e9, cost.dynamic_j.high * 1e9
print(f"on loihi1, estimated: {low:.0f}–{high:.0f} nJ per sample; left out: {cost.excludes[0]} …")
print(report.verdict)
