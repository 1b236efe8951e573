"""Integer units: chosen from samples, or the ones that a run learnt with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ashneuro.errors import DataError, GraphError, need
from ashneuro.spiking.integers import IntegerLayer, Integers
from ashneuro.workflows.runs import pictures_of_run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashneuro.data.pairs import Pair
    from ashneuro.model.network import AshNet
    from ashneuro.program.program import Program
    from ashneuro.training.checkpoint import Run

CALIBRATION_IMAGES = 128


def calibration_pictures(run: Run) -> list[Pair]:
    """Return the first validation images of a run, or training images if there are none."""
    return (pictures_of_run(run, "validation") or pictures_of_run(run, "train"))[:CALIBRATION_IMAGES]


def calibration_currents(run: Run) -> dict[str, NDArray[np.generic]]:
    """Return the first currents (T, B, *shape) of `calibration_pictures`, by input name."""
    return first_currents(run.model, calibration_pictures(run), run.config.data.image_size)


def first_currents(model: AshNet, pairs: Sequence[Pair], image_size: int) -> dict[str, NDArray[np.generic]]:
    """Return the currents (T, B, *shape) that the host sends for the images of ``pairs``, by input
    name.
    """
    import numpy as np

    batches = need("ashneuro.data.batches", extra="train", purpose="reading a run")
    torch = need("torch", extra="train", purpose="reading a run")
    images = batches.normalise(batches.load_images(pairs, image_size)).to(model.log_scale.device)
    training = model.training
    with torch.no_grad():
        currents = model.eval().currents(images).cpu().numpy()
    model.train(training)
    steps = model.config.abstract.timesteps
    return {"input": np.broadcast_to(currents, (steps, *currents.shape)).copy()}


def integer_program(run: Run) -> Program:
    """Return the integer program of a run's spiking encoder, without a proof.

    It has the units that the run learnt with, or those that validation images choose, as an export
    has.

    Raises:
        GraphError: the encoder cannot be expressed in Loihi's integers.
    """
    from ashneuro.model.deploy import deployed_graph
    from ashneuro.program.lower import lower
    from ashneuro.program.quantise import quantise
    from ashneuro.simulation.calibrate import calibrate
    from ashneuro.spiking.contract import read_contract

    graph = deployed_graph(run.model)
    program = lower(graph, read_contract(graph.metadata).contract)
    learnt = None if run.model.abstract is None else run.model.abstract.integers
    if learnt is None:
        return calibrate(program, calibration_currents(run)).program
    peak = {port.name: learnt.input_peak for port in program.inputs}
    return quantise(program, input_peak=peak, scales=learnt.scales).program


def integer_ann_of(run: Run) -> Run:
    """Return an ANN control whose abstract encoder computes the integers that it is priced at.

    Validation images choose the levels of plain ReLUs; see `ashneuro.model.integer_ann`.

    Raises:
        DataError: there is neither a validation nor a training image to choose them with.
    """
    batches = need("ashneuro.data.batches", extra="train", purpose="reading a run")
    ann = need("ashneuro.model.integer_ann", extra="train", purpose="reading a run")
    images = None
    if run.config.model.abstract.kind == "relu":
        pictures = calibration_pictures(run)
        if not pictures:
            raise DataError(
                f"{run.path} in integers",
                "validation images choose the levels of its ReLUs, and these data have a test part alone",
                "--abstract-on torch, or data with a validation part",
            )
        images = batches.load_images(pictures, run.config.data.image_size)
    return replace(run, model=ann.integer_ann(run.model, images))


def choose_integers(model: AshNet, before: Integers | None, pairs: Sequence[Pair]) -> Integers:
    """Return the integer units of a model in quantise-aware training.

    Args:
        model: the model in floating point.
        before: the units that it has learnt with so far, which are kept while the grown weights
            still fit; ``None``: they are calibrated.
        pairs: training pairs to calibrate on.
    """
    from ashneuro.model.deploy import deployed_graph
    from ashneuro.program.lower import lower
    from ashneuro.program.quantise import default_scales, quantise
    from ashneuro.simulation.calibrate import calibrate
    from ashneuro.spiking.contract import read_contract

    graph = deployed_graph(model)
    program = lower(graph, read_contract(graph.metadata).contract)
    if before is None:
        currents = first_currents(model, pairs[:: len(pairs) // CALIBRATION_IMAGES + 1], model.image_size)
        calibration = calibrate(program, currents)
        return _integers(calibration.program, calibration.input_peak)
    peak = {port.name: before.input_peak for port in program.inputs}
    try:
        chosen = quantise(program, input_peak=peak, scales=before.scales).program
    except GraphError:
        # The weights have grown until a sum of them could overflow: a coarser unit holds them.
        largest = default_scales(program, input_peak=peak)
        scales = {name: min(old, largest[name]) for name, old in before.scales.items()}
        chosen = quantise(program, input_peak=peak, scales=scales).program
    return _integers(chosen, peak)


def _integers(program: Program, peak: Mapping[str, float]) -> Integers:
    (port,) = program.inputs
    layers = {
        layer.name: IntegerLayer(
            layer.scale, int(layer.neuron.v_threshold), int(layer.neuron.dv), int(layer.neuron.message.limit or 0)
        )
        for layer in program.layers
    }
    return Integers(layers, peak[port.name], port.limit)
