"""Open reproduction of DWPose: whole-body pose estimation by two-stage distillation."""

__version__ = "0.1.0"
