"""What all methods share: trainer, method, precision, checkpoints, templates."""
