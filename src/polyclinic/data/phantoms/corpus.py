"""The public, unlabelled corpus: a broad mixture of phantoms from draws of its own.

Hands, abdomens, heads, chests, breasts and tissue; nothing says which image is which.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from polyclinic.data.phantoms import chest, histology, nuclei
from polyclinic.data.phantoms.layouts import save_image
from polyclinic.data.phantoms.samples import Float, Pixels, streams
from polyclinic.data.phantoms.shapes import Point, blob, edge, ellipse, grid, strokes
from polyclinic.data.phantoms.texture import as_pixels, fractal_noise, over, ridges, smooth_noise


def _hand(rng: np.random.Generator, size: int) -> Pixels:
    """X-ray of a hand: five rays of bones in soft tissue."""
    tilt, scale = rng.normal(0, 0.12), rng.uniform(0.8, 1.0)

    def place(along: float, angle: float, root: Point) -> Point:
        px, py = root[0] + along * np.sin(angle), root[1] - along * np.cos(angle)
        return (
            scale * (px * np.cos(tilt) - py * np.sin(tilt)),
            scale * (px * np.sin(tilt) + py * np.cos(tilt)) + 0.05,
        )

    flesh: list[tuple[list[Point], float]] = [([(0.0, 0.5), (0.0, 1.1)], 0.42 * scale)]
    bones: list[tuple[list[Point], float]] = []
    thumb = rng.choice([-1, 1])
    spread = rng.uniform(0.8, 1.25)
    for ray, (angle, length) in enumerate(
        ((0.85, 0.75), (0.28, 1.08), (0.05, 1.18), (-0.18, 1.08), (-0.42, 0.88))
    ):
        angle *= thumb * spread
        root = (thumb * (0.16 - 0.09 * ray), 0.48)
        length *= rng.uniform(0.94, 1.05)
        flesh.append(([place(0, angle, root), place(length, angle, root)], 0.19 * scale))
        joints = np.array([0.08, 0.48, 0.74, 0.88, 0.97]) * length
        for start, end in pairwise(joints):
            if ray == 0 and end == joints[-1]:
                continue  # a thumb has one bone fewer
            ends = [place(start + 0.025, angle, root), place(end - 0.025, angle, root)]
            bones.append((ends, 0.075 * scale))
    for side in (-1, 1):
        bones.append(([(0.09 * side, 0.78), (0.1 * side, 1.1)], 0.12 * scale))
    soft = strokes(size, flesh)
    soft = np.maximum(soft, blob(rng, size, place(0.0, 0, (0, 0.3)), (0.3, 0.34), rough=0.05))
    bone = strokes(size, bones)
    wrist = blob(rng, size, place(0, 0, (0, 0.58)), (0.2, 0.12), rough=0.1)
    image = 0.04 + 0.28 * soft + (0.4 + 0.06 * fractal_noise(rng, (size, size))) * bone
    image = image + 0.32 * wrist
    return _grey(rng, image)


def _abdomen(rng: np.random.Generator, size: int) -> Pixels:
    """CT of an abdomen: fat, liver, kidneys, spine, bowel, under one of several windows."""
    wide, high = rng.uniform(0.7, 0.9), rng.uniform(0.52, 0.68)
    body = blob(rng, size, (0, 0), (wide, high), rough=0.04)
    inner = blob(rng, size, (0, 0.02), (wide * 0.88, high * 0.84), rough=0.03)
    image = over(np.full((size, size), rng.choice([0.0, 0.15, 0.4])), 0.30, body)
    image = over(image, 0.42 + 0.04 * fractal_noise(rng, (size, size)), inner)
    gut = smooth_noise(rng, (size, size), 4 * size / 64)
    image = over(image, 0.58, inner * edge(gut - 0.5, 0.5) * 0.8)
    image = over(image, 0.05, inner * edge(gut - 1.7, 0.3))
    liver = blob(rng, size, (-0.42 * wide, -0.1), (0.42 * wide, 0.36), 0.3, rough=0.12)
    image = over(image, 0.64, liver * inner)
    for side in (-1, 1):
        kidney = blob(rng, size, (side * 0.36 * wide, 0.22), (0.11, 0.15), side * 0.4, rough=0.08)
        image = over(image, rng.uniform(0.6, 0.85), kidney)
    spine = blob(rng, size, (0, 0.6 * high), (0.14, 0.12), rough=0.1)
    image = over(image, 0.92, spine)
    image = over(image, 0.45, ellipse(size, (0, 0.68 * high), (0.045, 0.045)))
    y, x = grid(size)
    ring = np.abs(np.hypot(x / (0.92 * wide), y / (0.88 * high)) - 1) < 0.035
    image = over(
        image, 0.9, ring * edge(np.sin(np.arctan2(y, x) * 9 + rng.uniform(0, 6)) - 0.4, 0.5)
    )
    return _grey(rng, image)


def _head(rng: np.random.Generator, size: int) -> Pixels:
    """CT of a head: skull, faint brain, ventricles."""
    radii = (rng.uniform(0.5, 0.66), rng.uniform(0.68, 0.82))
    turn = rng.normal(0, 0.15)
    image = over(np.full((size, size), 0.02), 1.0, ellipse(size, (0, 0), radii, turn))
    brain = ellipse(size, (0, 0), (radii[0] - 0.09, radii[1] - 0.09), turn)
    texture = 0.03 * fractal_noise(rng, (size, size), 1.0)
    image = over(image, rng.uniform(0.35, 0.5) + texture, brain)
    image = over(image, 0.22, brain * edge(fractal_noise(rng, (size, size), 1.8) - 1.6, 0.4) * 0.7)
    for side in (-1, 1):
        horn = ellipse(size, (side * 0.09, -0.08), (0.055, 0.25), -side * 0.3 + turn, 0.05)
        image = over(image, 0.16, horn * rng.uniform(0.5, 1))
    return _grey(rng, image)


def _breast_mri(rng: np.random.Generator, size: int) -> Pixels:
    """Axial MRI of both breasts above a dark chest."""
    image = np.full((size, size), 0.02)
    chest_wall = blob(rng, size, (0, 0.62), (0.85, 0.45), rough=0.03)
    image = over(image, 0.30 + 0.1 * fractal_noise(rng, (size, size)), chest_wall)
    image = over(image, 0.06, ellipse(size, (0, 0.75), (0.6, 0.32), 0, 0.1))
    height = rng.uniform(0.3, 0.55)
    glands = edge(fractal_noise(rng, (size, size), 1.5) - rng.uniform(-0.5, 1), 0.6)
    for side in (-1, 1):
        cup = blob(rng, size, (side * 0.42, 0.2 - 0.2 * height), (0.3, height), rough=0.05)
        image = over(image, rng.uniform(0.55, 0.8), cup)
        inside = ellipse(size, (side * 0.42, 0.15 - 0.2 * height), (0.2, 0.7 * height), 0, 0.15)
        image = over(image, 0.28, inside * glands)
    return _grey(rng, image)


def _film(rng: np.random.Generator, size: int) -> Pixels:
    """A chest film with whatever findings."""
    return chest.paint(rng, rng, str(rng.choice(chest.CLASSES)), size)


def _tissue(rng: np.random.Generator, size: int) -> Pixels:
    """A tile of some tissue in a stain that strays farther than any site's."""
    return histology.paint(rng, str(rng.choice(histology.CLASSES)), size, stain=0.11)


