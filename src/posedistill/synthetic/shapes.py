"""Body shape and facial expression of a person."""

from __future__ import annotations

from posedistill.synthetic.sampling import Rng, pick


def sample_phenotype(rng: Rng) -> dict[str, float]:
    """Values in [0, 1] of anny's phenotype variables: one child in seven, otherwise adults of every age."""
    low, high = pick(rng, ((0.30, 0.50), (0.55, 0.85), (0.85, 1.0)), (0.15, 0.70, 0.15))
    african, asian, caucasian = rng.dirichlet([0.5, 0.5, 0.5]) + 0.02
    return {
        "age": rng.uniform(low, high),
        "gender": rng.beta(0.5, 0.5),
        "muscle": rng.beta(2, 2),
        "weight": rng.beta(2, 2.2),
        "height": rng.beta(2.5, 2.5),
        "proportions": rng.beta(2, 2),
        "cupsize": rng.beta(2, 2),
        "firmness": rng.uniform(0.3, 1),
        "african": african,
        "asian": asian,
        "caucasian": caucasian,
    }


def sample_expression(rng: Rng) -> dict[str, float]:
    """Strengths in [0, 1] of facial actions (ARKit names)."""
    face: dict[str, float] = {}

    def both(action: str, strength: float, other: float = 1.0) -> None:
        face[action + "Left"], face[action + "Right"] = strength, strength * other

    if rng.random() < 0.4:
        face["jawOpen"] = rng.beta(1.2, 2.5)
    if rng.random() < 0.35:
        both("mouthSmile", rng.uniform(0.2, 1), rng.uniform(0.8, 1))
    elif rng.random() < 0.2:
        both("mouthFrown", rng.uniform(0.2, 0.9))
    elif rng.random() < 0.2:
        face[pick(rng, ("mouthPucker", "mouthFunnel"))] = rng.uniform(0.3, 1)
    if rng.random() < 0.3:
        face["browInnerUp"] = rng.uniform(0.2, 1)
    if rng.random() < 0.3:
        both(pick(rng, ("browOuterUp", "browDown")), rng.uniform(0.2, 1))
    lids = rng.random()
    if lids < 0.12:
        both("eyeBlink", rng.uniform(0.6, 1))
    elif lids < 0.5:
        both("eyeBlink", rng.uniform(0, 0.4))
    elif lids < 0.6:
        both("eyeWide", rng.uniform(0.2, 0.8))
    return face
