"""One person of one picture, as every source delivers it, and the account of what was kept and dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from posedistill.keypoints import NUM_KEYPOINTS, PARTS


class ImageRef(NamedTuple):
    """Where a picture is: an image file, or one frame of a video.

    path: the file. frame: None for an image file, otherwise the frame's number, from 0; at_30: counted in the video as
    it is cut at 30 frames a second, not in the video itself. width, height: as the annotations say, in pixels (0:
    unknown). name: its name in reports.
    """

    path: str
    frame: int | None
    width: int
    height: int
    name: str
    at_30: bool = False


class ValidFlags(NamedTuple):
    """The *_valid flags of COCO-WholeBody: whether the part was judged annotatable."""

    foot: bool = True
    face: bool = True
    lefthand: bool = True
    righthand: bool = True


ALL_VALID = ValidFlags()


@dataclass(frozen=True, slots=True)
class Person:
    """A person with labels, or a box to predict in.

    box: (x, y, w, h), float32 image pixels. keypoints: float32 [133, 3], image pixels; third value > 0 = labelled.
    area: of the segment, pixels². score: of the detector; 1 for annotated boxes. annotation_id: -1 for a detection.
    """

    image: ImageRef
    image_id: int
    annotation_id: int
    box: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    area: float = 0.0
    score: float = 1.0
    valid: ValidFlags = ALL_VALID

    def labels(self, *, use_valid_flags: bool, parts: str) -> NDArray[np.float32]:
        """Keypoints [133, 3] for training: third value 1 where labelled, 0 elsewhere; unlabelled points are (0, 0).

        A third value in (0, 1) counts as labelled (as published: face and hand points carry a confidence there).
        `parts="body"` keeps the 17 body keypoints alone; `use_valid_flags` drops parts whose flag is false.
        """
        labels = self.keypoints.copy()
        labels[:, 2] = labels[:, 2] > 0
        if use_valid_flags:
            for part, ok in self.valid._asdict().items():
                if not ok:
                    labels[PARTS[part], 2] = 0
        if parts == "body":
            labels[PARTS["body"].stop :, 2] = 0
        labels[labels[:, 2] == 0] = 0
        return labels


def no_keypoints() -> NDArray[np.float32]:
    """Keypoints of a person without labels."""
    return np.zeros((NUM_KEYPOINTS, 3), np.float32)


@dataclass
class Funnel:
    """How many records were read, how many kept, and why the others were not. The three always add up."""

    source: str
    what: str = "persons"
    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)  # changed but kept
    examples: dict[str, list[str]] = field(default_factory=dict)  # reason → the first few cases, by name

    EXAMPLES = 20

    def drop(self, reason: str, example: str = "", count: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        self._remember(reason, example)

    def note(self, what: str, example: str = "", count: int = 1) -> None:
        self.notes[what] = self.notes.get(what, 0) + count
        self._remember(what, example)

    def _remember(self, reason: str, example: str) -> None:
        cases = self.examples.setdefault(reason, [])
        if example and len(cases) < self.EXAMPLES and example not in cases:
            cases.append(example)

    def check(self) -> None:
        """The books must balance: anything else is a bug in a source."""
        if self.read != self.kept + sum(self.dropped.values()):
            raise AssertionError(f"{self.source}: read {self.read}, kept {self.kept}, dropped {self.dropped}")

    def as_dict(self) -> dict[str, Any]:
        """For the report; keys sorted, so that the same data gives the same file."""
        return {
            "source": self.source,
            "what": self.what,
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "notes": dict(sorted(self.notes.items())),
            "examples": {reason: sorted(cases) for reason, cases in sorted(self.examples.items()) if cases},
        }


@dataclass
class SourcePersons:
    """A source after its annotations were read.

    ground_truth: what the evaluation needs (None for training). files: annotation files that decide the result.
    others: with detected boxes, all pictures of the set by image_id, with or without a detection; annotated: how many
    persons are kept of each.
    """

    persons: list[Person]
    funnels: list[Funnel]
    ground_truth: dict[str, Any] | None
    files: list[Path]
    details: dict[str, Any]  # the source's own entries in the report
    others: dict[int, ImageRef] = field(default_factory=dict)
    annotated: Counter[int] = field(default_factory=Counter)
