"""A project folder with a small prepared validation set and one trained model, made in a second, for tests."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from posedistill.data.store import jpeg
from posedistill.data.store.arrow import (
    StoredImage,
    TrainRecord,
    image_batch,
    part_name,
    person_batch,
    train_batch,
    write_batch,
    write_meta,
)
from posedistill.inference.pose import Pose
from posedistill.keypoints import PARTS
from posedistill.models.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[1]
FIELDS = dict(zip(PARTS, ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")))


def make_project(root, model, images=4):
    """Write params.yaml, dvc.yaml, prepared/ and models/stage2.safetensors (of `model`) into `root`.

    Each of the `images` pictures has two persons, whose labels are what `model` predicts, moved by some pixels: so it
    has an AP between 0 and 1 that depends on every coordinate. The training store holds the same persons.
    """
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    save_checkpoint(model, root / "models" / "stage2.safetensors")
    folder = root / "prepared" / "val-rendered"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pose = Pose(model, flip_test=True)
    stored, rows, annotations, training = [], [], [], []
    for i in range(images):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        image = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)
        content = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()
        stored.append(StoredImage(content, i, 160, 120, f"{i:012d}.png"))
        boxes = np.array([[5, 10, 60, 100], [80, 5, 70, 110]], np.float32)
        for box, keypoints in zip(boxes, pose.predict(pose.crop(image, boxes))):
            keypoints[:, :2] += rng.normal(0, 1.5, (133, 2))
            keypoints[:, 2] = 2
            annotation = {"id": len(rows) + 1, "image_id": i, "category_id": 1, "iscrowd": 0, "area": 5000.0}
            annotation |= {field: keypoints[PARTS[part]].ravel().tolist() for part, field in FIELDS.items()}
            annotations.append(annotation | {"bbox": box.tolist(), "num_keypoints": 17})
            rows.append((i, i, len(rows) + 1, box, 1.0))
            training.append(training_record(image, keypoints, box, i, len(rows)))
    truth = {
        "images": [{"id": i, "file_name": f"{i:012d}.png", "width": 160, "height": 120} for i in range(images)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "gt.json").write_text(json.dumps(truth))
    write_batch(folder / part_name(0), image_batch(stored))
    write_batch(folder / "persons.arrow", person_batch(rows))
    write_meta(folder, kind="val", rows=[images], boxes="ground_truth")
    train = root / "prepared" / "train"
    train.mkdir()
    write_batch(train / part_name(0), train_batch(training))
    write_meta(train, kind="train", rows=[len(training)], input=list(model.input_size), sources=["rendered"])
    return root


def training_record(image, keypoints, box, image_id, annotation_id):
    """A person as the training store has it: the whole picture as its crop."""
    crop = jpeg.encode(image)
    return TrainRecord(
        jpeg=crop.jpeg,
        segments=crop.lengths,
        width=image.shape[1],
        height=image.shape[0],
        keypoints=keypoints.astype(np.float32),
        box=box,
        origin=np.zeros(2, np.int32),
        factor=np.ones(2),
        image_id=image_id,
        annotation_id=annotation_id,
        source=0,
    )
