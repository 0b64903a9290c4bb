"""Smoothing over time: steady where nothing moves, prompt where something does, and never across persons."""

from dataclasses import replace

import numpy as np
import pytest

from posedistill.inference.predict import _usual_rate
from posedistill.inference.smoothing import PATIENCE, Smoother
from posedistill.sources.videos import Video

RATE = 30
SHAPE = np.random.default_rng(0).uniform(0, 1, (133, 2)) * (80, 200)  # a person of 80 × 200 pixels

AWAY = SHAPE + np.array([100, 0])


def run(frames, times=None, scores=None):
    """frames: of each frame the persons' keypoints [N, 133, 2] → of each frame (smoothed, numbers)."""
    smoother, found = Smoother(RATE), []
    for i, persons in enumerate(frames):
        persons = np.reshape(persons, (-1, 133, 2)).astype(float)
        low, high = persons.min(axis=1), persons.max(axis=1)
        boxes = np.concatenate((low, high - low, np.ones((len(persons), 1))), axis=1)
        known = np.ones((len(persons), 133)) if scores is None else scores[i]
        found.append(smoother(persons, known, boxes, i / RATE if times is None else times[i]))
    return found


def first(found):
    """The first person's keypoints over time, [T, 133, 2]."""
    return np.stack([smoothed[0] for smoothed, _ in found])


def jitter(points):
    """Root mean square of the motion from frame to frame."""
    return np.sqrt((np.diff(points, axis=0) ** 2).mean())


@pytest.mark.parametrize("noise", [0.5, 1.5, 4, 6])  # pixels; the person's size is 126
def test_a_still_person_trembles_at_most_a_third(noise):
    raw = SHAPE + np.random.default_rng(1).normal(0, noise, (150, 133, 2))
    assert jitter(first(run(raw))) <= jitter(raw) / 3


@pytest.mark.parametrize("speed", [0.2, 1, 3, 10, 25])  # pixels per frame
@pytest.mark.parametrize("step", [1, 2, 0.5])  # between two pictures, in frames
def test_a_moving_person_lags_at_most_two_frames(speed, step):
    way = np.arange(60) * speed * step
    raw = SHAPE + way[:, None, None] * (1, 0.5)
    smoothed = first(run(raw, times=np.arange(60) * step / RATE))
    lag = (raw - smoothed)[30:, :, 0] / speed
    assert lag.min() >= 0
    assert lag.max() <= 2


def test_a_faster_person_lags_less():
    lags = []
    for speed in (1, 5, 20):
        raw = SHAPE + np.arange(60)[:, None, None] * (speed, 0)
        lags.append((raw - first(run(raw)))[-1, 0, 0] / speed)
    assert lags[0] > lags[1] > lags[2] and lags[2] < 0.5


def test_uneven_frame_times_follow_the_clock():
    """A person at an even speed, seen at uneven times, lags evenly in time; a long gap hardly lags at all."""
    times = np.cumsum(np.random.default_rng(2).choice([0.5, 1, 3], 90)) / RATE
    raw = SHAPE + times[:, None, None] * (60, 0)  # 60 pixels a second
    behind = (raw - first(run(raw, times)))[30:, 0, 0] / 60 * RATE  # frames
    assert behind.min() >= 0
    assert behind.max() <= 2
    raw[-1] += 40
    late = first(run(raw, [*times[:-1], times[-2] + 1]))
    assert np.abs(late[-1] - raw[-1]).max() < 2


def test_equal_times_do_no_harm():
    raw = SHAPE + np.random.default_rng(3).normal(0, 1, (20, 133, 2))
    assert np.isfinite(first(run(raw, np.zeros(20)))).all()


@pytest.mark.parametrize("speed", [2, 6, 15])
def test_persons_who_cross_keep_their_numbers(speed):
    way = (np.arange(-30, 31) + 0.5) * speed
    noise = np.random.default_rng(4).normal(0, 1, (61, 2, 133, 2))
    raw = np.stack((SHAPE + way[:, None, None] * (1, 0), SHAPE - way[:, None, None] * (1, 0)), axis=1) + noise
    order = np.random.default_rng(5).integers(0, 2, 61)  # a detector gives them in any order
    found = run([frame[::-1] if swapped else frame for frame, swapped in zip(raw, order)])
    for frame, swapped, (smoothed, numbers) in zip(raw, order, found):
        if order[0]:
            numbers = [1 - number for number in numbers]
        assert numbers == ([1, 0] if swapped else [0, 1])
        behind = np.abs((smoothed[::-1] if swapped else smoothed) - frame).mean()
        assert behind <= 2 * speed + 2


def test_who_vanishes_and_returns_is_not_dragged_back():
    """A person who returns soon keeps its number, later it is another; in both cases it starts where it is."""
    for gone, number in ((PATIENCE - 1, 0), (PATIENCE + 1, 1)):
        frames = [SHAPE] * 10 + [np.empty((0, 133, 2))] * gone + [SHAPE + 10] * 3
        found = run(frames)
        assert [len(smoothed) for smoothed, _ in found] == [1] * 10 + [0] * gone + [1] * 3
        assert found[-3][1] == [number]
        assert np.array_equal(found[-3][0][0], SHAPE + 10)


def test_somebody_else_elsewhere_is_not_the_same_person():
    found = run([SHAPE] * 5 + [AWAY])
    assert [numbers for _, numbers in found] == [[0]] * 5 + [[1]]
    assert np.array_equal(found[-1][0][0], AWAY)


def test_points_without_a_position_are_passed_through_and_pull_nothing():
    raw = np.repeat(SHAPE[None], 10, axis=0)
    scores = np.ones((10, 1, 133))
    scores[4:6, 0, 9], raw[4:6, 9] = 0, -500  # a wrist that is not found twice
    smoothed = first(run(raw, scores=scores))
    assert np.array_equal(smoothed, raw)


def test_tracks_do_not_pile_up():
    smoother = Smoother(RATE)
    for i in range(200):
        person = SHAPE[None] + (1000 * i, 0)
        smoother(person, np.ones((1, 133)), np.array([[1000 * i, 0, 80, 200, 1]]), i / RATE)
    assert len(smoother.tracks) <= PATIENCE + 1


def test_the_unit_of_time_is_the_step_between_most_frames(tmp_path):
    """Not the rate that the container states, which may be far off where frames come unevenly."""
    times = np.array([0, 0.04, 0.08, 0.12, 0.16, 3.0, 3.04])
    video = Video(tmp_path, times, 1000.0, 64, 48, 7, None)
    assert _usual_rate(video) == pytest.approx(25)
    assert _usual_rate(replace(video, times=times[:1])) == 1000
