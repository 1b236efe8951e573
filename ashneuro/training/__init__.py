"""Training: objectives, schedule, checkpoints, evaluation."""
