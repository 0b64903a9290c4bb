"""Training batches: augmentation in the workers and on the device, and the loader."""
