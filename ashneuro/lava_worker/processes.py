"""Processes beyond Lava 0.10.0: a source, a sink, and neurons whose state a new sample resets.

All else in a network is Lava's own: ``LIFReset``, ``Dense``, ``Sparse``. Arrays are in anonymous
shared memory that forked processes inherit: ``Var.get`` and ``Var.set`` take 15 µs per element, and
nothing is left behind however the processes end.
"""

from __future__ import annotations

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.atrlif.models import PyATRLIFModelFixed, PyATRLIFModelFloat
from lava.proc.atrlif.process import ATRLIF
from lava.proc.lif.models import (
    PyLifModelBitAcc,
    PyLifRefractoryModelFloat,
    PyLifResetModelBitAcc,
    PyLifResetModelFloat,
    PyTernLifModelFixed,
    PyTernLifModelFloat,
)
from lava.proc.lif.process import LIFRefractory, LIFReset, TernaryLIF
from lava.proc.rf.models import PyRFModelFixed, PyRFModelFloat
from lava.proc.rf.process import RF
from lava.proc.rf_iz.models import PyRF_IZModelFixed, PyRF_IZModelFloat
from lava.proc.rf_iz.process import RF_IZ
from lava.proc.sdn.models import PySigmaDeltaModelFixed, PySigmaDeltaModelFloat
from lava.proc.sdn.process import ActivationMode, SigmaDelta


class Source(AbstractProcess):
    """Source that sends row ``(time_step - 1) % rows`` of ``values`` (rows, size)."""

    def __init__(self, values: np.ndarray, name: str) -> None:
        super().__init__(values=values, name=name)
        self.s_out = OutPort(shape=(values.shape[1],))


class _SourceModel(PyLoihiProcessModel):
    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.values = proc_params["values"]

    def run_spk(self) -> None:
        self.s_out.send(self.values[(self.time_step - 1) % len(self.values)])


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SourceModelFloat(_SourceModel):
    """Sends float64."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, float)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SourceModelFixed(_SourceModel):
    """Sends int32."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


class Sink(AbstractProcess):
    """Sink that writes to row ``(time_step - 1) % rows`` of ``values`` (rows, size)."""

    def __init__(self, values: np.ndarray, name: str) -> None:
        super().__init__(values=values, name=name)
        self.a_in = InPort(shape=(values.shape[1],))


class _SinkModel(PyLoihiProcessModel):
    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.values = proc_params["values"]

    def run_spk(self) -> None:
        self.values[(self.time_step - 1) % len(self.values)] = self.a_in.recv()


