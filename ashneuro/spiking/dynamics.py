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

The current of a CubaLIF goes on in a refractory neuron. `ashneuro.simulation.emulator.dynamics` has
a step function for each, for the float64 graph, float programs and integers alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ashneuro.spiking.firing import Comparison

DynamicsName = Literal["lif", "refractory", "adaptive"]


@dataclass(frozen=True)
class Parameter:
    """A parameter beyond those of NIR's primitives.

    Args:
        kind: ``"steps"``: a whole number of at least 1; ``"tau"``: a time constant, in seconds;
            ``"v"``: an amount of the membrane potential, at least 0.
        name: name in a program, where a time constant is a decay per step and an amount is in the
            program's units; in integers, 12 bits and the units of the threshold's mantissa.
    """

    kind: Literal["steps", "tau", "v"]
    name: str


@dataclass(frozen=True)
class Dynamics:
    """A kind of neuron, by what it has beyond LIF.

    Args:
        parameters: by their names in a NIR node's metadata, without ``ashneuro.``.
        state: names of the state variables beside u and v.
        comparison: of the potential with the threshold.
        multiplies, adds: operations of one update beside LIF's, for `ashneuro.cost`.
        lava: Lava's process.
    """

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    state: tuple[str, ...] = ()
    comparison: Comparison = "strict"
    multiplies: int = 0
    adds: int = 0
    lava: str = "LIF"


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
        multiplies=2,  # the decays of θ − θ_0 and r
        adds=5,  # − θ_0, + θ_0, v − r; where it spikes + threshold_step and + 2·θ
        lava="ATRLIF",
    ),
}
