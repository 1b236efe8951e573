# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 3 What does it cost, against your ANN?
#
# A spiking network and an ANN of your own for the same input, priced with the same rules on the
# same 45 nm node. The ANN may win. Every joule is an estimate: counted events × published energies,
# as a range.

# %%
import torch
from torch import nn

import ashneuro as ash
from ashneuro.spiking.lif import LIF

torch.manual_seed(0)
STEPS = 4
spiking = nn.Sequential(
    nn.Linear(256, 128),
    LIF(4e-3, dt=1e-3, v_threshold=0.05),
    nn.Linear(128, 10),
    LIF(4e-3, dt=1e-3, v_threshold=0.05),
)
ann = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))

x = (torch.rand(STEPS, 32, 256) < 0.2).float()  # (T, B, *shape)
network = ash.from_torch(spiking, x)

# %% [markdown]
# ## The comparison
#
# `sample` is what the ANN sees: here the mean over time. Untrained networks stand in for yours: the
# verdict below is about energy alone, and a real one needs the accuracy of both.

# %%
costs = ash.compare(network, ann=ann, sample=x.mean(0), profiles=["loihi1", "cmos45"])
print(costs.verdict)
costs

# %% [markdown]
# ## Where the energy goes
#
# Low, typical and high are cases of how often data are reused in memory. Where they name different
# winners, the verdict says *undecided*.

# %%
for contender in costs.groups[0].contenders:
    total = contender.total_j
    print(f"{contender.name:40} {total.typical * 1e9:8.2f} nJ ({total.low * 1e9:.2f}–{total.high * 1e9:.2f})")

# %%
for line in costs.break_even:
    print(line.sentence())
print(f"this network's firing rate: {costs.firing_rate:.1%}")

# %% [markdown]
# ## On a chip
#
# Events alone, in the prices that were published for Loihi; `loihi2` has none, and says so. How far
# such estimates lie from measured chips: `ashneuro profiles validate`.

# %%
report = ash.report(network, inputs=x.numpy(), profiles=["loihi1", "loihi2"])
for estimate in report.estimates:
    print(estimate.profile, estimate.dynamic_j or estimate.because)
figure = costs.plot()

# %%
assert 0 < costs.firing_rate < 1 and "estimated" in costs.verdict
assert any(not contender.is_integer_twin for contender in costs.groups[0].contenders)
