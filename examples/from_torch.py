"""A snnTorch model in memory: prove it, run it in Loihi's integers, price it.

Needs torch and snnTorch: pip install -e '.[train,frameworks]'. python examples/from_torch.py
"""

import snntorch as snn
import torch
from torch import nn

import ashneuro as ash

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 8, 5, stride=2),
    snn.Leaky(beta=0.9, threshold=0.3, init_hidden=True),  # reset by subtraction, one step late: the default
    nn.Flatten(),
    nn.Linear(8 * 12 * 12, 10),
    snn.Leaky(beta=0.9, threshold=0.3, init_hidden=True),
)
x = (torch.rand(25, 8, 1, 28, 28) < 0.3).float()  # (T, B, *shape)

network = ash.from_torch(model, x)  # the graph, compared with the model's own spikes
source = network.source
print(f"{source.module} – graph: {source.mismatches} of {source.compared} values differ, float32 ties {source.ties}")
for population in source.populations:
    print(f"  {population.name}: {population.spikes} spikes")

errors = [finding for finding in ash.check(network, "lava") if not finding.ok]
print(f"{len(errors)} findings forbid Lava")
integer = ash.simulate(network, on="loihi")  # without inputs: the sample
print(f"Loihi's integers: {integer.layers['4'].events} spikes of the last layer")

report = ash.report(network, inputs=x.numpy(), profiles=["loihi1", "cmos45"])
print(report.verdict)
