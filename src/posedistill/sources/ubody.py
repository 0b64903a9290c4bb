"""UBody (arXiv 2303.16160): 15 scenes of videos with COCO-WholeBody style annotations, as DWPose trains on it.

Expected below `data.root` (the layout of the official download; each folder can be named otherwise in the source):

    UBody/annotations/<scene>/keypoint_annotation.json      or <split>_annotations.json as mmpose's converter writes it
    UBody/splits/intra_scene_test_list.npy                  names of the test videos
    UBody/videos/<scene>/<video>.mp4                        read directly, nothing needs to be cut to frames
    UBody/images/<scene>/<video>/000001.png                 used instead of the video, frame by frame, where there

As published, pictures are kept whose image id is a multiple of `step` (10), and frame `000010.png` is the tenth frame
of the video played at 30 frames a second (the official script cuts with `ffmpeg -r 30`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posedistill.errors import UserError, shorten
from posedistill.files import files_below
from posedistill.params import Source
from posedistill.sources import coco
from posedistill.sources.folders import is_video
from posedistill.sources.person import Funnel, ImageRef, Person, SourcePersons

SCENES = (
    *("Magic_show", "Entertainment", "ConductMusic", "Online_class", "TalkShow", "Speech", "Fitness", "Interview"),
    *("Olympic", "TVShow", "Singing", "SignLanguage", "Movie", "LiveVlog", "VideoConference"),
)
ANNOTATIONS = "keypoint_annotation.json"
OTHER_STEP = "frame between the steps"
OTHER_SPLIT = "video of the other split"
MOVED = "video in another scene's folder"
AMBIGUOUS = "video found more than once, not used"

# Image ids repeat from scene to scene; in the stores and in gt.json they are made unique by the scene's place.
SCENE_IDS = 10**12


class Frames:
    """Where the frames of one UBody tree are: cut pictures, or videos found by name."""

    def __init__(self, images: Path, videos: Path):
        self.images, self.folder = images, videos
        self.videos: dict[str, list[Path]] = {}
        if videos.is_dir():
            for path in files_below(videos):
                if is_video(path):
                    self.videos.setdefault(path.stem, []).append(path)
        self._files: dict[Path, set[str]] = {}

    def _has(self, folder: Path, name: str) -> bool:
        """Whether a folder of cut frames holds a file. Its names are read once."""
        if folder not in self._files:
            self._files[folder] = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        return name in self._files[folder]

    def find(self, scene: str, name: PurePosixPath, image: dict[str, Any], funnel: Funnel) -> ImageRef:
        """The frame `name` (<video>/<number>.png, perhaps below the scene's folder) of a scene."""
        size = image["width"], image["height"]
        label = f"{scene}/{name.parent.name}/{name.name}"
        for folder in (self.images / scene / name.parent, self.images / name.parent):
            if self._has(folder, name.name):
                return ImageRef(str(folder / name.name), None, *size, label)
        video = self._video(scene, name.parent.name, funnel)
        if video is not None and name.stem.isdecimal():
            return ImageRef(str(video), int(name.stem) - 1, *size, label, at_30=True)
        # Missing: reading it will say so, and name the file that is expected.
        cut = (self.images / scene / name.parent).is_dir() or (self.images.is_dir() and not self.folder.is_dir())
        if cut or not name.stem.isdecimal():
            return ImageRef(str(self.images / scene / name), None, *size, label)
        expected = self.folder / scene / f"{name.parent.name}.mp4"
        return ImageRef(str(expected), int(name.stem) - 1, *size, label, at_30=True)

    def names(self) -> set[str]:
        """Videos of all scenes, as the split lists name them."""
        cut = {folder.name for folder in self.images.glob("*/*")} if self.images.is_dir() else set()
        return {_without_clip(name) for name in (*self.videos, *cut)}

    def _video(self, scene: str, stem: str, funnel: Funnel) -> Path | None:
        """The video of a name. A video found once, in another scene's folder, is taken from there: early downloads of
        the scene Movie have another folder name."""
        found = self.videos.get(stem, [])
        own = [path for path in found if scene in path.relative_to(self.folder).parts]
        if len(own) == 1:
            return own[0]
        if not own and len(found) == 1:
            _note_once(funnel, MOVED, f"{stem} in {found[0].parent.name}, not in {scene}")
            return found[0]
        if found:
            _note_once(funnel, AMBIGUOUS, f"{stem}: {', '.join(sorted({path.parent.name for path in found}))}")
        return None


def _note_once(funnel: Funnel, what: str, case: str) -> None:
    if case not in funnel.examples.get(what, []):
        funnel.note(what, case)


def _test_videos(source: Source, base: Path) -> set[str] | None:
    """Names of the test videos, or None if there is no list. Raises UserError for a damaged list."""
    path = _list_of_tests(source, base)
    if not path.is_file():
        return None
    try:
        names = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a NumPy list of names ({error or 'it is empty'})") from error
    if not isinstance(names, np.ndarray) or names.dtype.kind not in "US":
        raise UserError(f"{path}: not a NumPy list of names")
    return {name.decode() if isinstance(name, bytes) else str(name) for name in names.ravel().tolist()}


def _list_of_tests(source: Source, base: Path) -> Path:
    return base / "splits" / f"{source.split or 'intra'}_scene_test_list.npy"


def _video_name(name: PurePosixPath) -> str:
    """The video a frame belongs to, as the split lists name it: clips are called <video>_Trim<n>."""
    return _without_clip(name.parent.name)


def _without_clip(name: str) -> str:
    return name.split("_Trim")[0]


def load(source: Source, root: Path, split: str) -> SourcePersons:
    """Persons of all scenes, with ground truth for validation. UserError for what is missing or contradictory."""
    base = root / "UBody"
    annotations = root / source.annotations if source.annotations else base / "annotations"
    images = root / str(source.images) if source.images else base / "images"
    videos = root / source.videos if source.videos else base / "videos"
    _check_settings(source, annotations)
    frames, tests = Frames(images, videos), _test_videos(source, base)
    scenes = source.scenes or SCENES
    read = SourcePersons([], [], {"images": [], "annotations": []} if split == "val" else None, [], {})
    pictures, annotated, all_divided = 0, set[str](), True
    for name in scenes:
        path, divided = _annotation_file(annotations / name, source, split, tests)
        scene = _Scene(name, source, split, path, frames, None if divided else tests)
        persons, truth = coco.read_annotations(path, scene.locate, scene.persons, ground_truth=split == "val")
        read.persons += [_shifted(person, scene.offset) for person in persons]
        if truth is not None and read.ground_truth is not None:
            _append(read.ground_truth, truth, scene.offset, name)
        read.funnels += [scene.pictures, scene.persons]
        read.files.append(path)
        pictures += scene.pictures.kept
        annotated |= scene.videos
        all_divided &= divided
    if not all_divided:
        if not (source.split == "inter" and source.scenes):  # that split takes whole scenes for the test
            _check_tests(_list_of_tests(source, base), tests or set(), annotated | frames.names())
        read.files.append(_list_of_tests(source, base))
    found = sum(map(len, frames.videos.values()))
    read.details = {"images": pictures, "scenes": list(scenes), "videos found": found}
    return read


def _check_settings(source: Source, annotations: Path) -> None:
    scenes = source.scenes or SCENES
    for scene in scenes:
        if scenes.count(scene) > 1:
            raise UserError(f"source {source.name}: scenes: {scene} is listed twice")
        if scene not in SCENES:
            allowed = ", ".join(SCENES)
            raise UserError(f"source {source.name}: scenes: there is no scene {shorten(repr(scene))}; use {allowed}")
    if source.detections:
        raise UserError(f"source {source.name}: detections: UBody is evaluated on its own boxes; use null")
    if not annotations.is_dir():
        raise UserError(f"source {source.name}: there is no annotation folder {annotations}")


class _Scene:
    """Which pictures of a scene are used, and where they are. tests: None where the file holds this split alone."""

    def __init__(
        self, name: str, source: Source, split: str, path: Path, frames: Frames, tests: set[str] | None
    ) -> None:
        self.name, self.path, self.frames, self.tests = name, path, frames, tests
        self.step, self.validation = source.step, split == "val"
        self.offset = SCENE_IDS * SCENES.index(name)
        self.persons = Funnel(f"{source.name}/{name}")
        self.pictures = Funnel(f"{source.name}/{name}", what="pictures")
        self.videos: set[str] = set()  # all annotated ones

    def locate(self, image: dict[str, Any]) -> ImageRef | None:
        """Where the pixels of an image entry are; None where it is not used, which `pictures` counts."""
        if not 0 <= image["id"] < SCENE_IDS:
            raise UserError(f"{self.path}: image {image['id']}: id: expected 0 or more and less than {SCENE_IDS:,}")
        name = PurePosixPath(image["file_name"].lstrip("/"))
        video = _video_name(name)
        self.videos.add(video)
        self.pictures.read += 1
        if image["id"] % self.step:
            self.pictures.drop(OTHER_STEP)
        elif self.tests is not None and (video in self.tests) != self.validation:
            self.pictures.drop(OTHER_SPLIT)
        else:
            self.pictures.kept += 1
            return self.frames.find(self.name, name, image, self.persons)
        return None


def _check_tests(path: Path, tests: set[str], annotated: set[str]) -> None:
    """UserError if no annotated video is in the list: spelt otherwise, all test videos would be trained on."""
    if annotated and not tests & annotated:
        listed = f"it lists names like {shorten(repr(min(tests)))}" if tests else "it is empty"
        expected = shorten(repr(min(annotated)))
        raise UserError(f"{path}: none of the annotated videos is in it: {listed}, expected names like {expected}")


def _annotation_file(folder: Path, source: Source, split: str, tests: set[str] | None) -> tuple[Path, bool]:
    """The annotation file of a scene, and whether it holds this split alone."""
    divided = folder / f"{split}_annotations.json"
    if divided.is_file():
        return divided, True
    whole = folder / ANNOTATIONS
    if not whole.is_file():
        raise UserError(f"source {source.name}: there is neither {whole} nor {divided}")
    if tests is None:
        raise UserError(
            f"source {source.name}: there is no list of test videos UBody/splits/"
            f"{source.split or 'intra'}_scene_test_list.npy, so {whole} cannot be divided into train and val"
        )
    return whole, False


def _shifted(person: Person, offset: int) -> Person:
    return replace(person, image_id=person.image_id + offset, annotation_id=person.annotation_id + offset)


def _append(whole: dict[str, Any], scene_truth: dict[str, Any], offset: int, scene: str) -> None:
    for image in scene_truth["images"]:
        name = image["file_name"].lstrip("/")
        prefixed = name if name.startswith(f"{scene}/") else f"{scene}/{name}"
        whole["images"].append({**image, "id": image["id"] + offset, "file_name": prefixed})
    for annotation in scene_truth["annotations"]:
        shifted = {"id": annotation["id"] + offset, "image_id": annotation["image_id"] + offset}
        whole["annotations"].append({**annotation, **shifted})
    whole["categories"] = scene_truth["categories"]
