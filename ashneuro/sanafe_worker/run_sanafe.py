"""Run a network in SANA-FE: `python run_sanafe.py [FOLDER]`; needs sanafe and nothing else.

FOLDER (default: that of this script) holds network.net, the network with its weights and cores in
SANA-FE's netlist format; plan.json, the steps at which samples begin in each layer; and, where the
host sends currents, currents.f64. The result is written to result.json beside them.

Samples follow one another. A layer at depth d sees step k of the inputs at step k + d of the chip;
before and after, its bias is 0 and it sends nothing. Where a sample begins, its state is set to
zero.
"""

import array
import contextlib
import importlib.metadata
import json
import os
import re
import sys

NEVER = 1e9  # threshold
HOPS = ("east", "west", "north", "south")


def main(folder):
    """Run the network of a folder and write result.json."""
    import sanafe

    with open(os.path.join(folder, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    path, text = architecture(sanafe, plan, folder)
    arch = sanafe.load_arch(path)
    net = sanafe.load_net(os.path.join(folder, "network.net"), arch, use_netlist_format=True)
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # of a line per step
        result = simulate(chip, plan, currents(plan, folder))
    prices = {name: float(re.search(rf"energy_{name}_hop: *(\S+)", text)[1]) for name in HOPS}
    prices["message"] = arch.tiles[0].cores[0].axon_out[0].metrics.energy_message_out
    injected = result["injected"]
    injected["energy_j"] = sum(injected[name] * prices[name] for name in prices)
    result["assumptions"] = plan.get("assumptions", [])
    result["sanafe"] = importlib.metadata.version("sanafe")
    write(os.path.join(folder, "result.json"), json.dumps(result))
    if result["assumptions"] is None:
        print("assumptions about the network's source: not recorded")
    for item in result["assumptions"] or ():
        print(f"assumed {item['field']} = {item['value']}: the network's source does not say it")
    energy = result["energy_j"]["total"] / plan["samples"]
    print(f"SANA-FE {result['sanafe']}: {energy:.3e} J and {result['time_s'] / plan['samples']:.3e} s per sample")


def write(path, text):
    """Write a file aside, then rename it: where writing fails, as on a full disk, none is left."""
    aside = f"{path}.{os.getpid()}"
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, path)
    finally:
        if os.path.exists(aside):
            os.remove(aside)


def architecture(sanafe, plan, folder):
    """Return the path and the text of SANA-FE's Loihi.

    Its delay dendrites hand on a spike only together with another one, unless the buffer between
    two steps is inside of them.
    """
    path = os.path.join(os.path.dirname(sanafe.__file__), "examples", plan["architecture"])
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if plan["delays"]:
        text = text.replace("buffer_position: soma", "buffer_position: dendrite")
        text = text.replace("buffer_inside_unit: false", "buffer_inside_unit: true")
        path = os.path.join(folder, "loihi_delays.yaml")
        write(path, text)
    return path, text


def currents(plan, folder):
    """Return the currents of the host, [step of the inputs][neuron], by group."""
    found = {}
    for entry in plan["currents"]:
        values = array.array("d")
        with open(os.path.join(folder, "currents.f64"), "rb") as file:
            file.seek(8 * entry["first"])
            values.frombytes(file.read(8 * entry["neurons"] * plan["samples"] * plan["timesteps"]))
        if sys.byteorder == "big":
            values.byteswap()
        size = entry["neurons"]
        found[entry["group"]] = [values[k * size : (k + 1) * size] for k in range(len(values) // size)]
    return found


def simulate(chip, plan, driven):
    """Return spikes, potentials, energy and time of all samples."""
    span = plan["samples"] * plan["timesteps"]
    layers = {layer["group"]: layer for layer in plan["layers"]}
    neurons = {name: chip.mapped_neuron_groups[name] for name in layers}
    bias = {name: list(layer["bias"]) for name, layer in layers.items()}
    spikes = {name: [] for name in layers}
    potentials = {name: [] for name, layer in layers.items() if layer["read_out"]}
    sent = {name: dict.fromkeys(("messages", "local", "east_west", "north_south"), 0) for name in layers}
    injected = dict.fromkeys(("message", *HOPS), 0)
    energy = dict.fromkeys(("total", "synapse", "dendrite", "soma", "network"), 0.0)
    counts = dict.fromkeys(("spikes", "packets_sent", "neurons_updated", "neurons_fired"), 0)
    time = 0.0
    for step in range(span + plan["depth"]):
        for name, layer in layers.items():
            begin(neurons[name], layer, step - layer["depth"], plan["timesteps"], span)
            drive(neurons[name], bias[name], layer, step - layer["depth"], span, driven.get(name))
        ran = chip.sim(1, spike_trace=True, potential_trace=bool(potentials), message_trace=True)
        time += ran["sim_time"]
        for kind in energy:
            energy[kind] += ran["energy"][kind]
        for kind in counts:
            counts[kind] += ran[kind]
        for spike in ran["spike_trace"][0]:
            if spike.group_name in layers:
                k = step - layers[spike.group_name]["depth"]
                if 0 <= k < span:
                    spikes[spike.group_name].append((k, spike.neuron_offset))
        if potentials:
            split(ran["potential_trace"][0], potentials, layers)
        for message in ran["message_trace"][0]:
            if not message["placeholder"]:
                count(message, sent.get(message["src_neuron_group_id"]), injected)
    for name, values in potentials.items():
        first = layers[name]["depth"]
        potentials[name] = values[first : first + span]
    return {
        "steps": span + plan["depth"],
        "time_s": time,
        "energy_j": energy,
        "counts": counts,
        "injected": injected,
        "sent": {layers[name]["name"]: each for name, each in sent.items()},
        "spikes": {layers[name]["name"]: each for name, each in spikes.items()},
        "potentials": {layers[name]["name"]: each for name, each in potentials.items()},
    }


def begin(group, layer, k, timesteps, span):
    """Set the state of a layer to zero where a sample begins in it; silence it after the last."""
    if k == span:
        for neuron in group:
            neuron.set_attributes(model_attributes={"threshold": NEVER})
    elif 0 <= k < span and k % timesteps == 0:
        for neuron in group:
            neuron.set_attributes(model_attributes={"potential": 0.0, "input_decay": 0.0})
    elif layer["input_decay"] and 0 <= k - 1 < span and (k - 1) % timesteps == 0:
        for neuron in group:
            neuron.set_attributes(model_attributes={"input_decay": layer["input_decay"]})


def drive(group, now, layer, k, span, current):
    """Set the bias of a layer: its own and the host's current, 0 outside the samples."""
    if not 0 <= k < span:
        wanted = [0.0] * len(now)
    elif current is None:
        wanted = layer["bias"]
    else:
        wanted = [own + sent for own, sent in zip(layer["bias"], current[k], strict=True)]
    if wanted == now:
        return
    for index, value in enumerate(wanted):
        if value != now[index]:
            group[index].set_attributes(model_attributes={"bias": value})
            now[index] = value


def split(values, potentials, layers):
    """Add the potentials of one step to each read-out; SANA-FE lists groups by name."""
    first = 0
    for name in sorted(potentials):
        size = len(layers[name]["bias"])
        potentials[name].append(values[first : first + size])
        first += size


def count(message, own, injected):
    """Count a message and its hops, of a layer or of a line of the inputs (own is None)."""
    x = message["dest_x"] - message["src_x"]
    y = message["dest_y"] - message["src_y"]
    if own is None:
        injected["message"] += 1
        injected["east" if x > 0 else "west"] += abs(x)
        injected["north" if y > 0 else "south"] += abs(y)
        return
    own["messages"] += 1
    own["local"] += x == 0 and y == 0
    own["east_west"] += abs(x)
    own["north_south"] += abs(y)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
