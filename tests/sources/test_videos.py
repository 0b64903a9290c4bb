"""Videos as they come: missing ends and ends that only seem so, uneven times, odd names, turned pictures, damage."""

import os
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from posedistill.sources import videos
from posedistill.sources.pixels import BrokenImage


def film(path, codec, pix_fmt="yuv420p", size=(64, 48), frames=20, times=None, sound=0, options=None, **attributes):
    """Noise at 10 frames per second, or at `times`; sound: seconds of silence beside it."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000 if times else 10)
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        audio = container.add_stream("libopus", rate=48_000) if sound else None
        for i in range(frames):
            noise = np.random.default_rng(i).integers(0, 255, (12, 16, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(cv2.resize(noise, size), format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(1000 * times[i]) if times else i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for start in range(0, 48_000 * sound, 960):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), format="s16", layout="stereo")
            silence.sample_rate, silence.pts = 48_000, start
            container.mux(audio.encode(silence))
        if audio:
            container.mux(audio.encode())
    return path


def counts(path):
    """Frames that are read, and frames that the whole video has."""
    video = videos.probe(path)
    places = [place for place, _ in video.frames()]
    assert places == list(range(len(video.times)))
    return len(places), video.expected


def read_by_opencv(path):
    capture = cv2.VideoCapture(str(path))
    while (read := capture.read())[0]:
        yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)


KINDS = {
    "h264.mp4": ("libx264", {}),
    "10 bits.mp4": ("libx264", {"pix_fmt": "yuv420p10le"}),
    "full range.mp4": ("libx264", {"color_range": 2, "colorspace": 1}),
    "mpeg4.mov": ("mpeg4", {}),
    "odd.mkv": ("ffv1", {"size": (63, 47)}),
    "rgb.mkv": ("ffv1", {"pix_fmt": "bgr0"}),
    "vp9.webm": ("libvpx-vp9", {}),
    "mjpeg.avi": ("mjpeg", {"pix_fmt": "yuvj422p"}),
    "frames between.avi": ("mpeg4", {"max_b_frames": 2}),
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_whole_in_order_and_have_the_pixels_that_opencv_reads(tmp_path, name):
    codec, settings = KINDS[name]
    path = film(tmp_path / name, codec, **settings)
    assert counts(path) == (20, 20)
    video = videos.probe(path)
    np.testing.assert_allclose(video.times, np.arange(20) / 10, atol=1e-3)
    assert video.rate == pytest.approx(10)
    for (_, frame), expected in zip(video.frames(), read_by_opencv(path), strict=True):
        np.testing.assert_array_equal(videos.rgb(frame), expected)


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)])
def test_turned_videos_are_read_upright(tmp_path, matrix):
    path = film(tmp_path / "a.mp4", "libx264", frames=2)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    content[place : place + 20] = struct.pack(
        ">5i", matrix[0] << 16, matrix[1] << 16, 0, matrix[2] << 16, matrix[3] << 16
    )
    path.write_bytes(content)
    video = videos.probe(path)
    assert (video.width, video.height) == ((48, 64) if matrix[0] == 0 else (64, 48))
    for (_, frame), expected in zip(video.frames(), read_by_opencv(path), strict=True):
        np.testing.assert_array_equal(videos.rgb(frame), expected)


def test_uneven_times_are_kept(tmp_path):
    times = [0.5, 0.6, 0.7, 1.3, 7200]  # the first is 0
    video = videos.probe(film(tmp_path / "a.mkv", "ffv1", frames=5, times=times))
    np.testing.assert_allclose(video.times, np.array(times) - 0.5, atol=1e-3)


SHORT = {
    "a.mkv": ("ffv1", {}, 20),
    "a.webm": ("libvpx", {}, 20),
    "a.avi": ("mjpeg", {"pix_fmt": "yuvj420p"}, 20),
    "index in front.mp4": ("mpeg4", {"options": {"movflags": "faststart"}}, 20),
    "fragments.mp4": ("libx264", {"options": {"movflags": "frag_keyframe+empty_moov"}}, None),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_video_that_was_cut_off_is_told(tmp_path, name):
    codec, settings, expected = SHORT[name]
    path = film(tmp_path / name, codec, **settings)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    read, whole = counts(path)
    assert 0 < read < 20 and (whole == expected or (expected is None and whole > read))


def test_a_matroska_file_with_a_longer_sound_track_is_whole(tmp_path):
    path = film(tmp_path / "a.mkv", "ffv1", sound=4)
    with av.open(str(path)) as container:
        assert container.duration > 3.9e6
    assert counts(path) == (20, 20)


def test_frames_after_damage_keep_their_places(tmp_path):
    path = film(tmp_path / "a.mp4", "mjpeg", pix_fmt="yuvj420p")
    whole = {place: videos.rgb(frame) for place, frame in videos.probe(path).frames()}
    with av.open(str(path)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[starts[5] : starts[7]] = bytes(starts[7] - starts[5])
    path.write_bytes(content)
    read = {place: videos.rgb(frame) for place, frame in videos.probe(path).frames()}
    assert read.keys() == set(range(20)) - {5, 6}
    assert all((read[place] == whole[place]).all() for place in read)


@pytest.mark.parametrize("name", [b"n\xff.mp4", "größe 人.mp4".encode(), b"file:clip.mp4", b"100%d.mp4"])
def test_any_name_will_do(tmp_path, monkeypatch, name):
    path = film(tmp_path / "a.mp4", "mpeg4", frames=3)
    monkeypatch.chdir(tmp_path)
    try:
        path = path.rename(os.fsdecode(name))
    except OSError:
        pytest.skip("this disk takes no such names")
    assert counts(path) == (3, 3)


def test_a_playlist_is_no_video(tmp_path):
    """FFmpeg would read the files that it names."""
    film(tmp_path / "a.ts", "libx264", frames=3)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile a.ts\n")
    for name in ("list.mp4", "concat.mp4"):
        with pytest.raises(BrokenImage, match="video unreadable"):
            videos.probe(tmp_path / name)


def test_what_is_no_video_is_told_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "text.mp4").write_text("no video" * 99)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe", "text", "empty", "loop", "folder"):
        with pytest.raises(BrokenImage, match="video unreadable"):
            videos.probe(tmp_path / f"{name}.mp4")
    with pytest.raises(BrokenImage, match="video missing"):
        videos.probe(tmp_path / "none.mp4")
