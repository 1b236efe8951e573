"""Count the events of the LSNN in hardware_profiles/measured/smnist_lsnn.toml, per image.

Run `python docs/simulate_lsnn.py WEIGHTS`, with the folder that holds `w_in.npy`, `w_rec.npy` and
`w_out.npy`: `lsnn/apps/seqmnist/weights/v25_94per` of github.com/intel-nrc-ecosystem/models at
commit 3dc53bf. It needs scikit-learn for its digits, and takes some seconds.

Of that repository's network it has the weights, the coding of the input, thresholds and decays
(`lsnn/src/lsnn.py`), in floating point. It lacks the chip's rounding, its refractory step, and the
digits of MNIST.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

PIXELS, CUE = 784, 56
# Thresholds of a pixel's brightness. Two inputs each: crossed upwards, crossed downwards. Of the
# last, one input says that it is touched, and the other gives the cue to answer.
LEVELS = np.floor(np.linspace(0, 255, 40)).astype(int)
# Adaptive neurons come last. Voltages are in units of the weights.
REGULAR, THRESHOLD, TAU_V, TAU_ADAPTION = 140, 127, 20, 700
# int(1390000 · (1 / (700 · 20) − 1 / 700²)) is 96, in 64ths of a weight.
ADAPTION = 96 / 64


def digits(count: int, contrast: float, random: np.random.Generator) -> np.ndarray:
    """Return digits of scikit-learn, enlarged to 28 × 28 like MNIST's: ``[count, 784]``, 0…255."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    images = load_digits().images
    found = np.zeros((count, 28, 28), int)
    for row, number in enumerate(random.choice(len(images), count, replace=False)):
        enlarged = zoom(images[number], 2.5, order=1) * 255 / 16 * contrast
        found[row, 4:24, 4:24] = np.clip(enlarged, 0, 255)
    return found.reshape(count, PIXELS)


def encode(pixels: np.ndarray) -> np.ndarray:
    """Return the input spikes of images ``[images, 784]``: ``[steps, images, 80]`` of 0 and 1."""
    spikes = np.zeros((PIXELS + CUE, len(pixels), 2 * len(LEVELS)), np.int8)
    here, following = pixels[:, :-1].T, pixels[:, 1:].T
    for number, level in enumerate(LEVELS[:-1]):
        if number:  # the program on the x86 core leaves out the first
            spikes[: PIXELS - 1, :, 2 * number] = (here < level) & (following >= level)
            spikes[: PIXELS - 1, :, 2 * number + 1] = (here >= level) & (following < level)
    spikes[:PIXELS, :, -2] = np.equal(pixels.T, LEVELS[-1])
    spikes[PIXELS:, :, -1] = 1
    return spikes


def count(w_in: np.ndarray, w_rec: np.ndarray, w_out: np.ndarray, spikes: np.ndarray) -> tuple[float, float]:
    """Return the mean synops and spikes of an image.

    Args:
        w_in, w_rec, w_out: weights, ``[sources, targets]``; a weight of 0 is no synapse.
        spikes: of the input, ``[steps, images, inputs]``.
    """
    neurons = len(w_rec)
    adaptive = np.arange(neurons) >= REGULAR
    # An adaptive neuron's spike also reaches its own second compartment.
    from_input = np.count_nonzero(w_in, 1)
    from_neuron = np.count_nonzero(w_rec, 1) + np.count_nonzero(w_out, 1) + adaptive
    relayed = np.zeros(spikes.shape[1:])
    fired = voltage = adaption = np.zeros((spikes.shape[1], neurons))  # none is changed in place
    synops, total = 0.0, 0.0
    # Each input spike passes a relay neuron, one step and one synop. Spikes of the last step reach
    # no target any more.
    for injected in spikes.astype(float):
        current = relayed @ w_in + fired @ w_rec
        synops += injected.sum() + (relayed * from_input).sum() + (fired * from_neuron).sum()
        adaption = adaption * (1 - 1 / TAU_ADAPTION) - ADAPTION * fired * adaptive
        voltage = voltage * (1 - 1 / TAU_V) + current + adaption * adaptive
        fired = (voltage > THRESHOLD).astype(float)
        voltage = np.where(fired > 0, 0.0, voltage)
        relayed = injected
        total += injected.sum() + fired.sum()
    images = spikes.shape[1]
    return synops / images, total / images


def main(folder: Path) -> None:
    """Print the counts at three contrasts of 100 images each."""
    w_in, w_rec, w_out = (np.load(folder / f"w_{name}.npy") for name in ("in", "rec", "out"))
    random = np.random.default_rng(0)
    for contrast in (1.0, 1.5, 3.0):
        synops, spikes = count(w_in, w_rec, w_out, encode(digits(100, contrast, random)))
        sys.stdout.write(f"contrast {contrast}: {synops:,.0f} synops, {spikes:,.0f} spikes per image\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/simulate_lsnn.py WEIGHTS")
    main(Path(sys.argv[1]))
