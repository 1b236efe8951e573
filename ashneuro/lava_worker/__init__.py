"""The Lava worker: a small program for its own Python 3.10, driven over pipes.

No other code imports lava, and this one imports nothing of ashneuro. It has a folder of its own
because Lava, when it compiles a network, imports every module beside one that defines a Process:
none of the modules here does anything on import.
"""
