"""One picture: people placed, dressed, lit, rasterised, and their 133 keypoints projected and tested for visibility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from posedistill.keypoints import PARTS
from posedistill.synthetic import kernels
from posedistill.synthetic.background import background, blurred, occluder
from posedistill.synthetic.body import Body
from posedistill.synthetic.camera import Camera, frame_subject
from posedistill.synthetic.dress import Dressed, Tailor
from posedistill.synthetic.poses import MODES, Penetration, sample_pose, turn_about_vertical
from posedistill.synthetic.props import seat
from posedistill.synthetic.sampling import Rng, pick
from posedistill.synthetic.shapes import sample_expression, sample_phenotype
from posedistill.synthetic.wardrobe import Wardrobe

# Depth in metres, for a person of 1.7 m, to which a keypoint under the surface counts as visible: most keypoints are
# joints inside the body, the face's lie on it.
_BODY = [0.035, 0.03, 0.03, 0.05, 0.05, 0.13, 0.13, 0.08, 0.08, 0.06, 0.06, 0.20, 0.20, 0.11, 0.11, 0.08, 0.08]
TOLERANCE = np.concatenate([_BODY, [0.05, 0.05, 0.06] * 2, [0.03] * 17, [0.015] * 51, ([0.05] + [0.022] * 20) * 2])

# Pose modes of the person that a close framing is about.
CLOSE_MODES = {"stand": 0.18, "gesture": 0.42, "arms_up": 0.10, "hands_face": 0.20, "sit": 0.10}


@dataclass(frozen=True)
class SceneOptions:
    """What is drawn; the mappings hold relative weights."""

    sizes: tuple[tuple[int, int], ...] = ((216, 288), (232, 288), (256, 256), (288, 232), (288, 216))  # width, height
    frames: Mapping[str, float] = field(
        default_factory=lambda: {"full": 0.32, "knee": 0.18, "upper": 0.34, "close": 0.16}
    )
    persons: Mapping[int, float] = field(default_factory=lambda: {1: 0.62, 2: 0.26, 3: 0.12})
    modes: Mapping[str, float] = field(default_factory=lambda: dict(MODES))
    occluder: float = 0.25  # probability of a thing in front
    seat: float = 0.7  # probability of a seat under somebody who sits


@dataclass(frozen=True)
class RenderedPerson:
    keypoints: np.ndarray  # float64 [133, 3]: x, y in pixels; 2 visible, 1 hidden, 0 outside the picture
    mask: np.ndarray  # bool [2H, 2W]: where it is seen, at twice the picture's resolution
    area: float  # visible pixels
    box: tuple[float, float, float, float]  # x, y, width, height of the visible pixels
    mode: str
    depth: float  # how far limbs sink into the body, metres


@dataclass(frozen=True)
class Scene:
    image: np.ndarray  # uint8 [H, W, 3], RGB
    frame: str
    persons: list[RenderedPerson]


@dataclass(frozen=True)
class Placed:
    """A dressed person at a place in the world."""

    dressed: Dressed
    keypoints: np.ndarray  # [133, 3] world
    height: float
    mode: str
    depth: float


class Studio:
    """Everything that all pictures share; building it takes about half a second."""

    def __init__(self, asset_dir: str | Path) -> None:
        self.body = Body(asset_dir)
        self.wardrobe = Wardrobe(self.body)
        self.tailor = Tailor(self.body, self.wardrobe)
        self.penetration = Penetration(self.body)

    def draw(self, rng: Rng, options: SceneOptions) -> Scene:
        """Draw one scene; every random number comes from `rng`."""
        width, height = pick(rng, options.sizes)
        frame = pick(rng, list(options.frames), list(options.frames.values()))
        if width > height and frame in ("full", "knee") and rng.random() < 0.7:
            width, height = height, width  # a standing person is mostly photographed upright
        count = pick(rng, list(options.persons), list(options.persons.values()))
        people = self._place_people(rng, options, frame, count)
        camera = frame_subject(rng, _subject(rng, people[0], frame), width, height)
        return self._render(rng, options, frame, people, camera, width, height)

    def _place_people(self, rng: Rng, options: SceneOptions, frame: str, count: int) -> list[Placed]:
        people: list[Placed] = []
        spots: list[np.ndarray] = []
        for k in range(count):
            close = k == 0 and frame in ("upper", "close")  # such pictures show somebody upright who faces the camera
            modes = {m: w * options.modes.get(m, 0) for m, w in CLOSE_MODES.items()} if close else dict(options.modes)
            if not any(modes.values()):
                modes = dict(options.modes)
            mode = pick(rng, list(modes), list(modes.values()))
            phenotype = sample_phenotype(rng)
            rest = self.body.rest(phenotype, sample_expression(rng))
            pose = sample_pose(rng, self.body, rest, self.penetration, phenotype["weight"], mode, upright=close)
            if close:
                yaw = float(np.clip(rng.normal(0, 35), -80, 80))
            else:
                yaw = pick(rng, (rng.normal(0, 30), rng.normal(0, 70), rng.uniform(-180, 180)), (0.5, 0.25, 0.25))
            spot = np.zeros(3)
            for _ in range(20 if k else 0):  # keep the others apart
                spot = np.array([pick(rng, (1, -1)) * rng.uniform(0.3, 1.2), rng.uniform(-0.4, 2.4), 0])
                if min(float(np.sqrt(((spot - s) ** 2).sum())) for s in spots) > 0.6:
                    break
            spots.append(spot)
            posed = self.body.skin(rest, turn_about_vertical(pose.transforms, yaw))
            middle = posed[: self.body.skin_count : 7].mean(axis=0).round(6)
            floor = posed[: self.body.skin_count, 2].min()
            posed += spot - np.array([middle[0], middle[1], floor])
            dressed = self.tailor.dress(rng, posed, mode)
            people.append(Placed(dressed, self.body.keypoints(posed), rest.height, mode, pose.depth))
        return people

    def _render(
        self,
        rng: Rng,
        options: SceneOptions,
        frame: str,
        people: list[Placed],
        camera: Camera,
        width: int,
        height: int,
    ) -> Scene:
        props = [seat(rng, p.keypoints, p.height) for p in people if p.mode == "sit" and rng.random() < options.seat]
        behind = background(rng, height, width)
        thing = None
        if rng.random() < options.occluder:
            _, inverse = camera.project(np.concatenate(people[int(rng.integers(len(people)))].dressed.vertices))
            distance = max(0.2, 1 / max(float(np.median(inverse)), 0.05) - rng.uniform(0.25, 0.6))
            mask, front = occluder(rng, height, width)
            thing = mask, front, distance
        light = sample_light(rng, camera)
        shaded, persons = self.shoot(people, camera, behind, light, thing, [p for p in props if p])
        return Scene(_develop(rng, shaded), frame, persons)

    def shoot(
        self,
        people: Sequence[Placed],
        camera: Camera,
        behind: np.ndarray,
        light: np.ndarray,
        thing: tuple[np.ndarray, np.ndarray, float] | None = None,
        props: Sequence[Dressed] = (),
    ) -> tuple[np.ndarray, list[RenderedPerson]]:
        """Linear colours float64 [H, W, 3] and labels of `people` before the picture `behind`, float32 [H, W, 3].

        light: see `sample_light`. thing: something flat in front: where it is, bool [2H, 2W]; how it looks, float32
        [H, W, 3]; its distance in metres.
        """
        height, width = behind.shape[:2]
        mesh = _join([p.dressed for p in people] + list(props))
        xy, inverse = camera.project(mesh.vertices)
        front = behind
        triangle = np.full((2 * height, 2 * width), -1, np.int32)
        depth = np.zeros((2 * height, 2 * width), np.float32)
        if thing is not None:
            mask, front, distance = thing
            triangle[mask], depth[mask] = -2, 1 / distance
        kernels.rasterize(xy * 2, inverse, mesh.faces, mesh.cut, mesh.one_sided, triangle, depth)
        shaded = kernels.shade(
            triangle,
            behind,
            front,
            *(xy * 2, inverse, mesh.faces, mesh.canon, mesh.normals, mesh.cover, mesh.surface),
            *(mesh.table, mesh.garments, mesh.brows, mesh.irises, self.wardrobe.brow_line, self.wardrobe.eye_centre),
            light,
        )
        persons = []
        for k, person in enumerate(people):
            mine = (triangle >= mesh.first_face[k]) & (triangle < mesh.first_face[k + 1])
            keypoints = _label(person, camera, depth, width, height)
            area = np.count_nonzero(mine) / 4
            persons.append(RenderedPerson(keypoints, mine, area, mask_box(mine), person.mode, person.depth))
        return shaded, persons


def mask_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels of a mask [2H, 2W] at twice the resolution; zeros if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    x, y = columns[0] / 2, rows[0] / 2
    return x, y, (columns[-1] + 1) / 2 - x, (rows[-1] + 1) / 2 - y


@dataclass(frozen=True)
class _Mesh:
    """All people, then all things, of a picture as one mesh.

    first_face [P + 1]: where the faces of each one start.
    """

    vertices: np.ndarray
    canon: np.ndarray
    normals: np.ndarray
    cut: np.ndarray
    cover: np.ndarray
    faces: np.ndarray
    surface: np.ndarray
    one_sided: np.ndarray
    table: np.ndarray
    garments: np.ndarray
    brows: np.ndarray
    irises: np.ndarray
    first_face: list[int]


def _join(people: list[Dressed]) -> _Mesh:
    faces, surfaces, tables, garments = [], [], [], []
    first, first_face, rows = [0], [0], 0
    for k, p in enumerate(people):
        table = np.array(p.table)
        table[:, 11] = k
        tables.append(table)
        faces.append(np.concatenate(p.faces) + np.int32(first[-1]))
        surfaces.append(np.concatenate(p.surface) + np.int32(rows))
        garments.append(np.array(p.garments) + rows)
        first.append(first[-1] + p.count)
        first_face.append(first_face[-1] + len(faces[-1]))
        rows += len(table)

    def gather(name: str) -> np.ndarray:
        return np.concatenate([part for p in people for part in getattr(p, name)])

    return _Mesh(
        gather("vertices"),
        gather("canon"),
        gather("normals"),
        gather("cut"),
        gather("cover"),
        np.concatenate(faces),
        np.concatenate(surfaces),
        gather("one_sided"),
        np.concatenate(tables),
        np.stack(garments),
        np.stack([p.brow for p in people]),
        np.stack([p.iris for p in people]),
        first_face,
    )


def _subject(rng: Rng, person: Placed, frame: str) -> np.ndarray:
    """World points to be framed."""
    k = person.keypoints
    face, hands = k[PARTS["face"]], np.concatenate([k[PARTS["lefthand"]], k[PARTS["righthand"]]])
    if frame == "full":
        subject = person.dressed.vertices[0][::7]
    elif frame == "knee":
        subject = np.concatenate([k[:15], face, hands])
    elif frame == "upper":
        subject = np.concatenate([k[:13], face] + ([hands] if rng.random() < 0.6 else []))
    else:
        subject = np.concatenate([k[:7], face])
        near = hands[np.abs(hands - k[0]).max(axis=1) < 0.35]  # hands at the face come along
        subject = np.concatenate([subject, near])
    head_top = k[:5].mean(axis=0) + np.array([0, 0, 0.16])
    return np.concatenate([subject, head_top[None]])


def sample_light(rng: Rng, camera: Camera) -> np.ndarray:
    """Rows of kernels.shade's light [6, 3]: a lamp somewhere above on the camera's side, and the sky's hemisphere."""
    r = camera.rotation
    to_lamp = rng.normal(0, 1, 3) * [1, 0.7, 0.6] + [0, -0.8, -0.8]
    to_lamp /= np.sqrt(to_lamp @ to_lamp)
    half = to_lamp - [0, 0, 1]
    half /= np.sqrt(half @ half) + 1e-9

    def tint(strength: float) -> np.ndarray:
        return strength * (1 + rng.normal(0, 0.06, 3))

    lamp, sky, ground = tint(rng.uniform(0.35, 0.95)), tint(rng.uniform(0.4, 0.7)), tint(rng.uniform(0.2, 0.5))
    return np.stack([to_lamp @ r, half @ r, r[2], lamp, sky, ground]).round(9)


