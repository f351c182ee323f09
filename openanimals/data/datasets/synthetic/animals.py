"""Animals: coats, which tell individuals apart, on bodies that can be posed; and seeded noise.

Coats differ in pattern, never in colour. A body is a skeleton of tapered capsules.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from openanimals.utils.reproducibility import derive_seed

STYLES = ("spots", "stripes", "blotches")
FAMILY = 2  # individuals that share part of their coat
LEFT, TOP, RIGHT, BOTTOM = -0.75, -0.70, 1.05, 0.80  # what a coat covers of the animal at rest
DENSITY = 80  # pixels of a coat in a unit of length

ACROSS = {"trunk": 0.0, "fore": -0.9, "legs": np.pi / 2}  # by region: where stripes follow on
MARKS = (  # what every animal has dark, as x, y, radius
    (0.69, -0.39, 0.028),  # eye
    (0.87, -0.25, 0.045),  # nose
    (0.52, -0.55, 0.050),  # ear
    (-0.58, 0.31, 0.060),  # tuft of the tail
    *((x, 0.70, 0.060) for x in (-0.32, -0.21, 0.20, 0.29)),  # hooves
)


def rng(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return the generator of one purpose of a herd, for instance of one photograph."""
    return np.random.default_rng(derive_seed(seed, f"herd {purpose}", *counters))


def waves(
    stream: np.random.Generator,
    shape: tuple[int, int],
    wavelength: float,
    width: float,
    direction: float = 0.0,
    spread: float | None = None,
) -> np.ndarray:
    """Return noise of about one wavelength (in pixels), of mean 0 and standard deviation 1.

    Args:
        stream: where the noise comes from.
        shape: of the float32 field, ``[height, width]``.
        wavelength: in pixels.
        width: of the band, relative to its frequency; a narrow band gives a regular pattern.
        direction: in which the waves run, in radians; 0 is along x and gives upright stripes.
        spread: of the directions, in radians; None for all directions.
    """
    ky = np.fft.fftfreq(shape[0])[:, None] * wavelength
    kx = np.fft.rfftfreq(shape[1])[None, :] * wavelength
    gain = np.exp(-(((np.hypot(kx, ky) - 1) / width) ** 2) / 2)
    if spread is not None:
        off = np.arctan2(ky, kx) - direction
        gain = gain * np.exp((np.cos(2 * off) - 1) / (2 * spread) ** 2)
    field = np.fft.irfft2(np.fft.rfft2(stream.standard_normal(shape)) * gain, shape)
    return ((field - field.mean()) / field.std()).astype(np.float32)


def soft_step(value: np.ndarray, softness: float) -> np.ndarray:
    """Return 0 below and 1 above zero, with a ramp of width ``softness`` between."""
    return np.clip(value / softness + 0.5, 0, 1)


def coat(seed: int, identity: int) -> np.ndarray:
    """Return the coat of an individual: 0 where it is light, 1 where it is dark.

    A family has one style. In a quarter of the families all share the trunk, in another quarter the
    legs and the fore part (neck and head), so neither a glance at the whole animal nor one at a
    part of it tells all of them apart. In the other half they share nothing. The map is float32
    ``[height, width]``, over the animal at rest.
    """
    family = rng(seed, "family", identity // FAMILY)
    style = STYLES[family.integers(len(STYLES))]
    draw = family.random()
    own = ("trunk",) if draw < 0.25 else ("fore", "legs") if draw < 0.5 else tuple(ACROSS)

    y, x = np.mgrid[: round((BOTTOM - TOP) * DENSITY), : round((RIGHT - LEFT) * DENSITY)]
    y, x = TOP + (y + 0.5) / DENSITY, LEFT + (x + 0.5) / DENSITY
    part = {}
    for region in ACROSS:
        stream = (
            rng(seed, f"own {region}", identity)
            if region in own
            else rng(seed, f"shared {region}", identity // FAMILY)
        )
        part[region] = _pattern(stream, style, ACROSS[region], x.shape)
    dark = part["trunk"] + (part["fore"] - part["trunk"]) * soft_step(x - 0.36, 0.06)
    dark = dark + (part["legs"] - dark) * soft_step(y - 0.24, 0.06)
    for mark_x, mark_y, radius in MARKS:
        dark = np.maximum(dark, soft_step(radius - np.hypot(x - mark_x, y - mark_y), 0.02))
    return dark.astype(np.float32)


def _pattern(
    stream: np.random.Generator, style: str, across: float, shape: tuple[int, int]
) -> np.ndarray:
    """Return spots, stripes or blotches as far as a coat reaches."""
    if style == "stripes":
        return soft_step(waves(stream, shape, 0.25 * DENSITY, 0.35, across, spread=0.3), 0.5)
    if style == "spots":
        return soft_step(waves(stream, shape, 0.23 * DENSITY, 0.3) - 0.5, 0.5)
    return soft_step(waves(stream, shape, 0.36 * DENSITY, 0.45) - 0.2, 0.4)


def look_up(coat: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how dark a coat is at places on the animal at rest, in the shape of ``x``."""
    from scipy import ndimage  # here, so that a herd that is drawn already does without

    places = np.stack([(y - TOP) * DENSITY - 0.5, (x - LEFT) * DENSITY - 0.5])
    return ndimage.map_coordinates(coat, places, order=1, mode="nearest")


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

    Each of the bones (indices) moves rigidly; where they meet, their answers are blended by
    nearness. Places are float32 ``x`` and ``y`` of one shape, any; so are the distance to the
    surface (negative inside), and x and y at rest, that are returned.
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
