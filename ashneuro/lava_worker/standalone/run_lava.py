"""Run the network of this bundle in Lava. Needs this folder, Python 3.10, lava-nc 0.10, numpy < 2.

    python3.10 run_lava.py                              # spikes per layer, for reference.npz
    python3.10 run_lava.py --verify                     # float and fixed, against recorded spikes
    python3.10 run_lava.py --inputs x.npy --save s.npz  # own samples (T, B, *shape); all answers
    python3.10 run_lava.py --probe LAYER:NEURON         # u and v after every step; repeatable
    python3.10 run_lava.py --on loihi2                  # UNTESTED, needs Intel's closed extension

Samples stream back to back through one running network. Every Lava synapse delivers one step late,
so a layer at depth d computes step t of sample b in machine step b·T + t + d. LIFReset clears it
there (interval T, offset d + 1, because Lava counts from 1), and its answers are read d steps
later. If spikes of one sample would reach the next (loops, delays of the network), each sample has
a network of its own.
"""

from __future__ import annotations

import argparse
import json
import mmap
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2HwCfg, Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import Sparse
from lava.utils.loihi import is_installed
from scipy.sparse import block_diag, csr_matrix, eye

# <imports>
# </imports>

HERE = Path(__file__).resolve().parent
PROGRAMS = {"float": "float", "fixed": "integer"}  # names in program.json
TAGS = {"float": "floating_pt", "fixed": "fixed_pt"}  # of Lava's models
# Above 0, Lava's synapses multiply their input. At 0 they test it for 0: slower, and wrong for
# analog values.
MESSAGE_BITS = 24
DENSE_ABOVE = 0.3  # fraction of non-zero weights above which Lava's Dense is faster than its Sparse
TOLERANCE = 1e-9  # of float read-outs: sums in another order differ in their last bits


# ---- the network --------------------------------------------------------------------------------


# <network>
def build(net: Network) -> None:
    """Add every layer and every synapse; `ashneuro export` writes this function."""
    raise SystemExit("this is the template of a script: run the one that `ashneuro export` wrote in a bundle")


# </network>


