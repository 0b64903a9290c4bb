"""Small evaluation problems drawn at random, with everything in them that has ever tripped an evaluator."""

import numpy as np

from posedistill.evaluation.records import FIELDS
from posedistill.keypoints import PARTS

PART_SCORES = ("foot_score", "face_score", "lefthand_score", "righthand_score", "wholebody_score")


def random_case(
    seed: int, images: int = 8, *, part_scores: bool = False, boxes: bool = False, zero_id: bool = False
) -> tuple[dict, list[dict]]:
    """Ground truth and predictions with crowds, persons without keypoints, missing parts, empty images, tied scores,
    more than 20 predictions in an image, images without predictions, duplicates and fractional visibility."""
    rng = np.random.default_rng(seed)
    annotations: list[dict] = []
    predictions: list[dict] = []
    image_ids = rng.permutation(1000)[:images].tolist()
    for place, image_id in enumerate(image_ids):
        persons = [_person(rng, image_id) for _ in range(int(rng.choice([0, 1, 2, 3, 6])))]
        if persons and rng.random() < 0.2:
            persons.append({**persons[-1]})  # two persons at the same place: the OKS ties
        for person in persons:
            person["id"] = len(annotations) + (0 if zero_id else 1)
            annotations.append(person)
        if rng.random() < 0.15:
            continue  # an image without predictions
        many = place == 0
        for person in persons:
            for _ in range(int(rng.integers(0, 3)) + (8 if many else 0)):
                predictions.append(_guess(rng, person, part_scores, boxes))
        for _ in range(int(rng.integers(0, 3))):
            predictions.append(_guess(rng, _person(rng, image_id), part_scores, boxes))
    order = rng.permutation(len(predictions))
    truth = {
        "images": [{"id": image_id, "width": 640, "height": 480} for image_id in image_ids],
        "annotations": [annotations[i] for i in rng.permutation(len(annotations))],
        "categories": [{"id": 1, "name": "person"}],
    }
    return truth, [predictions[i] for i in order]


def _person(rng: np.random.Generator, image_id: int) -> dict:
    size = float(rng.choice([30, 60, 95, 97, 150, 300]))
    x, y = rng.integers(0, 300, 2).tolist()
    box = [float(x), float(y), round(size * 0.6, 1), size]
    keypoints = np.zeros((133, 3))
    keypoints[:, 0] = rng.integers(x, x + int(box[2]) + 1, 133)
    keypoints[:, 1] = rng.integers(y, y + int(box[3]) + 1, 133)
    keypoints[:, 2] = rng.choice([0.0, 0.4, 1.0, 2.0], 133)
    for part in PARTS.values():
        if rng.random() < 0.25:
            keypoints[part] = 0
    if rng.random() < 0.1:
        keypoints[:] = 0
    area = float(rng.choice([32.0**2, 96.0**2, round(box[2] * box[3] * 0.5, 3)]))
    return {
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": int(rng.random() < 0.12),
        "bbox": box,
        "area": area,
        "num_keypoints": int((keypoints[:17, 2] > 0).sum()),
        **{field: keypoints[PARTS[part]].ravel().tolist() for part, field in FIELDS.items()},
    }


def _guess(rng: np.random.Generator, person: dict, part_scores: bool, boxes: bool) -> dict:
    spread = float(rng.choice([0, 0, 0.01, 0.03, 0.08])) * person["bbox"][3]
    guess: dict = {"image_id": person["image_id"], "category_id": 1}
    for field in FIELDS.values():
        keypoints = np.array(person[field]).reshape(-1, 3).copy()
        keypoints[:, :2] += np.round(rng.normal(0, 1, keypoints[:, :2].shape) * spread, 2)
        keypoints[:, 2] = np.round(rng.random(len(keypoints)), 2)
        if rng.random() < 0.1:
            keypoints[:, 2] = 0
        guess[field] = keypoints.ravel().tolist()
    guess["score"] = float(rng.choice([0.0, 0.25, 0.5, 0.9, round(float(rng.random()), 3)]))
    if part_scores:
        for key in PART_SCORES:
            if rng.random() < 0.7:
                guess[key] = round(float(rng.random()), 1)
    if boxes:
        guess["bbox"] = person["bbox"]
    return guess
