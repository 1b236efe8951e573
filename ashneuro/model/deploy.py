"""Split between host and chip: the deployed part as a NIR graph, and the layers of the host."""

from __future__ import annotations

import math

import nir
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ashneuro.errors import GraphError
from ashneuro.exchange import HostLayer
from ashneuro.model.abstract import Block, Synapse
from ashneuro.model.levels import Levels, streams
from ashneuro.model.network import AshNet
from ashneuro.model.pretrained import Backbone
from ashneuro.spiking.contract import PREFIX, Contract, message_metadata
from ashneuro.spiking.lif import IF, LIF, CubaLIF, Graded


def deployed_graph(model: AshNet) -> nir.NIRGraph:
    """Return the spiking encoder as a NIR graph, from the first current to the last spike.

    Shapes have no batch axis. Batch norms are folded in float64 (`Synapse.folded`). Weights have
    the model's precision; time constants (seconds) and potentials are float64. If the model
    computes with integers, weights are the values of these integers, in float64. The metadata
    holds the contract: dt, timesteps, constant-current input.

    A model of `ashneuro.model.levels.level_network` sends changes: every population is summed (I)
    in front of the weights, the timesteps are frames, and the input is the current of each frame.

    Raises:
        GraphError: the model has no spiking encoder.
    """
    config, by_changes = model.config.abstract, streams(model)
    if model.abstract is None or (config.kind != "spiking" and not by_changes):
        raise GraphError(
            f"model.abstract.kind = {config.kind!r} cannot be deployed",
            "only a spiking abstract encoder runs on a neuromorphic target",
            "train with model.abstract.kind = 'spiking'",
        )
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []

    def add(name: str, node: nir.NIRNode, *sources: str) -> None:
        nodes[name] = node
        edges.extend((source, name) for source in sources)

    def sent(name: str, shape: tuple[int, ...]) -> str:
        """Return the node that has the values of a population, for those that it feeds."""
        if not by_changes:
            return name
        total = f"{name.removesuffix('.lif')}.sum"
        if total not in nodes:
            add(total, nir.I(np.ones(shape)), name)
        return total

    shape = model.in_shape
    add("input", nir.Input({"input": np.array(shape)}))
    add("entry.lif", _neurons(model.abstract.entry, shape), "input")
    last = "entry.lif"
    for number, block in enumerate(model.abstract.blocks, start=1):
        assert isinstance(block, Block)
        name = f"block{number}"
        conv1, last = _conv(block.conv1, shape), sent(last, shape)
        shape = tuple(int(size) for size in conv1.output_type["output"])
        add(f"{name}.conv1", conv1, last)
        add(f"{name}.lif1", _neurons(block.lif1, shape), f"{name}.conv1")
        add(f"{name}.conv2", _conv(block.conv2, shape), sent(f"{name}.lif1", shape))
        add(f"{name}.lif2", _neurons(block.lif2, shape), f"{name}.conv2")
        add(f"{name}.conv3", _conv(block.conv3, shape), sent(f"{name}.lif2", shape))
        add(f"{name}.skip", nir.Scale(_array(block.deployed_gain().expand(shape))), sent(f"{name}.lif1", shape))
        add(f"{name}.lif3", _neurons(block.lif3, shape), f"{name}.conv3", f"{name}.skip")
        last = f"{name}.lif3"
    if config.positions:
        last_synapse = "semantic.conv"
        add(last_synapse, _conv(model.abstract.dense, shape), sent(last, shape))
    else:
        weight, bias = _folded(model.abstract.dense)
        last_synapse = "semantic.dense"
        add("semantic.flatten", nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1), sent(last, shape))
        add(last_synapse, nir.Affine(weight.reshape(len(weight), -1), bias), "semantic.flatten")
    shape = model.abstract.out_shape
    add("semantic.lif", _neurons(model.abstract.semantic, shape), last_synapse)
    add("output", nir.Output({"output": np.array(shape)}), "semantic.lif")
    contract = Contract(dt_s=config.dt_s, timesteps=config.timesteps, input_coding="constant-current")
    if by_changes:
        contract = Contract(dt_s=config.dt_s, input_coding="current")
    return nir.NIRGraph(nodes, edges, metadata=contract.to_metadata())


