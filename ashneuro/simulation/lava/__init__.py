"""Lava in processes of its own, as a simulator of programs; `session` is the entry."""
