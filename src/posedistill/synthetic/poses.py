"""Plausible poses: trunk, head and legs by joint angles, arms by goals (`arms.py`), self-penetration by rejection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posedistill.synthetic.arms import measure_arm, pose_arm
from posedistill.synthetic.body import Body, Rest
from posedistill.synthetic.sampling import Rng, pick, rotation, rotations

X, Y, Z = np.eye(3)
MODES = {
    "stand": 0.15,
    "gesture": 0.26,
    "arms_up": 0.12,
    "walk": 0.13,
    "sit": 0.12,
    "crouch": 0.05,
    "hands_face": 0.10,
    "free": 0.07,
}
SLOTS = 3  # turns a bone can have


@dataclass(frozen=True)
class Pose:
    mode: str
    transforms: np.ndarray  # [J, 3, 4]
    depth: float  # how far limbs sink into the body, metres; 0 = not at all


class _Turns:
    """Turns of bones about rest-pose axes, collected first and computed at once; the first one is applied last."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.axes = np.tile(X, (len(body.bones), SLOTS, 1))
        self.degrees = np.zeros((len(body.bones), SLOTS))
        self.used = [0] * len(body.bones)
        self.matrices: dict[str, np.ndarray] = {}

    def turn(self, bone: str, axis: np.ndarray, degrees: float) -> None:
        j = self.body.bone[bone]
        self.axes[j, self.used[j]] = axis
        self.degrees[j, self.used[j]] = degrees
        self.used[j] += 1

    def compose(self) -> np.ndarray:
        r = rotations(self.axes, self.degrees)
        out = r[:, 0] @ r[:, 1] @ r[:, 2]
        for bone, matrix in self.matrices.items():
            out[self.body.bone[bone]] = matrix
        return out


def _pose_trunk(rng: Rng, turns: _Turns, mode: str) -> None:
    lean, twist, side = rng.normal(0, 6), rng.normal(0, 8), rng.normal(0, 5)  # lean > 0 = forwards
    if mode == "sit":
        lean += rng.uniform(-5, 22)
    elif mode == "crouch":
        lean += rng.uniform(10, 40)
    elif mode == "free":
        lean, twist, side = rng.uniform(-12, 40), rng.normal(0, 16), rng.normal(0, 10)
    for bone in ("spine05", "spine04", "spine03", "spine02", "spine01"):
        for axis, degrees in ((Z, twist), (Y, side), (X, lean)):
            turns.turn(bone, axis, degrees / 5)
    nod, turned, tilt = rng.normal(0, 10) - 0.4 * lean, rng.normal(0, 22), rng.normal(0, 8)
    for bone in ("neck01", "neck02", "head"):
        for axis, degrees in ((Z, np.clip(turned, -60, 60)), (Y, tilt), (X, nod)):
            turns.turn(bone, axis, degrees / 3)


def _pose_legs(rng: Rng, turns: _Turns, body: Body, heads: np.ndarray, mode: str, gait: float) -> None:
    base_hip, base_shin = rng.uniform(70, 98), rng.uniform(-25, 25)  # sitting: thigh and shin from the vertical
    low = rng.uniform(70, 125)
    for side, sign in (("L", 1), ("R", -1)):
        hip, knee, spread, twist = rng.normal(0, 5), rng.beta(1, 6) * 35, abs(rng.normal(0, 4)), rng.normal(0, 6)
        if mode == "walk":
            hip = sign * gait + rng.normal(0, 5)
            knee = rng.beta(1.3, 3) * 55 + max(0.0, -hip) * 0.8
        elif mode == "sit":
            hip = base_hip + rng.normal(0, 5)
            knee = np.clip(hip - base_shin + rng.normal(0, 8), 40, 125)
            spread = rng.uniform(-2, 18)
        elif mode == "crouch":
            hip = low + rng.normal(0, 10)
            knee = np.clip(hip + rng.uniform(5, 35), 60, 145)
            spread = rng.uniform(2, 25)
        elif mode == "free":
            hip, spread = rng.uniform(-20, 85), rng.uniform(0, 32)
            knee = rng.uniform(0, 40) + max(0.0, hip) * rng.uniform(0, 1.1)
        leg = heads[body.bone[f"lowerleg01.{side}"]] - heads[body.bone[f"upperleg01.{side}"]]
        turns.turn(f"upperleg01.{side}", X, -hip)
        turns.turn(f"upperleg01.{side}", Y, -sign * spread)
        turns.turn(f"upperleg01.{side}", leg, twist)
        turns.turn(f"lowerleg01.{side}", X, knee)
        turns.turn(f"foot.{side}", X, float(np.clip((hip - knee) * 0.7 + rng.normal(0, 8), -38, 28)))
        turns.turn(f"foot.{side}", Z, sign * rng.normal(4, 7))


def _pose_root(rng: Rng, turns: _Turns, mode: str, upright: bool) -> None:
    if not upright and rng.random() < 0.05:  # lying
        axis = X if rng.random() < 0.5 else Y
        turns.turn("root", axis, pick(rng, (1, -1)) * rng.uniform(60, 90))
    elif mode == "crouch":
        turns.turn("root", X, rng.uniform(0, 22))
    else:
        turns.turn("root", X, rng.normal(0, 4))
        turns.turn("root", Y, rng.normal(0, 4))


