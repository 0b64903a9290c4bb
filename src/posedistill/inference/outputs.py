"""What `predict` writes, frame by frame: keypoints.json, OpenPose's JSON files, and drawings.

Each writer takes every entry of a source in order, also those without a person and those that cannot be read. Files
that span frames (keypoints.json, videos) appear once all is written.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image

from posedistill.files import atomic_path, write_atomic
from posedistill.inference.drawing import draw_openpose, draw_skeletons
from posedistill.inference.openpose import openpose_frame
from posedistill.inference.sources import Frame, Skipped, Source, Unreadable
from posedistill.inference.videos import VideoOut

KEYPOINTS, OPENPOSE_FOLDER = "keypoints.json", "openpose_json"
FORMATS = ("coco", "openpose")
LONGEST_NAME = 255  # bytes, on all file systems in use
_IN_MEMORY = 1 << 24  # bytes of the list of images; the rest is kept on disk


@dataclass(frozen=True, eq=False)
class Persons:
    """N persons of a frame; coordinates in its pixels."""

    boxes: np.ndarray  # [N, 5] x, y, width, height, score
    keypoints: np.ndarray  # [N, 133, 2]
    scores: np.ndarray  # [N, 133] raw
    confidence: np.ndarray  # [N, 133] in [0, 1], NaN without calibration
    score: np.ndarray  # [N] of the person
    chosen: np.ndarray  # [133] bool: points that are written and drawn
    numbers: list[int] | None = None  # of the persons over time

    def drawn(self, by_confidence: bool) -> np.ndarray:
        """[N, 133, 3] for drawing: the third value is the confidence, or the raw score; NaN where not chosen."""
        third = self.confidence if by_confidence else self.scores
        points = np.concatenate((self.keypoints, third[..., None]), axis=2)
        return np.where(self.chosen[:, None], points, np.nan)

    def openpose(self, threshold: float, by_confidence: bool) -> np.ndarray:
        """[N, 133, 3] for OpenPose: the third value is the confidence, or without calibration the raw score cut to
        [0, 1]; points below the threshold count as not found."""
        third = np.where(np.isnan(self.confidence), np.clip(self.scores, 0, 1), self.confidence)
        reached = (self.confidence if by_confidence else self.scores) >= threshold
        return np.concatenate((self.keypoints, third[..., None]), axis=2) * reached[..., None]


class Writer(Protocol):
    def add(self, entry: Frame | Unreadable, persons: Persons) -> None: ...


def picture_names(source: Source) -> dict[str, str]:
    """Picture → the name of its outputs without suffix: its stem, or its whole name where stems clash (a.jpg and
    a.png)."""
    stems = Counter(file.stem for file in source.files)
    names = {file.name: file.stem if stems[file.stem] == 1 else file.name for file in source.files}
    if len(set(names.values())) < len(names):  # a.jpg, a.png and a.jpg.jpg
        return {name: name for name in names}
    return names


def output_files(source: Source, out: Path, drawings: bool, formats: tuple[str, ...] = ("coco",)) -> list[Path]:
    """The files that will be written; of a video's OpenPose files those that are already there."""
    targets = [out / KEYPOINTS] if "coco" in formats else []
    names = picture_names(source).values() if source.kind == "pictures" else ()
    if drawings and source.kind == "video":
        targets += [out / "overlay.mp4", out / "openpose.mp4"]
    elif drawings:
        for name in names:
            targets += [out / "overlay" / f"{name}.jpg", out / "openpose" / f"{name}.png"]
    if "openpose" in formats:
        folder = out / OPENPOSE_FOLDER
        targets += [folder / f"{name}_keypoints.json" for name in names]
        if source.kind == "video":
            targets += sorted(folder.glob(f"{escape(source.path.stem)}_*_keypoints.json"))
    return targets


