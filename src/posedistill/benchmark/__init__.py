"""Measurements: the data path, the training step, the latency, a GPU."""