def _label(person: Placed, camera: Camera, depth: np.ndarray, width: int, height: int) -> np.ndarray:
    xy, inverse = camera.project(person.keypoints)
    xy, distance = xy.round(6), 1 / np.abs(inverse)
    x, y = xy.T
    inside = (inverse > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    visible = np.zeros(len(xy), bool)
    tolerance = TOLERANCE * person.height / 1.7
    for dx, dy in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)):
        column = (2 * x + 1.4 * dx).clip(0, 2 * width - 1).astype(np.int64)
        row = (2 * y + 1.4 * dy).clip(0, 2 * height - 1).astype(np.int64)
        surface = depth[row, column].astype(np.float64)
        visible |= (surface == 0) | (distance - 1 / np.maximum(surface, 1e-6) < tolerance)
    v = np.where(inside, np.where(visible, 2, 1), 0)
    return np.column_stack([np.where(inside[:, None], xy, 0), v])


def _develop(rng: Rng, shaded: np.ndarray) -> np.ndarray:
    """Contrast, exposure, sensor noise and a little blur: linear colours [H, W, 3] to a photograph's bytes, uint8."""
    curve = (np.linspace(0, 1, 1024) ** rng.uniform(0.75, 1.15) * rng.uniform(0.8, 1.15)).round(6).astype(np.float32)
    out = curve[(shaded.clip(0, 1) * 1023 + 0.5).astype(np.int16)]
    strength = np.float32(rng.uniform(0, 0.018))
    out += rng.standard_normal((*out.shape[:2], 1), np.float32) * strength
    return blurred((out.clip(0, 1) * 255 + 0.5).astype(np.uint8), pick(rng, (0.0, 0.0, 0.5, 0.9)))
