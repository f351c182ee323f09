"""Hessian blobs: places and sizes at which the determinant of the Hessian is a local extremum.

It is taken of a Gaussian scale space and multiplied by the fourth power of the scale, so that blobs
of all sizes compare (Lindeberg, 1998; Mikolajczyk and Schmid, 2004). It is positive at dark and
bright blobs and negative at saddles, as between two spots. All filters are OpenCV's.
"""

from collections.abc import Callable, Sequence

import numpy as np

SIGMA = 1.6  # of an octave's first level, in its pixels; like the next two, as SIFT has it
LEVELS = 3  # sizes an octave
EDGE_RATIO = 10.0  # times that one of a blob's two curvatures may be the other; more is an edge
THRESHOLD = 1e-4  # least size of the determinant at an extremum
CAMERA = 0.5  # how much a photograph is blurred as it is, in its pixels
BORDER = 5  # pixels at the edges of an octave, where filters see a reflection
LEAST_SIDE = 16  # of an octave, in pixels
REACH = 1.5  # steps from its pixel and level that the fitted extremum may lie
SHIFT = 0.25  # so far outside of an image's first pixel lies that of one of twice the size

Points = tuple[np.ndarray, np.ndarray, np.ndarray]  # places, sizes, strengths


def hessian_points(image: np.ndarray) -> Points:
    """Find the blobs of a grey image.

    Args:
        image: uint8 `[H, W]`.

    Returns:
        Places (x, y) `[N, 2]` and standard deviations `[N]` of the Gaussian, both in pixels, and
        strengths `[N]`; float32.
    """
    import cv2

    step = 0.5  # at twice the size, for blobs of a standard deviation below 2 pixels
    grey = image.astype(np.float32) / 255
    larger = cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    base = _blurred(larger, 2 * CAMERA, SIGMA)
    found = [(np.zeros((0, 2)), np.zeros(0), np.zeros(0))]
    sigmas = [SIGMA * 2 ** (level / LEVELS) for level in range(LEVELS + 2)]
    while min(base.shape) >= LEAST_SIDE:
        levels = [base]
        for now, wanted in zip(sigmas[:-1], sigmas[1:], strict=True):
            levels.append(_blurred(levels[-1], now, wanted))
        determinants = [_determinant(*pair) for pair in zip(levels, sigmas, strict=True)]
        places = _extrema(determinants)
        xy, level, strength = _refined(determinants, levels, places)
        found.append((xy * step - SHIFT, SIGMA * 2 ** (level / LEVELS) * step, strength))
        base = levels[LEVELS][::2, ::2]  # of twice the first level's size
        step *= 2
    xy, sigma, strength = (
        np.concatenate(part).astype(np.float32) for part in zip(*found, strict=True)
    )
    return xy, sigma, strength


def _blurred(image: np.ndarray, now: float, wanted: float) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(image, (0, 0), (wanted**2 - now**2) ** 0.5)


def _determinant(image: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    line = np.array([1, -2, 1], np.float32) * sigma**2
    one, slope = np.ones(1, np.float32), np.array([-0.5, 0, 0.5], np.float32) * sigma
    xx = cv2.sepFilter2D(image, cv2.CV_32F, line, one)
    yy = cv2.sepFilter2D(image, cv2.CV_32F, one, line)
    xy = cv2.sepFilter2D(image, cv2.CV_32F, slope, slope)
    return cv2.subtract(cv2.multiply(xx, yy), cv2.multiply(xy, xy))


def _extrema(determinants: Sequence[np.ndarray]) -> np.ndarray:
    """Return level, row and column `[N, 3]` of what no neighbour in place and size exceeds."""
    import cv2

    kernel = np.ones((3, 3), np.uint8)
    places = [np.zeros((0, 3), np.int64)]
    tops = [cv2.dilate(level, kernel) for level in determinants]
    for level in range(1, len(determinants) - 1):
        top = cv2.max(cv2.max(tops[level - 1], tops[level]), tops[level + 1])
        here = cv2.compare(determinants[level], top, cv2.CMP_GE)
        here[determinants[level] < THRESHOLD] = 0
        xy = cv2.findNonZero(here[BORDER:-BORDER, BORDER:-BORDER])
        if xy is not None:
            rows = xy.reshape(-1, 2)[:, ::-1] + BORDER
            places.append(np.pad(rows, ((0, 0), (1, 0)), constant_values=level))
    return np.concatenate(places)


def _refined(
    determinants: Sequence[np.ndarray], levels: Sequence[np.ndarray], places: np.ndarray
) -> Points:
    """Fit a parabola to the neighbours of each extremum, and leave out edges.

    Returns:
        Places (x, y), levels (not whole) and strengths of those that are left.
    """
    axes = np.eye(3, dtype=np.int64)
    value = _values(determinants, places)
    middle = value(0 * axes[0])
    slope = np.stack([value(axis) - value(-axis) for axis in axes], 1) / 2  # [N, 3]
    curved = np.empty((len(places), 3, 3))
    for i, one in enumerate(axes):
        for j, other in enumerate(axes):
            if i == j:
                curved[:, i, i] = value(one) + value(-one) - 2 * middle
            else:
                both = value(one + other) + value(-one - other)
                curved[:, i, j] = (both - value(one - other) - value(other - one)) / 4
    image = _values(levels, places)
    level, row, column = axes
    yy, xx = (image(axis) + image(-axis) - 2 * image(0 * axis) for axis in (row, column))
    xy = image(row + column) + image(-row - column) - image(row - column) - image(column - row)
    determinant = xx * yy - (xy / 4) ** 2
    edge = (xx + yy) ** 2 * EDGE_RATIO > (EDGE_RATIO + 1) ** 2 * determinant
    # A saddle is no edge, and a plateau has no parabola.
    good = ~(edge & (middle > 0)) & (np.abs(np.linalg.det(curved)) > 1e-9 * np.abs(middle) ** 3)
    places, middle, slope, curved = (part[good] for part in (places, middle, slope, curved))
    offset = -np.linalg.solve(curved, slope[:, :, None])[:, :, 0]
    good = (np.abs(offset) < REACH).all(1)
    fitted = (places + offset)[good]
    strength = np.abs(middle + (slope * offset).sum(1) / 2)[good]
    return fitted[:, :0:-1], fitted[:, 0], strength


def _values(levels: Sequence[np.ndarray], places: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives the values that lie a step (level, row, column) from places `[N]`."""
    stack = np.stack(levels)

    def value(step: np.ndarray) -> np.ndarray:
        return stack[tuple((places + step).T)].astype(np.float64)

    return value
