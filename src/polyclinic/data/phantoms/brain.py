"""Phantom brain MRI: a head with a tumour and its parts in four sequences, from three hospitals.

Tissues have the contrast that each sequence gives them: fluid is dark on T1 and FLAIR and bright
on T2; oedema is bright on T2 and FLAIR; the enhancing rim is bright after contrast; the necrotic
core is dark on T1. Parts are numbered as in BraTS: 1 necrotic core, 2 oedema, 3 enhancing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from polyclinic.data.phantoms.layouts import write_cases
from polyclinic.data.phantoms.samples import Case, Float, streams
from polyclinic.data.phantoms.texture import fractal_noise, smooth_noise

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
CORE, OEDEMA, ENHANCING = 1, 2, 3
AIR, FAT, BONE, FLUID, GREY, WHITE, NECROSIS, SWELLING, RIM = range(9)
"""Tissues, in the order of the columns of `SIGNAL`."""

SIGNAL = {  # of each tissue, 0..1
    "t1n": (0.01, 0.92, 0.10, 0.16, 0.47, 0.66, 0.26, 0.39, 0.46),
    "t1c": (0.01, 0.92, 0.10, 0.17, 0.50, 0.67, 0.24, 0.40, 0.95),
    "t2w": (0.01, 0.55, 0.08, 0.98, 0.58, 0.42, 0.84, 0.78, 0.62),
    "t2f": (0.01, 0.50, 0.08, 0.11, 0.52, 0.43, 0.36, 0.92, 0.68),
}


@dataclass(frozen=True)
class Scanner:
    """How a hospital's scanner renders the same head."""

    gain: float  # stored units per unit of signal
    gamma: float  # contrast between tissues
    bias: float  # deviation of the smooth sensitivity field
    noise: float  # deviation of the Rician noise, in units of signal
    blur: float  # px


SCANNERS = {
    "AL": Scanner(gain=900, gamma=1.0, bias=0.05, noise=0.018, blur=0.5),
    "BE": Scanner(gain=420, gamma=1.25, bias=0.13, noise=0.040, blur=0.7),
    "GA": Scanner(gain=2400, gamma=0.8, bias=0.09, noise=0.028, blur=0.4),
}


