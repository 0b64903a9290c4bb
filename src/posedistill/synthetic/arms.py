"""Arms and hands: goals of the wrist, inverse kinematics of the elbow, and fingers.

An arm is posed from its goal: a place for the wrist relative to the body, reached by two-bone inverse kinematics with
the elbow pointing down, outwards and back, as elbows do. Angles drawn joint by joint look dislocated far more often.
Everything is in the axes of the trunk (x = the person's left, y = back, z = up); "out" means away from the middle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from posedistill.synthetic.body import Body
from posedistill.synthetic.sampling import Rng, cross, pick, rotation

Turn = Callable[[str, np.ndarray, float], None]  # bone, axis, degrees

UP = np.array([0.0, 0.0, 1.0])

# Arm goals: ranges (out, back, up) of the wrist from the shoulder as shares of the arm's length.
GOALS = {
    "hang": ((0.10, 0.40), (-0.28, 0.12), (-0.97, -0.85)),
    "swing": ((0.05, 0.25), (-0.60, 0.35), (-0.90, -0.60)),
    "hip": ((0.12, 0.30), (-0.12, 0.06), (-0.74, -0.60)),
    "front": ((-0.45, 0.25), (-0.65, -0.38), (-0.75, -0.05)),
    "reach": ((-0.20, 0.50), (-0.95, -0.60), (-0.40, 0.40)),
    "side": ((0.60, 0.95), (-0.35, 0.15), (-0.50, 0.45)),
    "wave": ((0.15, 0.60), (-0.45, -0.10), (0.10, 0.75)),
    "up": ((-0.10, 0.60), (-0.35, 0.08), (0.55, 1.00)),
    "lap": ((-0.25, 0.15), (-0.60, -0.40), (-0.82, -0.62)),
}
# Which goals an arm has in each pose mode, with their weights.
ARM_GOALS = {
    "stand": {"hang": 0.75, "hip": 0.15, "front": 0.10},
    "walk": {"swing": 0.85, "hang": 0.15},
    "gesture": {"front": 0.34, "reach": 0.18, "side": 0.12, "wave": 0.18, "hip": 0.08, "hang": 0.10},
    "arms_up": {"up": 0.75, "wave": 0.25},
    "hands_face": {"face": 0.80, "front": 0.20},
    "sit": {"lap": 0.35, "front": 0.30, "reach": 0.10, "wave": 0.10, "face": 0.10, "hang": 0.05},
    "crouch": {"front": 0.30, "reach": 0.25, "lap": 0.20, "hang": 0.15, "side": 0.10},
    "free": {"side": 0.25, "up": 0.20, "reach": 0.20, "front": 0.15, "wave": 0.10, "hang": 0.10},
}
FINGER_STYLES = {"relaxed": 0.34, "open": 0.26, "fist": 0.13, "point": 0.08, "victory": 0.04, "random": 0.15}


@dataclass(frozen=True)
class Arm:
    """Rest-pose directions of one arm; `sign` is +1 on the person's left."""

    side: str
    sign: int
    clavicle: np.ndarray
    shoulder: np.ndarray
    upper: np.ndarray
    fore: np.ndarray
    middle: np.ndarray  # wrist → middle knuckle, unit
    flex: np.ndarray  # axis about which fingers close
    palm: np.ndarray  # axis about which the hand bends sideways
    thumb: np.ndarray  # axis about which the thumb closes


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt(v @ v)


def measure_arm(body: Body, heads: np.ndarray, side: str) -> Arm:
    """The arm's directions from bone heads [J, 3] of the rest pose."""

    def at(bone: str) -> np.ndarray:
        return heads[body.bone[f"{bone}.{side}"]]

    sign = 1 if side == "L" else -1
    middle = unit(at("finger3-1") - at("wrist"))
    across = at("finger2-1") - at("finger5-1")
    flex = -sign * unit(across - middle * (across @ middle))
    thumb = unit(cross(at("finger1-2") - at("finger1-1"), at("finger1-3") - at("finger1-2")))
    return Arm(
        side,
        sign,
        at("clavicle"),
        at("upperarm01"),
        at("lowerarm01") - at("upperarm01"),
        at("wrist") - at("lowerarm01"),
        middle,
        flex,
        cross(flex, middle),
        thumb,
    )


