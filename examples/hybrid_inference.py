"""Hybrid inference in a few lines: the ANN branch in torch, the spikes from torch, the emulator or
Lava.

python examples/hybrid_inference.py runs/demo/graded "red heart" lava
"""

import sys

from ashneuro import HybridSession
from ashneuro.data.batches import load_images
from ashneuro.data.sources import load_splits

folder, query, where = (*sys.argv[1:], *["runs/demo/graded", "red heart", "loihi"][len(sys.argv) - 1 :])

with HybridSession(folder, spikes_from=where) as session:
    config = session.run.config.data
    pairs = load_splits(config).test[:64]
    # The host sends one current per first neuron; the deployed part answers with spikes, which the
    # host reads out and fuses.
    images = session.embed_images(load_images(pairs, config.image_size))
    scores = images @ session.embed_texts([query])[0]

print(f"{query!r}, spikes from {session.source.value}:")
for index in scores.argsort()[::-1][:5]:
    print(f"  {scores[index]:.2f}  {pairs[index].key}: {pairs[index].captions[0]}")
if session.seconds:
    spent = session.seconds
    print(
        f"Lava: {spent.passed:.1f} s, of it host {spent.host:.1f}, transfer {spent.transfer:.1f}, Lava {spent.lava:.1f}"
    )
