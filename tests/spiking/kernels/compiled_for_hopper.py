"""Compile the Triton kernels for sm_90 and print facts about them as JSON, without a GPU.

Run by test_backend_triton.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ashneuro.simulation.emulator.backend_triton import integer_kernel
from ashneuro.simulation.emulator.compiled import KINDS, NUMBERS
from ashneuro.spiking.kernels.backend_triton import WARPS, backward_kernel, forward_kernel, lanes_of

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
FLAGS = {"KIND": 0, "SUBTRACT": False, "PER_NEURON": False}
FORWARD = {"SAVE": True, "FIRST_V": False, "FIRST_I": False} | FLAGS
BACKWARD = {
    "SURROGATE": 0,
    "DETACHED": False,
    "G": True,
    "G_V": False,
    "G_I": False,
    "FIRST_V": False,
    "HELD": False,
} | FLAGS
BACKWARD |= {"DECAY": False, "THRESHOLD": False, "LEAK": False, "RESET": False}

SCALARS = ("steps", "size", "width", "x_step", "subtract")
INTEGER = {
    "KIND": KINDS.index("lif"),
    "SPIKING": True,
    "TRACED": False,
    "LATE": False,
    "SUBTRACTS": False,
    "MEMORY": False,
    "PARTS": 1,
    "FURTHER": 0,
}
OTHERS = {"adaptive": 2, "resonate": 0, "graded": 0, "change": 2}  # further state


def facts(kernel, constants, storage: str) -> dict[str, int]:
    """Return memory accesses in the time loop, and registers, stack and local memory per thread."""
    constants = constants | {"LANES": lanes_of(torch.bfloat16 if storage == "bf16" else torch.float32)}
    narrow = {"x", "out", "saved", "g", "g_input"}
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            signature[name] = "constexpr"
        elif name == "sent":
            signature[name] = "*i32" if KINDS[constants["KIND"]] in NUMBERS else "*u8"
        elif storage == "i32":
            signature[name] = "i32" if name in SCALARS else "*i32"
        elif name in SCALARS:
            signature[name] = "i32"
        else:
            signature[name] = f"*{storage if name in narrow else 'fp32'}"
    attributes = {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name, kind in signature.items() if kind[0] == "*"
    }
    attributes |= {
        (kernel.arg_names.index(name),): [["tt.divisibility", 16]]
        for name in ("size", "width", "x_step")
        if name in signature
    }
    source = ASTSource(kernel, signature, constants, attributes)
    made = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"num_warps": WARPS, "enable_fp_fusion": False}
    )
    ptx = made.asm["ptx"]
    # The time loop: from its label to the branch back to it.
    loop = max(
        re.findall(r"(\$L__BB\w+):[^\n]*\n(.*?)\n[^\n]*bra(?:\.uni)?\s+\1;", ptx, re.S), key=lambda found: len(found[1])
    )[1]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        used = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    usage = {name.lower(): int(re.search(rf"{name}:(\d+)", used)[1]) for name in ("REG", "STACK", "LOCAL")}
    count = {name: len(re.findall(rf"\b{name}\.global", loop)) for name in ("ld", "st")}
    wide = len(re.findall(r"\.global(?:\.\w+)*\.v4\.b32", loop))
    return count | usage | {"wide": wide, "fused": len(re.findall(r"\bfma\.", loop))}


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "forward fp32": facts(forward_kernel, FORWARD, "fp32"),
                "forward bf16": facts(forward_kernel, FORWARD, "bf16"),
                "inference fp32": facts(forward_kernel, FORWARD | {"SAVE": False}, "fp32"),
                "backward fp32": facts(backward_kernel, BACKWARD, "fp32"),
                "backward bf16": facts(backward_kernel, BACKWARD, "bf16"),
                "backward, held, fp32": facts(backward_kernel, BACKWARD | {"HELD": True}, "fp32"),
                "integer lif": facts(integer_kernel, INTEGER, "i32"),
                **{
                    f"integer {kind}": facts(
                        integer_kernel,
                        INTEGER | {"KIND": KINDS.index(kind), "FURTHER": state, "LATE": state > 1},
                        "i32",
                    )
                    for kind, state in OTHERS.items()
                },
                "cuba forward fp32": facts(forward_kernel, FORWARD | {"KIND": 1}, "fp32"),
                "cuba backward fp32": facts(backward_kernel, BACKWARD | {"KIND": 1}, "fp32"),
                "subtract forward fp32": facts(forward_kernel, FORWARD | {"SUBTRACT": True}, "fp32"),
                "subtract backward fp32": facts(backward_kernel, BACKWARD | {"SUBTRACT": True}, "fp32"),
                "graded forward fp32": facts(forward_kernel, FORWARD | {"KIND": 4}, "fp32"),
                "graded backward fp32": facts(backward_kernel, BACKWARD | {"KIND": 4}, "fp32"),
                "sigma-delta forward fp32": facts(forward_kernel, FORWARD | {"KIND": 5}, "fp32"),
                "sigma-delta backward fp32": facts(backward_kernel, BACKWARD | {"KIND": 5}, "fp32"),
            }
        )
    )
