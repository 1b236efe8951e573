"""Cost of an exported network: counts, cores, joules as ranges, and the break-even firing rate.

python examples/compare_costs.py runs/demo/lif/bundle
"""

import sys

import ashneuro as ash
from ashneuro.cost.terms import energy_text

bundle = sys.argv[1] if len(sys.argv) > 1 else "runs/demo/lif/bundle"

# The deployed part alone: a bundle knows nothing of its host. `ash.report(run)` adds the host to
# both sides.
report = ash.report(bundle, profiles=["loihi1", "cmos45"])
workload, costs = report.workload, report.comparison
for layer in workload.layers:
    synops, dense = layer.effective_acs / workload.samples, layer.dense_macs / workload.samples
    print(f"{layer.name:14} {synops:12,.0f} synops of {dense:12,.0f} dense")
for placement in report.placements:
    for placed in placement.layers:
        limit = f", limited by {placed.limited_by}" if placed.limited_by else ""
        print(f"{placed.layer:14} {placed.cores:3} core(s){limit}")
print(costs.verdict)
for line in costs.conventions:
    print(f"{line.name}: {energy_text(line.ours_j)}; ANN: {energy_text(line.theirs_j)}")
rate = 100 * (workload.firing_rate or 0)
for even in costs.break_even:
    ours, theirs = (f"{side.profile} ({side.precision})" for side in (even.spiking, even.ann))
    print(f"break-even on {ours} against {theirs}: {even.sentence()}; this network: {rate:.1f} %")
