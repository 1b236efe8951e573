"""Lava in its own process: session, worker, network, environment."""
