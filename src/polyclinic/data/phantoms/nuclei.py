"""Phantom micrographs of cell nuclei with instance ids: two stains and a fluorescence dye."""

from pathlib import Path

import numpy as np

from polyclinic.data.phantoms.layouts import write_mask_pairs
from polyclinic.data.phantoms.samples import Masked, streams
from polyclinic.data.phantoms.shapes import edge, lattice, strew
from polyclinic.data.phantoms.texture import (
    as_pixels,
    fractal_noise,
    over,
    ridges,
    shade,
    smooth_noise,
    tint,
    vary,
)

LEAST_AREA = 12  # px; what the border of the picture cuts smaller is not an instance


def paint(rng: np.random.Generator, size: int) -> Masked:
    """One micrograph (S, S, 3) and its instance ids (S, S) uint16: 0 background, then 1, 2, ..."""
    radius = rng.uniform(0.075, 0.17)
    points = lattice(rng, radius * rng.uniform(2.0, 2.6), rng.uniform(0.1, 0.25))
    # Nuclei gather: whether a place is taken follows a smooth field.
    field = fractal_noise(rng, (size, size), 2.0)
    column, row = np.clip(((points.T + 1) / 2 * size).astype(int), 0, size - 1)
    crowd = field[row, column] + rng.normal(0, 0.7, len(points))
    points = points[crowd >= np.quantile(crowd, rng.uniform(0.2, 0.7))]
    n = len(points)
    stretch, area = np.exp(rng.uniform(0, 0.3, n)), radius * np.exp(rng.normal(0, 0.15, n))
    radii = np.stack([area * stretch, area / stretch], 1)
    level, reach, owner = strew(rng, size, points, radii, rng.uniform(0, np.pi, n), rough=0.3)
    ids = _number(np.where(level >= 0, owner + 1, 0))

    opacity = edge(level, 3 / size)
    own = rng.uniform(0.55, 1.0, n)[owner]  # uptake of dye differs from nucleus to nucleus
    chromatin = smooth_noise(rng, (size, size), rng.uniform(1.0, 1.8) * size / 128)
    if rng.random() < 0.45:
        grey = rng.uniform(0.03, 0.10) + rng.uniform(0.35, 0.8) * opacity * own * (
            0.8 + 0.12 * chromatin + 0.25 * edge(1 - reach, 1.4)
        )
        grey = grey * shade(rng, size, 0.2) + rng.normal(0, 0.012, (size, size))
        return Masked(as_pixels(np.repeat(grey[..., None], 3, axis=2)), ids)
    pink = rng.random() < 0.5
    ground = vary(rng, (0.90, 0.72, 0.82) if pink else (0.78, 0.74, 0.93), 0.04)
    image = np.broadcast_to(ground, (size, size, 3)).copy()
    image += 0.03 * fractal_noise(rng, (size, size), 1.4)[..., None]
    fibres = ridges(fractal_noise(rng, (size, size), 1.9), 0.25)
    image = over(image, (0.97, 0.90, 0.95), fibres * rng.uniform(0.2, 0.6))
    dark = vary(rng, (0.40, 0.25, 0.58) if pink else (0.36, 0.22, 0.72), 0.05)
    depth = own * (0.95 - 0.35 * edge(0.7 - reach, 0.5)) + 0.10 * chromatin
    image = over(image, dark, opacity * np.clip(depth, 0.35, 1))
    image = image * shade(rng, size, 0.08)[..., None] + rng.normal(0, 0.014, image.shape)
    return Masked(as_pixels(tint(rng, image, 0.07)), ids)


def _number(
    owner: np.ndarray[tuple[int, ...], np.dtype[np.intp]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Ids 1, 2, ... without gaps, instances under `LEAST_AREA` px dropped."""
    area = np.bincount(owner.ravel())
    kept = area >= LEAST_AREA
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[owner].astype(np.uint16)


def generate(count: int, *, seed: int = 0, size: int = 128) -> list[Masked]:
    """`count` micrographs with instance ids."""
    return [paint(rng, size) for rng in streams(seed, "nuclei", count)]


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """`images // 4` pairs, six at least, at 1.5 times `image_size`."""
    write_mask_pairs(folder, generate(max(6, images // 4), seed=seed, size=image_size * 3 // 2))
