"""Drawn videos keep the times, the whole picture and the names of their originals."""

import errno
import io
import os

import numpy as np
import pytest

from posedistill.errors import UserError
from posedistill.files import atomic_path
from posedistill.inference.videos import VideoOut
from posedistill.sources import videos


def write(path, times, size=(64, 48)):
    """Grey pictures, brighter with every frame."""
    with atomic_path(path) as temporary, VideoOut(path, temporary, *size, rate=10) as video:
        for i, seconds in enumerate(times):
            video.add(np.full((size[1], size[0], 3), 20 * i, np.uint8), seconds)
    return videos.probe(path)


@pytest.mark.parametrize(
    "times",
    [[i * 1001 / 30000 for i in range(9)], [0, 0.1, 0.2, 0.7, 1.2], [0, 0.02, 7200], [0]],
    ids=["television", "uneven", "hours apart", "one"],
)
def test_times_are_kept(tmp_path, times):
    video = write(tmp_path / "a.mp4", times)
    np.testing.assert_allclose(video.times, times, atol=1e-5)
    light = [videos.rgb(frame).mean() for _, frame in video.frames()]
    np.testing.assert_allclose(light, 20 * np.arange(len(times)), atol=3)


def test_the_rate_is_kept(tmp_path):
    assert write(tmp_path / "a.mp4", [i / 10 for i in range(12)]).rate == 10


@pytest.mark.parametrize("times", [[0, 0, 0], [0, 0.5, 0.1]])
def test_times_that_do_not_rise_lose_no_frame(tmp_path, times):
    video = write(tmp_path / "a.mp4", times)
    assert len(video.times) == 3 and (np.diff(video.times) > 0).all()


def test_nothing_of_an_odd_picture_is_lost(tmp_path):
    picture = np.zeros((17, 33, 3), np.uint8)
    picture[:, 24:] = 255
    with VideoOut(tmp_path / "a.mp4", tmp_path / "a.mp4", 33, 17, rate=10) as video:
        video.add(picture, 0)
    ((_, frame),) = videos.probe(tmp_path / "a.mp4").frames()
    read = videos.rgb(frame)
    assert read.shape == (18, 34, 3)
    assert read[:, 32:].min() > 200 and read[:, :16].max() < 50


def test_pictures_too_wide_for_the_encoder_are_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"a\.mp4: H.264 cannot encode frames of 20000x64 pixels; use --no-drawings"):
        write(tmp_path / "a.mp4", [0], (20_000, 64))
    assert not list(tmp_path.iterdir())


def test_any_name_will_do(tmp_path):
    name = os.fsdecode(b"file:n\xff%d.mp4")
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this disk takes no such names")
    assert len(write(tmp_path / name, [0, 1]).times) == 2


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.open", lambda path, mode: Full(path, mode))
    with pytest.raises(UserError, match=r"cannot write .*a\.mp4: no space left on the device"):
        write(tmp_path / "a.mp4", [i / 10 for i in range(30)])
    assert not list(tmp_path.iterdir())
