"""Local features of a photograph: places, sizes and upright RootSIFT descriptors.

Animals stand upright, so keypoints are not turned: that tells more spots apart, and there is one
descriptor a place. RootSIFT (Arandjelovic and Zisserman, CVPR 2012) is the square root of SIFT's
histogram, whose Euclidean distance is the histograms' Hellinger distance; kept in bytes.
"""

from typing import NamedTuple

import numpy as np

from openanimals.matching.hessian import EDGE_RATIO, LEVELS, SIGMA, Points, hessian_points
from openanimals.utils.errors import UserError
from openanimals.utils.registry import check_name

DETECTORS = ("dog", "hessian")
NORM = 512  # of a descriptor, as SIFT's own
CONTRAST = 0.01  # a quarter of SIFT's: few points of a small photograph pass that, the best remain
LAST_OCTAVE = 4  # in which the largest points are described


class Keypoints(NamedTuple):
    """The keypoints of one photograph, the strongest first.

    Attributes:
        xy: places `[N, 2]` in pixels of the photograph as given, float32; the middle of the first
            pixel is 0, 0.
        scale: standard deviations of the Gaussian at which they stand out `[N]`, in its pixels.
        weight: of its matches `[N]`, 0 to 1, float32.
        descriptors: uint8 `[N, 128]`, of the length 512.
        size: (width, height) of the photograph in pixels.
    """

    xy: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    descriptors: np.ndarray
    size: tuple[int, int]


def extract_keypoints(
    pixels: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    detector: str = "dog",
    longest: int = 336,
    points: int = 600,
    centre: tuple[float, float] | None = None,
) -> Keypoints:
    """Find and describe the keypoints of a photograph.

    Args:
        pixels: uint8 `[H, W, 3]` (RGB) or `[H, W]` (grey).
        mask: bool `[H, W]`: keypoints outside of it are left out.
        detector: ``"dog"``: OpenCV's SIFT (difference of Gaussians); ``"hessian"``: blobs, see
            :func:`openanimals.matching.hessian.hessian_points`.
        longest: pixels to resize the longer side to before.
        points: how many of the strongest to keep.
        centre: standard deviations, across and down, of a Gaussian that keypoints are weighted by,
            as parts of half the width and height: animals stand in the middle, and what lies
            around them is background. None weighs all places alike.

    Returns:
        At most so many keypoints; none of a photograph without contrast.

    Raises:
        UserError: the pixels are no image of bytes, the mask is of another size, the detector is
            unknown, or a number is not above 0.
    """
    import cv2

    _check(pixels, mask, detector, longest=longest, points=points)
    height, width = pixels.shape[:2]
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    factor = longest / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if size != (width, height):
        filtering = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        grey = cv2.resize(grey, size, interpolation=filtering)
    ratio = np.array([width / size[0], height / size[1]], dtype=np.float32)

    xy, sigma, strength = _dog_points(grey) if detector == "dog" else hessian_points(grey)
    places = (xy + 0.5) * ratio - 0.5
    weight = np.ones(len(xy), dtype=np.float32)
    if mask is not None:
        column, row = np.rint(places).astype(np.int64).T
        inside = mask[row.clip(0, height - 1), column.clip(0, width - 1)]
        weight *= inside
    if centre is not None:
        side, spread = np.array([width, height], np.float32), np.array(centre, np.float32)
        off = ((places + 0.5) / side * 2 - 1) / spread
        weight *= np.exp(-(off**2).sum(1) / 2)
    strength = strength * weight
    best = np.lexsort((xy[:, 0], xy[:, 1], -strength))[:points]  # equal ones from the top left on
    best = best[weight[best] > 0]
    descriptors = _root(_sift(grey, xy[best], sigma[best]))
    scale = sigma[best] * np.sqrt(ratio.prod())
    return Keypoints(places[best], scale, weight[best], descriptors, (width, height))


def _dog_points(grey: np.ndarray) -> Points:
    import cv2

    found = cv2.SIFT_create(0, LEVELS, CONTRAST, EDGE_RATIO, SIGMA).detect(grey, None)  # type: ignore[attr-defined]
    # SIFT repeats a point for each of its orientations.
    found = list({(*point.pt, point.size): point for point in found}.values())
    xy = np.array([point.pt for point in found], dtype=np.float32).reshape(-1, 2)
    sigma = np.array([point.size / 2 for point in found], dtype=np.float32)
    return xy, sigma, np.array([point.response for point in found], dtype=np.float32)


def _sift(grey: np.ndarray, xy: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Describe places at the octave and level whose blur is theirs, float32 `[N, 128]`."""
    import cv2

    if not len(xy):
        return np.zeros((0, 128), dtype=np.float32)
    size = np.log2(sigma / SIGMA)
    octave = np.clip(np.floor(size), -1, LAST_OCTAVE).astype(np.int64)
    level = np.clip(np.rint((size - octave) * LEVELS), 0, LEVELS).astype(np.int64)
    packed = (octave & 255) | (level << 8)  # as OpenCV has them in one number
    values = zip(*xy.T.tolist(), (2 * sigma).tolist(), packed.tolist(), strict=True)
    upright = [cv2.KeyPoint(x, y, size, 0.0, 1.0, octave) for x, y, size, octave in values]
    return cv2.SIFT_create(0, LEVELS, CONTRAST, EDGE_RATIO, SIGMA).compute(grey, upright)[1]  # type: ignore[attr-defined]


def _root(sift: np.ndarray) -> np.ndarray:
    """Return RootSIFT of the length 512, uint8."""
    share = sift / np.maximum(sift.sum(1, keepdims=True), 1e-9)
    return np.clip(np.rint(NORM * np.sqrt(share)), 0, 255).astype(np.uint8)


def _check(pixels: np.ndarray, mask: np.ndarray | None, detector: str, **numbers: float) -> None:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise UserError(
            f"the photograph is {pixels.dtype} of the shape {list(pixels.shape)}; expected uint8 "
            "[H, W, 3] or [H, W]"
        )
    if mask is not None and (mask.dtype != bool or mask.shape != pixels.shape[:2]):
        raise UserError(
            f"the mask is {mask.dtype} of the shape {list(mask.shape)}; expected bool "
            f"{list(pixels.shape[:2])}, as the photograph"
        )
    check_name("the detector", detector, DETECTORS)
    for name, number in numbers.items():
        if not number > 0:
            raise UserError(f"{name} of keypoints is {number}; expected a number above 0")
