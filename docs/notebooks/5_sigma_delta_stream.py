# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 5 A sigma-delta stream
#
# Frames that follow one another differ little. Sigma-delta neurons send what changed: a ReLU
# network becomes one that is silent where nothing moves, and its sums are exact up to the threshold
# of what is sent.

# %%
import torch
from torch import nn

import ashneuro as ash
from ashneuro.spiking.lif import Delta, SigmaDelta

torch.manual_seed(0)
FRAMES, SIDE = 24, 12


def clip():
    """A bright square that moves one pixel every other frame, (T, SIDE · SIDE)."""
    frames = torch.zeros(FRAMES, SIDE, SIDE)
    for t in range(FRAMES):
        x, y = (t // 2) % (SIDE - 4), 3
        frames[t, y : y + 4, x : x + 4] = 1.0
    return frames.flatten(1)


x = clip()[:, None]  # (T, B, *shape), one clip
weights = [nn.Linear(SIDE * SIDE, 32, bias=False), nn.Linear(32, 8, bias=False)]
dense = nn.Sequential(weights[0], nn.ReLU(), weights[1], nn.ReLU())

# %% [markdown]
# ## The same weights, by changes
#
# The input goes through `Delta`, each ReLU becomes a `SigmaDelta`. A threshold of 0.02 keeps
# changes below it back until they add up.

# %%
stream = nn.Sequential(Delta(0.02), weights[0], SigmaDelta(0.02), weights[1], SigmaDelta(0.02))
sent = stream(x)
error = (sent.cumsum(0) - dense(x)).abs().max().item()
print(f"largest difference from the dense network over {FRAMES} frames: {error:.3f}")

# %% [markdown]
# ## What it saves
#
# The dense network computes all products for every frame. Coded by changes, only messages are
# multiplied, each with the weights behind it: these products are *effective MACs*.

# %%
network = ash.from_torch(stream, x)
print(f"{network.source.compared:,} values compared with the module, {network.source.mismatches} differ")
record = ash.simulate(network)
for name, layer in record.layers.items():
    print(f"layer {name}: {layer.events:,} messages of {layer.neurons * FRAMES:,} possible")

# %%
workload = ash.report(network, inputs=x.numpy(), profiles=["loihi1"]).workload
deployed = workload.part("deployed")
products, whole = deployed.per_inference("effective_macs"), FRAMES * (SIDE * SIDE * 32 + 32 * 8)
print(f"products: {products:,.0f} by changes, {whole:,} dense: {products / whole:.1%}")

# %% [markdown]
# ## In Loihi's integers
#
# Changes are graded messages with a sign. Integers have a coarser grid; `check` names what silicon
# needs for it.

# %%
findings = ash.check(network, "lava")
findings

# %%
integers = ash.simulate(network, on="loihi")
print({name: layer.events for name, layer in integers.layers.items()})

# %% [markdown]
# Clips of pictures, codings beside one another and energy per frame: `ashneuro evaluate RUN
# --stream CLIPS`, and the page on streams.

# %%
assert network.source.mismatches == 0 and error < 1
assert products < 0.5 * whole
