"""Pictures and videos → keypoints as COCO results and drawings, in batches of persons over several frames."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posedistill.errors import UserError
from posedistill.evaluation.scoring import person_scores
from posedistill.files import atomic_path, refuse_overwrite, write_atomic
from posedistill.inference.drawing import draw_openpose, draw_skeletons
from posedistill.inference.pose import Crops, Pose
from posedistill.inference.sources import Frame, Skipped, Source
from posedistill.inference.videos import VideoOut
from posedistill.progress import progress

FindBoxes = Callable[[Frame], np.ndarray]  # frame → float32 [N, 5]: x, y, w, h, score

# Frames in memory at once: enough to fill a batch with persons, few enough for 4K video.
_MAX_FRAMES = 32
LONGEST_NAME = 255  # bytes, on all file systems in use


@dataclass(frozen=True)
class Predicted:
    """Counts and files of a run. points: keypoints of all persons; shown: those that reach the threshold."""

    frames: int
    persons: int
    empty: int  # frames without a box
    points: int
    shown: int
    skipped: list[Skipped]
    files: list[Path]


def predict_source(
    source: Source,
    find_boxes: FindBoxes,
    pose: Pose,
    out: str | Path,
    *,
    batch: int = 32,
    threshold: float = 0.3,
    drawings: bool = True,
) -> Predicted:
    """Predict every frame of `source` and write into the folder `out`.

    `keypoints.json`: a list of COCO results, one per person: image_id, file_name, category_id, keypoints (133 × x, y,
    score), score, box. With `drawings`: `overlay/` and `openpose/` pictures, or `overlay.mp4` and `openpose.mp4` of a
    video, with the points whose score is at least `threshold`; these videos keep the times of the frames. Raises
    UserError if an input would be overwritten, or if the model's output is not finite.
    """
    out = Path(out)
    refuse_overwrite(output_files(source, out, drawings), *source.files)
    results: list[dict[str, Any]] = []
    frames, empty, points, shown = 0, 0, 0, 0
    with ExitStack() as stack:
        canvas = _Drawings(source, out, threshold, stack) if drawings else None
        bar = progress(total=source.count, desc="predict", unit="frames")
        stack.callback(bar.close)
        for group in _groups(source.frames(), find_boxes, pose, batch):
            keypoints = pose.predict(Crops.join([crops for _, _, crops in group]), batch)
            points += keypoints[..., 2].size
            shown += int((keypoints[..., 2] >= threshold).sum())
            start = 0
            for frame, boxes, _ in group:
                found = keypoints[start : start + len(boxes)]
                start += len(boxes)
                results += _records(frame, boxes, found)
                if canvas is not None:
                    canvas.add(frame, found)
                frames, empty = frames + 1, empty + (len(boxes) == 0)
            bar.update(len(group))
    write_atomic(out / "keypoints.json", json.dumps(results, allow_nan=False) + "\n")
    files = [out / "keypoints.json", *(canvas.files if canvas is not None else [])]
    return Predicted(frames, len(results), empty, points, shown, source.skipped, files)


def _groups(
    frames: Iterator[Frame], find_boxes: FindBoxes, pose: Pose, batch: int
) -> Iterator[list[tuple[Frame, np.ndarray, Crops]]]:
    """Consecutive frames with their boxes and crops, together about `batch` persons."""
    group: list[tuple[Frame, np.ndarray, Crops]] = []
    persons = 0
    for frame in frames:
        boxes = find_boxes(frame)
        group.append((frame, boxes, pose.crop(frame.image, boxes[:, :4])))
        persons += len(boxes)
        if persons >= batch or len(group) >= _MAX_FRAMES:
            yield group
            group, persons = [], 0
    if group:
        yield group


def drawing_names(source: Source) -> dict[str, str]:
    """Picture → the name of its drawings without suffix: its stem, or its whole name where stems clash (a.jpg and
    a.png)."""
    stems = Counter(file.stem for file in source.files)
    names = {file.name: file.stem if stems[file.stem] == 1 else file.name for file in source.files}
    if len(set(names.values())) < len(names):  # a.jpg, a.png and a.jpg.jpg
        return {name: name for name in names}
    return names


def output_files(source: Source, out: Path, drawings: bool) -> list[Path]:
    targets = [out / "keypoints.json"]
    if drawings and source.kind == "video":
        targets += [out / "overlay.mp4", out / "openpose.mp4"]
    elif drawings:
        for name in drawing_names(source).values():
            targets += [out / "overlay" / f"{name}.jpg", out / "openpose" / f"{name}.png"]
    return targets


def _records(frame: Frame, boxes: np.ndarray, keypoints: np.ndarray) -> list[dict[str, Any]]:
    scores = person_scores(boxes[:, 4], keypoints[..., 2])
    if not np.isfinite(keypoints).all():
        raise UserError(f"{frame.name}: the model's output is not finite: its weights are damaged")
    return [
        {
            "image_id": frame.image_id,
            "file_name": frame.name,
            "category_id": 1,
            "keypoints": [round(value, 3) for value in person.ravel().tolist()],
            "score": round(float(score), 6),
            "box": [round(value, 2) for value in box[:4].tolist()],
        }
        for person, score, box in zip(keypoints, scores, boxes)
    ]


class _Drawings:
    """Writes each frame's drawings: files of their own, or two videos that appear once `stack` closes without error."""

    def __init__(self, source: Source, out: Path, threshold: float, stack: ExitStack) -> None:
        self.source, self.out, self.threshold, self._stack = source, out, threshold, stack
        self.files: list[Path] = []
        self._names = drawing_names(source)
        self._videos: dict[str, VideoOut] = {}

    def add(self, frame: Frame, keypoints: np.ndarray) -> None:
        video = self.source.kind == "video"
        if not video and len(os.fsencode(self._names[frame.name] + ".jpg")) > LONGEST_NAME:
            self.source.skipped.append(Skipped(frame.name, "no drawings: with their suffixes its name is too long"))
            return
        shape = frame.image.shape[:2]
        pictures = {
            "overlay": draw_skeletons(frame.image, keypoints, self.threshold),
            "openpose": draw_openpose((shape[0], shape[1]), keypoints, self.threshold),
        }
        if video and not self._videos:
            self._open_videos(pictures)
        for kind, picture in pictures.items():
            if video:
                self._videos[kind].add(picture, frame.seconds)
            else:
                self._picture(kind, frame.name, picture)

    def _picture(self, kind: str, name: str, picture: np.ndarray) -> None:
        # JPEG suits photographs; lines on black must stay sharp.
        path = self.out / kind / f"{self._names[name]}{'.jpg' if kind == 'overlay' else '.png'}"
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, quality=95)
        self.files.append(path)

    def _open_videos(self, pictures: dict[str, np.ndarray]) -> None:
        """In the size of the first pictures. The files are moved into place after all videos are complete."""
        assert self.source.video is not None
        rate = self.source.video.rate
        paths = {kind: self.out / f"{kind}.mp4" for kind in pictures}
        temporary = {kind: self._stack.enter_context(atomic_path(path)) for kind, path in paths.items()}
        for kind, picture in pictures.items():
            height, width = picture.shape[:2]
            video = VideoOut(paths[kind], temporary[kind], width, height, rate)
            self._videos[kind] = self._stack.enter_context(video)
        self.files += paths.values()
