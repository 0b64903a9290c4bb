"""Pictures without labels, for distillation from a teacher alone: a folder of images, or a video, with person boxes.

Every keypoint of such a person has weight 0: the label loss ignores it, the logit and feature losses do not.
Boxes: a COCO detection file. An entry's `file_name` is the safe way to name its picture. Its `image_id` is, as for
`posedistill predict`, the number in the picture's name where the image_ids are such numbers, else the picture's place
(from 0) in the sorted list of file names; for a video, the frame's number (from 0). Without boxes each picture is one
person.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.files import printable
from posedistill.params import Source
from posedistill.sources import coco, pixels, videos
from posedistill.sources.detections import person, read_boxes
from posedistill.sources.folders import is_video, list_folder
from posedistill.sources.names import ids_are_numbers, numbers_in, spelling
from posedistill.sources.person import Funnel, ImageRef, Person, SourcePersons, no_keypoints
from posedistill.sources.pixels import BrokenImage

NO_PICTURE = "no such picture in this source"
VIDEO_LEFT_OUT = "video in a folder of pictures, not read"
CUT_OFF = "video cut off: its last frames are missing"


def load(source: Source, root: Path, split: str) -> SourcePersons:
    """Persons without labels. UserError if the source is no readable folder or video, or is to be validated on."""
    if split != "train":
        raise UserError(f"data.{split}: source {source.name} is unlabelled: it can only be trained on")
    place = root / str(source.images)
    funnel = Funnel(source.name)
    if place.is_dir():
        refs = _pictures(place, funnel)
    elif place.is_file() and is_video(place):
        refs = _frames(place, source.step, funnel)
    else:
        raise UserError(f"source {source.name}: {printable(place)} is neither a folder of pictures nor a video")
    if not refs:
        raise UserError(f"source {source.name}: there are no pictures in {printable(place)}")
    if source.detections:
        files = [root / source.detections]
        persons = _boxes(files[0], refs, funnel)
    else:
        files = []
        persons = _whole_pictures(refs, funnel)
    return SourcePersons(persons, [funnel], None, files, {"images": len(refs)})


def _pictures(folder: Path, funnel: Funnel) -> dict[int, ImageRef]:
    found = list_folder(folder, below=True)
    for path in found.left_out:
        funnel.note(VIDEO_LEFT_OUT, printable(path.relative_to(folder)))
    return {
        place: ImageRef(str(path), None, *_size(path), printable(path.relative_to(folder)))
        for place, path in enumerate(found.pictures)
    }


def _size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture as it is decoded; (0, 0) if it cannot be: reading it will say why."""
    try:
        return pixels.header(path).upright
    except BrokenImage:
        return 0, 0


def _frames(path: Path, step: int, funnel: Funnel) -> dict[int, ImageRef]:
    """Every step-th frame, numbered as in the video (as `posedistill predict` does). Frames lost because the file was
    cut off are included: reading counts them as missing, by name."""
    try:
        video = videos.probe(path)
    except BrokenImage as error:
        raise UserError(f"{printable(path)}: not a readable video") from error
    if video.expected > len(video.times):
        funnel.note(CUT_OFF, printable(path.name), video.expected - len(video.times))
    frames = range(0, video.expected, step)
    name = printable(path.name)
    return {i: ImageRef(str(path), i, video.width, video.height, f"{name}#{i}") for i in frames}


def _whole_pictures(refs: dict[int, ImageRef], funnel: Funnel) -> list[Person]:
    """One person per picture, whose box is the picture."""
    persons = []
    for place, ref in refs.items():
        funnel.read += 1
        if ref.width == 1 or ref.height == 1:
            funnel.drop(coco.DEGENERATE, ref.name)
            continue
        funnel.kept += 1  # for now: an unreadable picture (0 × 0) is dropped when it is read
        box = np.array([0, 0, max(ref.width, 1), max(ref.height, 1)], np.float32)
        persons.append(Person(ref, place, place, box, no_keypoints(), float(ref.width * ref.height)))
    return persons


def _boxes(path: Path, refs: dict[int, ImageRef], funnel: Funnel) -> list[Person]:
    """Persons of a detection file. Entries name their picture by `file_name`, or by `image_id` where they have no
    `file_name`; in a video, whose frames have no names of their own, the `image_id` goes first."""
    found = read_boxes(path, funnel, default_score=1.0)
    in_video = any(ref.frame is not None for ref in refs.values())
    by_name = {spelling(ref.name): identity for identity, ref in refs.items()}
    numbers = {} if in_video else {number: by_name[name] for name, number in numbers_in(by_name).items()}
    pictures = [detection.picture(by_number=in_video) for detection in found]
    image_ids = [picture for picture in pictures if isinstance(picture, int)]
    if ids_are_numbers(set(image_ids), numbers, refs):
        funnel.note("boxes whose image_id is the number in a picture's name", count=len(image_ids))
    else:
        numbers = {identity: identity for identity in refs}
    persons = []
    for detection, picture in zip(found, pictures):
        if isinstance(picture, str) and picture not in by_name:
            raise UserError(f"{path}: {detection.where}: file_name: there is no picture {shorten(picture)}")
        place = by_name[picture] if isinstance(picture, str) else numbers.get(picture, -1)
        if place not in refs:
            funnel.drop(NO_PICTURE, f"image {picture}")
        elif coco.beside(detection.box, refs[place]):
            funnel.drop(coco.OUTSIDE, detection.where)
        else:
            funnel.kept += 1
            persons.append(person(detection, place, refs[place]))
    order = {identity: position for position, identity in enumerate(refs)}
    persons.sort(key=lambda one: order[one.image_id])
    return [replace(one, annotation_id=index) for index, one in enumerate(persons)]
