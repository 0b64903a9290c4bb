"""Left mistaken for right: how often the sides of a person are swapped, by pair and by view."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posedistill.analysis.weaknesses import Paired
from posedistill.evaluation.wholebody import Matched
from posedistill.keypoints import FLIP_PAIRS, NAMES, PARTS
from posedistill.reporting.style import MODEL_NAMES
from posedistill.reporting.tables import Table, row_table

APART = 0.05  # of the longer side of the box: closer sides cannot be judged
VIEWS = ("front", "side", "back")
_TURNED = 0.35  # shoulder width over torso length below which a person is seen from the side


def _groups() -> dict[str, list[tuple[int, int]]]:
    """Pairs (left, right) that are judged together: a limb's joint, a foot, the face, a hand."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for a, b in FLIP_PAIRS:
        left, right = (a, b) if not NAMES[a].startswith("right") else (b, a)
        if a >= PARTS["lefthand"].start:
            name = "hands"
        elif a >= PARTS["face"].start:
            name, left, right = "face", b, a  # the first of the 68 points lie on the person's right
        elif a >= PARTS["foot"].start:
            name = "feet"
        else:
            joint = NAMES[a].partition("_")[2]
            name = "hips" if joint == "hip" else f"{joint}s"
        groups.setdefault(name, []).append((left, right))
    return groups


GROUPS = _groups()


@dataclass(frozen=True)
class Sides:
    """N persons: `swapped` group → [N] 1 where the sides are swapped, 0 where not, NaN where it cannot be told (a side
    is not labelled, or the sides lie closer than APART); `view` [N] index into VIEWS, −1 where it cannot be told."""

    swapped: dict[str, NDArray[np.float64]]
    view: NDArray[np.int64]


def sides(matched: Matched, paired: Paired) -> Sides:
    """Whether each person's sides are swapped: each predicted side lies, in the mean over the pairs of the group,
    nearer to the other side's place than to its own."""
    truth = matched.truth.keypoints[paired.person]
    points = matched.predictions.keypoints[paired.predicted][:, :, :2]
    longer = np.maximum(matched.truth.box[paired.person, 2:].max(axis=1), 1)
    swapped = {}
    for name, pairs in GROUPS.items():
        left, right = (np.array(side) for side in zip(*pairs))
        seen = (truth[:, left, 2] > 0) & (truth[:, right, 2] > 0)  # [N, pairs]
        apart = _distance(truth[:, left], truth[:, right])
        own = _distance(points[:, left], truth[:, left]) + _distance(points[:, right], truth[:, right])
        other = _distance(points[:, left], truth[:, right]) + _distance(points[:, right], truth[:, left])
        count = np.maximum(seen.sum(axis=1), 1)
        told = seen.any(axis=1) & ((apart * seen).sum(axis=1) / count > APART * longer)
        swapped[name] = np.where(told, ((other - own) * seen).sum(axis=1) < 0, np.nan)
    return Sides(swapped, _views(truth))


def _distance(a: NDArray, b: NDArray) -> NDArray:
    return np.linalg.norm(a[..., :2] - b[..., :2], axis=-1)


def _views(truth: NDArray) -> NDArray[np.int64]:
    """View [N] of each person [N, 133, 3], from the shoulders against the torso's axis."""
    names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    corners = truth[:, [NAMES.index(name) for name in names]]
    across = corners[:, 0, :2] - corners[:, 1, :2]
    down = (corners[:, 2, :2] + corners[:, 3, :2] - corners[:, 0, :2] - corners[:, 1, :2]) / 2
    # Left of the person on the right of the picture, as the torso's axis points: towards the camera.
    facing = (across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]) / np.maximum((down**2).sum(axis=1), 1e-9)
    view = np.where(facing > _TURNED, 0, np.where(facing < -_TURNED, 2, 1))
    return np.where((corners[..., 2] > 0).all(axis=1), view, -1)


def swap_table(found: Sides) -> Table:
    """Share of persons with swapped sides in %, with the number judged: one row per group, one column per view."""
    chosen = {f"from the {view}": found.view == i for i, view in enumerate(VIEWS)}
    chosen["all"] = np.full(len(found.view), True)
    rows = {
        name: {view: _share(values[which]) for view, which in chosen.items()} for name, values in found.swapped.items()
    }
    note = (
        "Swapped: the predicted sides lie nearer to each other's true places than to their own. Counted where both "
        f"are labelled and at least {100 * APART:.0f} % of the box apart; “all” holds persons of unknown view, too."
    )
    return row_table(rows, "sides swapped, % of persons", notes=note)


def _share(values: NDArray) -> str | None:
    told = values[np.isfinite(values)]
    return f"{100 * told.mean():.1f} (n = {len(told):,})" if len(told) else None


def swapped_names(found: Sides, row: int) -> list[str]:
    """The groups whose sides are swapped in one person."""
    return [name for name, values in found.swapped.items() if values[row] == 1]


def models_table(found: Mapping[str, Sides]) -> Table:
    """`swap_table` of several models, all views together: one row per group, one column per model."""
    groups = next(iter(found.values())).swapped
    rows = {
        name: {MODEL_NAMES.get(model, model): _share(one.swapped[name]) for model, one in found.items()}
        for name in groups
    }
    return row_table(rows, "sides swapped, % of persons")
