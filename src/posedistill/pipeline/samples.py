"""A picture to try a model on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posedistill.data.store.arrow import ValStore
from posedistill.errors import UserError
from posedistill.inference.sources import read_image


def pick(
    picture: str | Path | None = None, box: list[float] | None = None, number: int = 0
) -> tuple[NDArray[np.uint8], list[float]]:
    """RGB [H, W, 3] and box (x, y, w, h): of the file `picture`, or of validation picture `number`.

    Without `box`, the box of the validation picture's first person, or the whole of a file's picture.
    """
    if picture is None:
        image, first = validation_sample(number)
    else:
        image = read_image(picture)
        first = [0.0, 0.0, float(image.shape[1]), float(image.shape[0])]
    return image, first if box is None else [float(value) for value in box]


def validation_sample(number: int = 0, prepared: str | Path = "prepared") -> tuple[NDArray[np.uint8], list[float]]:
    """Picture `number` (RGB [H, W, 3]) of the first prepared validation set, and the first person's box (x, y, w, h).

    The whole picture is the box where it has no person. UserError if nothing is prepared, or not so many pictures.
    """
    folders = sorted(Path(prepared).glob("val-*"))
    if not folders:
        raise UserError(f"{prepared} has no validation set: run the stage prepare first (dvc repro prepare)")
    store = ValStore(folders[0])
    if not 0 <= number < len(store.images):
        raise UserError(f"validation picture {number}: allowed are 0 to {len(store.images) - 1}")
    image = store.picture(number)
    rows = np.flatnonzero(store.persons.image == number)
    box = store.persons.box[rows[0]].tolist() if len(rows) else [0.0, 0.0, image.shape[1], image.shape[0]]
    return image, box
