"""Camera traps: a scene with an animal in it, in the light of the hour, behind some grass."""

from dataclasses import dataclass

import numpy as np

from openanimals.data.datasets.synthetic.animals import (
    FAR_SIDE,
    NEAR_SIDE,
    draw_pose,
    look_up,
    relief,
    rng,
    soft_step,
    to_rest,
    waves,
)

CAMERAS = 5
LIGHT_HIDE = np.array([206, 172, 128], np.float32)  # of every individual
DARK_HIDE = np.array([66, 46, 34], np.float32)
GREENS = np.array(
    [[98, 110, 62], [142, 126, 82], [64, 80, 56], [170, 152, 106], [118, 98, 72]], np.float32
)


@dataclass(frozen=True)
class Trap:
    """A camera trap: the scene that it looks at and the grass in front of it."""

    scene: np.ndarray  # [height, width, 3] in 0..255, larger than a photograph
    grass: np.ndarray  # colours of blades [count, 3]


@dataclass(frozen=True)
class Light:
    """The light of an encounter; each photograph varies it a little."""

    exposure: float
    contrast: float
    saturation: float
    cast: np.ndarray  # gains of red, green and blue


def set_trap(seed: int, camera: int, pixels: int) -> Trap:
    """Return a camera trap for photographs that are ``pixels`` wide."""
    stream = rng(seed, "camera", camera)
    shape = (int(pixels * 0.75 * 1.5), int(pixels * 1.5))
    hues = stream.permutation(GREENS) + stream.normal(0, 10, GREENS.shape).astype(np.float32)
    scene = np.broadcast_to(hues[0], (*shape, 3))
    for hue, layer in (
        (hues[1], waves(stream, shape, 0.30 * pixels, 0.6)),  # light and shade
        (hues[2], waves(stream, shape, 0.12 * pixels, 0.6)),  # bushes
        (hues[3], waves(stream, shape, 0.05 * pixels, 0.6, spread=0.4)),  # stalks
    ):
        scene = _paint(scene, hue, soft_step(layer - 0.3, 1.5))
    return Trap(scene, 0.9 * hues[2:])


def draw_light(stream: np.random.Generator) -> Light:
    """Return a random light."""
    return Light(
        exposure=float(np.exp(stream.normal(0, 0.15))),
        contrast=float(np.exp(stream.normal(0, 0.15))),
        saturation=float(stream.uniform(0.3, 1.1)),
        cast=np.exp(stream.normal(0, 0.08, 3)).astype(np.float32),
    )


