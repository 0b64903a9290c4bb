"""Experiments beyond the pipeline, run by DVC: seeds, ablations, a sweep, no labels, a verdict on losses."""

from posedistill.experiments import ablation, seeds, unlabelled, verdict

# name → plan(settings, seeds)
PLANS = {
    "seeds": seeds.plan,
    "ablation": ablation.plan,
    "sweep": ablation.sweep,
    "unlabelled": unlabelled.plan,
    "verdict": verdict.plan,
}
