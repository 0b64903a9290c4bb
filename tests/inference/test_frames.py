"""Pictures, folders and videos as streams of frames; what is damaged is listed, not fatal."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from posedistill.errors import UserError
from posedistill.inference.sources import Unreadable, open_source, read_image


def picture(path, color=(200, 30, 60), size=(40, 30)):
    Image.new("RGB", size, color).save(path)
    return path


def video(path, frames=5, size=(64, 48), fps=10):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    for i in range(frames):
        writer.write(np.full((size[1], size[0], 3), (40 * i, 0, 255 - 40 * i), np.uint8))  # BGR: from red to blue
    writer.release()
    return path


def test_a_folder_is_read_in_the_order_of_names_without_other_files(tmp_path):
    for name in ("b.png", "a.png", "000000000001.jpg"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = list(open_source(tmp_path).frames())
    assert [frame.name for frame in frames] == ["000000000001.jpg", "a.png", "b.png"]
    assert [frame.image_id for frame in frames] == [0, 1, 2]
    assert frames[1].image.shape == (30, 40, 3)
    assert frames[1].image[0, 0].tolist() == [200, 30, 60]  # RGB


def test_image_ids_are_the_numbers_of_coco_file_names(tmp_path):
    for name in ("000000000785.jpg", "000000001000.jpg"):
        picture(tmp_path / name)
    assert [frame.image_id for frame in open_source(tmp_path).frames()] == [785, 1000]


def test_damaged_pictures_are_listed_and_the_rest_is_read(tmp_path):
    whole = picture(tmp_path / "a.jpg", size=(300, 300))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (300, 300, 3), np.uint8)).save(whole)
    (tmp_path / "b.jpg").write_bytes(whole.read_bytes()[:4000])
    (tmp_path / "c.jpg").write_bytes(b"this is text")
    (tmp_path / "d.jpg").write_bytes(b"")
    source = open_source(tmp_path)
    assert [frame.name for frame in source.frames()] == ["a.jpg"]
    assert [skipped.name for skipped in source.skipped] == ["b.jpg", "c.jpg", "d.jpg"]
    assert [skipped.reason for skipped in source.skipped] == ["image cut off", "image unreadable", "image file empty"]
    entries = list(open_source(tmp_path).entries())
    assert [entry.name for entry in entries] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert entries[1:] == [Unreadable(f"{name}.jpg", i + 1) for i, name in enumerate("bcd")]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to view
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (40, 30, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (6, 8, 3)
    assert (image == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    grey = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    cv2.imwrite(str(tmp_path / f"grey{suffix}"), grey)
    assert np.abs(read_image(tmp_path / f"grey{suffix}")[..., 0].astype(int) - grey / 257).max() <= 1


def test_levels_of_unknown_range_are_unreadable(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: image unreadable"):
        read_image(tmp_path / "a.tif")


def test_of_a_moving_gif_the_first_picture(tmp_path):
    red, blue = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    (frame,) = open_source(tmp_path / "a.gif").frames()
    assert frame.image[0, 0].tolist() == [255, 0, 0]


def test_nothing_of_a_folder_is_passed_over_in_silence(tmp_path):
    picture(tmp_path / "Größe 人.JPG")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "drawing.svg").write_text("<svg/>")
    (tmp_path / "inside").mkdir()
    video(tmp_path / "clip.mp4")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    source = open_source(tmp_path)
    assert [frame.name for frame in source.frames()] == ["Größe 人.JPG"]
    assert [skipped.name for skipped in source.skipped] == ["drawing.svg", "gone.jpg"]
    assert source.left_out == ["clip.mp4", "inside"]


def test_a_video_is_read_frame_by_frame_as_rgb(tmp_path):
    source = open_source(video(tmp_path / "clip.mp4"))
    frames = list(source.frames())
    assert source.count == 5
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [frame.image_id for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[2].name == "clip.mp4#2"
    red, _, blue = frames[0].image.mean((0, 1))
    assert red > 200 and blue < 50
    assert not source.skipped


def test_a_damaged_video_is_listed(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video at all" * 50)
    source = open_source(tmp_path / "clip.mp4")
    assert list(source.frames()) == []
    assert [skipped.name for skipped in source.skipped] == ["clip.mp4"]


def test_damaged_frames_keep_their_places(tmp_path, monkeypatch):
    source = open_source(video(tmp_path / "clip.mp4"))
    kept = [frame for frame in source.video.frames() if frame[0] in (1, 3)]
    monkeypatch.setattr(type(source.video), "frames", lambda _: iter(kept))
    entries = list(source.entries())
    assert [(entry.name, entry.image_id) for entry in entries] == [(f"clip.mp4#{i}", i) for i in range(5)]
    assert [isinstance(entry, Unreadable) for entry in entries] == [True, False, True, False, True]
    assert entries[4].seconds == pytest.approx(0.4)


def test_a_video_that_ends_early_is_listed(tmp_path):
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(20):
        writer.write(np.random.default_rng(i).integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = open_source(tmp_path / "cut.avi")
    read = len(list(source.frames()))
    assert 0 < read < 20
    assert [entry.reason for entry in source.skipped] == [
        f"{read} of 20 frames can be read; the video is cut off or damaged"
    ]


def test_an_unknown_kind_of_file_is_told_what_can_be_read(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(
        UserError, match=r"a picture \(.*\.jpg.* or any other kind that Pillow reads\), a video \(.*\.mp4"
    ):
        open_source(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["missing.jpg", "notes.txt"])
def test_what_is_no_source_is_one_clear_error(tmp_path, name):
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(UserError, match=name):
        open_source(tmp_path / name)


def test_a_folder_without_pictures_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match="no pictures"):
        open_source(tmp_path)


@pytest.mark.parametrize("suffix", ["jfif", "ppm", "apng", "JPE"])
def test_other_suffixes_of_pictures_are_read_alone_and_in_a_folder(tmp_path, suffix):
    file = picture(tmp_path / "a.png").rename(tmp_path / f"a.{suffix}")
    for place in (file, tmp_path):
        assert [frame.name for frame in open_source(place).frames()] == [file.name]


@pytest.mark.parametrize("suffix", ["heic", "svg"])
def test_pictures_that_cannot_be_read_are_listed_alone_and_in_a_folder(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(b"of another kind")
    for place in (tmp_path / f"a.{suffix}", tmp_path):
        source = open_source(place)
        assert not list(source.frames())
        assert [skipped.name for skipped in source.skipped] == [f"a.{suffix}"]


def test_only_plain_files_are_read(tmp_path):
    """Reading a named pipe would wait for ever."""
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("c.png")
    (tmp_path / "d").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "e.mp4")
    source = open_source(tmp_path)
    assert [frame.name for frame in source.frames()] == ["a.png"]
    assert [(skipped.name, skipped.reason) for skipped in source.skipped] == [
        ("b.png", "not a plain file"),
        ("c.png", "image cannot be opened"),
    ]
    assert source.left_out == ["d", "e.mp4"]
    for name in ("b.png", "e.mp4"):
        with pytest.raises(UserError, match="not a plain file"):
            open_source(tmp_path / name)
    with pytest.raises(UserError, match=r"c\.png: there is no such file or folder"):
        open_source(tmp_path / "c.png")
