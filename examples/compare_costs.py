"""What an exported network costs: counts from a run, joules as ranges, and the rate at which an ANN would break even.

python examples/compare_costs.py runs/demo/hybrid/bundle
"""

import sys

from ashneuro.cost.compare import compare
from ashneuro.cost.profile import load_profile
from ashneuro.cost.workload import ann_twin, count
from ashneuro.program.bundle import read_bundle
from ashneuro.simulate.run import simulate

bundle = read_bundle(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/hybrid/bundle")
program = bundle.program("integer")
workload = count(program, simulate(bundle, bundle.reference.inputs, on="loihi"))
for layer in workload.layers:
    print(f"{layer.name:14} {layer.effective_acs / workload.samples:12,.0f} synops of {layer.dense_macs / workload.samples:12,.0f} dense")
# The deployed part alone: a bundle knows nothing of its host. `ashneuro report RUN` adds the host to both sides.
answer = compare(workload, ann_twin(program), node=load_profile("cmos45"), chips=[load_profile("loihi1")])
print(answer.verdict)
for even in answer.break_even:
    print(f"break-even on {even.spiking} against {even.ann}: {even.sentence()}; this network: {100 * (workload.firing_rate or 0):.1f} %")
