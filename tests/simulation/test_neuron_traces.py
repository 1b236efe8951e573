import numpy as np
import pytest

from ashneuro.errors import DataError
from ashneuro.reporting.figures.svg import save
from ashneuro.reporting.figures.traces import traces as draw
from ashneuro.simulation.emulator.run_program import run_program
from ashneuro.simulation.lava.execute import Trace
from ashneuro.simulation.traces import parse_neurons, trace_neurons
from tests.simulation import nets


class Recorded:
    """A Lava that answers what the emulator does, but for one step."""

    def __init__(self, wrong_step=None):
        self.wrong_step = wrong_step

    def trace(self, program, inputs, neurons):
        found = {}
        record = run_program(program, inputs, rasters=list(neurons), traces=list(neurons))
        for name, chosen in neurons.items():
            u, v, sent = (x.reshape(len(x), 1, -1)[..., chosen].copy() for x in self.parts(record.layers[name]))
            if self.wrong_step is not None:
                v[self.wrong_step] += 1
            found[name] = Trace(tuple(chosen), u, v, sent)
        return found

    @staticmethod
    def parts(activity):
        return activity.u, activity.v, activity.raster


def net(precision="integer"):
    random, program = nets.dense_net(4, precision)
    return program, random.inputs(program.inputs[0], 9, 3)


@pytest.mark.parametrize("precision", ["float", "integer"])
def test_traces_selected_sample(precision):
    program, x = net(precision)
    whole = run_program(program, x, rasters=["a", "out"], traces=["a", "out"]).layers
    spiking, read_out = trace_neurons(program, x, parse_neurons(program, ["a:2", "out:1"]), sample=2)
    states = spiking.states["emulator"]
    np.testing.assert_array_equal(states.u, whole["a"].u[:, 2, 2])
    np.testing.assert_array_equal(states.v, whole["a"].v[:, 2, 2])
    np.testing.assert_array_equal(states.spikes, whole["a"].raster[:, 2, 2])
    assert states.spikes.any() and not states.spikes.all()
    np.testing.assert_array_equal(np.isnan(states.shown_v), states.spikes)
    neuron = program.layer("a").neuron
    unit = 64 if precision == "integer" else 1
    assert spiking.threshold == pytest.approx(unit * float(neuron.v_threshold))
    assert read_out.threshold is None and not read_out.states["emulator"].spikes.any()


def test_differing_steps_exclude_v_at_spikes():
    program, x = net()
    neurons = parse_neurons(program, ["a:2"])
    (alike,) = trace_neurons(program, x, neurons, lava=Recorded())
    assert alike.differing == 0 and set(alike.states) == {"emulator", "Lava"}
    spikes = alike.states["emulator"].spikes
    silent, firing = int(np.flatnonzero(~spikes)[0]), int(np.flatnonzero(spikes)[0])
    assert trace_neurons(program, x, neurons, lava=Recorded(silent))[0].differing == 1
    assert trace_neurons(program, x, neurons, lava=Recorded(firing))[0].differing == 0


@pytest.mark.parametrize("text", ["a", "a:", "a:7", "z:0", "a:-1", "a:²", ":1"])
def test_unknown_neuron_error_lists_layers(text):
    program, _ = net()
    with pytest.raises(DataError, match=r"a:0…6, b:0…8, c:0…5, out:0…3"):
        parse_neurons(program, [text])


def test_sample_out_of_range_is_refused():
    program, x = net()
    with pytest.raises(DataError, match="3 samples, counted from 0"):
        trace_neurons(program, x, {"a": [0]}, sample=3)


def test_figure_has_both_simulators(tmp_path):
    program, x = net()
    traces = trace_neurons(program, x, parse_neurons(program, ["a:2", "out:1"]), lava=Recorded())
    figure = draw(traces)
    save(figure, tmp_path / "traces.svg", "traces of two neurons")
    drawn = (tmp_path / "traces.svg").read_text()
    assert all(f">{text}</text>" in drawn for text in ("emulator", "Lava", "a:2, current u", "out:1, current u"))
    save(figure, tmp_path / "traces.png", "")
    assert (tmp_path / "traces.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(DataError, match="cannot write"):
        save(figure, tmp_path / "nowhere" / "traces.svg", "")
    with pytest.raises(DataError, match="cannot write"):
        save(figure, tmp_path / "traces.docx", "")
    with pytest.raises(DataError, match="its suffix is the format"):
        save(figure, tmp_path / "traces", "")
