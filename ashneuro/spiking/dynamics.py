"""Dynamics of a population as data: further parameters and further state of a neuron, beside LIF's.

With v'_t the potential that LIF, CubaLIF or IF integrates from v_{t−1}, see
`ashneuro.spiking.firing`, and further state that is at its start value when a sample starts::

    "lif"          z_t = v'_t > v_threshold;  v_t = v_reset where z_t, else v'_t

    "refractory"   Lava's LIFRefractory. n: steps that v stays where the reset put it
                   v'_t = v_{t−1} where n_{t−1} > 0
                   z_t = v'_t > v_threshold;  v_t = v_reset where z_t, else v'_t
                   n_t = refractory_steps where z_t, else max(n_{t−1} − 1, 0);         n_0 = 0

    "adaptive"     Lava's ATRLIF. θ: threshold; r: refractory state, which stands in for a reset.
                   v_leak = v_reset = 0, θ_0 = v_threshold, r_0 = 0; d: decay of a time constant
                   θ'_t = (1 − d_threshold)·(θ_{t−1} − θ_0) + θ_0
                   r'_t = (1 − d_refractory)·r_{t−1}
                   z_t = v'_t − r'_t ≥ θ'_t;  v_t = v'_t
                   θ_t = θ'_t + threshold_step where z_t;  r_t = r'_t + 2·θ'_t where z_t

    "resonate"     Lava's RF. v: real part; w: imaginary part; v_leak = v_reset = 0, w_0 = 0.
                   c, s = k·cos φ, k·sin φ; φ = 2π·dt / period; k = 1 − decay of LIF's tau, 1 for IF
                   x: what LIF or IF adds to v in a step; y: the same of the imaginary input, or 0
                   v_t = c·v_{t−1} − s·w_{t−1} + x;  w_t = s·v_{t−1} + c·w_{t−1} + y
                   z_t = v_t ≥ v_threshold and w_t ≥ 0 > w_{t−1}

    "izhikevich"   Lava's RF_IZ: v and w of "resonate", then
                   z_t = w_t ≥ v_threshold
                   v_t = 0, w_t = v_threshold − 1e-5 where z_t (integers: one unit of v less)

    "ternary"      Lava's TernaryLIF. θ_low = v_reset − threshold_below
                   z_t = 1 where v'_t > v_threshold, −1 where v'_t < θ_low, else 0
                   v_t = v_reset where z_t ≠ 0, else v'_t

The current of a CubaLIF goes on in a refractory neuron. `ashneuro.simulation.emulator.dynamics` has
a step function for each, for the float64 graph, float programs and integers alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ashneuro.spiking.contract import Contract
from ashneuro.spiking.firing import Comparison, Firing, compared_with
from ashneuro.spiking.message import SPIKE, TERNARY, Message

DynamicsName = Literal["lif", "refractory", "adaptive", "resonate", "izhikevich", "ternary"]
ParameterKind = Literal["steps", "tau", "v", "threshold", "turn"]
AMOUNTS = ("v", "threshold")  # kinds that are amounts of v
JUST_BELOW = 1e-5  # between v_threshold and the w of an "izhikevich" neuron that spiked


@dataclass(frozen=True)
class Parameter:
    """A parameter beyond those of NIR's primitives.

    Args:
        kind: ``"steps"``: a whole number of at least 1; ``"tau"``: a time constant, in seconds;
            ``"v"``: an amount of the membrane potential, at least 0; ``"threshold"``: an amount
            that it is compared with (strictly), above 0, which in a program lies beyond ties;
            ``"turn"``: the period of a resonator, in seconds, at least 4 steps.
        name: name in a program, where a time constant is a decay per step and an amount is in the
            program's units; in integers, 12 bits and the units of the threshold's mantissa. A
            period becomes two factors, ``"sin"`` and ``"cos"``, in integers in 1/4096.
    """

    kind: ParameterKind
    name: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names in a program."""
        return ("sin", "cos") if self.kind == "turn" else (self.name,)


