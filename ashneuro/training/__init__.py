"""Objectives, loop, checkpoint, evaluation."""
