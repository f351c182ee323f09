"""Coats: what tells one individual from another. They differ in pattern, never in colour."""

import numpy as np

from openanimals.data.datasets.synthetic.noise import rng, soft_step, waves

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


def coat(seed: int, identity: int) -> np.ndarray:
    """Return the coat of an individual: 0 where it is light, 1 where it is dark.

    A family has one style. In a quarter of the families all share the trunk, in another quarter the
    legs and the fore part (neck and head), so neither a glance at the whole animal nor one at a
    part of it tells all of them apart. In the other half they share nothing.

    Returns:
        A float32 map ``[height, width]`` over the animal at rest.
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
