"""Outlines that the phantoms share, drawn with soft edges.

Positions and lengths are in half image widths: x and y run from -1 to 1, y downwards. An opacity
is 0..1, and 0.5 at the outline itself, so a true mask is `opacity >= 0.5`.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from polyclinic.data.phantoms.samples import Float

Point = tuple[float, float]  # x, y


@cache
def grid(size: int) -> tuple[Float, Float]:
    """Coordinates (y, x) of the pixel centres, each (S, S)."""
    line = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(line, line, indexing="ij")
    y.flags.writeable = x.flags.writeable = False
    return y, x


def edge(level: Float, softness: float) -> Float:
    """Opacity of a level set (positive inside), rising from 0 to 1 over `softness`."""
    opacity: Float = np.clip(level / softness + 0.5, 0, 1)
    return opacity


def ellipse(
    size: int, centre: Point, radii: Point, angle: float = 0.0, softness: float | None = None
) -> Float:
    """Opacity (S, S) of an ellipse turned by `angle` radians; the edge is a pixel wide."""
    level = (1 - _reach(size, centre, radii, angle)[0]) * min(radii)
    return edge(level, softness or 2 / size)


def blob(
    rng: np.random.Generator,
    size: int,
    centre: Point,
    radii: Point,
    angle: float = 0.0,
    *,
    rough: float = 0.1,
    harmonics: tuple[int, int] = (2, 5),
    softness: float | None = None,
) -> Float:
    """Opacity (S, S) of an ellipse whose outline waves by about the share `rough` of its radius.

    `harmonics` are the lowest and highest number of waves around it: few make a bean, many make
    spicules.
    """
    reach, theta = _reach(size, centre, radii, angle)
    waves = np.arange(harmonics[0], harmonics[1] + 1)
    height = rng.normal(size=len(waves)) * rough / np.sqrt(len(waves))
    phase = rng.uniform(0, 2 * np.pi, len(waves))
    outline = 1 + (height * np.cos(theta[..., None] * waves + phase)).sum(-1)
    return edge((outline - reach) * min(radii), softness or 2 / size)


def _reach(size: int, centre: Point, radii: Point, angle: float) -> tuple[Float, Float]:
    y, x = grid(size)
    dx, dy = x - centre[0], y - centre[1]
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / radii[0]
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / radii[1]
    return np.hypot(along, across), np.arctan2(across, along)


def lattice(rng: np.random.Generator, spacing: float, jitter: float) -> Float:
    """Points (N, 2) as x, y over the image and a margin: a turned, shaken hexagonal lattice.

    Cheap way to strew cells that do not lie on each other; `jitter` is a share of `spacing`.
    """
    n = int(np.ceil(2.2 / spacing)) + 1
    i, j = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1))
    x, y = (i + (j % 2) / 2).ravel() * spacing, j.ravel() * spacing * np.sqrt(3) / 2
    turn = rng.uniform(0, np.pi)
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    points += rng.uniform(-1, 1, 2) * spacing + rng.normal(size=points.shape) * jitter * spacing
    inside = (np.abs(points) < 1 + spacing / 2).all(axis=1)
    strewn: Float = rng.permutation(points[inside])
    return strewn


def strew(
    rng: np.random.Generator,
    size: int,
    centres: Float,
    radii: Float,
    angles: Float,
    *,
    rough: float = 0.1,
) -> tuple[Float, Float, np.ndarray[tuple[int, ...], np.dtype[np.intp]]]:
    """Many ellipses at once: level in the nearest, reach in it (0 centre, 1 rim), its number.

    `centres` (N, 2), `radii` (N, 2), `angles` (N,). The outlines share one smooth distortion of
    the plane, which is far cheaper than an outline for each. All results are (S, S).
    """
    y, x = grid(size)
    phase, wave = rng.uniform(0, 2 * np.pi, (2, 4)), rng.uniform(6, 16, (2, 4))
    bend = rough * 0.06
    wx = x + bend * (np.sin(wave[0, 0] * y + phase[0, 0]) + np.sin(wave[0, 1] * x + phase[0, 1]))
    wy = y + bend * (np.sin(wave[1, 0] * x + phase[1, 0]) + np.sin(wave[1, 1] * y + phase[1, 1]))
    dx, dy = wx - centres[:, 0, None, None], wy - centres[:, 1, None, None]
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    squared = ((dx * cos + dy * sin) / radii[:, 0, None, None]) ** 2
    squared += ((dy * cos - dx * sin) / radii[:, 1, None, None]) ** 2
    owner = squared.argmin(axis=0)
    reach = np.sqrt(np.take_along_axis(squared, owner[None], axis=0)[0])
    return (1 - reach) * radii.min(axis=1)[owner], reach, owner


def strokes(size: int, paths: Sequence[tuple[Sequence[Point], float]], fine: int = 4) -> Float:
    """Opacity (S, S) of polylines with round ends, each (points, width), drawn `fine` times finer.

    Overlapping strokes do not add up.
    """
    scale = size * fine / 2
    canvas = Image.new("L", (size * fine, size * fine))
    draw = ImageDraw.Draw(canvas)
    for points, width in paths:
        dots = [((px + 1) * scale, (py + 1) * scale) for px, py in points]
        half = width * scale / 2
        draw.line(dots, fill=255, width=max(1, round(2 * half)), joint="curve")
        for px, py in (dots[0], dots[-1]):
            draw.ellipse((px - half, py - half, px + half, py + half), fill=255)
    return np.asarray(canvas.reduce(fine), dtype=np.float64) / 255
