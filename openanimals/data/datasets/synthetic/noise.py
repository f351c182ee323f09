"""Seeded randomness, and the noise that coats, foliage and dappled shade are made of."""

import numpy as np

from openanimals.utils.reproducibility import derive_seed


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
    """Return noise of about one wavelength.

    Args:
        stream: where the noise comes from.
        shape: height and width in pixels.
        wavelength: in pixels.
        width: of the band, relative to its frequency; a narrow band gives a regular pattern.
        direction: in which the waves run, in radians; 0 is along x and gives upright stripes.
        spread: of the directions, in radians; None for all directions.

    Returns:
        A float32 field ``[height, width]`` of mean 0 and standard deviation 1.
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
