"""The only code that imports lava: a small program for its own Python 3.10, fed over pipes.

It imports nothing of ashneuro, and lives in a folder of its own because Lava, when it compiles a network, imports every
module that lies beside one that defines a Process: none of the modules here does anything when it is imported.
"""