@contextmanager
def keypoints_json(path: Path, source: Source, calibrated: bool) -> Iterator["KeypointsJson"]:
    """keypoints.json: COCO's {"annotations": [a result per person], "images": [an entry per picture or frame]}."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w") as results,
        tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+") as images,
    ):
        writer = KeypointsJson(source, results, images, calibrated)
        results.write('{"annotations": [')
        yield writer
        images.seek(0)
        results.write('\n],\n"images": [')
        shutil.copyfileobj(images, results)
        results.write("\n]}\n")


class KeypointsJson:
    """Writes the records of each entry at once: results into one file, images into another, which follows later."""

    def __init__(self, source: Source, results: IO[str], images: IO[str], calibrated: bool) -> None:
        self.video, self.calibrated = source.kind == "video", calibrated
        self.files: dict[str, tuple[IO[str], str]] = {"results": (results, "\n"), "images": (images, "\n")}

    def add(self, entry: Frame | Unreadable, persons: Persons) -> None:
        self._write("images", self._image(entry, len(persons.boxes)))
        points = np.concatenate((persons.keypoints, persons.scores[..., None]), axis=2)
        points = np.round(np.where(persons.chosen[:, None], points, 0), 3) + 0.0  # + 0.0 turns −0 into 0
        confidence = np.round(np.where(persons.chosen, persons.confidence, 0), 3)
        for i, box in enumerate(persons.boxes):
            record = {
                "image_id": entry.image_id,
                "file_name": entry.name,
                "category_id": 1,
                "keypoints": points[i].ravel().tolist(),
                "score": round(float(persons.score[i]), 6),
                "confidence": confidence[i].tolist() if self.calibrated else None,
                "box": [round(value, 2) for value in box[:4].tolist()],
                "box_score": round(float(box[4]), 6),
            }
            if persons.numbers is not None:
                record["track_id"] = persons.numbers[i]
            self._write("results", record)

    def _image(self, entry: Frame | Unreadable, persons: int) -> dict[str, Any]:
        read = isinstance(entry, Frame)
        height, width = entry.image.shape[:2] if isinstance(entry, Frame) else (None, None)
        place = {"frame": entry.image_id, "seconds": round(entry.seconds, 6)} if self.video else {}
        status = "unreadable" if not read else "ok" if persons else "nobody"
        size = {"width": width, "height": height}
        return {"id": entry.image_id, "file_name": entry.name, **place, **size, "status": status}

    def _write(self, kind: str, record: dict[str, Any]) -> None:
        file, before = self.files[kind]
        file.write(before + json.dumps(record, allow_nan=False))
        self.files[kind] = (file, ",\n")


class OpenPoseJson:
    """One file per entry, named as OpenPose names it: <picture>_keypoints.json, or <video>_<frame>_keypoints.json."""

    def __init__(self, source: Source, out: Path, threshold: float, by_confidence: bool) -> None:
        self.source, self.folder = source, out / OPENPOSE_FOLDER
        self.threshold, self.by_confidence = threshold, by_confidence
        self._names = picture_names(source)

    def add(self, entry: Frame | Unreadable, persons: Persons) -> None:
        if self.source.kind == "video":
            name = f"{self.source.path.stem}_{entry.image_id:012d}_keypoints.json"
        else:
            name = f"{self._names[entry.name]}_keypoints.json"
        if len(os.fsencode(name)) > LONGEST_NAME:
            self.source.skipped.append(Skipped(entry.name, "no OpenPose file: with its suffix the name is too long"))
            return
        people = persons.openpose(self.threshold, self.by_confidence)
        content = openpose_frame(people, persons.chosen, persons.numbers)
        write_atomic(self.folder / name, json.dumps(content, separators=(",", ":")))


class Drawings:
    """Writes each frame's drawings: separate files, or two videos that appear once `stack` closes without error."""

    def __init__(self, source: Source, out: Path, threshold: float, by_confidence: bool, stack: ExitStack) -> None:
        self.source, self.out, self.threshold, self._stack = source, out, threshold, stack
        self.by_confidence = by_confidence
        self._names = picture_names(source)
        self._videos: dict[str, VideoOut] = {}

    def add(self, entry: Frame | Unreadable, persons: Persons) -> None:
        video = self.source.kind == "video"
        if isinstance(entry, Unreadable):
            return
        if not video and len(os.fsencode(self._names[entry.name] + ".jpg")) > LONGEST_NAME:
            self.source.skipped.append(Skipped(entry.name, "no drawings: with their suffixes its name is too long"))
            return
        keypoints = persons.drawn(self.by_confidence)
        height, width = entry.image.shape[:2]
        pictures = {
            "overlay": draw_skeletons(entry.image, keypoints, self.threshold),
            "openpose": draw_openpose((height, width), keypoints, self.threshold),
        }
        if video and not self._videos:
            self._open_videos(width, height, list(pictures))
        for kind, picture in pictures.items():
            if video:
                self._videos[kind].add(picture, entry.seconds)
            else:
                self._picture(kind, entry.name, picture)

    def _picture(self, kind: str, name: str, picture: np.ndarray) -> None:
        # JPEG suits photographs; lines on black must stay sharp.
        path = self.out / kind / f"{self._names[name]}{'.jpg' if kind == 'overlay' else '.png'}"
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, quality=95)

    def _open_videos(self, width: int, height: int, kinds: list[str]) -> None:
        """In the size of the first frame. The files are moved into place after all videos are complete."""
        assert self.source.video is not None
        rate = self.source.video.rate
        paths = {kind: self.out / f"{kind}.mp4" for kind in kinds}
        temporary = {kind: self._stack.enter_context(atomic_path(path)) for kind, path in paths.items()}
        for kind, path in paths.items():
            video = VideoOut(path, temporary[kind], width, height, rate)
            self._videos[kind] = self._stack.enter_context(video)