def _cells(rng: np.random.Generator, size: int) -> Pixels:
    return nuclei.paint(rng, size).image


def _muscle(rng: np.random.Generator, size: int) -> Pixels:
    """Ultrasound of striated muscle: slanting bright septa, no nodule."""
    y, x = grid(size)
    slope, pitch = rng.normal(0, 0.4), rng.uniform(14, 30)
    strands = np.sin(pitch * (y + slope * x) + 0.9 * fractal_noise(rng, (size, size), 2.2))
    echo = 0.15 + 0.6 * ridges(strands, 0.35) * np.exp(-rng.uniform(0.2, 0.8) * (y + 1))
    return _grey(rng, echo * np.clip(1 + 0.3 * smooth_noise(rng, (size, size), 0.8), 0, 2))


def _grey(rng: np.random.Generator, image: Float) -> Pixels:
    """Exposure and noise of a grey image."""
    image = np.clip(image * rng.uniform(0.8, 1.2), 0, 1) ** rng.uniform(0.75, 1.3)
    return as_pixels(image + rng.normal(0, rng.uniform(0.005, 0.03), image.shape))


KINDS: tuple[Callable[[np.random.Generator, int], Pixels], ...] = (
    _hand, _abdomen, _head, _breast_mri, _film, _film, _tissue, _tissue, _cells, _muscle,
)  # fmt: skip


def generate(count: int, *, seed: int = 0, size: int = 64) -> list[Pixels]:
    """`count` images, (S, S) or (S, S, 3), of kinds drawn at random."""
    return [KINDS[rng.integers(len(KINDS))](rng, size) for rng in streams(seed, "corpus", count)]


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """A flat folder; grey images as PNG, colour ones as JPEG."""
    for number, image in enumerate(generate(images, seed=seed, size=image_size)):
        save_image(folder / f"{number:06d}{'.jpg' if image.ndim == 3 else '.png'}", image)
