"""Bodies: a skeleton of tapered capsules that can be posed, and what of it lies under a pixel."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Bone(NamedTuple):
    """A tapered capsule of the animal at rest.

    ``parent`` is the index of the bone that it hangs on, or -1; ``swing`` is the standard deviation
    of its angle to it, in radians.
    """

    parent: int
    start: tuple[float, float]
    end: tuple[float, float]
    radii: tuple[float, float]
    swing: float


BONES = (  # parents before children
    Bone(-1, (-0.32, -0.02), (0.00, 0.00), (0.19, 0.19), 0.06),  # 0: loin
    Bone(0, (0.00, 0.00), (0.30, 0.00), (0.19, 0.20), 0.06),  # 1: chest
    Bone(1, (0.34, -0.06), (0.60, -0.36), (0.17, 0.095), 0.20),  # 2: neck
    Bone(2, (0.60, -0.37), (0.82, -0.27), (0.10, 0.06), 0.15),  # 3: head
    Bone(3, (0.57, -0.43), (0.52, -0.54), (0.045, 0.025), 0.25),  # 4: ear
    Bone(0, (-0.47, -0.10), (-0.58, 0.10), (0.035, 0.025), 0.30),  # 5: tail
    Bone(5, (-0.58, 0.10), (-0.58, 0.30), (0.025, 0.040), 0.30),  # 6: its tuft
    Bone(0, (-0.33, 0.04), (-0.36, 0.34), (0.15, 0.075), 0.16),  # 7: hind leg
    Bone(7, (-0.36, 0.34), (-0.32, 0.64), (0.068, 0.055), 0.15),  # 8
    Bone(1, (0.29, 0.04), (0.28, 0.34), (0.14, 0.072), 0.16),  # 9: front leg
    Bone(9, (0.28, 0.34), (0.29, 0.64), (0.066, 0.054), 0.15),  # 10
    Bone(0, (-0.22, 0.04), (-0.25, 0.34), (0.13, 0.075), 0.16),  # 11: hind leg of the far side
    Bone(11, (-0.25, 0.34), (-0.21, 0.64), (0.066, 0.053), 0.15),  # 12
    Bone(1, (0.20, 0.04), (0.19, 0.34), (0.12, 0.072), 0.16),  # 13: front leg of the far side
    Bone(13, (0.19, 0.34), (0.20, 0.64), (0.064, 0.052), 0.15),  # 14
)
FAR_SIDE, NEAR_SIDE = range(11, 15), range(11)
MELT = 0.02  # length over which bones melt into one another

Pose = Sequence[tuple[float, np.ndarray]]  # each bone's angle, and where its start has moved to


def draw_pose(stream: np.random.Generator) -> Pose:
    """Return a random pose."""
    pose: list[tuple[float, np.ndarray]] = []
    for bone in BONES:
        angle = float(np.clip(stream.normal(), -2, 2)) * bone.swing
        start = np.array(bone.start)
        if bone.parent >= 0:
            turned, origin = pose[bone.parent]
            cos, sin = np.cos(turned), np.sin(turned)
            start = origin + [[cos, -sin], [sin, cos]] @ (start - BONES[bone.parent].start)
            angle += turned
        pose.append((angle, start))
    return pose


def to_rest(
    bones: range, pose: Pose, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Carry places on and about a posed animal back to the animal at rest.

    Each bone moves rigidly; where bones meet, their answers are blended by nearness.

    Args:
        bones: indices of the bones that count.
        pose: the pose.
        x: places, float32 of any shape.
        y: the same.

    Returns:
        Distance to the surface (negative inside), x and y at rest, each in the shape of ``x``.
    """
    total, rest_x, rest_y = (np.zeros_like(x) for _ in range(3))
    for index in bones:
        bone, (angle, (start_x, start_y)) = BONES[index], pose[index]
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        dx, dy = x - float(start_x), y - float(start_y)
        along, down = dx * cos + dy * sin, dy * cos - dx * sin  # from the start, turned back
        reach_x, reach_y = bone.end[0] - bone.start[0], bone.end[1] - bone.start[1]
        share = (along * reach_x + down * reach_y) / (reach_x**2 + reach_y**2)
        share = np.clip(share, 0, 1)  # of the way from start to end, at the bone's nearest place
        off = np.sqrt((along - share * reach_x) ** 2 + (down - share * reach_y) ** 2)
        distance = off - bone.radii[0] - share * (bone.radii[1] - bone.radii[0])
        weight = np.exp(np.minimum(distance, 1) / -MELT)  # bounded, so that no total is 0
        total += weight
        rest_x += weight * (along + bone.start[0])
        rest_y += weight * (down + bone.start[1])
    return -MELT * np.log(total), rest_x / total, rest_y / total


def relief(distance: np.ndarray, rest_y: np.ndarray) -> np.ndarray:
    """Return the light that makes a flat shape look round: dim at its rim and below."""
    roundness = np.sqrt(np.clip(distance / -0.07, 0, 1))
    return 0.62 + 0.3 * roundness + 0.12 * np.clip(rest_y / -0.2, -1, 1)