class Network:
    """Lava Processes for the layers and synapses of program.json.

    Args:
        program: one program of program.json.
        numbers: the arrays of program.npz.
        precision: ``"float"`` or ``"fixed"``.
        interval: steps per sample.
        streams: values (steps, size) of each source, by (input, delay in steps).
        total: number of machine steps of the run.
        probes: neurons to record, by layer.
        chip: build it for Loihi 2.
    """

    def __init__(
        self, program: dict, numbers, precision: str, interval: int, streams: dict, total: int, probes: dict, chip: bool
    ) -> None:
        self.program, self.numbers, self.interval, self.chip = program, numbers, interval, chip
        self.fixed = precision == "fixed"
        self.number = np.int32 if self.fixed else np.float64
        self.config = Loihi2HwCfg() if chip else Loihi2SimCfg(select_tag=TAGS[precision])
        self.streams, self.total, self.probes = streams, total, probes
        self.layers: dict = {}
        self.ports: dict = {}
        self.lines: dict = {}
        self.sent: dict = {}
        self.traces: dict = {}
        self.parts: list[set] = []  # names of each connected part

    def neurons(self, index: int, name: str, depth: int) -> None:
        """Add the neurons of layer ``index``, and a sink for their answers."""
        entry = self.program["layers"][index]
        size, neuron = int(np.prod(entry["shape"], dtype=int)), entry["neuron"]

        def values(key: str) -> np.ndarray:
            array = np.asarray(self.numbers[key])
            array = np.broadcast_to(array, entry["shape"]).ravel() if array.size > 1 else array.ravel()
            return array.astype(self.number)

        parameters = {
            "shape": (size,),
            "du": one(values(neuron["du"])),
            "dv": one(values(neuron["dv"])),
            "vth": one(values(neuron["v_threshold"])),
            "bias_mant": values(neuron["bias"]),
            "bias_exp": neuron["bias_exp"] if self.fixed else 0,
            "reset_interval": self.interval,
            "reset_offset": (depth + 1) % self.interval,
            "name": name,
        }
        chosen = np.array(self.probes.get(name, []), int)
        self.traces[name] = shared((self.total, 2, len(chosen)), self.number)
        firing = neuron.get("firing", {})
        inclusive, late = firing.get("comparison") == "inclusive", bool(firing.get("reset_delay"))
        subtracts = firing.get("reset") == "subtract"
        limit = neuron.get("message", {}).get("limit")
        limit = np.inf if limit is None else limit
        if neuron.get("dynamics", "lif") != "lif":
            own = {name: one(values(key)) for name, key in neuron["parameters"].items()}
            layer = DYNAMICS[neuron["dynamics"]](self.traces[name], chosen, own, **parameters)
        elif message(neuron) == "change":
            given = {"rectified": neuron["message"]["activation"] == "relu"}
            given |= {"cumulative": neuron["message"]["cumulative"], "shift": neuron["message"]["shift"]}
            given["exponent"], parameters["first_step"] = parameters["bias_exp"], depth + 1
            given["levels"] = levels(neuron["message"], int if self.fixed else float)
            layer = Changes(self.traces[name], chosen, neuron["spiking"], given, **parameters)
        elif message(neuron) == "graded":
            layer = Graded(self.traces[name], chosen, inclusive, limit, **parameters)
        elif message(neuron) == "potential":
            layer = Potential(self.traces[name], chosen, limit if self.fixed else np.inf, **parameters)
        elif neuron["spiking"] and (inclusive or late or subtracts or message(neuron) == "count"):
            subtract = one(values(neuron["v_subtract"])) if subtracts else None
            if message(neuron) == "count":
                layer = Counted(self.traces[name], chosen, inclusive, subtract, limit, **parameters)
            else:
                layer = Fired(self.traces[name], chosen, inclusive, late, subtract, **parameters)
        elif neuron["spiking"] and not len(chosen):
            layer = LIFReset(**parameters)
        else:
            layer = (Traced if neuron["spiking"] else ReadOut)(self.traces[name], chosen, **parameters)
        binary = neuron["spiking"] and message(neuron) == "spike"
        self.sent[name] = shared((self.total, size), np.uint8 if binary else self.number)
        self.out_of_chip(layer.s_out, size).connect(Sink(self.sent[name], f"sink {name}").a_in)
        self.layers[name] = self.ports[name] = layer
        self.parts.append({name})

    def synapse(self, index: int, number: int, source: str, target: str) -> None:
        """Add connection ``number`` of layer ``index``, from a layer or an input to ``target``."""
        connection = self.program["layers"][index]["connections"][number]
        entry, delay = connection["synapse"], connection["delay"]
        a_in = input_of(self.layers[target], connection.get("imaginary", False))
        out = self.layers[source].s_out if source in self.layers else self.source((source, 0 if entry else delay))
        self.join(source, target)
        if entry is None:  # analog values enter the neurons directly
            out.connect(a_in)
            return
        weights, outs = matrix(entry, self.numbers).astype(self.number), [out]
        if delay:
            size, longest = weights.shape[1], self.longest(source)
            weights = csr_matrix(
                (weights.data, weights.indices + (delay - 1) * size, weights.indptr),
                shape=(weights.shape[0], longest * size),
            )
            outs = self.line(source, out, longest)
        exponent = connection["weight_exp"]
        if weights.nnz > DENSE_ABOVE * weights.shape[0] * weights.shape[1]:
            synapse = Dense(weights=weights.toarray(), num_message_bits=MESSAGE_BITS, weight_exp=exponent)
        else:
            synapse = Sparse(weights=weights, num_message_bits=MESSAGE_BITS, weight_exp=exponent)
        for port in outs:
            port.connect(synapse.s_in)
        synapse.a_out.connect(a_in)

    def longest(self, source: str) -> int:
        """Return the longest delay of the synapses behind ``source``."""
        return max(
            c["delay"]
            for layer in self.program["layers"]
            for c in layer["connections"]
            if c["source"] == source and c["synapse"]
        )

    def line(self, source: str, out, longest: int) -> list:
        """Return ports that together send the last ``longest`` arrays of ``source`` as one.

        They are a shift register: the first synapse puts an array at the front, the second takes
        both outputs and moves every array on by one.
        """
        if source not in self.lines:
            size = out.shape[0]
            first = Sparse(
                weights=eye(longest * size, size, dtype=self.number, format="csr"),
                num_message_bits=MESSAGE_BITS,
                weight_exp=0,
            )
            on = eye(longest * size, longest * size, -size, dtype=self.number, format="csr")
            shift = Sparse(weights=on, num_message_bits=MESSAGE_BITS, weight_exp=0)
            out.connect(first.s_in)
            self.lines[source] = [first.a_out, shift.a_out][: min(longest, 2)]
            for port in self.lines[source][: 2 * (longest > 1)]:
                port.connect(shift.s_in)
        return self.lines[source]

    def hold(self, name: str) -> None:
        """Keep a layer silent until the first sample reaches it."""
        if ("hold " + name, 0) in self.streams:
            self.source(("hold " + name, 0)).connect(input_of(self.layers[name]))

    def source(self, key: tuple):
        """Return the port of a source."""
        if key not in self.ports:
            values = shared(self.streams[key].shape, self.number)
            values[:] = self.streams[key]
            self.ports[key] = Source(values, "source {} +{}".format(*key))
        return self.into_chip(self.ports[key].s_out, values_per_step=self.streams[key].shape[1])

    def join(self, source: str, target: str) -> None:
        """Merge the parts of two connected names."""
        both = [part for part in self.parts if source in part or target in part]
        self.parts = [part for part in self.parts if part not in both] + [set().union({source, target}, *both)]

    def run(self) -> None:
        """Run all steps, and fill `sent` and `traces`."""
        first = next(iter(self.layers.values()))
        # Lava runs only processes that are connected with the one it is told to run. A synapse of
        # weight 0 connects the others.
        for part in self.parts:
            name = next(name for name in self.layers if name in part)
            if first.name not in part:
                a_in = input_of(self.layers[name])
                shape = (*a_in.shape, *first.s_out.shape)
                nothing = Sparse(
                    weights=csr_matrix(shape, dtype=self.number), num_message_bits=MESSAGE_BITS, weight_exp=0
                )
                first.s_out.connect(nothing.s_in)
                nothing.a_out.connect(a_in)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lava warns about its own sources while it compiles
            first.run(condition=RunSteps(num_steps=self.total), run_cfg=self.config)
        first.stop()

    # On a chip, values from and to Python pass an adapter of the closed extension. Untested.

    def into_chip(self, port, values_per_step: int):
        """Return ``port`` for processes on the chip."""
        if not self.chip:
            return port
        from lava.proc import embedded_io

        adapter = embedded_io.spike.PyToNxAdapter(shape=(values_per_step,), num_message_bits=MESSAGE_BITS)
        port.connect(adapter.inp)
        return adapter.out

    def out_of_chip(self, port, size: int):
        """Return ``port`` for processes in Python."""
        if not self.chip:
            return port
        from lava.proc import embedded_io

        adapter = embedded_io.spike.NxToPyAdapter(shape=(size,), num_message_bits=MESSAGE_BITS)
        port.connect(adapter.inp)
        return adapter.out