def _reach(
    shoulder: np.ndarray, target: np.ndarray, l1: float, l2: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Upper-arm and forearm directions that bring the wrist to `target`, or as near as the arm reaches."""
    line = target - shoulder
    distance = float(np.clip(np.sqrt(line @ line), 0.38 * (l1 + l2), 0.992 * (l1 + l2)))
    line = unit(line)
    side = pole - line * (pole @ line)
    side = unit(side) if side @ side > 1e-6 else unit(cross(line, UP))
    cosine = np.clip((l1 * l1 + distance * distance - l2 * l2) / (2 * l1 * distance), -1, 1)
    upper = cosine * line + np.sqrt(1 - cosine * cosine) * side
    return upper, unit(line * distance - l1 * upper)


def _frame(direction: np.ndarray, hinge: np.ndarray) -> np.ndarray:
    """Right-handed frame as columns: limb direction, hinge axis and their product."""
    return np.stack([direction, hinge, cross(direction, hinge)], axis=1)


def _wrist_goal(rng: Rng, goal: str, arm: Arm, shoulder: np.ndarray, head: np.ndarray, length: float) -> np.ndarray:
    s = arm.sign
    if goal == "face":  # some place on the head, the wrist a hand's length below and in front of it
        size = 0.38 * length
        place = head + size * np.array([s * rng.uniform(-0.1, 0.55), rng.uniform(-0.75, 0.0), rng.uniform(0.0, 0.75)])
        return place + size * np.array(
            [s * rng.uniform(0.1, 0.5), rng.uniform(-0.55, -0.15), rng.uniform(-0.65, -0.15)]
        )
    out, back, up = (rng.uniform(low, high) for low, high in GOALS[goal])
    return shoulder + length * np.array([s * out, back, up])


def pose_arm(
    rng: Rng, turn: Turn, matrices: dict[str, np.ndarray], arm: Arm, head: np.ndarray, mode: str, swing: float
) -> None:
    """Sample one arm and hand; `swing` in [-1, 1] moves a walking arm back (+) or forth (−)."""
    s, side = arm.sign, arm.side
    l1, l2 = float(np.sqrt(arm.upper @ arm.upper)), float(np.sqrt(arm.fore @ arm.fore))
    goals = ARM_GOALS[mode]
    goal = pick(rng, list(goals), list(goals.values()))
    target = _wrist_goal(rng, goal, arm, arm.shoulder, head, l1 + l2)
    if goal == "swing":
        target[1] = arm.shoulder[1] + (l1 + l2) * (0.35 * swing - 0.12)
    pole = np.array([s * 0.55, 0.45, -0.8]) + rng.normal(0, 0.25, 3)
    if goal == "hip":
        pole = np.array([s * 1.0, 0.7, 0.0]) + rng.normal(0, 0.15, 3)
    elif goal in ("up", "wave"):
        pole = np.array([s * 1.0, 0.0, -0.5]) + rng.normal(0, 0.25, 3)

    # the collar bone takes a share when the arm goes up, which moves the shoulder; so solve twice
    upper, _ = _reach(arm.shoulder, target, l1, l2, pole)
    raised = np.rad2deg(np.arcsin(np.clip(upper[2], -1, 1))) + 45
    lift = float(np.clip(raised, -10, 110)) * 0.2
    collar = rotation([0, 1, 0], -s * lift)
    shoulder = arm.clavicle + collar @ (arm.shoulder - arm.clavicle)
    upper, fore = _reach(shoulder, target, l1, l2, pole)
    turn(f"clavicle.{side}", np.array([0.0, 1.0, 0.0]), -s * lift)

    rest_upper, rest_fore = arm.upper / l1, arm.fore / l2
    rest_hinge = unit(cross(rest_upper, rest_fore))
    hinge = cross(upper, fore)
    hinge = unit(hinge) if hinge @ hinge > 1e-8 else unit(cross(upper, UP))
    whole = collar.T @ _frame(upper, hinge) @ _frame(rest_upper, rest_hinge).T
    # half of the turn about the arm's own axis happens along the upper arm rather than in the shoulder's skin
    swung = whole @ rest_upper
    axis = cross(rest_upper, swung)
    angle = float(np.rad2deg(np.arctan2(np.sqrt(axis @ axis), rest_upper @ swung)))
    untwisted = rotation(axis, angle) if axis @ axis > 1e-10 else np.eye(3)
    own = untwisted.T @ whole  # a turn about rest_upper
    across = unit(cross(rest_upper, rest_hinge))
    twist = float(np.rad2deg(np.arctan2((own @ across) @ -rest_hinge, (own @ across) @ across)))
    twist = -twist if (rotation(rest_upper, twist) - own).max() > 1e-3 else twist
    half = rotation(rest_upper, twist / 2)
    matrices[f"upperarm01.{side}"] = untwisted @ half
    matrices[f"upperarm02.{side}"] = half
    bend = np.rad2deg(np.arccos(np.clip(upper @ fore, -1, 1)) - np.arccos(np.clip(rest_upper @ rest_fore, -1, 1)))
    turn(f"lowerarm01.{side}", rest_hinge, bend)
    turn(f"lowerarm02.{side}", rest_fore, s * float(np.clip(rng.normal(0, 32), -70, 70)))  # pronation
    turn(f"wrist.{side}", arm.flex, float(np.clip(rng.normal(0, 16), -45, 45)))
    turn(f"wrist.{side}", arm.palm, float(np.clip(rng.normal(0, 8), -20, 20)))
    _pose_fingers(rng, turn, arm)


def _pose_fingers(rng: Rng, turn: Turn, arm: Arm) -> None:
    style = pick(rng, list(FINGER_STYLES), list(FINGER_STYLES.values()))
    for finger in range(2, 6):  # 2 = index … 5 = little finger
        straight = (style == "point" and finger == 2) or (style == "victory" and finger < 4)
        low, high = {"relaxed": (5, 35), "open": (-12, 8), "random": (-5, 80)}.get(
            style, (-5, 8) if straight else (60, 85)
        )
        curl = rng.uniform(low, high)
        spread = (finger - 3.3) * rng.uniform(-2, 6) * (1 if style in ("open", "random", "victory") else 0.3)
        for joint, share in ((1, 1.0), (2, 1.15), (3, 0.7)):
            bone = f"finger{finger}-{joint}.{arm.side}"
            if joint == 1:
                turn(bone, arm.palm, arm.sign * spread)
            turn(bone, arm.flex, float(np.clip(curl * share + rng.normal(0, 4), -15, 95)))
    low, high = {"relaxed": (-5, 20), "open": (-15, 5), "random": (-15, 45)}.get(style, (15, 45))
    curl = rng.uniform(low, high)
    for joint, share in ((1, 0.4), (2, 1.0), (3, 1.0)):
        turn(f"finger1-{joint}.{arm.side}", arm.thumb, curl * share)