def host_layers(model: AshNet) -> tuple[HostLayer, ...]:
    """Return the layers that the host computes for one image, and the text encoder for one text.

    Convolutions are counted without products with padding. Not counted, because they multiply by
    no weights: batch norm (folded), layer norm, ReLU and spatial means. The weighted sum of the
    read-out over time and the fusion ``r ⊙ A`` multiply, and are counted. A pretrained backbone or
    tower has the products that torch does, padding included.

    The multimodal transformer takes no part in retrieval and is left out. The text row is one text
    of the greatest length, attention included; the texts of a fixed collection are encoded once,
    not once per image.
    """
    layers = []
    encoder = model.concrete
    if isinstance(encoder.trunk, Backbone):
        side, channels = encoder.grid, encoder.features
        layers.append(
            HostLayer(
                "concrete.backbone",
                dense_macs=_torch_macs(encoder.trunk, torch.zeros(1, 3, model.image_size, model.image_size)),
                parameters=_count(encoder.trunk),
                inputs=3 * model.image_size**2,
                outputs=channels * side**2,
            )
        )
        convolutions, names = [encoder.project], ["concrete.project"]
    else:
        side, channels = model.image_size, 3
        assert isinstance(encoder.trunk, nn.Sequential)
        convolutions = [layer for layer in encoder.trunk if isinstance(layer, nn.Conv2d)] + [encoder.project]
        names = [f"concrete.conv{number}" for number in range(1, len(convolutions))] + ["concrete.project"]
    if model.abstract is not None:
        convolutions.append(model.abstract.w_in)
        names.append("w_in")
    for name, conv in zip(names, convolutions, strict=True):
        macs, side_out = _conv_macs(conv, side)
        layers.append(
            HostLayer(
                name,
                dense_macs=macs,
                # A folded batch norm leaves a bias behind.
                parameters=conv.weight.numel() + conv.out_channels,
                inputs=channels * side**2,
                outputs=conv.out_channels * side_out**2,
            )
        )
        side, channels = side_out, conv.out_channels
    if model.abstract is not None:
        units, width = model.readout.in_features, model.readout.out_features
        steps = model.abstract.timesteps
        places = math.prod(model.abstract.out_shape[1:])  # 1, or the positions of A
        read, wide, weights = places * units, places * width, units * width
        layers += [
            HostLayer("readout.omega", dense_macs=steps * read, parameters=steps, inputs=steps * read, outputs=read),
            HostLayer("readout", dense_macs=places * weights, parameters=weights, inputs=read, outputs=wide),
            HostLayer("fusion", dense_macs=wide, parameters=width, inputs=wide, outputs=wide),
        ]
        if model.codebook is not None:
            entries = model.codebook.entries.numel()
            layers.append(
                HostLayer("codebook", dense_macs=places * entries, parameters=entries, inputs=read, outputs=read)
            )
    layers.append(
        HostLayer(
            "project",
            dense_macs=model.project.weight.numel(),
            parameters=_count(model.project),
            inputs=model.project.in_features,
            outputs=model.project.out_features,
        )
    )
    return (*layers, _text_layer(model))


def _text_layer(model: AshNet) -> HostLayer:
    words, text = model.max_words, model.text
    if text.tower is not None:
        macs = _torch_macs(text.tower, torch.ones(1, words, dtype=torch.long)) + words * text.width
    else:
        width = model.config.text.width
        # Per transformer layer: four projections, two attention products, an MLP of width 2·W.
        macs = len(text.layers) * (4 * words * width**2 + 2 * words**2 * width + 4 * words * width**2) + words * width
    return HostLayer(
        "text",
        part="text",
        dense_macs=macs + text.project.weight.numel(),
        parameters=_count(text),
        inputs=words,
        outputs=model.config.embedding,
    )


def _folded(synapse: Synapse) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return weight and bias with the batch norm folded in; float64 if they are rounded."""
    weight, bias = synapse.folded()
    kept = synapse.linear.weight.dtype if synapse.scale is None else torch.float64
    return _array(weight.to(kept)), _array(bias.to(kept))


def _conv(synapse: nn.Module, shape: tuple[int, ...]) -> nir.Conv2d:
    assert isinstance(synapse, Synapse) and isinstance(synapse.linear, nn.Conv2d)
    conv = synapse.linear
    weight, bias = _folded(synapse)
    node = nir.Conv2d(
        input_shape=shape[1:],
        weight=weight,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=bias,
    )
    # nir infers the input channels from the weight's second axis, which groups divide.
    node.input_type = {"input": np.array(shape)}
    return node


def _neurons(neuron: nn.Module, shape: tuple[int, ...]) -> nir.LIF | nir.CubaLIF | nir.IF | nir.Threshold:
    def fill(value: Tensor) -> NDArray[np.floating]:
        return np.broadcast_to(_array(value), shape).copy()

    if isinstance(neuron, Graded):
        return nir.Threshold(fill(neuron.v_threshold), metadata=message_metadata(neuron.message))
    if isinstance(neuron, Levels):
        least = np.full(shape, neuron.threshold * float(neuron.step) if neuron.threshold > 1 else 0.0)
        return nir.Threshold(least, metadata=message_metadata(neuron.message))
    assert isinstance(neuron, LIF | CubaLIF | IF)
    given = {"r": np.ones(shape), "v_threshold": fill(neuron.v_threshold), "v_reset": fill(neuron.v_reset)}
    node: nir.LIF | nir.CubaLIF | nir.IF
    if isinstance(neuron, IF):
        node = nir.IF(**given)
    elif isinstance(neuron, LIF):
        node = nir.LIF(tau=fill(neuron.tau), v_leak=fill(neuron.v_leak), **given)
    else:
        taus = {"tau_mem": fill(neuron.tau_mem), "tau_syn": fill(neuron.tau_syn)}
        node = nir.CubaLIF(**taus, v_leak=fill(neuron.v_leak), w_in=np.ones(shape), **given)
    if neuron.reset != "value":  # the contract's default, which other tools assume too
        node.metadata[PREFIX + "reset"] = neuron.reset
    return node


def _array(tensor: Tensor) -> NDArray[np.floating]:
    return tensor.detach().cpu().contiguous().numpy().copy()


def _conv_macs(conv: nn.Conv2d, side: int) -> tuple[int, int]:
    """Return MACs per image without those in the padding, and the side of the output."""
    inside = torch.ones(1, 1, side, side)
    taps = F.conv2d(inside, torch.ones(1, 1, *conv.kernel_size), stride=conv.stride, padding=conv.padding)  # type: ignore[arg-type]
    return int(taps.sum()) * conv.out_channels * conv.in_channels // conv.groups, taps.shape[-1]


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _torch_macs(module: nn.Module, inputs: Tensor) -> int:
    """Return the MACs that torch computes for ``inputs``."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(inputs.to(next(module.parameters()).device))
    return int(counter.get_total_flops()) // 2  # torch counts a MAC as two operations
