"""Smoothing of keypoints in videos: the One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) on matched persons.

The filter is a low-pass filter whose cut-off rises with speed: it takes the jitter out of a still point, and a moving
point hardly lags. As in the paper, with time in frames and length in person sizes (square root of the box's area), so
that the same values suit every frame rate and every resolution:

    speed  ← (1 − a(SPEED_CUTOFF)) speed + a(SPEED_CUTOFF) (x − previous x) / dt
    cutoff ← CUTOFF + SLOPE · |speed|
    result ← (1 − a(cutoff)) result + a(cutoff) x          with a(c) = 1 / (1 + 1 / (2π c dt))

At rest a = 0.34: frame-to-frame motion of independent noise falls to a / sqrt(2 − a) = 27 %, or 33 % where the noise is
a twentieth of the person's size; a slowly moving point lags (1 − a) / a = 1.9 frames, a faster one less.
"""

from dataclasses import dataclass, field

import numpy as np

from posedistill.keypoints import PARTS, SIGMAS

CUTOFF = 0.083  # cycles per frame at rest ("minimum cut-off"): 2.5 Hz at 30 frames per second
SLOPE = 4.0  # cycles per person size travelled ("beta")
SPEED_CUTOFF = 0.02  # cycles per frame, of the filter of the speed: 0.6 Hz at 30 frames per second
SHORTEST = 0.1  # frames: time steps below count as this long, or the speed would have no bound
SAME_PERSON = 0.1  # least OKS of the 17 body keypoints between a person and where its track is expected
PATIENCE = 15  # frames for which a person may be missing and still keep its number

_BODY = PARTS["body"]
_VARIANCE = (2 * SIGMAS[_BODY]) ** 2


@dataclass
class Track:
    """One person over time. Arrays [133, 2] in pixels; speed in person sizes per frame."""

    number: int
    seen: int  # the frame in which it was last found
    seconds: float
    size: float
    raw: np.ndarray
    known: np.ndarray  # [133] bool: whether the point has a position
    smooth: np.ndarray
    speed: np.ndarray = field(default_factory=lambda: np.zeros((133, 2)))

    def expected(self, frames: float) -> np.ndarray:
        """Body keypoints [17, 2] after so many frames, if the person as a whole keeps its speed."""
        return self.raw[_BODY] + np.median(self.speed[_BODY], axis=0) * self.size * frames


class Smoother:
    """Call it with the persons of one frame after the other, in the order of time.

    Persons are matched with those of earlier frames by the OKS between their body keypoints and those expected at the
    same speed, best pairs first. A person that returns within PATIENCE frames keeps its number; its filter starts anew,
    so that nothing pulls it back to where it disappeared.
    """

    def __init__(self, rate: float) -> None:
        """`rate`: frames per second, the unit of time of the filter."""
        self.rate = rate
        self.tracks: list[Track] = []
        self._frame = self._persons = 0

    def __call__(
        self, keypoints: np.ndarray, scores: np.ndarray, boxes: np.ndarray, seconds: float
    ) -> tuple[np.ndarray, list[int]]:
        """Smoothed keypoints [N, 133, 2] and the persons' numbers, from 0.

        keypoints [N, 133, 2] in pixels; scores [N, 133]: a point whose score is not positive has no position and is
        passed through; boxes [N, 4+] x, y, width, height.
        """
        known = scores > 0
        sizes = np.sqrt(np.maximum(boxes[:, 2] * boxes[:, 3], 1.0))
        matched = self._match(keypoints, known, sizes, seconds)
        smoothed, numbers = np.array(keypoints, np.float64), []
        for i in range(len(keypoints)):
            track = matched.get(i)
            if track is None:
                track = self._new(keypoints[i], known[i], sizes[i], seconds)
            else:
                self._update(track, keypoints[i], known[i], sizes[i], seconds)
            smoothed[i] = np.where(known[i][:, None], track.smooth, keypoints[i])
            numbers.append(track.number)
        self._frame += 1
        self.tracks = [track for track in self.tracks if self._frame - track.seen <= PATIENCE]
        return smoothed, numbers

    def _match(self, keypoints: np.ndarray, known: np.ndarray, sizes: np.ndarray, seconds: float) -> dict[int, Track]:
        """Row → track, for the persons that are found again."""
        if not self.tracks or not len(keypoints):
            return {}
        expected = np.stack([track.expected((seconds - track.seconds) * self.rate) for track in self.tracks])
        squared = ((keypoints[:, None, _BODY] - expected) ** 2).sum(axis=3)  # [N, T, 17]
        area = (sizes[:, None] ** 2 + np.array([track.size for track in self.tracks]) ** 2) / 2  # [N, T]
        shared = known[:, None, _BODY] & np.stack([track.known[_BODY] for track in self.tracks])
        oks = np.exp(-squared / (2 * _VARIANCE * area[..., None])) * shared
        similarity = oks.sum(axis=2) / np.maximum(shared.sum(axis=2), 1)
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for pair in np.argsort(-similarity, axis=None, kind="stable"):
            row, place = divmod(int(pair), len(self.tracks))
            if similarity[row, place] < SAME_PERSON:
                break
            if row not in matched and place not in taken:
                matched[row] = self.tracks[place]
                taken.add(place)
        return matched

    def _new(self, points: np.ndarray, known: np.ndarray, size: float, seconds: float) -> Track:
        track = Track(self._persons, self._frame, seconds, size, points, known, points)
        self._persons += 1
        self.tracks.append(track)
        return track

    def _update(self, track: Track, points: np.ndarray, known: np.ndarray, size: float, seconds: float) -> None:
        step = max((seconds - track.seconds) * self.rate, SHORTEST)
        speed = track.speed + _share(SPEED_CUTOFF, step) * ((points - track.raw) / size / step - track.speed)
        smooth = track.smooth + _share(CUTOFF + SLOPE * np.abs(speed), step) * (points - track.smooth)
        goes_on = (known & track.known & (self._frame - track.seen == 1))[:, None]
        track.smooth, track.speed = np.where(goes_on, smooth, points), np.where(goes_on, speed, 0.0)
        track.raw, track.known, track.size = points, known, size
        track.seen, track.seconds = self._frame, seconds


def _share(cutoff: np.ndarray | float, step: float) -> np.ndarray | float:
    """Weight of the new value: `cutoff` in cycles per frame, `step` in frames."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))
