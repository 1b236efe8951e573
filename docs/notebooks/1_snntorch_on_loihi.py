# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 1 Your snnTorch model on Loihi's integers
#
# A convolutional network of leaky neurons learns to tell eight kinds of bars. Then the same module,
# in memory, is read, compared with its own spikes, rounded to Loihi's integers, and classified
# again: how much accuracy did the integers cost?
#
# Needs `pip install -e '.[train,frameworks,notebooks]'`.

# %%
import snntorch as snn
import torch
from snntorch import utils
from torch import nn

import ashneuro as ash

torch.manual_seed(0)
STEPS, SIDE = 12, 12


def bars(samples):
    """Pictures of one bar (two directions, four places) in noise, and their classes."""
    classes = torch.randint(8, (samples,))
    pictures = 0.6 * torch.rand(samples, SIDE, SIDE)
    for picture, kind in zip(pictures, classes, strict=True):
        place = 1 + 3 * int(kind % 4)
        (picture if kind < 4 else picture.T)[place : place + 2] += 0.5
    return pictures[:, None].clamp(0, 1), classes


# %% [markdown]
# ## Train it in snnTorch
#
# Bernoulli spikes with the picture as their rate. Nothing of ashneuro is needed here.

# %%
model = nn.Sequential(
    nn.Conv2d(1, 6, 5, stride=2),
    snn.Leaky(beta=0.9, threshold=0.5, init_hidden=True),
    nn.Flatten(),
    nn.Linear(6 * 4 * 4, 8),
    snn.Leaky(beta=0.9, threshold=0.5, init_hidden=True),
)


def run(pictures):
    """Spikes of the last layer (T, B, 8)."""
    utils.reset(model)
    return torch.stack([model((torch.rand_like(pictures) < pictures).float()) for _ in range(STEPS)])


optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
for _ in range(120):
    pictures, classes = bars(64)
    loss = nn.functional.cross_entropy(run(pictures).sum(0), classes)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(f"loss after 120 steps: {loss.item():.2f}")

# %% [markdown]
# ## Read the module
#
# `x` is time first, `(T, B, *shape)`. The module runs over it as snnTorch runs it, and its spikes
# are compared with those of the graph, population by population.

# %%
pictures, classes = bars(200)
x = (torch.rand(STEPS, *pictures.shape) < pictures).float()
network = ash.from_torch(model, x)
print(f"{network.source.compared:,} values compared, {network.source.mismatches} differ")
network.source

# %%
findings = ash.check(network, "lava")
findings

# %% [markdown]
# ## Loihi's integers
#
# Eight-bit weights, twelve-bit decays, seventeen-bit thresholds. Scales are chosen on the sample.

# %%
floats = ash.simulate(network)
integers = ash.simulate(network, on="loihi")


def accuracy(record):
    """Share of pictures whose class spikes most often."""
    counts = torch.as_tensor(record.layers["4"].raster).float().sum(0)
    return (counts.argmax(1) == classes).float().mean().item()


print(f"accuracy: float64 {accuracy(floats):.1%}, Loihi's integers {accuracy(integers):.1%}")
print(f"spikes of layer 1: float64 {floats.layers['1'].events:,}, integers {integers.layers['1'].events:,}")

# %% [markdown]
# ## The bundle and its proof
#
# `exported.certificate` says what was compared, and what was not. Where Lava is missing its lines
# read *not run*: `ashneuro doctor --setup lava` makes its environment.

# %%
exported = ash.export(network, "bars.bundle", inputs=x[:, :8])
print(exported.certificate.verdict)
exported.certificate

# %%
assert network.source.mismatches == 0 and not exported.certificate.failed
assert accuracy(integers) > 0.5  # chance is 0.125
