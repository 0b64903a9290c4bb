"""Dresses a posed body: skin, garments, hair, eyes and teeth as one mesh with a table of surfaces."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from posedistill.synthetic import kernels
from posedistill.synthetic.body import Body
from posedistill.synthetic.sampling import Rng, pick, random_colour
from posedistill.synthetic.wardrobe import CLOTH, EYE, HAIR, LIP, MOUTH, SKIN, TEETH, Garment, Wardrobe

SKIRT_MODES = ("stand", "gesture", "arms_up", "hands_face")
HAIR_COLOURS = {
    (0.04, 0.03, 0.025): 0.35,
    (0.16, 0.09, 0.05): 0.25,
    (0.35, 0.20, 0.10): 0.15,
    (0.70, 0.55, 0.30): 0.10,
    (0.60, 0.60, 0.60): 0.10,
    None: 0.05,  # any colour
}
IRISES = ((0.25, 0.14, 0.06), (0.10, 0.07, 0.05), (0.20, 0.35, 0.50), (0.25, 0.35, 0.20))
HIDDEN = 0.07  # cover beyond which skin is under cloth for certain and is not drawn
PLAIN = (0, 1.0, 0.0)
Pattern = tuple[int, float, float]


@dataclass
class Dressed:
    """One dressed person in world coordinates; arrays as `kernels.shade` wants them, surface ids counted from 0."""

    vertices: list[np.ndarray] = field(default_factory=list)  # float64 [V, 3]
    canon: list[np.ndarray] = field(default_factory=list)  # float32 [V, 3]
    normals: list[np.ndarray] = field(default_factory=list)  # float32 [V, 3]
    cut: list[np.ndarray] = field(default_factory=list)  # float32 [V]
    cover: list[np.ndarray] = field(default_factory=list)  # float32 [V, 3]
    faces: list[np.ndarray] = field(default_factory=list)  # int32 [F, 3]
    surface: list[np.ndarray] = field(default_factory=list)  # int32 [F]
    one_sided: list[np.ndarray] = field(default_factory=list)  # bool [F]
    table: list[list[float]] = field(default_factory=list)  # rows of 13, see add_surface
    garments: list[int] = field(default_factory=list)  # surfaces that skin takes where it is covered
    brow: np.ndarray = field(default_factory=lambda: np.zeros(4))  # colour and half width in metres
    iris: np.ndarray = field(default_factory=lambda: np.zeros(3))
    count: int = 0

    def add_surface(
        self, material: int, colour: np.ndarray, second: np.ndarray, pattern: Pattern, gloss: float, plain: bool
    ) -> int:
        """Row = material, two colours, pattern, gloss, person (filled in later), whether one sample a pixel will do."""
        self.table.append([material, *colour, *second, *pattern, gloss, 0, float(plain)])
        return len(self.table) - 1

    def add_faces(self, faces: np.ndarray, surface: int, one_sided: bool) -> None:
        self.faces.append(faces)
        self.surface.append(np.full(len(faces), surface, np.int32))
        self.one_sided.append(np.full(len(faces), one_sided))

    def add_vertices(self, vertices: np.ndarray, canon: np.ndarray, normals: np.ndarray, cut: np.ndarray) -> None:
        self.vertices.append(vertices)
        self.canon.append(canon)
        self.normals.append(normals)
        self.cut.append(cut)
        self.count += len(vertices)


class Tailor:
    """Dresses people; holds the data shared by all of them."""

    def __init__(self, body: Body, wardrobe: Wardrobe) -> None:
        self.body, self.wardrobe = body, wardrobe
        self.all_faces = np.concatenate(list(body.faces.values()))
        w = wardrobe
        kinds = {"lip": w.lip_faces, "mouth": w.mouth_faces & ~w.lip_faces}
        rest = ~w.lip_faces & ~w.mouth_faces
        kinds["fine"], kinds["skin"] = rest & w.fine_faces, rest & ~w.fine_faces
        self.skin_faces = {name: body.faces["body"][chosen] for name, chosen in kinds.items()}

    def dress(self, rng: Rng, posed: np.ndarray, mode: str) -> Dressed:
        """A random outfit on posed vertices [V, 3] (world, metres)."""
        body, wardrobe = self.body, self.wardrobe
        normals = kernels.vertex_normals(posed, self.all_faces)
        out = Dressed()
        skirt = mode in SKIRT_MODES and rng.random() < 0.22
        garments = _sample_garments(rng, skirt)
        tone = np.array([0.93, 0.72, 0.60]) * (1 - 0.75 * rng.beta(1.0, 2.0)) ** np.array([1, 1.25, 1.45])
        tone = (tone * rng.uniform(0.92, 1.06)).clip(0.03, 1).round(6)

        covers = [wardrobe.cover(g) for g in garments]
        out.add_vertices(posed, wardrobe.canon, normals, np.ones(body.count, np.float32))
        self._add_skin(rng, out, tone, covers)
        for g, cover in zip(garments, covers):
            surface = out.add_surface(CLOTH, g.colour, g.second, g.pattern, pick(rng, (0.0, 0.03)), True)
            out.garments.append(surface)
            self._layer(out, body.faces["tights"], posed, normals, g.offset, cover, surface)
        if skirt:
            hem = wardrobe.trunk - rng.uniform(-1.5, -0.5)
            self._layer(out, body.faces["skirt"], posed, normals, 0.004, hem.astype(np.float32), out.garments[0])
        hair = pick(rng, list(HAIR_COLOURS), list(HAIR_COLOURS.values()))
        hair_colour = random_colour(rng) if hair is None else np.array(hair)
        self._add_hair(rng, out, posed, normals, hair_colour)

        painted = np.full((out.count, 3), -1, np.float32)
        for k, cover in enumerate(covers):
            painted[: body.count, k] = cover - np.float32(0.01)
        out.cover.append(painted)
        out.garments += [out.garments[0]] * (3 - len(out.garments))
        out.brow = np.append(np.minimum(hair_colour, tone * 0.6) * 0.9, rng.uniform(0.0022, 0.0045))
        out.iris = np.array(pick(rng, IRISES))
        return out

    def _add_skin(self, rng: Rng, out: Dressed, tone: np.ndarray, covers: list[np.ndarray]) -> None:
        f = self.body.faces
        hidden = np.stack(covers).max(axis=0) > HIDDEN
        lips = tone * np.array([rng.uniform(0.8, 1.0), rng.uniform(0.5, 0.75), rng.uniform(0.5, 0.8)])
        for name, material, colour, plain in (
            ("skin", SKIN, tone, True),
            ("fine", SKIN, tone, False),
            ("lip", LIP, lips, False),
            ("mouth", MOUTH, tone * [0.45, 0.2, 0.2], False),
        ):
            faces = self.skin_faces[name]
            if material == SKIN:
                faces = faces[~hidden[faces].all(axis=1)]
            out.add_faces(faces, out.add_surface(material, colour, colour, PLAIN, 0.12, plain), True)
        white, ivory, red = np.array([0.88, 0.87, 0.85]), np.array([0.85, 0.83, 0.76]), tone * [0.8, 0.4, 0.4]
        out.add_faces(
            np.concatenate([f["l_eye"], f["r_eye"]]), out.add_surface(EYE, white, white, PLAIN, 0.2, False), True
        )
        teeth = np.concatenate([f["upper_teeth"], f["lower_teeth"]])
        out.add_faces(teeth, out.add_surface(TEETH, ivory, ivory, PLAIN, 0.12, False), True)
        out.add_faces(f["tongue"], out.add_surface(MOUTH, red, red, PLAIN, 0.12, False), True)

    def _layer(
        self,
        out: Dressed,
        faces: np.ndarray,
        posed: np.ndarray,
        normals: np.ndarray,
        offset: float | np.ndarray,
        cut: np.ndarray,
        surface: int,
    ) -> None:
        """A copy of part of the mesh, pushed out by `offset` metres along the normals and trimmed at cut = 0."""
        faces = faces[(cut[faces] > 0).any(axis=1)]
        used = np.zeros(self.body.count, bool)
        used[faces] = True
        ids = np.flatnonzero(used)
        index = np.empty(self.body.count, np.int32)
        index[ids] = np.arange(out.count, out.count + len(ids), dtype=np.int32)
        offset = offset[ids][:, None] if isinstance(offset, np.ndarray) else offset
        out.add_faces(index[faces], surface, False)
        out.add_vertices(posed[ids] + normals[ids] * offset, self.wardrobe.canon[ids], normals[ids], cut[ids])

    def _add_hair(self, rng: Rng, out: Dressed, posed: np.ndarray, normals: np.ndarray, colour: np.ndarray) -> None:
        """Inflated scalp with a ragged hair line, often with the long strands of the hair helper mesh."""
        style = pick(rng, ("bald", "shaved", "short", "full", "long"), (0.06, 0.10, 0.28, 0.24, 0.32))
        if style == "bald":
            return
        w = self.wardrobe
        canon = w.canon[w.scalp_vertices].astype(np.float64)
        waves = np.zeros(self.body.count)
        waves[w.scalp_vertices] = np.sin((canon @ rng.normal(0, 90, (3, 3))).round(6)).round(6).sum(axis=1) / 3
        line = w.scalp - rng.uniform(-0.006, 0.014) + 0.007 * waves
        low, high = {
            "shaved": (0.0015, 0.003),
            "short": (0.004, 0.012),
            "full": (0.012, 0.032),
            "long": (0.006, 0.018),
        }[style]
        rise = np.clip(line / 0.06, 0.02, 1)
        lumps = 1 + (0.35 if style == "full" else 0.2) * waves
        thickness = (rng.uniform(low, high) * np.sqrt(rise) * lumps).round(6)
        strands = (6, rng.uniform(40, 140), rng.random())
        second = colour * rng.uniform(0.45, 0.8)
        surface = out.add_surface(HAIR, colour, second, strands, 0.12, True)
        self._layer(out, w.scalp_faces, posed, normals, thickness, line.astype(np.float32), surface)
        if style == "long":
            front, end = rng.uniform(-0.075, -0.02), rng.uniform(0.55, 1.15)
            cut = np.minimum(w.canon[:, 1] - front, (w.trunk - end) * 0.5).astype(np.float32)
            self._layer(out, self.body.faces["hair"], posed, normals, 0.0, cut, surface)


def _sample_garments(rng: Rng, skirt: bool) -> list[Garment]:
    def pattern() -> Pattern:
        kind = pick(rng, (0, 0, 0, 0, 1, 2, 3, 4, 5))
        return kind, rng.uniform(7, 36), rng.random()

    waist = rng.uniform(0.12, 0.30)
    lengths = (0.35, rng.uniform(0.5, 0.9), rng.uniform(1.0, 1.4), 2.12)
    length = 0.3 if skirt else pick(rng, lengths, (0.06, 0.22, 0.14, 0.58))
    bottom = Garment(
        "bottom",
        rng.uniform(0.004, 0.02),
        random_colour(rng),
        random_colour(rng),
        pattern(),
        waist=waist,
        length=length,
    )
    same = rng.random() < 0.12  # an overall
    top = Garment(
        "top",
        rng.uniform(0.014, 0.030),
        bottom.colour if same else random_colour(rng),
        bottom.second if same else random_colour(rng),
        bottom.pattern if same else pattern(),
        hem=rng.uniform(-0.15, waist - 0.02),
        collar=pick(rng, (rng.uniform(0.94, 1.03), rng.uniform(1.06, 1.13)), (0.8, 0.2)),
        sleeve=pick(rng, (0.12, rng.uniform(0.4, 0.8), rng.uniform(0.9, 1.4), 2.0), (0.12, 0.33, 0.15, 0.40)),
    )
    shoes = Garment(
        "shoes",
        rng.uniform(0.006, 0.012),
        random_colour(rng),
        random_colour(rng),
        PLAIN,
        shaft=pick(rng, (1.97, rng.uniform(1.6, 1.9)), (0.7, 0.3)),
    )
    return [bottom, top] + ([shoes] if rng.random() < 0.8 else [])
