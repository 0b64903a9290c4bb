"""Videos as they come: unevenly spaced frames, odd sizes, odd names, missing ends and ends that only seem so."""

import os
import struct

import cv2
import numpy as np
import pytest

from posedistill.errors import UserError
from posedistill.inference.sources import open_source
from posedistill.inference.videos import VideoOut, opencv_name, read_timing, timing


def film(path, frames=20, size=(64, 48), fps=10, codec="mp4v"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.random.default_rng(i).integers(0, 255, (size[1], size[0], 3), np.uint8))
    writer.release()
    return path


def test_frames_at_a_constant_rate_are_shown_once():
    assert timing([5 + i / 10 for i in range(9)], 10).shown is None
    jitter = timing([0, 0.14, 0.2, 0.28, 0.4], 10)
    assert (jitter.fps, jitter.shown) == (10, None)
    wrong_rate = timing([i / 30 for i in range(100)], 1000)
    assert (wrong_rate.fps, wrong_rate.shown) == (pytest.approx(30), None)


def test_unevenly_spaced_frames_are_repeated_until_the_next_one():
    found = timing([0, 0.1, 0.2, 0.7, 1.2, 1.3], 4)
    assert found.fps == pytest.approx(10)
    assert found.shown == [1, 1, 5, 5, 1, 1]
    assert [found.times(i) for i in (2, 6)] == [5, 1]


@pytest.mark.parametrize("seconds", [[], [0.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.1], [0.0, float("nan"), 0.2]])
def test_without_times_the_rate_is_taken_as_it_is(seconds):
    assert (timing(seconds, 25).fps, timing(seconds, 25).shown) == (25, None)


def test_frames_hours_apart_are_told_and_not_filled_up():
    found = timing([0, 0.02, 7200], 25)
    assert found.shown is None and "too unevenly" in found.note


def test_times_are_read_from_the_file(tmp_path):
    assert read_timing(film(tmp_path / "a.mp4"), 10, 20).fps == pytest.approx(10)


def test_nothing_of_an_odd_picture_is_lost(tmp_path):
    path = tmp_path / "odd.mp4"
    video = VideoOut(path, path, 10, 33, 17)
    picture = np.zeros((17, 33, 3), np.uint8)
    picture[:, 24:] = 255
    video.add(picture, 3)
    video.release()
    video.check()
    good, read = cv2.VideoCapture(str(path)).read()
    assert good and read.shape == (18, 34, 3)
    assert read[:, 32:].min() > 200 and read[:, :16].max() < 50


def test_pictures_too_wide_for_the_encoder_are_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"9000x64, MPEG-4 video takes at most 8190 pixels a side"):
        VideoOut(tmp_path / "a.mp4", tmp_path / "b.mp4", 10, 9000, 64)


def test_a_name_that_is_not_utf_8_is_one_clear_error(tmp_path):
    name = os.fsdecode(b"n\xff.mp4")
    with pytest.raises(UserError, match=r"n\\xff\.mp4: the path of a video must be UTF-8"):
        opencv_name(tmp_path / name)
    try:
        (tmp_path / name).write_bytes(b"film")
    except OSError:
        pytest.skip("this disk takes no such names")
    with pytest.raises(UserError, match="must be UTF-8"):
        open_source(tmp_path / name)


def test_a_colon_is_no_protocol(tmp_path, monkeypatch):
    film(tmp_path / "a.mp4", frames=3)
    (tmp_path / "a.mp4").rename(tmp_path / "clip:1.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(list(open_source("clip:1.mp4").frames())) == 3


def skipped(path):
    source = open_source(path)
    return len(list(source.frames())), [entry.reason for entry in source.skipped]


def test_a_matroska_file_with_a_longer_sound_track_is_whole(tmp_path):
    path = film(tmp_path / "a.mkv", codec="FFV1")
    content = path.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # the duration of the whole, a float64
    (length,) = struct.unpack(">d", content[place : place + 8])
    path.write_bytes(content[:place] + struct.pack(">d", 2 * length) + content[place + 8 :])
    assert open_source(path).count == 40
    assert skipped(path) == (20, [])


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "FFV1"), ("avi", "MJPG")])
def test_a_file_that_is_cut_short_is_told(tmp_path, suffix, codec):
    content = film(tmp_path / f"a.{suffix}", codec=codec).read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) * 2 // 3])
    read, reasons = skipped(tmp_path / f"cut.{suffix}")
    assert 0 < read < 20 and reasons == [f"the video ends after {read} of 20 frames"]


def test_an_mp4_file_whose_index_stands_in_front_is_told_when_cut(tmp_path):
    content = film(tmp_path / "a.mp4").read_bytes()
    index = content.index(b"moov") - 4
    moov = bytearray(content[index:])
    place = moov.index(b"stco") + 12  # where the pictures lie: behind the index, now
    for i in range(int.from_bytes(moov[place - 4 : place], "big")):
        entry = slice(place + 4 * i, place + 4 * i + 4)
        moov[entry] = (int.from_bytes(moov[entry], "big") + len(moov)).to_bytes(4, "big")
    start = int.from_bytes(content[:4], "big")  # ftyp
    whole = content[:start] + bytes(moov) + content[start:index]
    (tmp_path / "whole.mp4").write_bytes(whole)
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    assert skipped(tmp_path / "whole.mp4") == (20, [])
    read, reasons = skipped(tmp_path / "cut.mp4")
    assert 0 < read < 20 and reasons == [f"the video ends after {read} of 20 frames"]