@implements(proc=Sink, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SinkModelFloat(_SinkModel):
    """Receives float64."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, float)


@implements(proc=Sink, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SinkModelFixed(_SinkModel):
    """Receives int32."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)


class Traced(LIFReset):
    """A `LIFReset` with recorded neurons.

    After every step their u and v go to row ``(time_step - 1) % rows`` of ``trace``
    (rows, 2, neurons).
    """

    def __init__(self, trace: np.ndarray, neurons: np.ndarray, **parameters) -> None:
        super().__init__(**parameters)
        self.proc_params["trace"], self.proc_params["neurons"] = trace, neurons


class ReadOut(Traced):
    """A `LIFReset` that never spikes and sends v."""


class _TracedModel:
    """Lava's own dynamics, then a copy of the state."""

    def run_spk(self) -> None:
        super().run_spk()
        neurons = self.proc_params["neurons"]
        if neurons.size:
            trace = self.proc_params["trace"]
            trace[(self.time_step - 1) % len(trace)] = self.u[neurons], self.v[neurons]


class TracedModelFloat(_TracedModel, PyLifResetModelFloat):
    """Lava's float dynamics."""

    # Protocol, resources and tag are inherited; the decorator `implements` cannot replace this.
    implements_process = Traced


class TracedModelFixed(_TracedModel, PyLifResetModelBitAcc):
    """Lava's bit-accurate dynamics."""

    implements_process = Traced


class _ReadOutModel(_TracedModel):
    """Lava's own dynamics, with v as the answer."""

    def spiking_activation(self):
        """Return v, which `run_spk` sends."""
        return self.v

    def reset_voltage(self, spike_vector) -> None:
        """Keep v: nothing spiked."""


class ReadOutModelFloat(_ReadOutModel, PyLifResetModelFloat):
    """Lava's float dynamics."""

    implements_process = ReadOut


class ReadOutModelFixed(_ReadOutModel, PyLifResetModelBitAcc):
    """Lava's bit-accurate dynamics."""

    implements_process = ReadOut


class Potential(ReadOut):
    """A `ReadOut` that feeds further layers.

    Args:
        limit: largest magnitude that is sent, in units of vth.
    """

    def __init__(self, trace, neurons, limit, **parameters) -> None:
        super().__init__(trace, neurons, **parameters)
        self.proc_params["limit"] = limit


class PotentialModelFloat(ReadOutModelFloat):
    """Lava's float dynamics."""

    implements_process = Potential


class PotentialModelFixed(ReadOutModelFixed):
    """Lava's bit-accurate dynamics."""

    implements_process = Potential

    def spiking_activation(self):
        """Return v in units of vth, rounded half toward zero, which `run_spk` sends."""
        rounded = np.right_shift(np.abs(self.v) + 31, 6)
        return np.sign(self.v) * np.minimum(rounded, self.proc_params["limit"])


class Fired(Traced):
    """A `LIFReset` with another comparison or another reset, as Lava has none.

    Args:
        inclusive: neurons spike at v ≥ vth instead of v > vth.
        late: a spike resets v one step later, after integration and before the comparison.
        subtract: amount that a spike subtracts from v, in units of vth; ``None``: v becomes 0.
    """

    def __init__(self, trace, neurons, inclusive: bool, late: bool, subtract, **parameters) -> None:
        super().__init__(trace, neurons, **parameters)
        self.proc_params["inclusive"], self.proc_params["late"] = inclusive, late
        self.proc_params["subtract"] = subtract


class _FiredModel(_TracedModel):
    """Lava's own integration; comparison and reset are these."""

    def spiking_activation(self):
        """Return the spikes, which `run_spk` sends."""
        threshold = self.in_units_of_v(self.vth)
        return self.v >= threshold if self.proc_params["inclusive"] else self.v > threshold

    def subthr_dynamics(self, activation_in) -> None:
        """Integrate; then apply the reset of the last step's spikes, if it is late."""
        late = self.spiking_activation() if self.proc_params["late"] else None
        super().subthr_dynamics(activation_in)
        if late is not None:
            self._reset(late)

    def reset_voltage(self, spike_vector) -> None:
        """Apply the reset of this step's spikes, if it is not late."""
        if not self.proc_params["late"]:
            self._reset(spike_vector)

    def _reset(self, spikes) -> None:
        subtract = self.proc_params["subtract"]
        if subtract is None:
            self.v[spikes] = 0
        else:
            self.v[:] = np.where(spikes, self.v - self.in_units_of_v(subtract), self.v)


class FiredModelFloat(_FiredModel, PyLifResetModelFloat):
    """Lava's float dynamics."""

    implements_process = Fired

    def in_units_of_v(self, value):
        """Return a threshold as it is."""
        return value

    def in_units_of_vth(self, value):
        """Return v as it is."""
        return value


class FiredModelFixed(_FiredModel, PyLifResetModelBitAcc):
    """Lava's bit-accurate dynamics."""

    implements_process = Fired

    def in_units_of_v(self, value):
        """Return a threshold's mantissa in units of v."""
        return np.left_shift(value, self.vth_shift)

    def in_units_of_vth(self, value):
        """Return v in units of a threshold's mantissa, rounded down."""
        return np.right_shift(value, self.vth_shift)


class Graded(Fired):
    """A stateless population that sends values: min(v, limit) where v passes the threshold.

    Args:
        limit: largest value that is sent, in units of vth.
    """

    def __init__(self, trace, neurons, inclusive: bool, limit, **parameters) -> None:
        super().__init__(trace, neurons, inclusive, False, None, **parameters)
        self.proc_params["limit"] = limit


class _GradedModel:
    """Lava's own integration from v = 0; the answer is v, in units of vth."""

    def spiking_activation(self):
        """Return the values, which `run_spk` sends."""
        values = np.clip(self.in_units_of_vth(self.v), 0, self.proc_params["limit"])
        return np.where(super().spiking_activation(), values, 0)

    def reset_voltage(self, spike_vector) -> None:
        """Set v to 0, whatever was sent: the neurons are stateless."""
        self.v[:] = 0


class GradedModelFloat(_GradedModel, FiredModelFloat):
    """Lava's float dynamics."""

    implements_process = Graded


class GradedModelFixed(_GradedModel, FiredModelFixed):
    """Lava's bit-accurate dynamics."""

    implements_process = Graded


class Changes(SigmaDelta):
    """Lava's `SigmaDelta`, with the reset between samples that it lacks, and recorded neurons.

    Without the sum of its input it is Lava's `Delta`; as a read-out it is Lava's `Sigma`, with a
    bias.

    Args:
        sends: it sends changes; else it is a read-out.
        given: "rectified": the activation is a ReLU; "cumulative": Lava's cum_error; "exponent" of
            vth and bias; "shift": Lava's state_exp, which may be negative here. "levels": if not
            None, values are rounded to levels, and vth and messages are in units of 2^shift.
        du: below 0 (fixed) or 0 (float): the input is summed.
        first_step: machine step in which the first sample arrives; nothing is sent before.
    """

    def __init__(
        self, trace, neurons, sends, given, shape, du, vth, bias_mant, reset_interval, reset_offset, first_step, **more
    ):
        super().__init__(
            shape=shape,
            vth=0,
            bias=bias_mant * 2 ** given["exponent"],
            act_mode=ActivationMode.RELU if given["rectified"] else ActivationMode.UNIT,
            cum_error=given["cumulative"],
            name=more["name"],
        )
        exponent = 0 if given["levels"] else given["exponent"]
        self.vth = Var(shape=shape, init=vth * 2**exponent)  # Lava has one for all neurons
        self.proc_params["levels"] = given["levels"]
        self.proc_params["trace"], self.proc_params["neurons"], self.proc_params["sends"] = trace, neurons, sends
        self.proc_params["du"], self.proc_params["shift"] = du, given["shift"]
        self.proc_params["reset_interval"], self.proc_params["reset_offset"] = reset_interval, reset_offset
        self.proc_params["first_step"] = first_step


class _ChangesModel:
    """Lava's own dynamics, from the first sample on."""

    def run_spk(self) -> None:
        given, neurons = self.proc_params, self.proc_params["neurons"]
        arriving = self.a_in.recv()
        if self.time_step % given["reset_interval"] == given["reset_offset"]:
            for state in (self.sigma, self.act, self.residue, self.error):
                state[:] = 0
        sent = np.zeros_like(self.sigma)
        if self.time_step >= given["first_step"]:
            sent = self.shifted(self.dynamics(arriving), given["shift"])
            sent = sent if given["sends"] else self.sigma + self.bias
        self.s_out.send(sent)
        if neurons.size:
            trace = given["trace"]
            trace[(self.time_step - 1) % len(trace)] = self.sigma[neurons], self.act[neurons]

    def activation_dynamics(self, sigma_data):
        """Return Lava's own activation, or levels of it."""
        value, levels = super().activation_dynamics(sigma_data), self.proc_params["levels"]
        if not levels:
            return value
        level = np.clip(self.level(value, levels["step"], self.proc_params["shift"]), 0, levels["largest"])
        return np.where(value > levels["jump"] * self.above, level * levels["step"], 0)

    def sigma_dynamics(self, a_in_data):
        """Return the sum of the input, or the input where nothing is summed."""
        return np.where(self.sums(self.proc_params["du"]), super().sigma_dynamics(a_in_data), a_in_data)


class ChangesModelFloat(_ChangesModel, PySigmaDeltaModelFloat):
    """Lava's float dynamics."""

    implements_process = Changes
    above = 1 + 2.0**-36  # a value within this of the jump counts as equal to it

    def level(self, value, step, shift):
        """Return the nearest level; within 2^-30 of a half, the upper one."""
        return np.floor(value / step + (0.5 + 2.0**-30))

    def sums(self, du):
        """Return True where u is kept."""
        return np.asarray(du) == 0

    def shifted(self, sent, shift):
        """Return the changes as they are."""
        return sent


class ChangesModelFixed(_ChangesModel, PySigmaDeltaModelFixed):
    """Lava's fixed-point dynamics."""

    implements_process = Changes
    above = 1

    def level(self, value, step, shift):
        """Return the nearest multiple of 2^shift, the upper one of two."""
        return np.right_shift(value + ((1 << shift) >> 1), shift)

    def sums(self, du):
        """Return True where u is kept."""
        return np.asarray(du) < 0

    def shifted(self, sent, shift):
        """Return messages of changes; those of levels are in units of 2^shift already."""
        if self.proc_params["levels"]:
            return sent
        return np.right_shift(sent, shift) if shift >= 0 else np.left_shift(sent, -shift)


class Counted(Fired):
    """A `LIFReset` that spikes several times in a step, and sends the number.

    Args:
        limit: largest number of spikes in a step.
    """

    def __init__(self, trace, neurons, inclusive: bool, subtract, limit, **parameters) -> None:
        super().__init__(trace, neurons, inclusive, False, subtract, **parameters)
        self.proc_params["limit"] = limit


class _CountedModel:
    """Lava's own integration; v spikes once for each multiple of the threshold that it passes."""

    def spiking_activation(self):
        """Return the numbers, which `run_spk` sends."""
        step = self.in_units_of_v(self.proc_params["subtract"])
        return np.clip((self.v - self.first()) // step + 1, 0, self.proc_params["limit"])

    def reset_voltage(self, spike_vector) -> None:
        """Subtract as often as v spiked."""
        self.v[:] = self.v - spike_vector * self.in_units_of_v(self.proc_params["subtract"])


class CountedModelFloat(_CountedModel, FiredModelFloat):
    """Lava's float dynamics."""

    implements_process = Counted

    def first(self):
        """Return the smallest v that spikes; it lies beyond ties, so > and ≥ are alike."""
        return self.vth


class CountedModelFixed(_CountedModel, FiredModelFixed):
    """Lava's bit-accurate dynamics."""

    implements_process = Counted

    def first(self):
        """Return the smallest v that spikes."""
        return self.in_units_of_v(self.vth) + (not self.proc_params["inclusive"])


class Refractory(LIFRefractory):
    """Lava's `LIFRefractory`, with the reset between samples that it lacks, and recorded neurons.

    Args:
        own: refractory_steps.
    """

    def __init__(self, trace, neurons, own: dict, reset_interval: int, reset_offset: int, **parameters) -> None:
        super().__init__(refractory_period=int(own["refractory_steps"]), **parameters)
        self.proc_params["trace"], self.proc_params["neurons"] = trace, neurons
        self.proc_params["reset_interval"], self.proc_params["reset_offset"] = reset_interval, reset_offset


class _RestartedModel(_TracedModel):
    """Lava's own dynamics; `restart` where a sample starts, as in `LIFReset`."""

    def run_spk(self) -> None:
        if self.time_step % self.proc_params["reset_interval"] == self.proc_params["reset_offset"]:
            self.restart()
        super().run_spk()


class _RefractoryModel(_RestartedModel):
    def restart(self) -> None:
        """Set the state to that of a new sample."""
        self.u[:], self.v[:], self.refractory_period_end[:] = 0, 0, 0


class RefractoryModelFloat(_RefractoryModel, PyLifRefractoryModelFloat):
    """Lava's float dynamics, for one du and one dv per neuron too."""

    implements_process = Refractory

    def subthr_dynamics(self, activation_in) -> None:
        """Integrate in Lava's order of operations; refractory neurons keep v."""
        self.u[:] = self.u * (1 - self.du)
        self.u[:] += activation_in
        integrated = self.v * (1 - self.dv) + (self.u + self.bias_mant)
        self.v[:] = np.where(self.refractory_period_end < self.time_step, integrated, self.v)


class RefractoryModelFixed(_RefractoryModel, PyLifModelBitAcc):
    """Lava's bit-accurate LIF, with what its float LIFRefractory does: there is no fixed one."""

    implements_process = Refractory
    refractory_period_end: np.ndarray = LavaPyType(np.ndarray, int)

    def subthr_dynamics(self, activation_in) -> None:
        """Integrate; refractory neurons keep v."""
        before = self.v.copy()
        super().subthr_dynamics(activation_in)
        self.v[:] = np.where(self.refractory_period_end < self.time_step, self.v, before)

    def reset_voltage(self, spike_vector) -> None:
        """Reset v, and start the refractory period."""
        self.refractory_period_end[spike_vector] = self.time_step + self.proc_params["refractory_period"]
        super().reset_voltage(spike_vector)


class Adaptive(ATRLIF):
    """Lava's `ATRLIF`, with the reset between samples that it lacks, and recorded neurons.

    Args:
        own: d_threshold, d_refractory, threshold_step.
    """

    def __init__(self, trace, neurons, own: dict, reset_interval: int, reset_offset: int, **parameters) -> None:
        names = ("shape", "bias_mant", "bias_exp", "name")
        super().__init__(**{name: parameters[name] for name in names})
        self.proc_params["given"] = {
            "delta_i": parameters["du"],
            "delta_v": parameters["dv"],
            "delta_theta": own["d_threshold"],
            "delta_r": own["d_refractory"],
            "theta_0": parameters["vth"],
            "theta_step": own["threshold_step"],
        }
        self.proc_params["trace"], self.proc_params["neurons"] = trace, neurons
        self.proc_params["reset_interval"], self.proc_params["reset_offset"] = reset_interval, reset_offset


class _GivenModel(_RestartedModel):
    """Lava's own dynamics, with the parameters in ``proc_params["given"]``.

    Lava's variables hold one number each; a float program may have one per neuron.
    """

    def __init__(self, proc_params) -> None:
        super().__init__(proc_params)
        self.ready = False

    def run_spk(self) -> None:
        if not self.ready:
            for name, value in self.proc_params["given"].items():
                setattr(self, name, self.as_lava_has_it(name, value))
            self.restart()
            self.ready = True
        super().run_spk()

    def as_lava_has_it(self, name: str, value):
        """Return a parameter in the units of the model's variable."""
        return value


class _AdaptiveModel(_GivenModel):
    @property
    def u(self):
        """The current, which is u in other neurons."""
        return self.i

    def restart(self) -> None:
        """Set the state to that of a new sample."""
        self.i[:], self.v[:], self.theta[:], self.r[:] = 0, 0, self.theta_0, 0

    def post_spike(self, spike_vector) -> None:
        """Raise refractory state and threshold, for one step per neuron too."""
        self.r[:] = np.where(spike_vector, self.r + 2 * self.theta, self.r)
        self.theta[:] = np.where(spike_vector, self.theta + self.theta_step, self.theta)


class AdaptiveModelFloat(_AdaptiveModel, PyATRLIFModelFloat):
    """Lava's float dynamics."""

    implements_process = Adaptive


class AdaptiveModelFixed(_AdaptiveModel, PyATRLIFModelFixed):
    """Lava's bit-accurate dynamics."""

    implements_process = Adaptive

    def as_lava_has_it(self, name: str, value):
        """Return a parameter in the units of the model's variable.

        Decays are fractions, which the model multiplies by 4096, and to delta_i it adds 1;
        thresholds are aligned with v.
        """
        if name.startswith("delta"):
            return value / self.decay_unity
        self.isthrscaled = True
        return np.int32(value * self.theta_unity)


class _Resonator:
    """A resonator of Lava's, with a reset between samples and recorded neurons: w, then v.

    Args:
        own: sin, cos; in fixed point in 1/4096.
    """

    def __init__(self, trace, neurons, own: dict, reset_interval: int, reset_offset: int, **parameters) -> None:
        # Lava would compute sin and cos from a period and a decay, and cut them to whole numbers.
        super().__init__(shape=parameters["shape"], period=4, alpha=0, name=parameters["name"])
        self.proc_params["given"] = {"sin_decay": own["sin"], "cos_decay": own["cos"], "vth": parameters["vth"]}
        self.proc_params["trace"], self.proc_params["neurons"] = trace, neurons
        self.proc_params["reset_interval"], self.proc_params["reset_offset"] = reset_interval, reset_offset


class Resonate(_Resonator, RF):
    """Lava's `RF`, with the reset between samples that it lacks, and recorded neurons."""


class Izhikevich(_Resonator, RF_IZ):
    """Lava's `RF_IZ`, with the reset between samples that it lacks, and recorded neurons."""


class _ResonatorModel(_GivenModel):
    @property
    def u(self):
        """The imaginary part."""
        return self.imag

    @property
    def v(self):
        """The real part."""
        return self.real

    def restart(self) -> None:
        """Set the state to that of a new sample."""
        self.real[:], self.imag[:] = 0, 0


class _ResonatorModelFixed(_ResonatorModel):
    """Input and threshold are aligned with v; sin and cos are in 1/4096."""

    def as_lava_has_it(self, name: str, value):
        """Return a parameter in the units of the model's variable."""
        self.state_exp, self.decay_bits = 6, 12
        return np.int64(value) << 6 if name == "vth" else np.int64(value)


class ResonateModelFloat(_ResonatorModel, PyRFModelFloat):
    """Lava's float dynamics."""

    implements_process = Resonate


class ResonateModelFixed(_ResonatorModelFixed, PyRFModelFixed):
    """Lava's bit-accurate dynamics."""

    implements_process = Resonate


class IzhikevichModelFloat(_ResonatorModel, PyRF_IZModelFloat):
    """Lava's float dynamics."""

    implements_process = Izhikevich


class IzhikevichModelFixed(_ResonatorModelFixed, PyRF_IZModelFixed):
    """Lava's bit-accurate dynamics."""

    implements_process = Izhikevich


class Ternary(TernaryLIF):
    """Lava's `TernaryLIF`, with the reset between samples that it lacks, and recorded neurons.

    Args:
        own: threshold_below.
    """

    def __init__(self, trace, neurons, own: dict, vth, reset_interval: int, reset_offset: int, **parameters) -> None:
        super().__init__(vth_hi=vth, vth_lo=-own["threshold_below"], **parameters)
        self.proc_params["trace"], self.proc_params["neurons"] = trace, neurons
        self.proc_params["reset_interval"], self.proc_params["reset_offset"] = reset_interval, reset_offset


class _TernaryModel(_RestartedModel):
    def restart(self) -> None:
        """Set the state to that of a new sample."""
        self.u[:], self.v[:] = 0, 0


class TernaryModelFloat(_TernaryModel, PyTernLifModelFloat):
    """Lava's float dynamics."""

    implements_process = Ternary


class TernaryModelFixed(_TernaryModel, PyTernLifModelFixed):
    """Lava's fixed-point dynamics."""

    implements_process = Ternary
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


def input_of(neurons, imaginary: bool = False):
    """Return the port of a population that synapses feed; of a resonator, one of its two."""
    if not isinstance(neurons, RF):
        return neurons.a_in
    return neurons.a_imag_in if imaginary else neurons.a_real_in


# By the names of `ashneuro.spiking.dynamics`.
DYNAMICS = {
    "refractory": Refractory,
    "adaptive": Adaptive,
    "resonate": Resonate,
    "izhikevich": Izhikevich,
    "ternary": Ternary,
}
