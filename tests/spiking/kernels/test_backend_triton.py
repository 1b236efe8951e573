"""Triton kernels without a GPU: interpreted, and compiled for sm_90.

Each in its own process, because triton chooses its interpreter when it is first imported. On an
NVIDIA machine ``make test-gpu`` runs them for real.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed; pip install -e '.[dev]' on Linux"
)


def alone(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def run_interpreted(names: str) -> int:
    """Run the tests of kernels whose names match, interpreted; return how many passed."""
    files = [f"tests/spiking/kernels/test_{name}.py" for name in ("multi_step", "graded", "changes")]
    files.append("tests/simulation/emulator/test_backend_triton.py")
    done = alone(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-m", "triton", "-k", names, TRITON_INTERPRET="1"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-1000:]
    return int(done.stdout.splitlines()[-1].split()[0])


@needs_triton
def test_interpreted_kernels_of_every_kind_equal_the_reference() -> None:
    """Both passes of all kinds, and the emulator; everything else is in the slow test."""
    kinds = "equals_the_reference or equal_the_reference or learned_parameters or relu_and_of_a_limit"
    changes = "bias_is_learned or read_out_of_changes or straight_through"
    integers = "kinds_equal or imaginary_input or per_neuron_equal or firing_equals"
    assert run_interpreted(f"{kinds} or {changes} or {integers}") >= 100


@needs_triton
@pytest.mark.slow
def test_interpreted_kernels_equal_norse_and_the_array_library() -> None:
    # The others are about torch, and slow when interpreted.
    assert run_interpreted("not compiling and not gradcheck and not threads") >= 400


@needs_triton
def test_kernels_compiled_for_hopper_access_memory_once(tmp_path: Path) -> None:
    done = alone(
        "-m", "tests.spiking.kernels.compiled_for_hopper", TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads(done.stdout)
    accesses = {name: (facts["ld"], facts["st"]) for name, facts in made.items()}
    forward, backward = (1, 2), (2, 1)
    assert accesses == {
        "forward fp32": forward,
        "forward bf16": forward,
        "inference fp32": (1, 1),
        "backward fp32": backward,
        "backward bf16": backward,
        "backward, held, fp32": (2, 0),
        **{f"integer {kind}": (1, 1) for kind in ("lif", "adaptive", "resonate", "graded", "change")},
        "cuba forward fp32": forward,
        "cuba backward fp32": backward,
        "subtract forward fp32": forward,
        "subtract backward fp32": backward,
        "graded forward fp32": forward,
        "graded backward fp32": backward,
        "sigma-delta forward fp32": forward,
        "sigma-delta backward fp32": backward,
    }
    for name, facts in made.items():
        assert facts["stack"] == facts["local"] == 0, name  # nothing spills
        # 32 warps fit on a multiprocessor; 24 of those with most state.
        assert facts["reg"] <= (80 if name in ("integer adaptive", "integer change") else 64), name
        # The integers' spikes are bytes: four to a thread are 32 bits.
        spikes = name in ("integer lif", "integer adaptive", "integer resonate")
        assert facts["wide"] == facts["ld"] + facts["st"] - spikes, name
        assert facts["fused"] == 0, name  # or results would differ from Norse's
