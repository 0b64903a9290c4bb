"""Experiments beyond the pipeline: several training seeds, the paper's ablations, sweeps of a setting."""