# ---- processes that Lava does not have ----------------------------------------------------------


# <processes>
Source = Sink = Traced = ReadOut = Fired = Graded = Changes = Counted = Potential = input_of = None
DYNAMICS: dict = {}
# </processes>


# ---- samples in, spikes out ---------------------------------------------------------------------


def simulate(
    program: dict, numbers, precision: str, inputs: dict, probes: dict, chip: bool = False
) -> tuple[dict, dict]:
    """Return answers (T, B, *shape), and u, v of probes (T, B, 2, neurons), by layer."""
    sent = {port["name"]: encode(port, inputs, program["precision"]) for port in program["inputs"]}
    samples = next(iter(sent.values())).shape[1]
    groups = [slice(index, index + 1) for index in range(samples)] if lagged(program) else [slice(None)]
    runs = [
        stream(program, numbers, precision, {name: x[:, group] for name, x in sent.items()}, probes, chip)
        for group in groups
    ]
    return tuple(
        {name: np.concatenate([run[kind][name] for run in runs], axis=1) for name in runs[0][kind]} for kind in (0, 1)
    )


def stream(program: dict, numbers, precision: str, sent: dict, probes: dict, chip: bool) -> tuple[dict, dict]:
    """Stream samples through one network; result as of `simulate`."""
    interval, samples = next(iter(sent.values())).shape[:2]
    depths = {layer["name"]: layer["depth"] for layer in program["layers"]}
    total = interval * samples + max(depths.values())
    streams = {}
    for name, values in sent.items():
        rows = values.swapaxes(0, 1).reshape(interval * samples, -1)
        delays = [
            c["delay"]
            for layer in program["layers"]
            for c in layer["connections"]
            if c["source"] == name and not c["synapse"]
        ]
        for late in {0, *delays}:
            streams[name, late] = np.zeros((total, rows.shape[1]), rows.dtype)
            streams[name, late][late : late + len(rows)] = rows[: total - late]
    for layer in program["layers"]:
        held = hold(layer, numbers, precision == "fixed") if lagged(program) else None
        if held is not None:
            streams["hold " + layer["name"], 0] = np.concatenate(
                [held, np.zeros((total - len(held), held.shape[1]), held.dtype)]
            )
    net = Network(program, numbers, precision, interval, streams, total, probes, chip)
    build(net)
    net.run()

    def samples_of(rows: np.ndarray, layer: dict, shape: tuple) -> np.ndarray:
        first = layer["depth"]
        return rows[first : first + interval * samples].reshape(samples, interval, *shape).swapaxes(0, 1)

    answers, traces = {}, {}
    for layer in program["layers"]:
        name = layer["name"]
        answers[name] = samples_of(net.sent[name], layer, tuple(layer["shape"]))
        if not layer["neuron"]["spiking"] or message(layer["neuron"]) in ("graded", "change", "potential"):
            answers[name] = read_out(layer, numbers, answers[name], precision == "fixed")
        traces[name] = samples_of(net.traces[name], layer, net.traces[name].shape[1:])
    return answers, traces


