from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from ashneuro.spiking.lif import LIF, CubaLIF
from ashneuro.spiking.memory import checkpointed_steps, kept_bytes


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second = nn.Linear(30, 40), nn.Linear(40, 20)
        self.lif, self.cuba = LIF(2e-3, 0.3, dt=1e-3), CubaLIF(3e-3, 2e-3, 0.05, dt=1e-3)

    def forward(self, x: Tensor, state) -> tuple[Tensor, object]:
        spikes, first = self.lif.steps(self.first(x.flatten(0, 1)).unflatten(0, x.shape[:2]), state[0])
        spikes, second = self.cuba.steps(self.second(spikes.flatten(0, 1)).unflatten(0, x.shape[:2]), state[1])
        return spikes, (first, second)


@pytest.mark.parametrize("length", [1, 7, 16, 100])
def test_checkpointed_steps_equal_one_call_with_gradients(length: int) -> None:
    stack, x = Stack(), torch.randn(40, 3, 30)
    weights = torch.linspace(-1, 1, 40 * 3 * 20).reshape(40, 3, 20)
    results = []
    for run in (lambda: stack(x, (None, None)), lambda: checkpointed_steps(stack, x, (None, None), length)):
        stack.zero_grad()
        output, state = run()
        ((output * weights).sum() + state[1].v.sum()).backward()
        results.append([output, *state[0], *state[1], *(parameter.grad.clone() for parameter in stack.parameters())])
    for whole, chunks in zip(*results, strict=True):
        if whole is not None:
            torch.testing.assert_close(chunks, whole, rtol=1e-5, atol=1e-6)
    assert results[0][0].mean() > 0.02 and results[0][-1].abs().max() > 0


def test_checkpointed_steps_save_memory() -> None:
    stack, x = Stack(), torch.randn(128, 4, 30)
    weights = tuple(stack.parameters())
    whole = kept_bytes(lambda: stack(x, (None, None))[0].sum(), apart=weights)
    chunks = kept_bytes(lambda: checkpointed_steps(stack, x, (None, None), 16)[0].sum(), apart=weights)
    assert whole > 128 * 4 * (40 + 40 + 20) * 4
    # The input, of which each chunk is a view, and a state per chunk.
    assert chunks < x.numel() * 4 + 8 * 4 * (40 + 2 * 20) * 4 + 1000 < whole / 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told; run on Linux")
def test_freed_memory_stays_in_the_process() -> None:
    code = """
import resource, sys, torch
from ashneuro.spiking.memory import keep_freed_memory
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12_000_000)  # 48 MB: more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
given_back = faults()
assert keep_freed_memory()
for _ in range(8):
    faults()  # until the gaps between small blocks have found their places
print(given_back, min(faults() for _ in range(3)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    given_back, kept = map(int, said.split())
    assert kept < given_back / 4