def anatomy(
    rng: np.random.Generator, size: int, slices: int, lone: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Tissues and parts of one head, both uint8 (X, Y, Z); tissues are numbered as in `SIGNAL`.

    A tumour has all its parts, or only the one that is `lone`.
    """
    line = (np.arange(size) + 0.5) / size * 2 - 1
    x, y, z = np.meshgrid(line, line, np.linspace(-0.25, 0.6, slices), indexing="ij")
    turn = rng.normal(0, 0.06)
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    x, y = x - rng.normal(0, 0.02), y - rng.normal(0, 0.02)
    dome = np.sqrt(1 - (0.95 * z) ** 2)
    across, along = rng.uniform(0.66, 0.73), rng.uniform(0.82, 0.90)
    reach = np.sqrt((x / across) ** 2 + (y / along) ** 2) / dome
    reach = reach + 0.012 * fractal_noise(rng, reach.shape, 3.0)

    tissue = np.full(reach.shape, AIR, dtype=np.uint8)
    tissue[reach < 1.0] = FAT
    tissue[reach < 0.93] = BONE
    tissue[reach < 0.87] = FLUID
    folds = smooth_noise(rng, reach.shape, (0.03 * size, 0.03 * size, 0.7))
    sulci, ribbon = np.abs(folds) < 0.17, np.abs(folds) < 0.45  # fluid, and grey matter along it
    brain = reach < 0.835
    tissue[brain] = GREY
    tissue[brain & sulci & (reach > 0.66)] = FLUID
    tissue[brain & (reach < 0.70 + 0.06 * folds) & ~(ribbon & (reach > 0.48))] = WHITE
    tissue[brain & (np.abs(x) < 0.016) & ((np.abs(y) > 0.32) | (z > 0.3))] = FLUID
    for side in (-1, 1):
        thalamus = ((x - 0.12 * side) / 0.10) ** 2 + ((y + 0.05) / 0.15) ** 2 + (z / 0.22) ** 2
        putamen = ((x - 0.27 * side) / 0.07) ** 2 + ((y - 0.08) / 0.2) ** 2 + (z / 0.2) ** 2
        tissue[brain & ((thalamus < 1) | (putamen < 1))] = GREY
    tissue[brain & _ventricles(rng, x, y, z)] = FLUID

    parts = _tumour(rng, x, y, z, tissue, reach)
    if lone is not None:
        extent = parts > 0 if lone == OEDEMA else (parts == CORE) | (parts == ENHANCING)
        parts = np.where(extent, lone, 0).astype(np.uint8)
    for part, own in ((CORE, NECROSIS), (OEDEMA, SWELLING), (ENHANCING, RIM)):
        tissue[parts == part] = own
    return tissue, parts


def _ventricles(rng: np.random.Generator, x: Float, y: Float, z: Float) -> NDArray[np.bool_]:
    """Two lateral ventricles, bowed outwards to the front and the back."""
    wide = rng.uniform(0.045, 0.085)
    bow = 0.07 + 0.5 * (y + 0.02) ** 2
    half = (
        wide
        * np.sqrt(np.clip(1 - (y / 0.42) ** 2, 0, 1))
        * np.clip(1.1 - 2.2 * np.abs(z - 0.1), 0, 1)
    )
    ventricles: NDArray[np.bool_] = np.abs(np.abs(x) - bow) < half
    return ventricles


def _tumour(
    rng: np.random.Generator,
    x: Float,
    y: Float,
    z: Float,
    tissue: NDArray[np.uint8],
    reach: Float,
) -> NDArray[np.uint8]:
    """Parts (X, Y, Z): a core in an uneven rim, in oedema that follows the white matter."""
    centre = (
        rng.choice([-1, 1]) * rng.uniform(0.2, 0.4),
        rng.uniform(-0.4, 0.4),
        rng.uniform(0, 0.3),
    )
    radius = rng.uniform(0.14, 0.24)
    from_centre = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    lumpy = from_centre / radius * np.exp(0.13 * fractal_noise(rng, x.shape, 2.2))
    thick = rng.uniform(0.2, 0.45) + 0.12 * fractal_noise(rng, x.shape, 2.0)
    fingers = lumpy - 0.28 * fractal_noise(rng, x.shape, 2.0) - 0.35 * (tissue == WHITE)
    swollen = (fingers < rng.uniform(1.3, 1.9)) & ((tissue == WHITE) | (tissue == GREY))

    parts = np.zeros(x.shape, dtype=np.uint8)
    parts[swollen & (reach < 0.82) & (x * centre[0] > 0)] = OEDEMA  # this side of the falx
    inside = (lumpy < 1) & (reach < 0.82)
    parts[inside] = ENHANCING
    sealed = ndimage.binary_erosion(inside, np.ones((3, 3, 1), bool))  # a rim of one px at least
    parts[sealed & (lumpy < 1 - np.clip(thick, 0.12, 0.8))] = CORE
    return parts


def scan(
    rng: np.random.Generator, tissue: NDArray[np.uint8], sequence: str, scanner: Scanner
) -> NDArray[np.int16]:
    """One sequence (X, Y, Z) of a head, as `scanner` stores it."""
    signal = np.array(SIGNAL[sequence])
    signal = signal * np.exp(rng.normal(0, 0.025, signal.shape))
    image = signal[tissue] ** scanner.gamma
    image = image * (1 + 0.03 * fractal_noise(rng, image.shape, 1.5))
    image = ndimage.gaussian_filter(image, (scanner.blur, scanner.blur, 0))  # partial volume
    image = image * np.exp(scanner.bias * fractal_noise(rng, image.shape, 3.5))
    real, imaginary = rng.normal(0, scanner.noise, (2, *image.shape))
    image = np.hypot(image + real, imaginary)
    stored: NDArray[np.int16] = np.rint(image * scanner.gain * rng.uniform(0.85, 1.15)).astype(
        np.int16
    )
    return stored


def generate(
    count: int, *, seed: int = 0, size: int = 96, slices: int = 8, lone_part_every: int = 0
) -> list[Case]:
    """`count` cases of `slices` axial slices (X, Y) = (`size`, `size`); hospitals take turns.

    Every fifth case, from the third on, lacks one of its sequences. The tumour of every
    `lone_part_every`-th case has a single part, each in turn; 0 stands for none.
    """
    cases = []
    for number, rng in enumerate(streams(seed, "brain", count)):
        hospital = tuple(SCANNERS)[number % len(SCANNERS)]
        turn, rest = divmod(number, lone_part_every or count)
        part = (CORE, OEDEMA, ENHANCING)[(turn + turn // 3) % 3]  # of every hospital in the end
        lone = part if lone_part_every and not rest else None
        tissue, parts = anatomy(rng, size, slices, lone)
        volumes = {name: scan(rng, tissue, name, SCANNERS[hospital]) for name in SEQUENCES}
        if number % 5 == 2:
            del volumes[SEQUENCES[rng.integers(len(SEQUENCES))]]
        spacing = (216 / size, 216 / size, 76 / slices)  # a field of view of 216 mm
        cases.append(
            Case(f"PHANTOM_{hospital}_{number + 1:04d}", hospital, volumes, parts, spacing)
        )
    return cases


def write(folder: Path, *, seed: int, images: int, image_size: int) -> None:
    """`images // 16` BraTS-like case folders, six at least, at 1.5 times `image_size`."""
    write_cases(folder, generate(max(6, images // 16), seed=seed, size=image_size * 3 // 2))
