"""Layers on the cores of a chip."""
