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

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posedistill.data.person import Funnel, ImageRef, Person
from posedistill.data.sources import coco
from posedistill.errors import UserError
from posedistill.files import files_below
from posedistill.params import Source

SCENES = (
    *("Magic_show", "Entertainment", "ConductMusic", "Online_class", "TalkShow", "Speech", "Fitness", "Interview"),
    *("Olympic", "TVShow", "Singing", "SignLanguage", "Movie", "LiveVlog", "VideoConference"),
)
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
ANNOTATIONS = "keypoint_annotation.json"
OTHER_STEP = "frame between the steps"
OTHER_SPLIT = "video of the other split"

# Image ids repeat from scene to scene; in the stores and in gt.json they are made unique by the scene's place.
SCENE_IDS = 10**12


class Frames:
    """Where the frames of one UBody tree are: cut pictures, or videos found by name."""

    def __init__(self, images: Path, videos: Path):
        self.images, self.folder = images, videos
        self.videos: dict[str, list[Path]] = {}
        if videos.is_dir():
            for path in files_below(videos):
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    self.videos.setdefault(path.stem, []).append(path)
        self._files: dict[Path, set[str]] = {}

    def _has(self, folder: Path, name: str) -> bool:
        """Whether a folder of cut frames holds a file: its names are read once."""
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
        # Missing: reading it will say so, and name what is expected to be there.
        cut = (self.images / scene / name.parent).is_dir() or (self.images.is_dir() and not self.folder.is_dir())
        if cut or not name.stem.isdecimal():
            return ImageRef(str(self.images / scene / name), None, *size, label)
        return ImageRef(
            str(self.folder / scene / f"{name.parent.name}.mp4"), int(name.stem) - 1, *size, label, at_30=True
        )

    def names(self) -> set[str]:
        """Videos of all scenes, as the split lists name them."""
        cut = {folder.name for folder in self.images.glob("*/*")} if self.images.is_dir() else set()
        return {_without_clip(name) for name in (*self.videos, *cut)}

    def _video(self, scene: str, stem: str, funnel: Funnel) -> Path | None:
        """The video of a name. Early downloads of the scene Movie carry another folder's name: a video that is
        elsewhere, but only once, is taken from there."""
        found = self.videos.get(stem, [])
        own = [path for path in found if scene in path.relative_to(self.folder).parts]
        if len(own) == 1:
            return own[0]
        if not own and len(found) == 1:
            case = f"{stem} in {found[0].parent.name}, not in {scene}"
            if case not in funnel.examples.get("video in another scene's folder", []):
                funnel.note("video in another scene's folder", case)
            return found[0]
        if len(found) > 1:
            case = f"{stem}: {', '.join(sorted({path.parent.name for path in found}))}"
            if case not in funnel.examples.get("video there more than once, not used", []):
                funnel.note("video there more than once, not used", case)
        return None


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


