"""Phantom breast ultrasound: no nodule, a smooth benign one, or a spiculated malignant one.

Benign nodules lie wider than tall with brighter echoes behind them; malignant ones stand taller
than wide, ragged, and throw a shadow. Depth, gain and layers vary with no regard to the class.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from polyclinic.data.phantoms.layouts import write_class_folders
from polyclinic.data.phantoms.samples import Float, Labelled, Pixels, assign_labels, streams
from polyclinic.data.phantoms.shapes import blob, edge, grid
from polyclinic.data.phantoms.texture import as_pixels, ridges, smooth_noise, speckle

CLASSES = ("normal", "benign", "malignant")


def paint(rng: np.random.Generator, label: str, size: int) -> Pixels:
    """One B-mode frame (S, S), transducer at the top."""
    echo = _layers(rng, size)
    if label != "normal":
        echo = _nodule(rng, echo, malignant=label == "malignant")
    elif rng.random() < 0.3:  # shadows fall from ducts and folds, too
        echo = echo * (1 - rng.uniform(0.3, 0.7) * _beam(rng.uniform(-0.8, 0.8), 0.15, -0.9, size))
    depth = (grid(size)[0] + 1) / 2
    echo = echo * np.exp(-rng.uniform(0.8, 2.4) * depth) * rng.uniform(0.7, 1.3)
    grain = (0.55 * size / 64, 0.95 * size / 64)
    looks = [speckle(rng, (size, size), grain) for _ in range(3)]  # spatial compounding
    echo = echo * np.mean(looks, axis=0)
    gain = rng.uniform(5, 16)
    return as_pixels(np.log1p(gain * echo) / np.log1p(gain) - rng.uniform(0.02, 0.1))


def _boundary(rng: np.random.Generator, size: int, level: float, wave: float) -> Float:
    """A tissue border (S,) that wanders about `level`."""
    line: Float = level + wave * ndimage.gaussian_filter1d(rng.normal(0, 4, size), size / 8)
    return line


def _layers(rng: np.random.Generator, size: int) -> Float:
    y = grid(size)[0]
    skin = _boundary(rng, size, -0.9, 0.02)
    fat = _boundary(rng, size, rng.uniform(-0.6, -0.25), 0.12)
    gland = _boundary(rng, size, rng.uniform(0.15, 0.6), 0.12)
    septa = ridges(smooth_noise(rng, (size, size), (1.6 * size / 64, 6 * size / 64)), 0.22)
    lobules = smooth_noise(rng, (size, size), (2 * size / 64, 4 * size / 64))
    streaks = smooth_noise(rng, (size, size), (0.8 * size / 64, 9 * size / 64))
    echo = np.where(y < fat, 0.10 + 0.55 * septa, 0.34 + 0.12 * lobules + 0.5 * septa)
    echo = np.where(y > gland, 0.15 + 0.08 * streaks + 0.5 * ridges(streaks, 0.25), echo)
    echo = echo + 0.8 * np.exp(-(((y - skin) / 0.05) ** 2)) + 0.4 * edge(-0.93 - y, 0.04)
    echo = echo + 0.4 * np.exp(-(((y - gland) / 0.03) ** 2))  # fascia
    return np.clip(ndimage.gaussian_filter(echo, 0.6), 0.02, 1.5)


def _beam(x0: float, half: float, top: float, size: int) -> Float:
    """Share of each pixel that lies behind an obstacle at depth `top`, within `half` of x0."""
    y, x = grid(size)
    return edge(half - np.abs(x - x0), 0.5 * half) * edge(y - top, 0.15)


def _nodule(rng: np.random.Generator, echo: Float, *, malignant: bool) -> Float:
    size = len(echo)
    centre = (rng.uniform(-0.4, 0.4), rng.uniform(-0.35, 0.15))
    r = rng.uniform(0.17, 0.36)
    if malignant:
        stretch = rng.uniform(0.75, 1.15)
        body = blob(rng, size, centre, (r * stretch, r / stretch), rng.normal(0, 0.3),
                    rough=0.28, harmonics=(3, 11), softness=0.12)  # fmt: skip
        halo = blob(rng, size, centre, (1.35 * r, 1.35 * r), rough=0.2, softness=0.25)
        echo = echo * (1 + 0.45 * halo * (1 - body))
        behind, inner = -rng.uniform(0.35, 0.85), rng.uniform(0.06, 0.16)
    else:
        stretch = rng.uniform(1.05, 1.6)
        body = blob(rng, size, centre, (r * stretch, r / stretch), rng.normal(0, 0.15),
                    rough=0.05, harmonics=(2, 4), softness=0.06)  # fmt: skip
        behind, inner = rng.uniform(0.1, 0.9), float(rng.choice([0.01, 0.08, 0.16]))
    half = 0.85 * r * stretch
    echo = echo * (1 + behind * _beam(centre[0], half, centre[1] + 0.7 * r / stretch, size))
    mottle = np.clip(1 + 0.35 * smooth_noise(rng, (size, size), 1.6 * size / 64), 0.1, 2)
    return echo * (1 - body) + inner * mottle * body


def generate(count: int, *, seed: int = 0, size: int = 64) -> list[Labelled]:
    """`count` frames (S, S): 21 % normal, 46 % benign, 33 % malignant, in random order."""
    shares = dict(zip(CLASSES, (0.21, 0.46, 0.33), strict=True))
    labels = assign_labels(streams(seed, "breast labels", 1)[0], shares, count)
    return [
        Labelled(paint(rng, label, size), label, patient=f"{number:05d}")
        for number, (rng, label) in enumerate(
            zip(streams(seed, "breast", count), labels, strict=True)
        )
    ]


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """Class folders of grey PNG."""
    write_class_folders(folder, generate(images, seed=seed, size=image_size), ".png")
