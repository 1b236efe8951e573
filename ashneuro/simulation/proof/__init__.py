"""Proofs: certificates of bundles, and replays of recorded chips."""