def encode(port: dict, inputs: dict, precision: str) -> np.ndarray:
    """Return the values that the host sends: float64, or int32 round(scale · x) within ±limit."""
    if port["constant"]:
        some = next(iter(inputs.values()))
        values = np.ones((*some.shape[:2], *port["shape"]))
    else:
        values = np.asarray(inputs[port["name"]])
    if precision == "float":
        return values.astype(np.float64)
    if port["coding"] == "spikes":
        return values.astype(np.int32)
    return np.clip(np.rint(values.astype(np.float64) * port["scale"]), -port["limit"], port["limit"]).astype(np.int32)


def read_out(layer: dict, numbers, v: np.ndarray, fixed: bool) -> np.ndarray:
    """Return membrane potentials or messages in the network's units.

    Fixed point counts 1/(64 · scale) of a potential, 1/scale of a graded message, of a potential
    that is sent or of a sum of changes, and 2^shift/scale of a change.
    """
    neuron = layer["neuron"]
    if fixed:
        unit = 64 if message(neuron) == "spike" else 1
        shift = neuron["message"]["shift"] if message(neuron) == "change" and neuron["spiking"] else 0
        v = v.astype(np.float64) * 2.0**shift / (layer["scale"] * unit)
    return v * numbers[layer["neuron"]["v_unit"]] + numbers[layer["neuron"]["v_origin"]]


def message(neuron: dict) -> str:
    """Return the kind of the neurons' messages, as in program.json."""
    return neuron.get("message", {}).get("kind", "spike")


def levels(message: dict, number: type):
    """Return step, jump and number of the levels whose changes are sent; else None."""
    if message["activation"] != "levels":
        return None
    largest = (1 << (message["bits"] - 1)) - 1
    return {"step": number(message["limit"] / largest), "jump": number(message["jump"]), "largest": largest}


def lagged(program: dict) -> bool:
    """Return True if spikes of a sample can arrive in the next one: loops, axonal delays."""
    depths = {layer["name"]: layer["depth"] for layer in program["layers"]}
    pairs = [(layer, connection) for layer in program["layers"] for connection in layer["connections"]]
    return any(
        depths.get(c["source"], 0) + (c["synapse"] is not None) + c["delay"] != layer["depth"] for layer, c in pairs
    )


