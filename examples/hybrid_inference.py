"""Hybrid inference in a few lines: the ANN branch in torch, the spikes from the emulator or from Lava.

python examples/hybrid_inference.py runs/demo/hybrid "red heart" loihi
"""

import sys

import torch

from ashneuro.data.batches import load_images, normalise
from ashneuro.data.sources import load_splits
from ashneuro.program.bundle import read_bundle
from ashneuro.simulate.run import simulate
from ashneuro.train.checkpoint import load_run

folder, query, where = (*sys.argv[1:], *["runs/demo/hybrid", "red heart", "loihi"][len(sys.argv) - 1 :])
run, bundle = load_run(folder), read_bundle(f"{folder}/bundle")
pairs = load_splits(run.config.data).test[:64]

with torch.no_grad():
    images = normalise(load_images(pairs, run.config.data.image_size))
    # The host sends one analog current per first neuron, the same in every step ...
    currents = run.model.currents(images).expand(run.config.model.abstract.timesteps, -1, -1, -1, -1).numpy()
    # ... the deployed part answers with spikes (T, B, K) ...
    record = simulate(bundle, currents, on=where, rasters="outputs")
    spikes = record.layers[bundle.float_program.outputs[0]].raster
    # ... and the host reads them out, fuses and compares.
    tokens = torch.from_numpy(run.vocabulary.encode([query], run.config.data.max_words))
    scores = run.model.embed_images(images, spikes=spikes) @ run.model.embed_texts(tokens)[0]

print(f"{query!r}, spikes from {where}:")
for index in scores.topk(5).indices.tolist():
    print(f"  {scores[index]:.2f}  {pairs[index].key}: {pairs[index].captions[0]}")
