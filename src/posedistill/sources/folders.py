"""Which files of a folder are pictures, and which are videos: the same for all commands."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from posedistill.errors import UserError
from posedistill.files import files_below, printable

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"))  # those to name in messages
UNKNOWN = frozenset((".heic", ".heif", ".jxl", ".svg"))  # pictures, too, which Pillow does not know
VIDEOS = frozenset((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"))


def is_picture(path: Path) -> bool:
    """Whether the suffix is that of a picture, readable or not: what cannot be read is to be listed."""
    suffix = path.suffix.lower()
    known = Image.registered_extensions().get(suffix, "")  # to Pillow, which also registers films and documents
    kinds = (Image.MIME.get(known, ""), mimetypes.guess_type(path.name)[0] or "")
    return suffix in PICTURES | UNKNOWN or any(kind.startswith("image/") for kind in kinds)


def is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS


class Listing(NamedTuple):
    """What is in a folder. pictures: readable or not. left_out: videos and, unless they were looked into, subfolders.
    Both sorted."""

    pictures: list[Path]
    left_out: list[Path]


def list_folder(folder: Path, *, below: bool = False) -> Listing:
    """The pictures of a folder, without hidden files and those of other kinds. below: look into subfolders, too."""
    try:
        paths = files_below(folder) if below else sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{printable(folder)}: cannot be read ({error.strerror})") from error
    paths = [path for path in paths if not path.name.startswith(".")]
    folders = {path for path in paths if path.is_dir()}
    pictures = [path for path in paths if is_picture(path) and path not in folders]
    return Listing(pictures, [path for path in paths if is_video(path) or path in folders])
