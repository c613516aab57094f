"""Phantom histology (haematoxylin and eosin): five tissues, as one MedMNIST-style npz.

The tissues differ in how nuclei are arranged, shaped and sized; the stain varies per slide.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from polyclinic.data.phantoms.layouts import write_medmnist
from polyclinic.data.phantoms.samples import Float, Labelled, Pixels, assign_labels, streams
from polyclinic.data.phantoms.shapes import blob, edge, lattice, strew
from polyclinic.data.phantoms.texture import (
    Colour,
    as_pixels,
    fractal_noise,
    over,
    ridges,
    shade,
    smooth_noise,
    tint,
    vary,
)

HAEMATOXYLIN: Colour = (0.36, 0.24, 0.55)
EOSIN: Colour = (0.90, 0.62, 0.74)


def paint(rng: np.random.Generator, label: str, size: int, stain: float = 0.05) -> Pixels:
    """One tile (S, S, 3) of tissue `label`; `stain` is how far colours stray."""
    eosin, haematoxylin = vary(rng, EOSIN, stain), vary(rng, HAEMATOXYLIN, stain)
    image = np.broadcast_to(eosin, (size, size, 3)).copy()
    image += 0.035 * fractal_noise(rng, (size, size), 1.3)[..., None]
    image = TISSUES[label](rng, image, haematoxylin)
    image = image * shade(rng, size, 0.06)[..., None] + rng.normal(0, 0.015, image.shape)
    return as_pixels(tint(rng, image, 1.6 * stain))


def nuclei(
    rng: np.random.Generator,
    image: Float,
    colour: Colour,
    centres: Float,
    radius: float,
    *,
    long: float = 1.2,
    spread: float = 0.2,
    angles: Float | None = None,
    open_chromatin: float = 0.3,
) -> Float:
    """Nuclei at `centres` (N, 2): `long` times as long as wide, `spread` their size's deviation.

    `open_chromatin` lightens the middle and leaves a dark rim, as in vesicular tumour nuclei.
    """
    if not len(centres):
        return image
    n, size = len(centres), len(image)
    area = radius * np.exp(rng.normal(0, spread, n))
    stretch = np.sqrt(long * np.exp(rng.normal(0, 0.12, n)))
    radii = np.stack([area * stretch, area / stretch], 1)
    turns = rng.uniform(0, np.pi, n) if angles is None else angles
    level, reach, owner = strew(rng, size, centres, radii, turns, rough=0.25)
    depth = rng.uniform(0.75, 1.0, n)[owner] - open_chromatin * edge(0.75 - reach, 0.4)
    depth = depth + 0.10 * smooth_noise(rng, (size, size), 0.8 * size / 64)
    return over(image, colour, edge(level, 2.5 / size) * np.clip(depth, 0.2, 1))


def _stroma(rng: np.random.Generator, image: Float, dark: Colour) -> Float:
    """Wavy collagen with thin, parallel spindle nuclei."""
    size = len(image)
    turn = rng.uniform(0, np.pi)
    bend = fractal_noise(rng, (size, size), 2.5)
    fibres = _along(rng, size, turn, bend)
    image = over(image, (0.96, 0.86, 0.92), ridges(fibres, 0.35) * rng.uniform(0.35, 0.7))
    image = over(image, (0.80, 0.45, 0.62), ridges(fibres - 1, 0.4) * 0.4)
    points = lattice(rng, rng.uniform(0.36, 0.55), 0.35)
    angles = turn + rng.normal(0, 0.2, len(points))
    return nuclei(rng, image, dark, points, 0.06, long=4.0, angles=angles, open_chromatin=0.1)


def _along(rng: np.random.Generator, size: int, turn: float, bend: Float) -> Float:
    """Fibres at `turn` radians: a sine across them whose phase wanders."""
    line = np.linspace(-1, 1, size)
    across = line[:, None] * np.cos(turn) - line[None, :] * np.sin(turn)
    fibres: Float = 1.4 * np.sin(across * rng.uniform(16, 26) + 1.6 * bend)
    return fibres


def _lymphoid(rng: np.random.Generator, image: Float, dark: Colour) -> Float:
    """Small, round, dark nuclei, shoulder to shoulder."""
    points = lattice(rng, rng.uniform(0.22, 0.28), 0.2)
    points = points[rng.random(len(points)) < rng.uniform(0.7, 0.98)]
    return nuclei(rng, image, dark, points, 0.095, long=1.05, spread=0.12, open_chromatin=0.12)


def _glands(rng: np.random.Generator, image: Float, dark: Colour) -> Float:
    """Rings of upright nuclei about a pale lumen, in a little stroma."""
    size = len(image)
    image = over(image, (0.95, 0.82, 0.89), ridges(fractal_noise(rng, (size, size), 2), 0.5) * 0.4)
    centres, angles = [], []
    for x, y in lattice(rng, rng.uniform(0.95, 1.25), 0.12):
        r = rng.uniform(0.36, 0.5)
        radii = (r * rng.uniform(0.85, 1.15), r)
        epithelium = (radii[0] * 1.15, radii[1] * 1.15)
        image = over(image, (0.80, 0.58, 0.76), blob(rng, size, (x, y), epithelium) * 0.8)
        lumen = (radii[0] * 0.48, radii[1] * 0.48)
        image = over(image, (0.97, 0.94, 0.96), blob(rng, size, (x, y), lumen, rough=0.2))
        ring = np.linspace(0, 2 * np.pi, int(2 * np.pi * r / rng.uniform(0.13, 0.17)), False)
        ring = ring + rng.normal(0, 0.05, len(ring))
        reach = rng.normal(0.86, 0.05, len(ring))
        around = np.stack([radii[0] * np.cos(ring) * reach, radii[1] * np.sin(ring) * reach], 1)
        centres.append(around + np.array([x, y]))
        angles.append(ring)
    points = np.concatenate(centres)
    seen = (np.abs(points) < 1.1).all(axis=1)
    turns = np.concatenate(angles)[seen]
    return nuclei(rng, image, dark, points[seen], 0.065, long=1.8, angles=turns, spread=0.1)


def _tumour(rng: np.random.Generator, image: Float, dark: Colour) -> Float:
    """A disordered sheet of large, unequal, vesicular nuclei."""
    size = len(image)
    image = over(image, (0.76, 0.58, 0.78), np.full((size, size), rng.uniform(0.3, 0.7)))
    points = lattice(rng, rng.uniform(0.30, 0.40), 0.28)
    points = points[rng.random(len(points)) < 0.9]
    return nuclei(rng, image, dark, points, 0.12, long=1.35, spread=0.32, open_chromatin=0.5)


def _fat(rng: np.random.Generator, image: Float, dark: Colour) -> Float:
    """Empty vacuoles between thin walls, a flat nucleus here and there."""
    size = len(image)
    spacing = rng.uniform(0.45, 0.7)
    points = lattice(rng, spacing, 0.14)
    radii = np.full((len(points), 2), spacing * 0.52) * rng.uniform(0.9, 1.05, (len(points), 2))
    level = strew(rng, size, points, radii, rng.uniform(0, np.pi, len(points)), rough=0.8)[0]
    image = over(image, (0.97, 0.95, 0.97), edge(level - 0.02, 0.05))
    corners = points[rng.random(len(points)) < 0.6] + spacing * 0.5 * np.array([1.0, 0.15])
    return nuclei(rng, image, dark, corners, 0.05, long=2.6, open_chromatin=0.1)


TISSUES: dict[str, Callable[[np.random.Generator, Float, Colour], Float]] = {
    "stroma": _stroma,
    "lymphoid": _lymphoid,
    "glands": _glands,
    "tumour": _tumour,
    "fat": _fat,
}
CLASSES = tuple(TISSUES)


def generate(count: int, *, seed: int = 0, size: int = 64) -> list[Labelled]:
    """`count` tiles (S, S, 3), the five tissues equally frequent, in random order."""
    order = streams(seed, "histology labels", 1)[0]
    labels = assign_labels(order, dict.fromkeys(CLASSES, 1.0), count)
    return [
        Labelled(paint(rng, label, size), label, patient=f"{number:05d}")
        for number, (rng, label) in enumerate(
            zip(streams(seed, "histology", count), labels, strict=True)
        )
    ]


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """`histology.npz` in MedMNIST's layout."""
    samples = generate(images, seed=seed, size=image_size)
    write_medmnist(folder / "histology.npz", samples, CLASSES)