def sample_rotations(rng: Rng, body: Body, heads: np.ndarray, mode: str, upright: bool) -> np.ndarray:
    """Local rotations [J, 3, 3] of one pose; `upright` excludes lying."""
    turns = _Turns(body)
    gait = float(np.clip(rng.normal(0, 22), -40, 40))
    _pose_trunk(rng, turns, mode)
    for side in ("L", "R"):
        arm = measure_arm(body, heads, side)
        pose_arm(rng, turns.turn, turns.matrices, arm, heads[body.bone["head"]], mode, arm.sign * gait / 30)
    _pose_legs(rng, turns, body, heads, mode, gait)
    _pose_root(rng, turns, mode, upright)
    return turns.compose()


def _distance(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances [N] of points [N, 3] from the segment a–b."""
    d = b - a
    t = np.clip(((points - a) @ d) / (d @ d), 0, 1)
    return np.sqrt(((points - (a + t[:, None] * d)) ** 2).sum(axis=1))


class Penetration:
    """How deep arms sit inside trunk, head, thighs or each other, by capsules around the posed bones."""

    def __init__(self, body: Body) -> None:
        b = body.bone
        self.arm = {
            s: [b[f"{n}.{s}"] for n in ("lowerarm01", "lowerarm02", "wrist")]
            + [b[f"finger{f}-{k}.{s}"] for f in range(1, 6) for k in (1, 2, 3)]
            for s in "LR"
        }
        self.leg = {s: [b[f"{n}.{s}"] for n in ("upperleg01", "lowerleg01", "foot", "toe3-2")] for s in "LR"}
        self.trunk = [b["spine05"], b["spine01"], b["neck01"]]
        self.head = b["head"]
        self.shoulders = [b["upperarm01.L"], b["upperarm01.R"]]

    def __call__(self, joints: np.ndarray, heads: np.ndarray, weight: float) -> float:
        """Depth in metres for posed joints [J, 3]; heads [J, 3] give the size, weight in [0, 1] the girth."""
        span = heads[self.shoulders[0]] - heads[self.shoulders[1]]
        width = float(np.sqrt(span @ span))
        girth = width * (0.36 + 0.22 * max(0.0, weight - 0.4))
        pelvis, chest, neck = joints[self.trunk]
        left, right = joints[self.arm["L"]], joints[self.arm["R"]]
        # a point between elbow and wrist, and the finger tips a joint further than the last ones
        arms = np.concatenate([left, right, (left[:1] + left[2:3]) / 2, (right[:1] + right[2:3]) / 2])
        arms = np.concatenate([arms, 2 * left[5::3] - left[4::3], 2 * right[5::3] - right[4::3]])
        depth = [girth - _distance(arms, pelvis, chest), 0.9 * girth - _distance(arms, chest, neck)]
        # the skull's middle: above and in front of the head bone's foot, along the neck
        up = joints[self.head] - neck
        skull = joints[self.head] + 0.6 * up
        depth.append(0.32 * width - _distance(arms, joints[self.head], skull))
        legs = {s: joints[self.leg[s]] for s in "LR"}
        for hip, knee, ankle, _toe in legs.values():
            depth.append(0.2 * width - _distance(arms, hip, knee))
            depth.append(0.14 * width - _distance(arms, knee, ankle))
        for one, other in (("L", "R"), ("R", "L")):  # shins and feet against the other leg
            hip, knee, ankle = legs[other][:3]
            points = np.stack([(legs[one][1] + legs[one][2]) / 2, legs[one][2], legs[one][3], legs[one][1]])
            depth.append(0.25 * width - _distance(points, knee, ankle))
            depth.append(0.28 * width - _distance(points[:3], hip, knee))
        between = np.sqrt(((left[:, None] - right[None]) ** 2).sum(axis=2))
        depth.append(np.array([0.07 * width - between.min()]))
        return max(0.0, max(float(d.max()) for d in depth))


def sample_pose(
    rng: Rng,
    body: Body,
    rest: Rest,
    penetration: Penetration,
    weight: float,
    mode: str | None = None,
    upright: bool = False,
    tries: int = 8,
) -> Pose:
    """The first of up to `tries` poses whose limbs sink nowhere into the body, otherwise the least bad one.

    mode: one of MODES, drawn by its weights when None; weight: the phenotype's.
    """
    mode = mode or pick(rng, list(MODES), list(MODES.values()))
    best: Pose | None = None
    for _ in range(tries):
        transforms = body.transforms(rest.heads, sample_rotations(rng, body, rest.heads, mode, upright))
        depth = penetration(body.joints(rest.heads, transforms), rest.heads, weight)
        if best is None or depth < best.depth:
            best = Pose(mode, transforms, round(depth, 6))
        if depth < 0.004:
            break
    assert best is not None
    return best


def turn_about_vertical(transforms: np.ndarray, degrees: float) -> np.ndarray:
    """Transforms [J, 3, 4] of the person turned about the z axis."""
    return (rotation(Z, degrees) @ transforms).round(9)
