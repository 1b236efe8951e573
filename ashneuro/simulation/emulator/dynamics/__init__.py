"""Step functions of dynamics beyond LIF, one file each, for numpy and torch, floats and integers.

`ashneuro.spiking.dynamics` has their equations and parameters. LIF itself is in
`ashneuro.simulation.emulator.neurons`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ashneuro.simulation.emulator.dynamics import adaptive, refractory, resonate, ternary
from ashneuro.simulation.emulator.dynamics.step import Neurons, StepFunction
from ashneuro.spiking.dynamics import DynamicsName

STEPS: Mapping[DynamicsName, StepFunction] = {
    "refractory": StepFunction(refractory.start, refractory.step, bias_joins_current=True),
    "adaptive": StepFunction(adaptive.start, adaptive.step),
    "resonate": StepFunction(resonate.start, resonate.step, integrates=False),
    "izhikevich": StepFunction(resonate.start, resonate.step_izhikevich, integrates=False),
    "ternary": StepFunction(ternary.start, ternary.step),
}

__all__ = ["STEPS", "Neurons", "StepFunction"]
