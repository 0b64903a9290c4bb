"""Where garments and hair can lie on the body: coordinates of every vertex on the canonical body.

A garment is a copy of the body's close-fitting helper mesh, pushed out along the normals and trimmed where its `cover`
coordinate is negative; so its hems cut through triangles, and skin that should be hidden is painted like the cloth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posedistill.synthetic.body import Body

# Materials of a surface; the shading loop in kernels.py knows the first four by number.
SKIN, CLOTH, HAIR, EYE, TEETH, LIP, MOUTH = range(7)


@dataclass(frozen=True)
class Garment:
    """Extent of a garment in the coordinates of `Wardrobe`, and how it looks."""

    kind: str  # top | bottom | shoes
    offset: float  # metres from the skin
    colour: np.ndarray
    second: np.ndarray
    pattern: tuple[int, float, float]  # kind 0…6, cycles a metre, phase
    hem: float = 0.0  # top: lower end, trunk coordinate
    collar: float = 1.0  # top: upper end, trunk coordinate; above 1.04 a turtleneck
    sleeve: float = 0.0  # top: end on the arm, 0 shoulder, 1 elbow, 2 wrist
    waist: float = 0.2  # bottom: upper end, trunk coordinate
    length: float = 2.0  # bottom: end on the leg, 0 hip, 1 knee, 2 ankle
    shaft: float = 1.9  # shoes: upper end on the leg


class Wardrobe:
    """Coordinates of the canonical body's vertices [V].

    trunk: 0 at the hips, 1 at the base of the neck. arm, leg: 0 at shoulder or hip, 1 elbow or knee, 2 wrist or ankle,
    −1 elsewhere. scalp: metres above the hair line, negative on the face.
    """

    def __init__(self, body: Body) -> None:
        t, heads = body.canonical.vertices, body.canonical.heads
        self.canon = t.astype(np.float32)
        self.neck = self._on(body, "neck", "head")
        self.foot = self._on(body, "foot", "toe")
        self.hand = self._on(body, "wrist", "finger", "metacarpal")
        low, high = heads[body.bone["upperleg01.L"], 2], heads[body.bone["neck01"], 2]
        self.trunk = (t[:, 2] - low) / (high - low)
        self.arm = self._along(body, ("upperarm01", "lowerarm01", "wrist"), ("upperarm", "lowerarm"))
        self.leg = self._along(body, ("upperleg01", "lowerleg01", "foot"), ("upperleg", "lowerleg"))
        # necklines run higher behind than in front
        self.neckline = self.trunk + 0.5 * np.where(self.trunk > 0.8, -t[:, 1] - 0.02, 0).clip(-0.06, 0.06)
        self._prepare_head(body)
        self._soften_skirt(body)

    @staticmethod
    def _on(body: Body, *prefixes: str) -> np.ndarray:
        return np.array([bone.startswith(prefixes) for bone in body.bones])[body.dominant]

    @staticmethod
    def _along(body: Body, chain: tuple[str, str, str], prefixes: tuple[str, str]) -> np.ndarray:
        t, heads = body.canonical.vertices, body.canonical.heads
        out = np.full(body.count, -1.0)
        for side in "LR":
            mine = np.array([b.startswith(prefixes) and b.endswith("." + side) for b in body.bones])[body.dominant]
            a, b, c = (heads[body.bone[f"{bone}.{side}"]] for bone in chain)
            first = ((t - a) @ (b - a)) / ((b - a) @ (b - a))
            second = 1 + ((t - b) @ (c - b)) / ((c - b) @ (c - b))
            out[mine] = np.where(first < 1, np.maximum(first, 0), np.clip(second, 1, 2.2))[mine]
        return out.round(6)

    def _prepare_head(self, body: Body) -> None:
        t, faces = body.canonical.vertices, body.faces["body"]
        part = {name: body.face_part == i for i, name in enumerate(body.part_names)}
        head = part["head"]
        self.lip_faces = body.face_is_lip & head
        self.mouth_faces = part["mouth_cavity"]
        self.fine_faces = head | part["hand.L"] | part["hand.R"]  # deserve full supersampling
        self.scalp_faces = faces[head & ~body.face_is_ear & ~body.face_is_lip]
        self.scalp_vertices = np.unique(self.scalp_faces)
        inner = np.zeros(body.count, bool)
        inner[faces[body.face_is_ear]] = True
        inner[faces[~head]] = True
        # the hair line: some centimetres above the brows in front, around the ears, down to the nape behind
        points = body.keypoints(t)
        face = points[23:91]
        brow, nose, ear = face[[19, 24], 2].mean(), face[27], points[3]
        along = [nose[1], ear[1] - 0.045, ear[1] - 0.02, ear[1] + 0.03, ear[1] + 0.06]
        line = [brow + 0.042, brow + 0.03, ear[2] + 0.045, ear[2] + 0.01, ear[2] - 0.055]
        self.scalp = t[:, 2] - np.interp(t[:, 1], along, line)
        self.scalp[inner] = np.minimum(self.scalp[inner], -0.003)
        self.eye_centre = t[np.unique(body.faces["l_eye"])].mean(axis=0).round(6)
        self.brow_line = face[22:27][:, [0, 2]]  # left brow from the nose outwards: (x, z)

    @staticmethod
    def _soften_skirt(body: Body) -> None:
        """Hang the skirt between both thighs: following the nearest leg alone would tear it apart at the middle."""
        rows = np.unique(body.faces["skirt"])
        legs = np.array([b.startswith(("upperleg", "lowerleg", "pelvis", "foot", "toe")) for b in body.bones])
        t, heads = body.canonical.vertices[rows], body.canonical.heads
        hip, knee = heads[body.bone["upperleg01.L"]], heads[body.bone["lowerleg01.L"]]
        weight, bone = body.skin_weight[rows], body.skin_bone[rows]
        share = (weight * legs[bone]).sum(axis=1)
        u = np.clip(t[:, 0] / (2.6 * hip[0]) + 0.5, 0, 1)
        left = u * u * (3 - 2 * u)
        down = np.clip((hip[2] - t[:, 2]) / (hip[2] - knee[2]) + 0.25, 0, 1) * 0.9
        # the nine strongest other influences keep their weight; three slots go to root and thighs
        weight = np.where(legs[bone], 0.0, weight)
        order = np.argsort(-weight, axis=1, kind="stable")[:, :9]
        weight, bone = np.take_along_axis(weight, order, 1), np.take_along_axis(bone, order, 1)
        extra = np.stack([share * (1 - down), share * down * left, share * down * (1 - left)], axis=1)
        names = ("root", "upperleg01.L", "upperleg01.R")
        weight = np.concatenate([weight, extra], axis=1)
        body.skin_bone[rows] = np.concatenate([bone, np.tile([body.bone[n] for n in names], (len(rows), 1))], axis=1)
        body.skin_weight[rows] = weight / weight.sum(axis=1, keepdims=True)

    def cover(self, g: Garment) -> np.ndarray:
        """Signed garment coordinate float32 [V]: > 0 where the garment covers the body."""
        trunk, arm, leg = self.trunk, self.arm, self.leg
        if g.kind == "top":
            c = np.minimum(trunk - g.hem, g.collar - self.neckline)
            c = np.where(arm >= 0, (g.sleeve - arm) * 0.4, c)
            c = np.where(leg >= 0, np.minimum(c, trunk - g.hem), c)
            c = np.where(self.hand | self.foot, -1, c)
        elif g.kind == "bottom":
            c = g.waist - trunk
            c = np.where(leg >= 0, np.minimum(c, (g.length - leg) * 0.6), c)
            c = np.where(self.foot, g.length - 2.1, c)
            c = np.where((arm >= 0) | self.hand | self.neck, -1, c)
        else:
            c = np.where(self.foot, 1, np.where(leg >= 0, leg - g.shaft, -1))
        return c.astype(np.float32)
