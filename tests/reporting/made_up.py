"""Persons with random keypoints, and predictions that miss them by a given error."""

import numpy as np

FIELDS = {"keypoints": (0, 17), "foot_kpts": (17, 23), "face_kpts": (23, 91)}
FIELDS |= {"lefthand_kpts": (91, 112), "righthand_kpts": (112, 133)}


def annotations(persons: int = 6) -> dict:
    rng = np.random.default_rng(0)
    found = []
    for i in range(persons):
        points = np.concatenate([rng.uniform(20, 180, (133, 2)), np.full((133, 1), 2.0)], 1)
        points[17:23, 2] = 0
        fields = {name: points[a:b].ravel().tolist() for name, (a, b) in FIELDS.items()}
        person = {"id": i + 1, "image_id": i // 2 + 1, "category_id": 1, "iscrowd": 0, "area": 2e4}
        found.append({**person, "bbox": [20.0, 20.0, 160.0, 160.0], **fields})
    images = [{"id": i + 1, "width": 200, "height": 200, "file_name": f"{i}.jpg"} for i in range((persons + 1) // 2)]
    return {"images": images, "annotations": found, "categories": [{"id": 1, "name": "person"}]}


def predictions(truth: dict, error: float) -> list[dict]:
    rng = np.random.default_rng(1)
    found = []
    for item in truth["annotations"]:
        points = np.concatenate([np.reshape(item[name], (-1, 3)) for name in FIELDS])
        points = points + rng.normal(0, error, points.shape)
        points[:, 2] = 0.9
        own = {"image_id": item["image_id"], "annotation_id": item["id"], "category_id": 1}
        found.append({**own, "keypoints": points.ravel().tolist(), "score": float(rng.uniform(0.2, 0.9))})
    return found
