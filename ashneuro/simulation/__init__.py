"""A program and its inputs become a `SpikeRecord`: torch float, Loihi integers, Lava."""
