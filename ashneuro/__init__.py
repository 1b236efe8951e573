"""Deploy and simulate hybrid ANN–SNN vision–language models."""

__version__ = "0.1.0"