@dataclass(frozen=True)
class Dynamics:
    """A kind of neuron, by what it has beyond LIF.

    Args:
        parameters: by their names in a NIR node's metadata, without ``ashneuro.``.
        state: names of the state variables beside u and v.
        comparison: of the potential with the threshold.
        resets: a spike sets v to v_reset in the same step, as LIF does by default; else the kind
            has a reset of its own, around a resting potential of 0.
        resonates: v is the real part of a complex state, in the graph's own unit, without a
            synaptic current and a bias.
        adapts: spikes raise a threshold and a refractory state, which Lava does not clip: rules
            bound them (`ashneuro.program.bounds.adaptation`).
        message: what a neuron sends.
        multiplies, adds: operations of one update beside LIF's, for `ashneuro.cost`.
        lava: Lava's process.
    """

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    state: tuple[str, ...] = ()
    comparison: Comparison = "strict"
    resets: bool = True
    resonates: bool = False
    adapts: bool = False
    message: Message = SPIKE
    multiplies: int = 0
    adds: int = 0
    lava: str = "LIF"

    @property
    def kinds(self) -> dict[str, ParameterKind]:
        """Kind of each parameter by its name in a program."""
        return {name: parameter.kind for parameter in self.parameters.values() for name in parameter.names}

    def compares(self, firing: Firing) -> Comparison:
        """Return the comparison with the threshold: LIF's is that of ``firing``."""
        return firing.comparison if self is DYNAMICS["lif"] else self.comparison

    def in_program(
        self,
        stated: Mapping[str, NDArray[np.float64]],
        contract: Contract,
        dv: NDArray[np.float64],
        size: NDArray[np.float64],
    ) -> dict[str, NDArray[np.float64]]:
        """Return stated parameters by their names in a program, amounts of v in the graph's unit.

        Args:
            dv: decay of v per step.
            size: see `ashneuro.spiking.firing.compared_with`.
        """
        found: dict[str, NDArray[np.float64]] = {}
        for key, parameter in self.parameters.items():
            value = stated[key]
            if parameter.kind == "turn":
                angle = 2 * np.pi * contract.dt_s / value
                found |= {"sin": (1 - dv) * np.sin(angle), "cos": (1 - dv) * np.cos(angle)}
            elif parameter.kind == "threshold":
                found[parameter.name] = compared_with(value, size, "strict")
            else:
                found[parameter.name] = contract.decay(value) if parameter.kind == "tau" else value
        return found


DYNAMICS: Mapping[DynamicsName, Dynamics] = {
    "lif": Dynamics(),
    "refractory": Dynamics(
        {"refractory_steps": Parameter("steps", "refractory_steps")}, ("n",), adds=1, lava="LIFRefractory"
    ),
    "adaptive": Dynamics(
        {
            "tau_threshold": Parameter("tau", "d_threshold"),
            "tau_refractory": Parameter("tau", "d_refractory"),
            "threshold_step": Parameter("v", "threshold_step"),
        },
        ("theta", "r"),
        comparison="inclusive",
        resets=False,
        adapts=True,
        multiplies=2,  # the decays of θ − θ_0 and r
        adds=5,  # − θ_0, + θ_0, v − r; where it spikes + threshold_step and + 2·θ
        lava="ATRLIF",
    ),
    "resonate": Dynamics(
        {"period": Parameter("turn")},
        ("w",),
        comparison="inclusive",
        resets=False,
        resonates=True,
        multiplies=3,  # a complex product is four; LIF has one of them
        adds=4,  # one more in v, one in w; w is compared twice
        lava="RF",
    ),
    "izhikevich": Dynamics(
        {"period": Parameter("turn")},
        ("w",),
        comparison="inclusive",
        resets=False,
        resonates=True,
        multiplies=3,
        adds=2,
        lava="RF_IZ",
    ),
    "ternary": Dynamics(
        {"threshold_below": Parameter("threshold", "threshold_below")},
        message=TERNARY,
        adds=1,  # the second comparison
        lava="TernaryLIF",
    ),
}
