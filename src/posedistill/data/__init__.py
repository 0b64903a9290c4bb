"""From pictures and annotations to training batches: sources, prepared stores, augmentation, loader."""
