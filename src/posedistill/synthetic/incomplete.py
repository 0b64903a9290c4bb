"""Incomplete labels: the renderer knows every point of a person, annotators label only some of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from posedistill.keypoints import PARTS

# Part → the rate in the settings that decides over it. Feet are labelled together; each hand by itself.
RATES = {"foot": "foot", "face": "face", "lefthand": "hand", "righthand": "hand"}
BODY = PARTS["body"]


def drop_labels(
    keypoints: NDArray[np.float32], rates: Mapping[str, float], seed: int, person: int
) -> NDArray[np.float32]:
    """Remove labels as annotators would have left them out.

    keypoints: [133, 3], third value 0 unlabelled, 1 occluded, 2 visible. rates: `foot`, `face` and `hand`, the share of
    persons whose feet, face, left or right hand keep their labels; `occluded`, the share of occluded body points that
    do. Visible body points always keep theirs. The draw depends on `seed` and the number `person` alone, and a lower
    rate keeps a subset of what a higher rate keeps. Returns a copy; removed points are (0, 0, 0).
    """
    draw = np.random.default_rng([seed, person, 133]).random(len(RATES) + BODY.stop)
    kept = keypoints.copy()
    for (part, rate), chance in zip(RATES.items(), draw):
        if chance >= rates[rate]:
            kept[PARTS[part]] = 0
    hidden = (keypoints[BODY, 2] == 1) & (draw[len(RATES) :] >= rates["occluded"])
    kept[BODY][hidden] = 0
    return kept
