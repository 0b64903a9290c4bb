"""Pictures without labels, for distillation from a teacher alone: a folder of images, or a video, with person boxes.

Every keypoint of such a person has weight 0: the label loss does not see it, the logit and feature losses do.
Boxes: a COCO detection file. An entry's `file_name` is the safe way to name its picture. Its `image_id` is, as for
`posedistill predict`, the number in the picture's name where the image_ids are such numbers, else the picture's place
(from 0) in the sorted list of file names; for a video, the frame's number (from 0). Without boxes each picture is one
person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posedistill.data import pixels
from posedistill.data.person import Funnel, ImageRef, Person, no_keypoints
from posedistill.data.sources import coco
from posedistill.data.sources.frame_rate import read_timing
from posedistill.data.sources.json_stream import load_whole
from posedistill.data.sources.ubody import VIDEO_SUFFIXES
from posedistill.errors import UserError
from posedistill.files import files_below, printable
from posedistill.params import Source

NO_PICTURE = "no such picture in this source"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def load(
    source: Source, root: Path, split: str
) -> tuple[list[Person], list[Funnel], dict[str, Any] | None, list[Path], dict[str, Any]]:
    """Persons, funnels, no ground truth, files, details. See `sources.Loaded`."""
    if split != "train":
        raise UserError(f"data.{split}: source {source.name} is unlabelled: it can only be trained on")
    place = root / str(source.images)
    funnel = Funnel(source.name)
    if place.is_file() and place.suffix.lower() in VIDEO_SUFFIXES:
        refs = _video_frames(place, source.step)
    elif place.is_dir():
        paths = [path for path in files_below(place) if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."]
        if not paths:
            raise UserError(f"source {source.name}: there are no pictures in {place}")
        refs = {
            i: ImageRef(str(path), None, *_size(path), printable(path.relative_to(place)))
            for i, path in enumerate(paths)
        }
    else:
        raise UserError(f"source {source.name}: {place} is neither a folder of pictures nor a video")
    if source.detections:
        path = root / source.detections
        persons, files = _boxes(path, refs, funnel), [path]
    else:
        persons, files = [], []
        for identity, ref in refs.items():
            funnel.read += 1
            if ref.width == 1 or ref.height == 1:
                funnel.drop(coco.DEGENERATE, ref.name)
                continue
            # An unreadable picture (0 × 0) is kept for now: reading it will say why, and it counts among the broken.
            funnel.kept += 1
            box = np.array([0, 0, max(ref.width, 1), max(ref.height, 1)], np.float32)
            persons.append(Person(ref, identity, identity, box, no_keypoints(), float(ref.width * ref.height)))
    return persons, [funnel], None, files, {"images": len(refs)}


def _size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture as it is decoded (EXIF applied); (0, 0) if it is unreadable."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            width, height = image.size
            # of a TIFF, Pillow gives the turned size already
            turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, ValueError, SyntaxError, ImageOps.Image.DecompressionBombError):
        try:
            height, width = pixels.decode(path.read_bytes()).shape[:2]  # what is read in the end
        except (OSError, pixels.BrokenImage):
            return 0, 0
        return width, height
    return (height, width) if turned else (width, height)


def _video_frames(path: Path, step: int) -> dict[int, ImageRef]:
    """Every step-th frame, numbered as the video counts them (`posedistill predict` numbers them the same way)."""
    video = cv2.VideoCapture(str(path))
    width, height = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    video.release()
    count = len(read_timing(path).times)
    if not count or not width or not height:
        raise UserError(f"{path}: not a readable video")
    return {i: ImageRef(str(path), i, width, height, f"{path.name}#{i}") for i in range(0, count, step)}


def _boxes(path: Path, refs: dict[int, ImageRef], funnel: Funnel) -> list[Person]:
    """Persons of a detection file. Entries name their picture by `file_name`, or by `image_id` where they have no
    `file_name`; in a video, whose frames have no names of their own, the `image_id` goes first."""
    entries = load_whole(path, "detection file")
    if isinstance(entries, list):
        names = {ref.name: identity for identity, ref in refs.items()}
        in_video = any(ref.frame is not None for ref in refs.values())
        for index, entry in enumerate(entries):
            if not _by_name(entry) or ("image_id" in entry and in_video):
                continue
            name = entry["file_name"]
            if not isinstance(name, str) or name not in names:
                raise UserError(f"{path}: detections[{index}]: file_name: there is no picture {name}")
            entry["image_id"] = names[name]
        _take_numbers(entries, refs, funnel)
    persons = coco.detections_to_persons(path, entries, refs, funnel, NO_PICTURE, seen=True)
    return [
        Person(p.image, p.image_id, index, p.box, p.keypoints, float(p.box[2] * p.box[3]), False, p.score)
        for index, p in enumerate(persons)
    ]


def _by_name(entry: Any) -> bool:
    return isinstance(entry, dict) and "file_name" in entry


def _take_numbers(entries: list[Any], refs: dict[int, ImageRef], funnel: Funnel) -> None:
    """Replace image_ids that are numbers of file names (785 of 000000000785.jpg) by the places of these pictures."""
    stems = {identity: Path(ref.name).stem for identity, ref in refs.items() if ref.frame is None}
    numbers = {int(stem): identity for identity, stem in stems.items() if stem.isdecimal()}
    if len(numbers) < sum(stem.isdecimal() for stem in stems.values()):
        return  # two pictures with one number
    counted = [entry for entry in entries if isinstance(entry, dict) and not _by_name(entry)]
    wanted = {entry["image_id"] for entry in counted if isinstance(entry.get("image_id"), int)}
    if numbers and wanted and (wanted <= numbers.keys() or not wanted <= refs.keys()):
        for entry in counted:
            if isinstance(entry.get("image_id"), int):
                entry["image_id"] = numbers.get(entry["image_id"], -1)
        funnel.note("boxes whose image_id is the number in a picture's name", count=len(counted))