def load(
    source: Source, root: Path, split: str
) -> tuple[list[Person], list[Funnel], dict[str, Any] | None, list[Path], dict[str, Any]]:
    """Persons, funnels, ground truth (validation), annotation files, details. See `SourcePersons`."""
    base = root / "UBody"
    annotations = root / source.annotations if source.annotations else base / "annotations"
    images = root / str(source.images) if source.images else base / "images"
    videos = root / source.videos if source.videos else base / "videos"
    scenes = source.scenes or SCENES
    for scene in scenes:
        if scenes.count(scene) > 1:
            raise UserError(f"source {source.name}: scenes: {scene} is there twice")
        if scene not in SCENES:
            raise UserError(f"source {source.name}: scenes: there is no scene {scene!r}, allowed: {', '.join(SCENES)}")
    if source.detections:
        raise UserError(f"source {source.name}: detections: UBody is judged on its own boxes, allowed: null")
    if not annotations.is_dir():
        raise UserError(f"source {source.name}: there is no annotation folder {annotations}")
    frames, tests = Frames(images, videos), _test_videos(source, base)
    persons: list[Person] = []
    funnels: list[Funnel] = []
    files: list[Path] = []
    ground_truth: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    pictures, seen = 0, set[str]()
    all_divided = True
    for scene in scenes:
        path, divided = _annotation_file(annotations / scene, source, split, tests)
        files.append(path)
        all_divided &= divided
        offset = SCENE_IDS * SCENES.index(scene)
        funnel = Funnel(f"{source.name}/{scene}")
        skipped = Funnel(f"{source.name}/{scene}", what="pictures")
        wanted = _selection(source, split, None if divided else tests, skipped)

        def locate(
            image: dict[str, Any],
            wanted: Callable[[dict[str, Any]], str | None] = wanted,
            scene: str = scene,
            funnel: Funnel = funnel,
            skipped: Funnel = skipped,
            path: Path = path,
        ) -> ImageRef | None:
            if not 0 <= image["id"] < SCENE_IDS:
                raise UserError(f"{path}: image {image['id']}: id: expected 0 or more and less than {SCENE_IDS:,}")
            skipped.read += 1
            seen.add(_video_name(PurePosixPath(image["file_name"].lstrip("/"))))
            reason = wanted(image)
            if reason:
                skipped.drop(reason)
                return None
            skipped.kept += 1
            return frames.find(scene, PurePosixPath(image["file_name"].lstrip("/")), image, funnel)

        found, truth = coco.read_annotations(path, locate, funnel, ground_truth=split == "val")
        persons += [_shifted(person, offset) for person in found]
        if truth is not None:
            _append(ground_truth, truth, offset, scene)
        funnels += [skipped, funnel]
        pictures += skipped.kept
    if not all_divided:
        if not (source.split == "inter" and source.scenes):  # that split takes whole scenes for the test
            _check_tests(_list_of_tests(source, base), tests or set(), seen | frames.names())
        files.append(_list_of_tests(source, base))
    details = {"images": pictures, "scenes": list(scenes), "videos found": sum(map(len, frames.videos.values()))}
    return persons, funnels, ground_truth if split == "val" else None, files, details


def _check_tests(path: Path, tests: set[str], seen: set[str]) -> None:
    """A list whose names are written otherwise would put all test videos into the training, without a word."""
    if seen and not tests & seen:
        named = f"its names are like {min(tests)!r}" if tests else "it is empty"
        raise UserError(f"{path}: none of the annotated videos is in it: {named}, the videos' like {min(seen)!r}")


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


def _selection(
    source: Source, split: str, tests: set[str] | None, skipped: Funnel
) -> Callable[[dict[str, Any]], str | None]:
    """image entry → why it is not used, or None."""

    def reason(image: dict[str, Any]) -> str | None:
        if image["id"] % source.step:
            return OTHER_STEP
        name = PurePosixPath(image["file_name"].lstrip("/"))
        if tests is not None and (_video_name(name) in tests) != (split == "val"):
            return OTHER_SPLIT
        return None

    return reason


def _shifted(person: Person, offset: int) -> Person:
    return Person(
        person.image,
        person.image_id + offset,
        person.annotation_id + offset,
        person.box,
        person.keypoints,
        person.area,
        person.iscrowd,
        person.score,
        person.valid,
    )


def _append(whole: dict[str, Any], scene_truth: dict[str, Any], offset: int, scene: str) -> None:
    for image in scene_truth["images"]:
        name = image["file_name"].lstrip("/")
        prefixed = name if name.startswith(f"{scene}/") else f"{scene}/{name}"
        whole["images"].append({**image, "id": image["id"] + offset, "file_name": prefixed})
    for annotation in scene_truth["annotations"]:
        shifted = {"id": annotation["id"] + offset, "image_id": annotation["image_id"] + offset}
        whole["annotations"].append({**annotation, **shifted})
    whole["categories"] = scene_truth["categories"]
