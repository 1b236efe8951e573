"""Any NIR graph: check it, simulate it in float and in Loihi's integers, count what it costs. No training, no torch needed.

python examples/any_nir_graph.py
"""

import nir
import numpy as np

from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import load_profile
from ashneuro.cost.workload import count
from ashneuro.program.check import check
from ashneuro.program.lower import lower
from ashneuro.simulation.calibrate import calibrate
from ashneuro.simulation.run import Graph, simulate
from ashneuro.spiking.contract import Contract

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
# What NIR leaves open: how long a step is, what the inputs are, when a reset takes effect.
contract = Contract(dt_s=1e-3, input_coding="spikes")
inputs = (random.random((32, 8, 100)) < 0.1).astype(np.uint8)  # (T, B, lines)

for finding in check(graph, contract, "lava"):
    print(f"{finding.level:5}  {finding.node}: {finding.sentence} {finding.actual}")

exact = simulate(Graph(graph, contract), inputs, on="torch")
program = calibrate(lower(graph, contract), inputs).program
integer = simulate(program, inputs, on="loihi")
print(f"float64: {exact.layers['hidden'].events} spikes; Loihi's integers: {integer.layers['hidden'].events}")

cost = estimate(count(program, integer), load_profile("loihi1"))
if cost.dynamic_j:
    low, high = cost.dynamic_j.low * 1e9, cost.dynamic_j.high * 1e9
    print(f"on loihi1, estimated: {low:.0f}–{high:.0f} nJ per sample; left out: {cost.excludes[0]} …")
