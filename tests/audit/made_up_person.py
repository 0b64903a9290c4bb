"""A made-up person of whom all 133 points are known, and a model that sees them exactly."""

import numpy as np

from posedistill.audit.evidence import Evidence
from posedistill.audit.labels import Picture, to_labelled
from posedistill.keypoints import FLIP_INDICES, NAMES, PARTS
from posedistill.sources.fields import KEYPOINT_FIELDS
from posedistill.sources.person import ImageRef

SIZE = (300, 400)  # width, height of the picture


def points():
    """[133, 3]: somebody who stands and faces the camera, all points visible, in a picture of 300 × 400."""
    at = {
        **{"nose": (150, 60), "left_eye": (158, 52), "left_ear": (168, 56), "left_shoulder": (185, 110)},
        **{"left_elbow": (205, 165), "left_wrist": (215, 215), "left_hip": (170, 220), "left_knee": (173, 295)},
        **{"left_ankle": (175, 360), "left_big_toe": (182, 378), "left_small_toe": (188, 374)},
    }
    found = np.zeros((133, 3))
    for name, place in at.items():
        found[NAMES.index(name), :2] = place
    rng = np.random.default_rng(0)
    face = PARTS["face"].start
    found[PARTS["face"], :2] = rng.uniform((135, 45), (165, 85), (68, 2))
    found[face + 30, :2] = 150, 60  # the tip of the nose
    found[face + 42 : face + 48, :2] = 158, 52  # the left eye
    found[PARTS["lefthand"], :2] = rng.uniform((205, 215), (225, 245), (21, 2))
    found[PARTS["lefthand"].start, :2] = 215, 215
    ankle, knee, toes = (175, 360), (173, 295), (185, 376)
    found[NAMES.index("left_heel"), :2] = (
        np.array(ankle) + 0.155 * np.subtract(ankle, knee) - 0.141 * np.array(toes)
    ) / (1 - 0.141)
    mirrored = found[FLIP_INDICES] * (-1, 1, 1) + (300, 0, 0)
    right = [k for k, name in enumerate(NAMES) if name.startswith("right")]
    eye = range(face + 36, face + 42)
    found[[*right, *eye]] = mirrored[[*right, *eye]]
    found[:, 2] = 2
    return found


def annotation(keypoints, identity=1, image_id=7, **changes):
    low, high = points()[:, :2].min(axis=0), points()[:, :2].max(axis=0)
    fields = {name: keypoints[PARTS[part]].round(2).ravel().tolist() for part, name in KEYPOINT_FIELDS.items()}
    flags = {f"{part}_valid": True for part in PARTS if part != "body"}
    return {
        **{"id": identity, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": 17},
        **{"bbox": [*(low - 6).tolist(), *(high - low + 12).tolist()], **fields, **flags, **changes},
    }


def evidence(seen=None, bins=(400, 400)):
    """What a model says that is sure of the points `seen`, in one crop that is the square around the picture."""
    seen = points() if seen is None else seen
    center, scale = np.array([[150.0, 200.0]]), np.array([[400.0, 400.0]])
    densities = []
    for axis, count in enumerate(bins):
        place = ((seen[:, axis] - center[0, axis]) / scale[0, axis] + 0.5) * count
        density = np.exp(-((np.arange(count) - place[:, None]) ** 2) / (2 * 4**2))
        density *= count / density.sum(axis=1, keepdims=True)
        densities.append(np.log(0.95 * density + 0.05)[None])
    peak = sum(one[0].max(axis=1) for one in densities)
    return Evidence(*densities, center, scale, np.array(seen), np.zeros(133), peak)


def labelled(keypoints, **changes):
    return to_labelled(annotation(keypoints, **changes), SIZE)


def picture(*persons):
    return Picture(7, ImageRef("a.jpg", None, *SIZE, "a.jpg"), list(persons))