def hold(layer: dict, numbers, fixed: bool):
    """Return currents (depth, neurons) that keep a layer silent until the sample reaches it.

    A bias, or a threshold below the start, makes neurons spike without input. Each step's current
    moves u so far below zero that v cannot rise; in ternary neurons, whose messages have a sign, so
    that v stays within half a unit of it. ``None`` if the layer is silent anyway.
    """
    neuron, shape, unit = layer["neuron"], layer["shape"], 64 if fixed else 1
    bias, threshold, du, dv = (
        np.broadcast_to(numbers[neuron[key]], shape).ravel().astype(float)
        for key in ("bias", "v_threshold", "du", "dv")
    )
    bias *= 2.0 ** neuron["bias_exp"]
    keep_u, keep_v = (1 - (du + 1) / 4096, 1 - dv / 4096) if fixed else (1 - du, 1 - dv)
    signed = message(neuron) in ("change", "ternary", "potential")
    needed = bias if signed else 1.01 * np.maximum(0, bias - np.minimum(unit * threshold, 0))
    # Neurons that send changes hold themselves until then.
    if not neuron["spiking"] or message(neuron) == "change" or not layer["depth"] or not needed.any():
        return None
    rows, u, v = [], np.zeros(len(bias)), np.zeros(len(bias))
    for _ in range(layer["depth"]):
        u, v = (np.trunc(u * keep_u), np.trunc(v * keep_v)) if fixed else (u * keep_u, v * keep_v)
        a = -(v + u + bias) / unit if signed else -np.maximum(0, needed + u) / unit
        if fixed:
            a = np.rint(a) if signed else np.floor(a)
        u += a * unit
        v += u + bias
        rows.append(a)
    return np.array(rows, np.int32 if fixed else np.float64)


def matrix(entry: dict, numbers) -> csr_matrix:
    """Return the weights of a synapse as a matrix (outputs, inputs), both in C order."""
    weight = np.asarray(numbers[entry["weight"]])
    inputs, outputs = (int(np.prod(entry[key], dtype=int)) for key in ("in_shape", "out_shape"))
    if entry["kind"] == "sparse":
        result = csr_matrix((weight, numbers[entry["indices"]], numbers[entry["indptr"]]), shape=(outputs, inputs))
    elif entry["kind"] == "scale":
        lines = np.arange(inputs + 1)
        result = csr_matrix(
            (np.broadcast_to(weight, entry["in_shape"]).ravel(), lines[:-1], lines), shape=(inputs, inputs)
        )
    elif entry["kind"] == "dense":
        copies = inputs // weight.shape[1]  # a dense layer on the last axis
        result = block_diag([csr_matrix(weight)] * copies, format="csr", dtype=weight.dtype)
    else:
        result = convolution(entry, weight, inputs, outputs)
    result = csr_matrix(result, copy=True)
    result.sum_duplicates()
    result.eliminate_zeros()
    return result


def convolution(entry: dict, weight: np.ndarray, inputs: int, outputs: int) -> csr_matrix:
    """Return a convolution as a matrix, without padding: a weight per output, channel and tap."""
    kernel, spatial, out = weight.shape[2:], entry["in_shape"][1:], entry["out_shape"][1:]
    axes = len(kernel)
    valid, pixel = np.ones((*out, *kernel), bool), np.zeros((*out, *kernel), int)
    for axis in range(axes):
        start = np.arange(out[axis]) * entry["stride"][axis] - entry["padding"][axis][0]
        line = start[:, None] + np.arange(kernel[axis]) * entry["dilation"][axis]
        shape = [1] * (2 * axes)
        shape[axis], shape[axes + axis] = line.shape
        line = line.reshape(shape)
        valid &= (line >= 0) & (line < spatial[axis])
        pixel = pixel * spatial[axis] + line
    position, tap = np.nonzero(valid.reshape(int(np.prod(out)), -1))
    pixel = pixel.reshape(int(np.prod(out)), -1)[position, tap]
    channels_out, channels_in = weight.shape[:2]
    group = np.arange(channels_out) // (channels_out // entry["groups"])
    channel = group[:, None] * channels_in + np.arange(channels_in)  # input channels of each output channel
    shape = (channels_out, channels_in, len(tap))
    rows = np.broadcast_to((np.arange(channels_out)[:, None] * int(np.prod(out)) + position)[:, None, :], shape)
    columns = channel[:, :, None] * int(np.prod(spatial)) + pixel
    values = weight.reshape(channels_out, channels_in, -1)[:, :, tap]
    return csr_matrix((values.ravel(), (rows.ravel(), columns.ravel())), shape=(outputs, inputs))


