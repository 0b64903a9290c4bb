"""The same persons side by side: ground truth and the prediction of every model."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from posedistill.analysis.weaknesses import Paired
from posedistill.evaluation.wholebody import Matched
from posedistill.reporting.pictures import GAP, crop_person, draw_skeleton, font
from posedistill.reporting.style import MODEL_NAMES

RANKS = (0.2, 0.4, 0.6, 0.8)  # of the persons by the baseline's OKS
LABELLED = 100  # keypoints at least
TALL = (1.2, 3.0)  # height over width of the box, so that a person fills a tile
SIZE = (192, 272)  # of a tile in pixels
THRESHOLD = 0.2  # of the score of points without a label
HEAD, FOOT = 24, 20  # pixels above the columns, and below each tile

RULE = (
    f"Chosen by a rule, not by eye: of the persons with at least {LABELLED} labelled points whose box is between "
    f"{TALL[0]:g} and {TALL[1]:g} times as tall as wide, those at {', '.join(f'{100 * r:.0f}' for r in RANKS)} % "
    "of the ranking by the baseline's OKS."
)


def shared(paired: Mapping[str, Paired]) -> dict[str, Paired]:
    """The persons that every model predicted, in the same order for all."""
    common = np.array(sorted(set.intersection(*(set(one.person.tolist()) for one in paired.values()))), dtype=np.int64)
    found = {}
    for model, one in paired.items():
        order = np.argsort(one.person)
        rows = order[np.searchsorted(one.person[order], common)]
        found[model] = Paired(common, one.predicted[rows], one.oks[rows], one.similarity[rows], one.distance[rows])
    return found


def typical_rows(matched: Matched, reference: Paired) -> list[int]:
    """Rows of `reference` (the baseline's pairs) at RANKS of its OKS; RULE in words."""
    truth = matched.truth
    labelled = (truth.keypoints[reference.person, :, 2] > 0).sum(axis=1)
    box = truth.box[reference.person]
    tall = box[:, 3] / np.maximum(box[:, 2], 1)
    fit = np.flatnonzero((labelled >= LABELLED) & (tall >= TALL[0]) & (tall <= TALL[1]))
    if not len(fit):
        fit = np.arange(len(reference.person))
    order = fit[np.argsort(reference.oks[fit], kind="stable")]
    return list(dict.fromkeys(int(order[int(rank * (len(order) - 1))]) for rank in RANKS)) if len(order) else []


def side_by_side(
    matched: Mapping[str, Matched],
    paired: Mapping[str, Paired],
    image_of: Callable[[int], Image.Image],
    reference: str = "baseline",
) -> Image.Image:
    """A row for each typical person, a column for the truth and each model (model → its matches and pairs), each with
    the person's whole-body OKS."""
    columns = ["truth", *(MODEL_NAMES.get(model, model) for model in matched)]
    truth = matched[reference].truth
    rows = typical_rows(matched[reference], paired[reference])
    width = len(columns) * (SIZE[0] + GAP) - GAP
    sheet = Image.new("RGB", (width, HEAD + len(rows) * (SIZE[1] + FOOT + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(columns):
        draw.text((column * (SIZE[0] + GAP) + SIZE[0] / 2, 2), name, fill="black", font=font(16), anchor="ma")
    for line, row in enumerate(rows):
        person = paired[reference].person[row]
        image = image_of(int(truth.image_ids[truth.image[person]]))
        found = {model: one.predictions.keypoints[paired[model].predicted[row]] for model, one in matched.items()}
        tiles = _tiles(image, truth.box[person], truth.keypoints[person], list(found.values()))
        texts = [f"image {truth.image_ids[truth.image[person]]}"]
        texts += [f"OKS {100 * paired[model].oks[row]:.0f} %" for model in matched]
        y = HEAD + line * (SIZE[1] + FOOT + GAP)
        for column, (tile, text) in enumerate(zip(tiles, texts, strict=True)):
            x = column * (SIZE[0] + GAP)
            sheet.paste(tile, (x, y))
            draw.text((x + SIZE[0] / 2, y + SIZE[1] + 2), text, fill="black", font=font(13), anchor="ma")
    return sheet


def _tiles(image: Image.Image, box: NDArray, truth: NDArray, predictions: list[NDArray]) -> list[Image.Image]:
    """The person by the truth, then by each prediction [133, 3]; drawn are points with a label, and others above the
    threshold."""
    cut, true_points = crop_person(image, box.tolist(), truth, SIZE, 1.1)
    tiles = [draw_skeleton(cut, true_points, width=1.8)]
    for prediction in predictions:
        _, points = crop_person(image, box.tolist(), prediction, SIZE, 1.1)
        points[:, 2] = (points[:, 2] > THRESHOLD) | (true_points[:, 2] > 0)
        tiles.append(draw_skeleton(cut, points, width=1.8))
    return tiles
