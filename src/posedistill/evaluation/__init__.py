"""Top-down prediction with flip test, scoring and OKS-NMS, COCO-WholeBody metrics, bootstrap intervals."""

from posedistill.evaluation.wholebody import evaluate_wholebody

__all__ = ["evaluate_wholebody"]
