# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # 2 From NIR to Lava, proved
#
# A `.nir` file of any tool says neither how long a step lasts nor when a neuron is reset. This
# notebook writes such a file, sees what it leaves open, states it, and proves that Lava computes
# the same spikes. No torch is needed.

# %%
from itertools import pairwise

import nir
import numpy as np

import ashneuro as ash

random = np.random.default_rng(0)


def lif(*shape):
    """Leaky neurons with τ = 8 ms."""
    ones = np.ones(shape)
    return nir.LIF(tau=8e-3 * ones, r=4 * ones, v_leak=0 * ones, v_threshold=ones, v_reset=0 * ones)


nodes = {
    "input": nir.Input(np.array([2, 10, 10])),
    "conv": nir.Conv2d((10, 10), random.normal(0, 0.5, (4, 2, 3, 3)), 2, 1, 1, 1, np.zeros(4)),
    "lif1": lif(4, 5, 5),
    "flatten": nir.Flatten({"input": np.array([4, 5, 5])}, 0, -1),
    "dense": nir.Affine(random.normal(0, 0.4, (10, 100)), random.normal(0, 0.1, 10)),
    "lif2": lif(10),
    "output": nir.Output(np.array([10])),
}
names = list(nodes)
nir.write("net.nir", nir.NIRGraph(nodes, list(pairwise(names))))

# %% [markdown]
# ## What the file leaves open
#
# Each open field is an *assumption*: named in every result, and to be stated before anything is
# exported.

# %%
network = ash.read("net.nir")
findings = ash.check(network, "lava")
findings

# %%
try:
    ash.export(network, "net.bundle", inputs=np.zeros((16, 1, 2, 10, 10), np.uint8))
except ash.AshneuroError as error:
    print(error)

# %% [markdown]
# ## State it, and prove it
#
# State the values with which the tool that wrote the file computed.

# %%
network = ash.read(
    "net.nir",
    dt_s=1e-3,
    reset="value",
    reset_delay=0,
    comparison="strict",  # a spike if v > v_threshold
    integration="euler",
    input_coding="spikes",
)
x = (random.random((16, 8, 2, 10, 10)) < 0.3).astype(np.uint8)  # (T, B, *shape)
exported = ash.export(network, "net.bundle", inputs=x)
exported.certificate

# %%
for comparison in exported.certificate.required:
    print(f"{comparison.left} – {comparison.right}: {comparison.compared:,} values, {comparison.mismatches} differ")

# %% [markdown]
# ## Again, from the bundle alone
#
# `verify` computes everything again. `run_lava.py` in the bundle needs lava-nc and numpy alone, for
# a machine without ashneuro.

# %%
print(ash.verify("net.bundle", lava=None).verdict)
record = ash.simulate("net.bundle", x, on="loihi")
print({name: layer.events for name, layer in record.layers.items()})

# %%
assert not exported.certificate.failed and "assuming" not in exported.certificate.verdict
assert sum(comparison.mismatches for comparison in exported.certificate.required) == 0
