"""The label audit: what looks wrong in COCO-WholeBody annotations, found by a model and by the labels themselves."""
