"""Pictures and videos → keypoints as records and drawings, in batches of persons over several frames.

Memory does not grow with the length of a video: every frame is written as soon as its batch is predicted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posedistill.errors import UserError
from posedistill.evaluation.scoring import person_scores
from posedistill.files import refuse_overwrite
from posedistill.inference.drawing import visible
from posedistill.inference.outputs import (
    KEYPOINTS,
    Drawings,
    OpenPoseJson,
    Persons,
    Writer,
    keypoints_json,
    output_files,
)
from posedistill.inference.pose import Crops, Pose, PoseResult
from posedistill.inference.smoothing import Smoother
from posedistill.inference.sources import Frame, Skipped, Source, Unreadable
from posedistill.keypoints import NUM_KEYPOINTS, PARTS
from posedistill.progress import progress
from posedistill.sources.videos import Video

FindBoxes = Callable[[Frame], np.ndarray]  # frame → float32 [N, 5]: x, y, w, h, score

# Parts as `--parts` names them, and the keypoints of each.
CHOICES = {
    "body": (PARTS["body"],),
    "feet": (PARTS["foot"],),
    "face": (PARTS["face"],),
    "hands": (PARTS["lefthand"], PARTS["righthand"]),
}
STEPS = np.arange(1, 21) / 20  # thresholds for which it is counted what they would draw
# Frames in memory at once: enough to fill a batch with persons, few enough for 4K video.
_MAX_FRAMES = 32


@dataclass(frozen=True)
class Wanted:
    """What to write. threshold: least confidence of a point that is drawn, or least raw score if not `by_confidence`.

    smooth: filter the keypoints of a video over time (`smoothing`).
    """

    threshold: float
    by_confidence: bool = False
    drawings: bool = True
    formats: tuple[str, ...] = ("coco",)
    parts: tuple[str, ...] = tuple(CHOICES)
    smooth: bool = False

    @property
    def chosen(self) -> np.ndarray:
        """[133] bool"""
        chosen = np.zeros(NUM_KEYPOINTS, dtype=bool)
        for part in self.parts:
            for place in CHOICES[part]:
                chosen[place] = True
        return chosen


@dataclass
class Predicted:
    """Counts of a run. points: the chosen keypoints of all persons, by part; shown: those that are drawn.

    reached: part → how many points would be drawn from each of STEPS on.
    """

    skipped: list[Skipped]
    frames: int = 0  # that could be read
    persons: int = 0
    empty: int = 0  # frames without a box
    points: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    reached: dict[str, np.ndarray] = field(default_factory=dict)


def predict_source(
    source: Source, find_boxes: FindBoxes, pose: Pose, out: str | Path, wanted: Wanted, *, batch: int = 32
) -> Predicted:
    """Predict every frame of `source` and write into the folder `out`: see `outputs`.

    Raises UserError if an input would be overwritten, or if the model's output is not finite.
    """
    out = Path(out)
    refuse_overwrite(output_files(source, out, wanted.drawings, wanted.formats), *source.files)
    smoother = Smoother(_usual_rate(source.video)) if wanted.smooth and source.video is not None else None
    chosen, done = wanted.chosen, Predicted(source.skipped)
    with ExitStack() as stack:
        writers = _writers(source, out, wanted, pose.calibration is not None, stack)
        bar = progress(total=source.count, desc="predict", unit="frames")
        stack.callback(bar.close)
        for group in _groups(source.entries(), find_boxes, pose, batch):
            for entry, boxes, found in _found(group, pose, batch):
                persons = _persons(entry, boxes, found, chosen, smoother)
                for writer in writers:
                    writer.add(entry, persons)
                if isinstance(entry, Frame):
                    _count(done, entry, persons, wanted)
                bar.update(1)
    return done


def _usual_rate(video: Video) -> float:
    """Frames per second between most frames: the rate that a container states may be far off where times are uneven."""
    steps = np.diff(video.times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    return 1 / usual if usual > 0 else video.rate


def _writers(source: Source, out: Path, wanted: Wanted, calibrated: bool, stack: ExitStack) -> list[Writer]:
    writers: list[Writer] = []
    if "coco" in wanted.formats:
        writers.append(stack.enter_context(keypoints_json(out / KEYPOINTS, source, calibrated)))
    if "openpose" in wanted.formats:
        writers.append(OpenPoseJson(source, out, wanted.threshold, wanted.by_confidence))
    if wanted.drawings:
        writers.append(Drawings(source, out, wanted.threshold, wanted.by_confidence, stack))
    return writers


@dataclass(frozen=True)
class _Waiting:
    """An entry that waits for its batch; an unreadable one has no boxes."""

    entry: Frame | Unreadable
    boxes: np.ndarray  # [N, 5]
    crops: Crops | None = None


def _groups(
    entries: Iterable[Frame | Unreadable], find_boxes: FindBoxes, pose: Pose, batch: int
) -> Iterator[list[_Waiting]]:
    """Consecutive entries with their boxes and crops, together about `batch` persons."""
    group: list[_Waiting] = []
    persons = 0
    for entry in entries:
        if isinstance(entry, Unreadable):
            group.append(_Waiting(entry, np.empty((0, 5))))
        else:
            boxes = find_boxes(entry)
            group.append(_Waiting(entry, boxes, pose.crop(entry.image, boxes[:, :4])))
            persons += len(boxes)
        if persons >= batch or len(group) >= _MAX_FRAMES:
            yield group
            group, persons = [], 0
    if group:
        yield group


def _found(
    group: list[_Waiting], pose: Pose, batch: int
) -> Iterator[tuple[Frame | Unreadable, np.ndarray, PoseResult]]:
    """Predict a group at once: each entry with its boxes and persons."""
    crops = [one.crops for one in group if one.crops is not None]
    joined = crops or [pose.crop(np.empty((1, 1, 3), np.uint8), np.empty((0, 4)))]
    found = pose.find(Crops.join(joined), batch)
    start = 0
    for one in group:
        rows = slice(start, start + len(one.boxes))
        start += len(one.boxes)
        yield one.entry, one.boxes, PoseResult(found.keypoints[rows], found.scores[rows], found.confidence[rows])


def _persons(
    entry: Frame | Unreadable, boxes: np.ndarray, found: PoseResult, chosen: np.ndarray, smoother: Smoother | None
) -> Persons:
    if not (np.isfinite(found.keypoints).all() and np.isfinite(found.scores).all()):
        raise UserError(f"{entry.name}: the model's output is not finite: its weights are damaged")
    keypoints, numbers = found.keypoints, None
    if smoother is not None and isinstance(entry, Frame):
        keypoints, numbers = smoother(keypoints, found.scores, boxes, entry.seconds)
    score = person_scores(boxes[:, 4], found.scores)
    return Persons(boxes, keypoints, found.scores, found.confidence, score, chosen, numbers)


def _count(done: Predicted, frame: Frame, persons: Persons, wanted: Wanted) -> None:
    done.frames += 1
    done.persons += len(persons.boxes)
    done.empty += not len(persons.boxes)
    points = persons.drawn(wanted.by_confidence)
    shown = visible(points, frame.image.shape, wanted.threshold)
    inside = visible(points, frame.image.shape, -np.inf)
    for part in wanted.parts:
        rows = np.r_[CHOICES[part]]
        done.points[part] += shown[:, rows].size
        done.shown[part] += int(shown[:, rows].sum())
        certain = np.sort(points[:, rows, 2][inside[:, rows]])
        done.reached[part] = done.reached.get(part, 0) + len(certain) - np.searchsorted(certain, STEPS)
