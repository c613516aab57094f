"""Noise, shading and colour that the phantoms share. Images are floats, 0..1 after clipping."""

from functools import cache

import numpy as np
from scipy import ndimage

from polyclinic.data.phantoms.samples import Float, Pixels
from polyclinic.data.phantoms.shapes import grid

Colour = tuple[float, float, float]  # red, green, blue, 0..1


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]
) -> Float:
    """White noise, smoothed by a Gaussian of `sigma` px; zero mean, unit deviation."""
    return _standard(ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap"))


def fractal_noise(rng: np.random.Generator, shape: tuple[int, ...], slope: float = 1.5) -> Float:
    """Noise whose amplitude falls with frequency**-slope; zero mean, unit deviation."""
    spectrum = np.fft.rfftn(rng.standard_normal(shape)) * _falloff(shape, slope)
    axes = tuple(range(len(shape)))
    return _standard(np.fft.irfftn(spectrum, s=shape, axes=axes))


@cache
def _falloff(shape: tuple[int, ...], slope: float) -> Float:
    axes = [np.fft.fftfreq(n) for n in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*axes, indexing="ij", sparse=True)))
    frequency.flat[0] = np.inf
    falloff: Float = frequency**-slope
    return falloff


def _standard(field: Float) -> Float:
    standard: Float = (field - field.mean()) / max(float(field.std()), 1e-12)
    return standard


def ridges(noise: Float, width: float) -> Float:
    """Thin bright lines where `noise` crosses zero, 0..1: septa, fibres, sulci."""
    lines: Float = np.exp(-((noise / width) ** 2))
    return lines


def speckle(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, float]) -> Float:
    """Fully developed speckle: Rayleigh amplitude of a point-spread function; mean 1."""
    real, imaginary = smooth_noise(rng, shape, sigma), smooth_noise(rng, shape, sigma)
    amplitude: Float = np.hypot(real, imaginary) / np.sqrt(np.pi / 2)
    return amplitude


def shade(rng: np.random.Generator, size: int, strength: float) -> Float:
    """Uneven illumination (S, S) about 1: a random slope and a random falloff to the edge."""
    y, x = grid(size)
    a, b, c = rng.uniform(-1, 1, 3) * strength
    field: Float = 1 + a * x + b * y - abs(c) * (x**2 + y**2)
    return field


def over(image: Float, colour: Colour | Float | float, alpha: Float) -> Float:
    """`colour` laid over `image` (S, S) or (S, S, 3) with opacity `alpha` (S, S)."""
    weight = alpha[..., None] if image.ndim == 3 else alpha
    blended: Float = image + weight * (np.asarray(colour) - image)
    return blended


def vary(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """`colour`, each channel moved by at most `amount`."""
    r, g, b = np.clip(np.add(colour, rng.uniform(-amount, amount, 3)), 0, 1)
    return float(r), float(g), float(b)


def tint(rng: np.random.Generator, image: Float, strength: float) -> Float:
    """Exposure and colour balance of one camera or stain: gain per channel, and a gamma."""
    gain = 1 + strength * rng.uniform(-1, 1) + 0.5 * strength * rng.uniform(-1, 1, image.shape[2:])
    gamma = np.exp(strength * rng.uniform(-1, 1))
    toned: Float = np.clip(image * gain, 0, 1) ** gamma
    return toned


def as_pixels(image: Float) -> Pixels:
    """0..1 to uint8, clipped and rounded."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
