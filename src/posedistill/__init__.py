"""Open reproduction of DWPose: whole-body pose estimation by two-stage distillation."""

import os

__version__ = "0.1.0"

# How long a thread of PyTorch on the CPU waits actively for the others before it sleeps; read when torch is loaded.
# Without a limit, two threads on a machine whose cores are busy trained 12 times slower than one; with this one 1.8
# times faster.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
