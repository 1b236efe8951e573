"""Feature maps of a frozen backbone, computed once per data set and kept in the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from ashneuro.arrays import kept_array
from ashneuro.config import RunConfig, cache_dir
from ashneuro.data.batches import Features, cache_name, load_pixels, normalise
from ashneuro.data.pairs import Pair
from ashneuro.errors import DataError
from ashneuro.model.network import AshNet
from ashneuro.training.processes import Processes

BATCH = 64


def frozen_features(model: AshNet, pictures: Sequence[Pair], config: RunConfig, processes: Processes) -> Features:
    """Return the feature maps (N, F, H, W) of ``pictures``, float16, memory-mapped from a file.

    One process writes the file if it is not there, and the others map it. Its name is a hash of the
    backbone's weights and of the images, so other weights or images have another file.

    Raises:
        DataError: the file cannot be written.
    """
    digest = hashlib.sha256(
        f"{config.model.concrete.backbone}/{config.model.concrete.stage}/{config.data.image_size}".encode()
    )
    for value in model.concrete.trunk.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    path = cache_dir() / "features" / f"{cache_name(pictures, digest.hexdigest())}.npy"

    shape = (len(pictures), model.concrete.features, model.concrete.grid, model.concrete.grid)

    def mapped() -> Features:
        try:
            return Features(kept_array(path, shape, np.float16, lambda array: _fill(array, model, pictures, config)))
        except OSError as error:
            why = error.strerror or str(error)
            raise DataError(
                f"cannot keep features in {path.parent}", why, "set $ASHNEURO_HOME to a folder with room"
            ) from error

    return processes.in_turn(mapped)


@torch.no_grad()
def _fill(mapped: np.ndarray, model: AshNet, pictures: Sequence[Pair], config: RunConfig) -> None:
    trunk = model.concrete.trunk.eval()
    device = model.log_scale.device
    images = load_pixels(pictures, config.data).images
    for start in range(0, len(pictures), BATCH):
        found = trunk(normalise(images[start : start + BATCH]).to(device))
        mapped[start : start + BATCH] = found.half().cpu().numpy()
