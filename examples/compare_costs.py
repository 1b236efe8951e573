"""What an exported network costs: counts from a run, cores, joules as ranges, and the rate at which an ANN would break even.

python examples/compare_costs.py runs/demo/hybrid/bundle
"""

import sys

from ashneuro.cost.compare import compare
from ashneuro.cost.deployment import deploy
from ashneuro.cost.estimate import estimate
from ashneuro.cost.profile import load_profile
from ashneuro.cost.terms import energy_text
from ashneuro.cost.workload import ann_twin, count
from ashneuro.program.bundle import read_bundle
from ashneuro.simulation.run import simulate

bundle = read_bundle(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/hybrid/bundle")
program = bundle.program("integer")
record = simulate(bundle, bundle.reference.inputs, on="loihi")
workload = count(program, record)
for layer in workload.layers:
    print(
        f"{layer.name:14} {layer.effective_acs / workload.samples:12,.0f} synops of {layer.dense_macs / workload.samples:12,.0f} dense"
    )
chip = load_profile("loihi1")
deployment = deploy(program, record, chip)
for placed in deployment.placement.layers:
    print(
        f"{placed.layer:14} {placed.cores:3} core(s) of {chip.name}"
        + (f", limited by {placed.limited_by}" if placed.limited_by else "")
    )
# The deployed part alone: a bundle knows nothing of its host. `ashneuro report RUN` adds the host to both sides.
on_chip = estimate(workload.part("deployed"), chip, deployment=deployment)
answer = compare(workload, ann_twin(program), node=load_profile("cmos45"), chips=[chip], estimates={chip.name: on_chip})
print(answer.verdict)
for line in answer.conventions:
    print(f"{line.name}: {energy_text(line.ours_j)}; ANN: {energy_text(line.theirs_j)}")
for even in answer.break_even:
    print(
        f"break-even on {even.spiking.name} against {even.ann.name}: {even.sentence()}; this network: {100 * (workload.firing_rate or 0):.1f} %"
    )