def shared(shape: tuple, dtype) -> np.ndarray:
    """Return zeros in anonymous memory, which forked processes share."""
    count = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, max(1, count) * np.dtype(dtype).itemsize), dtype)[:count].reshape(shape)


def one(value: np.ndarray):
    """Return a scalar if all neurons share the value, as Lava's fixed-point model requires."""
    return value.item() if value.size == 1 else value


# ---- the command line ---------------------------------------------------------------------------


def main() -> int:
    """Run, and print or compare; the exit code is 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", action="store_true", help="compare float and fixed with the recorded spikes")
    parser.add_argument("--precision", choices=TAGS, default="fixed", help="Lava's arithmetic")
    parser.add_argument("--inputs", type=Path, help="(T, B, *shape) as .npy, or a .npz with one array per input")
    parser.add_argument("--save", type=Path, help="write the answers of every layer, and the probes, to this .npz")
    parser.add_argument(
        "--probe", action="append", default=[], metavar="LAYER:NEURON", help="print u and v of a neuron"
    )
    parser.add_argument("--on", choices=("simulation", "loihi2"), default="simulation")
    options = parser.parse_args()
    programs = json.loads((HERE / "program.json").read_text())["programs"]
    if options.on == "loihi2" and not is_installed():
        parser.exit(
            3, "Loihi 2 cannot be reached: Intel's closed extension of Lava (lava-loihi) is not installed here\n"
        )
    if options.on == "loihi2" and options.verify:
        parser.exit(2, "--verify compares Lava's simulations; leave out --on loihi2\n")
    if options.verify and (options.inputs or options.save or options.probe):
        parser.exit(
            2,
            "--verify compares the bundle's own samples, and does nothing else:"
            " leave out --inputs, --save and --probe\n",
        )
    if options.save and not options.save.absolute().parent.is_dir():
        parser.exit(2, f"--save {options.save}: there is no folder {options.save.parent}\n")
    for text in assumed(programs):
        print(text)
    numbers, recorded = (np.load(HERE / f"{name}.npz", allow_pickle=False) for name in ("program", "reference"))
    inputs = {name.partition("/")[2]: recorded[name] for name in recorded.files if name.startswith("inputs/")}
    if options.verify:
        found = [verify(programs, numbers, recorded, inputs, precision) for precision in TAGS]
        return int(not all(found))
    if PROGRAMS[options.precision] not in programs:
        other = {"fixed": "float", "float": "fixed"}[options.precision]
        parser.exit(2, f"this bundle has no {PROGRAMS[options.precision]} program: --precision {other}\n")
    program = programs[PROGRAMS[options.precision]]
    if options.inputs:
        inputs = load(parser, options.inputs, program)
    sent, traces = simulate(
        program, numbers, options.precision, inputs, probes_of(parser, program, options.probe), options.on == "loihi2"
    )
    for name, values in sent.items():
        neuron = next(layer["neuron"] for layer in program["layers"] if layer["name"] == name)
        events, word = np.count_nonzero(values), "spikes" if message(neuron) == "spike" else "messages"
        rate = (
            f"{events:>10,} {word}, {events / max(1, values.size):.4f} per neuron and step"
            if neuron["spiking"]
            else "read-out"
        )
        print(f"{name:24} {int(np.prod(values.shape[2:])):>8,} neurons  {rate}")
    for text in options.probe:
        name, neuron = text.rsplit(":", 1)
        column = sorted(
            {int(other.rsplit(":", 1)[1]) for other in options.probe if other.rsplit(":", 1)[0] == name}
        ).index(int(neuron))
        for step, (u, v) in enumerate(traces[name][:, 0, :, column].tolist()):
            print(f"{text} sample 0 step {step}: u = {u}, v = {v}")
    if options.save:
        watched = {f"trace/{name}": values for name, values in traces.items() if values.size}
        np.savez_compressed(options.save, **{f"sent/{name}": values for name, values in sent.items()}, **watched)
    return 0


def assumed(programs: dict) -> list:
    """Return a line per field that the network's source left open, with the value taken."""
    (found, *_) = [program.get("assumptions") for program in programs.values()]
    if found is None:
        return ["assumptions about the network's source: not recorded"]
    return [f"assumed {item['field']} = {item['value']}: the network's source does not say it" for item in found]


