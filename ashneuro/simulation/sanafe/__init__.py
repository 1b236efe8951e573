"""SANA-FE, another group's model of Loihi, in a process of its own; `run` is the entry."""
