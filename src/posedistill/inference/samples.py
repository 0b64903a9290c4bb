"""A picture to try a model on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posedistill.data import pixels
from posedistill.data.store import ValStore
from posedistill.errors import UserError


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
    image = pixels.decode(store.images[number])
    rows = np.flatnonzero(store.persons.image == number)
    box = store.persons.box[rows[0]].tolist() if len(rows) else [0.0, 0.0, image.shape[1], image.shape[0]]
    return image, box