def photograph(
    coat: np.ndarray,
    trap: Trap,
    light: Light,
    facing: str,
    pixels: int,
    stream: np.random.Generator,
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Photograph an individual that wears a coat, facing ``left`` or ``right``.

    The photograph is ``pixels`` wide and three quarters as high. Random are pose, framing, light
    and occlusion.

    Returns:
        The photograph, uint8 ``[height, width, 3]``, and a rough box about the animal as x, y,
        width and height in pixels.
    """
    height, width = pixels * 3 // 4, pixels
    scale = float(pixels * stream.uniform(0.40, 0.52))
    x, y = _view(stream, height, width, scale, facing)
    pose = draw_pose(stream)

    picture = _crop(trap.scene, stream, height, width)
    shadow = np.exp(-((x / 0.5) ** 2) - ((y - 0.68) / 0.09) ** 2)  # on the ground, under the hooves
    picture = picture * (1 - 0.45 * shadow)[..., None]
    picture = _grow(picture, trap.grass, stream, count=10)
    inside = np.zeros((height, width), bool)
    for bones, shade in ((FAR_SIDE, 0.62), (NEAR_SIDE, 1.0)):
        distance, rest_x, rest_y = to_rest(bones, pose, x, y)
        hide = _paint(LIGHT_HIDE, DARK_HIDE, look_up(coat, rest_x, rest_y))
        hide = hide * (shade * relief(distance, rest_y))[..., None]
        picture = _paint(picture, hide, soft_step(-distance, 1 / scale))
        inside |= distance < 0
    picture = _grow(picture, trap.grass, stream, count=10)
    return _expose(picture, light, stream), _box(inside, stream)


def _view(
    stream: np.random.Generator, height: int, width: int, scale: float, facing: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the place on the animal's plane, x and y, that each pixel sees."""
    roll, bend = stream.normal(0, 0.05), stream.normal(0, 0.05)
    slant = float(stream.uniform(0.85, 1.0))  # seen from the side at 1
    aside, above = stream.uniform(-1, 1, 2) * (0.06 * width, 0.04 * height)
    row, column = np.mgrid[:height, :width].astype(np.float32)
    right = (column + 0.5 - width / 2 - float(aside)) / scale
    down = (row + 0.5 - height / 2 - float(above)) / scale
    if facing == "left":
        right = -right
    cos, sin = float(np.cos(roll)), float(np.sin(roll))
    x = (right * cos + down * sin) / slant + 0.13  # the animal's middle, not its navel
    y = down * cos - right * sin + 0.06
    return x, y + float(bend) * (x * x - 0.1)


def _crop(scene: np.ndarray, stream: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a random part of a scene: animals do not all pass at one place."""
    top = stream.integers(scene.shape[0] - height + 1)
    left = stream.integers(scene.shape[1] - width + 1)
    return scene[top : top + height, left : left + width]


def _grow(
    picture: np.ndarray, colours: np.ndarray, stream: np.random.Generator, count: int
) -> np.ndarray:
    """Return the picture with about ``count`` blades of grass before it."""
    picture = picture.copy()
    height, width = picture.shape[:2]
    x = (np.arange(width, dtype=np.float32) + 0.5) / width
    for _ in range(stream.poisson(count)):
        root, lean = float(stream.uniform(0, 1)), float(stream.normal(0, 0.3))
        tall, half = float(stream.uniform(0.15, 0.5)), float(stream.uniform(0.006, 0.014))
        colour = stream.choice(colours) * np.float32(stream.uniform(0.7, 1.2))
        low, high = sorted((root, root + lean * tall))
        columns = slice(max(0, int((low - half) * width) - 1), int((high + half) * width) + 2)
        patch = picture[height - int(tall * height) :, columns]
        up = np.linspace(1, 0, len(patch), dtype=np.float32)[:, None]  # 0 at the root, 1 at the tip
        off = np.abs(x[columns] - root - lean * tall * up * up)
        patch[:] = _paint(patch, colour, soft_step(half * (1 - up) - off, 1 / width))
    return picture


def _expose(picture: np.ndarray, light: Light, stream: np.random.Generator) -> np.ndarray:
    """Return the picture in its light, as uint8."""
    height, width = picture.shape[:2]
    angle = stream.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * np.linspace(-1, 1, width) + (
        np.sin(angle) * np.linspace(-1, 1, height)[:, None]
    )
    leaves = waves(stream, (height, width), float(stream.uniform(0.15, 0.4)) * width, 1.5)
    brightness = stream.normal(0.2, 0.15) + stream.uniform(0, 0.3) * ramp
    brightness = brightness - stream.uniform(0, 0.3) * soft_step(leaves - 0.3, 2)
    gain = (light.exposure * np.exp(brightness)).astype(np.float32)
    tint = stream.normal(0, 0.08, 3).astype(np.float32)
    picture = picture * gain[..., None] * light.cast * np.exp(tint)
    grey = picture.mean(2, keepdims=True)
    picture = grey + (picture - grey) * light.saturation
    picture = 118 + (picture - 118) * light.contrast * float(np.exp(stream.normal(0, 0.1)))
    grain = stream.standard_normal(picture.shape, np.float32) * float(stream.uniform(2, 7))
    return np.clip(np.rint(picture + grain), 0, 255).astype(np.uint8)


def _box(inside: np.ndarray, stream: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a box about the animal, as a hurried person draws it."""
    edges = []
    for axis in (0, 1):
        hit = np.flatnonzero(inside.any(axis))
        low, high = hit[0], hit[-1] + 1
        slip = stream.normal(0, 0.03, 2) * (high - low)
        low, high = np.clip(np.rint((low + slip[0], high + slip[1])), 0, inside.shape[1 - axis])
        edges.append((int(low), int(high - low)))
    (x, w), (y, h) = edges
    return x, y, w, h


def _paint(below: np.ndarray, colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Return colours ``[..., 3]`` with another laid over them."""
    return below + opacity[..., None] * (colour - below)
