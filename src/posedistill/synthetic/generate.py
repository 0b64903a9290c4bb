"""Renders a data set of people into a COCO-WholeBody folder, on all cores, resumably."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posedistill.errors import UserError
from posedistill.files import sha256_file, write_atomic
from posedistill.fingerprint import code_hash
from posedistill.parallel import cores, in_parts
from posedistill.progress import progress as progress_bar
from posedistill.synthetic.annotate import annotate
from posedistill.synthetic.body import ASSET
from posedistill.synthetic.scene import SceneOptions, Studio

CHUNK = 16  # pictures a task; a finished chunk survives an interruption
QUALITY = 92  # JPEG, without chroma subsampling
_studios: dict[str, Studio] = {}


def render_dataset(
    asset_dir: str | Path,
    out: str | Path,
    images: int,
    seed: int,
    workers: int | None = None,
    *,
    options: SceneOptions | None = None,
    progress: bool = True,
) -> None:
    """Render `images` pictures into out/images/%06d.jpg and their annotations into out/annotations.json.

    The folder is a COCO-WholeBody data set; annotations carry two more keys, `mode` (pose) and `frame` (how much of the
    first person the picture shows). Picture i depends on (seed, i) and the options alone: any number of workers gives
    the same bytes, and the first n pictures of a larger set are those of a smaller one.

    workers: processes; None = all cores of this process. An interrupted call resumes; a finished one returns at
    once; other settings or another renderer start over.
    Raises UserError for a missing asset or impossible numbers.
    """
    if images < 1:
        raise UserError(f"rendered data: images is {images}; it must be at least 1")
    if seed < 0:
        raise UserError(f"rendered data: seed is {seed}; it must not be negative")
    asset_dir, out, options = Path(asset_dir), Path(out), options or SceneOptions()
    if not (asset_dir / ASSET).is_file():
        raise UserError(
            f"{asset_dir / ASSET}: the body from which people are rendered is missing; it is part of assets/body"
        )
    stamp = _fingerprint(asset_dir, images, seed, options)
    marker, parts, final = out / "render.json", out / "parts", out / "annotations.json"
    if not marker.is_file() or marker.read_text() != stamp:
        for stale in (parts, out / "images"):
            shutil.rmtree(stale, ignore_errors=True)
        final.unlink(missing_ok=True)
        write_atomic(marker, stamp)
    chunks = [(start, min(start + CHUNK, images)) for start in range(0, images, CHUNK)]
    if final.is_file() and all((out / "images" / _name(i)).is_file() for i in range(images)):
        return
    for folder in (parts, out / "images"):
        folder.mkdir(parents=True, exist_ok=True)
    open_chunks = [c for c in chunks if not _finished(out, *c)]
    tasks = [(str(asset_dir), str(out), seed, start, stop, options) for start, stop in open_chunks]
    todo = sum(stop - start for start, stop in open_chunks)
    bar = progress_bar(desc="rendering people", unit="images", total=images, initial=images - todo, show=progress)
    with bar, _one_thread():
        for done in in_parts(_render_chunk, iter(tasks), min(workers or cores(), len(tasks))):
            bar.update(done)
    _merge(out, images, seed, options, chunks)
    shutil.rmtree(parts)


def render_image(
    asset_dir: str | Path, seed: int, index: int, options: SceneOptions
) -> tuple[bytes, dict[str, Any], list[dict[str, Any]]]:
    """JPEG bytes, COCO image entry and annotations (without ids) of one picture."""
    key = str(Path(asset_dir).resolve())
    if key not in _studios:
        _studios[key] = Studio(asset_dir)
    scene = _studios[key].draw(np.random.default_rng([seed, index]), options)
    buffer = io.BytesIO()
    Image.fromarray(scene.image).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    height, width = scene.image.shape[:2]
    return (
        buffer.getvalue(),
        {"id": index, "file_name": _name(index), "width": width, "height": height},
        annotate(scene, index),
    )


def _name(index: int) -> str:
    return f"{index:06d}.jpg"


def _render_chunk(task: tuple[str, str, int, int, int, SceneOptions]) -> int:
    asset_dir, out, seed, start, stop, options = task
    images, annotations = [], []
    for index in range(start, stop):
        jpeg, image, people = render_image(asset_dir, seed, index, options)
        write_atomic(Path(out) / "images" / image["file_name"], jpeg)
        images.append(image)
        annotations.append(people)
    write_atomic(Path(out) / "parts" / f"{start:06d}.json", json.dumps([images, annotations]))
    return stop - start


def _finished(out: Path, start: int, stop: int) -> bool:
    return (out / "parts" / f"{start:06d}.json").is_file() and all(
        (out / "images" / _name(i)).is_file() for i in range(start, stop)
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Worker processes started inside use one thread each."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _merge(out: Path, images: int, seed: int, options: SceneOptions, chunks: list[tuple[int, int]]) -> None:
    document: dict[str, Any] = {
        "info": {"description": "people rendered from a parametric body", "images": images, "seed": seed},
        "licenses": [],
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
    }
    for start, _ in chunks:
        entries, people = json.loads((out / "parts" / f"{start:06d}.json").read_text())
        document["images"] += entries
        document["annotations"] += [a for of_image in people for a in of_image]
    for number, annotation in enumerate(document["annotations"], start=1):
        annotation["id"] = number
    write_atomic(out / "annotations.json", json.dumps(document, separators=(",", ":")))


def _fingerprint(asset_dir: Path, images: int, seed: int, options: SceneOptions) -> str:
    """What the pictures depend on: settings, body, and the renderer's code."""
    settings = {
        "images": images,
        "seed": seed,
        "options": asdict(options),
        "body": sha256_file(asset_dir / ASSET),
        "renderer": code_hash("synthetic.generate:_render_chunk", "synthetic.generate:_merge"),
    }
    return json.dumps(settings, indent=1)