def verify(programs: dict, numbers, recorded, inputs: dict, precision: str) -> bool:
    """Print the number of values of each layer that differ from the recorded ones; True if none."""
    key = {"float": "spikes/", "fixed": "integer/"}[precision]
    wanted = {name[len(key) :]: recorded[name] for name in recorded.files if name.startswith(key)}
    if PROGRAMS[precision] not in programs or not wanted:
        print(f"{precision}: not compared, this bundle has no {PROGRAMS[precision]} program with recorded spikes")
        return True
    program = programs[PROGRAMS[precision]]
    sent, _ = simulate(program, numbers, precision, inputs, {})
    wrong = 0
    for layer in program["layers"]:
        ours, theirs = sent[layer["name"]], wanted[layer["name"]]
        neuron = layer["neuron"]
        exact = neuron["spiking"] and (message(neuron) == "spike" or precision == "fixed")
        differ = ours != theirs if exact else np.abs(ours - theirs) > TOLERANCE * np.maximum(1, np.abs(theirs))
        wrong += int(differ.sum())
        word = "spikes" if message(neuron) == "spike" else "messages"
        spikes = f"{np.count_nonzero(theirs):,} {word}" if neuron["spiking"] else "read-out"
        print(f"{precision:6} {layer['name']:24} {differ.size:>12,} values  {spikes:>16}  {int(differ.sum())} differ")
    print(f"{precision}: {'equal' if not wrong else f'{wrong} values differ'}")
    return not wrong


def load(parser: argparse.ArgumentParser, path: Path, program: dict) -> dict:
    """Return the arrays of a file, by input."""
    ports = {port["name"]: port for port in program["inputs"] if not port["constant"]}
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {next(iter(ports)): loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        parser.exit(2, f"cannot read {path}: {error}\n")
    if set(arrays) != set(ports):
        parser.exit(2, f"{path} holds {', '.join(arrays)}; this network's inputs are {', '.join(ports)}\n")
    for name, port in ports.items():
        problem = problem_of(arrays[name], port, program["timesteps"])
        if problem:
            parser.exit(2, f"{name} {problem}\n")
    sizes = {name: values.shape[:2] for name, values in arrays.items()}
    if len(set(sizes.values())) > 1:
        parser.exit(
            2, f"steps and samples (T, B) differ: {', '.join(f'{name} {size}' for name, size in sizes.items())}\n"
        )
    return arrays


def problem_of(values: np.ndarray, port: dict, timesteps) -> str:
    """Return why ``values`` do not fit ``port``; empty if they do."""
    if values.dtype.kind not in "fiub":
        return f"is {values.dtype}; this network takes real numbers"
    shape = values.shape
    if len(shape) < 2 or list(shape[2:]) != port["shape"] or 0 in shape or timesteps not in (None, shape[0]):
        return f"has shape {shape}, not ({', '.join(map(str, (timesteps or 'T', 'B', *port['shape'])))})"
    if not np.isfinite(values).all():
        return "holds NaN or infinity"
    if port["coding"] == "spikes" and not np.isin(values, (0, 1)).all():
        return "holds something else than 0 and 1, and this input takes spikes"
    return ""


def probes_of(parser: argparse.ArgumentParser, program: dict, texts: list) -> dict:
    """Return the neurons to record, sorted, by layer."""
    sizes = {layer["name"]: int(np.prod(layer["shape"], dtype=int)) for layer in program["layers"]}
    chosen: dict = {}
    for text in texts:
        name, _, neuron = text.rpartition(":")
        if name not in sizes or not neuron.isdecimal() or int(neuron) >= sizes[name]:
            layers = ", ".join(f"{layer}:0…{size - 1}" for layer, size in sizes.items())
            parser.exit(2, f"--probe {text}: this network has {layers}\n")
        chosen.setdefault(name, set()).add(int(neuron))
    return {name: sorted(neurons) for name, neurons in chosen.items()}


if __name__ == "__main__":
    raise SystemExit(main())
