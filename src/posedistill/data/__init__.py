"""From persons to training batches: box geometry, prepared stores, augmentation, loader."""
