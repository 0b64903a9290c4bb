"""CSPNeXt, the RTMPose head, the SimCC codec and checkpoints."""
