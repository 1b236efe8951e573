"""Lava's own processes in a run of one sample, without a reset between samples."""

import subprocess

import numpy as np

from ashneuro.program.program import Connection, InputPort, Layer, Program
from ashneuro.simulation.lava.environment import WORKER, find_interpreter

STOCK = """
import mmap
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.atrlif.process import ATRLIF
from lava.proc.lif.process import LIFRefractory, TernaryLIF
from lava.proc.rf.process import RF
from lava.proc.rf_iz.process import RF_IZ
from lava.proc.sdn.process import ActivationMode, Delta, Sigma, SigmaDelta
from processes import Sink, Source

with np.load(sys.argv[2]) as given:
    tag, kind, values = str(given["tag"]), str(given["kind"]), given["currents"]
    numbers = {name[2:]: given[name] for name in given if name[:2] == "p/"}
parameters = {name: value if value.ndim else value.item() for name, value in numbers.items()}
if "act_mode" in parameters:
    parameters["act_mode"] = ActivationMode(parameters["act_mode"])
process = globals()[kind](shape=(values.shape[-1],), **parameters)
number = float if tag == "floating_pt" else np.int32
rows = np.frombuffer(mmap.mmap(-1, values.shape[0] * values.shape[-1] * np.dtype(number).itemsize), number)
rows = rows.reshape(values.shape[0], values.shape[-1])
ports = [process.a_real_in, process.a_imag_in] if values.ndim == 3 else [process.a_in]
for part, port in enumerate(ports):
    Source(values[:, part] if values.ndim == 3 else values, f"source {part}").s_out.connect(port)
process.s_out.connect(Sink(rows, "sink").a_in)
process.run(condition=RunSteps(num_steps=len(values)), run_cfg=Loihi2SimCfg(select_tag=tag))
np.save(sys.argv[3], np.array(rows))
process.stop()
"""


def stock(folder, process, tag, currents, parameters):
    """Return the messages (T, n) of one of Lava's own processes.

    Args:
        process: name of its class.
        currents: (T, n); (T, 2, n): real and imaginary parts.
    """
    named = {f"p/{name}": np.asarray(value) for name, value in parameters.items()}
    np.savez(folder / "given.npz", tag=tag, kind=process, currents=currents, **named)
    (folder / "stock.py").write_text(STOCK)
    words = [folder / "stock.py", WORKER, folder / "given.npz", folder / "sent.npy"]
    subprocess.run([str(find_interpreter()), *map(str, words)], check=True, capture_output=True, timeout=600)
    return np.load(folder / "sent.npy")


def alone(neuron, size, precision):
    """Return a program of one layer that a current enters directly."""
    port = InputPort("input", (size,), "current", limit=1 << 20)
    layer = Layer("a", (size,), neuron, (Connection("input", None),), 0)
    return Program(precision, 1e-3, None, (port,), (layer,), ("a",))
