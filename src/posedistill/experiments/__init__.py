"""Experiments beyond the pipeline, run by DVC: training seeds, ablations, a sweep, training without labels."""

from posedistill.experiments import ablation, seeds, unlabelled

# name → plan(settings, seeds)
PLANS = {"seeds": seeds.plan, "ablation": ablation.plan, "sweep": ablation.sweep, "unlabelled": unlabelled.plan}
