"""Calibrated confidence: for each part a monotone map from a keypoint's raw score to the probability that it is right.

A point is right if its own OKS, exp(−d² / (2 s² k²)) with COCO-WholeBody's constants, is at least 0.5: its error is
then below 1.18 s·k. The score is the smaller of the two SimCC maxima; the mean over the flip test has another
distribution than the score of one pass, so each has its own curves. `fit_calibration` makes them, and files of weights
carry them in their metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.keypoints import PARTS

METADATA_KEY = "calibration"
RIGHT = 0.5  # OKS of a single point from which on it counts as right
CALIBRATED = {  # left and right hand share a curve: half the data each would be less sure
    **{part: PARTS[part] for part in ("body", "foot", "face")},
    "hand": slice(PARTS["lefthand"].start, PARTS["righthand"].stop),
}
PASSES = ("plain", "flip_test")
_MOST_KNOTS, _MOST_TEXT = 64, 20_000
_DIGITS = 4


@dataclass(frozen=True)
class Curve:
    """Straight lines between M knots, constant beyond the first and the last."""

    scores: tuple[float, ...]  # [M] rising
    probabilities: tuple[float, ...]  # [M] in [0, 1], never falling

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.interp(scores, self.scores, self.probabilities)


@dataclass(frozen=True)
class Calibration:
    """The curves of a model: pass (plain, flip_test) → part (body, foot, face, hand) → curve.

    A part is missing where the data had too few labelled points of it. It was fitted on `persons` persons of `data`.
    """

    curves: Mapping[str, Mapping[str, Curve]]
    persons: int
    data: str

    def confidence(self, scores: np.ndarray, *, flip_test: bool) -> np.ndarray:
        """Raw scores [..., 133] → probabilities that the points are right, [..., 133] in [0, 1].

        `flip_test`: whether the scores come from the mean over a picture and its mirror. 0 in parts without a curve,
        and where the score is not a number.
        """
        result = np.zeros(scores.shape)
        for part, curve in self.curves[PASSES[flip_test]].items():
            result[..., CALIBRATED[part]] = curve(scores[..., CALIBRATED[part]])
        return np.where(np.isnan(scores), 0.0, result)

    def to_json(self) -> str:
        """One line of about 2 kB for a file's metadata: the same calibration gives the same text."""
        curves = {
            passes: {
                part: [np.round(curve.scores, _DIGITS).tolist(), np.round(curve.probabilities, _DIGITS).tolist()]
                for part, curve in parts.items()
            }
            for passes, parts in self.curves.items()
        }
        return json.dumps(
            {"right": f"OKS >= {RIGHT}", "score": "smaller", "data": self.data, "persons": self.persons, **curves},
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str, name: str = "calibration") -> Self:
        """Parse what `to_json` wrote. UserError, which begins with `name`, if it is anything else."""
        if not isinstance(text, str) or len(text) > _MOST_TEXT:
            raise UserError(f"{name}: expected JSON of at most {_MOST_TEXT} characters, as `calibrate` writes it")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}: not JSON ({shorten(str(error))}); run `calibrate` again") from error
        if not isinstance(content, Mapping):
            raise _wrong(name, "the whole", content, "an object")
        if (content.get("right"), content.get("score")) != (f"OKS >= {RIGHT}", "smaller"):
            found = [content.get("right"), content.get("score")]
            raise _wrong(name, "right and score", found, f'"OKS >= {RIGHT}" and "smaller"')
        persons, data = content.get("persons"), content.get("data")
        if isinstance(persons, bool) or not isinstance(persons, int) or persons < 1:
            raise _wrong(name, "persons", persons, "a whole number above 0")
        if not isinstance(data, str):
            raise _wrong(name, "data", data, "the name of the data")
        return cls({one: _curves(name, one, content.get(one)) for one in PASSES}, persons, data)


def read_calibration(metadata: Mapping[str, Any], name: str) -> Calibration | None:
    """The calibration in the metadata of a file of weights (safetensors, .pth or ONNX); None if it has none.

    `name` is the file's for messages. UserError if it is malformed.
    """
    text = metadata.get(METADATA_KEY)
    return None if text is None else Calibration.from_json(text, f"{name}: metadata {METADATA_KEY}")


def _curves(name: str, where: str, content: Any) -> dict[str, Curve]:
    if not isinstance(content, Mapping) or not content or not set(content) <= set(CALIBRATED):
        raise _wrong(name, where, content, f"curves of {', '.join(CALIBRATED)}")
    return {part: _curve(name, f"{where}.{part}", content[part]) for part in CALIBRATED if part in content}


def _curve(name: str, where: str, knots: Any) -> Curve:
    expected = f"two lists of 1 to {_MOST_KNOTS} numbers: rising scores, and probabilities from 0 to 1 that never fall"
    if not isinstance(knots, list) or len(knots) != 2 or not all(isinstance(axis, list) for axis in knots):
        raise _wrong(name, where, knots, expected)
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for axis in knots for x in axis)
    if not numbers or len(knots[0]) != len(knots[1]) or not 1 <= len(knots[0]) <= _MOST_KNOTS:
        raise _wrong(name, where, knots, expected)
    try:
        scores, chances = np.array(knots[0], np.float64), np.array(knots[1], np.float64)
    except OverflowError:
        raise _wrong(name, where, knots, expected) from None
    rising = np.isfinite(scores).all() and (np.diff(scores) > 0).all()
    if not rising or not ((chances >= 0) & (chances <= 1)).all() or (np.diff(chances) < 0).any():
        raise _wrong(name, where, knots, expected)
    return Curve(tuple(scores.tolist()), tuple(chances.tolist()))


def _wrong(name: str, where: str, found: Any, expected: str) -> UserError:
    return UserError(f"{name}: {where}: found {shorten(found)}, expected {expected}")
