"""Draw small grey pictures of a site, of a camera on the mast that is directed east."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simulator.sensors.site import Array, Site

__all__ = ["PIXELS", "picture"]

PIXELS = 64
_FOCAL = PIXELS / 2  # pixels: a field of view of 90 degrees
_SKY, _GROUND = 0.8, 0.45
_NOISE = 0.03
_BIRDS = 0.3  # share of the pictures with a bird
_ROWS, _COLUMNS = np.mgrid[0:PIXELS, 0:PIXELS] + 0.5


def picture(
    site: Site, position: Array, in_sight: bool, light: float, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Draw sky, ground, buildings, the drone if it is in sight, and at times a bird, with noise.

    Parameters
    ----------
    site
        The site.
    position
        Position of the drone, float64 (3,), m.
    in_sight
        Whether no building is between camera and drone.
    light
        Brightness of the day.
    rng
        Source of birds and noise.

    Returns
    -------
    numpy.ndarray
        Brightness, uint8 (64, 64), first row at the top, north at the left.
    """
    image = np.full((PIXELS, PIXELS), _SKY)
    image[PIXELS // 2 :] = _GROUND
    for number in np.argsort(-site.boxes[:, 0]):
        west, east, south, north, height = site.boxes[number]
        for x, tone in ((east, 0.9), (west, 1.0)):
            top, bottom = _row(site, x, height), _row(site, x, 0.0)
            left, right = _column(x, north), _column(x, south)
            image[_span(top, bottom), _span(left, right)] = tone * site.shades[number]
    image *= light
    x, y, z = position
    if in_sight:
        contrast = 0.5 * light * min(1.0, 25 / x + 0.25)
        image -= _spot(_row(site, x, z), _column(x, y), max(0.6, 0.5 * _FOCAL / x), contrast)
    if rng.random() < _BIRDS:
        image -= _spot(rng.uniform(0, PIXELS / 2), rng.uniform(0, PIXELS), 0.8, 0.35 * light)
    image += _NOISE * rng.normal(size=image.shape)
    return np.asarray(np.round(255 * np.clip(image, 0, 1)), np.uint8)


def _row(site: Site, x: float, z: float) -> float:
    return PIXELS / 2 - _FOCAL * (z - site.array.height) / x


def _column(x: float, y: float) -> float:
    return PIXELS / 2 - _FOCAL * y / x


def _span(first: float, last: float) -> slice:
    low, high = np.clip(np.round([first, last]), 0, PIXELS).astype(int)
    return slice(low, high)


def _spot(row: float, column: float, size: float, depth: float) -> Array:
    return np.asarray(depth * np.exp(-((_ROWS - row) ** 2 + (_COLUMNS - column) ** 2) / (2 * size**2)))
