"""Image files to arrays: every file that hospitals' export tools write, or a reason why not."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from polyclinic.data.files import IMAGE_EXTENSIONS, is_image
from polyclinic.errors import DataError

MAX_PIXELS = 89_478_485
"""Larger images are refused: a file of a few bytes may declare any size (Pillow's own limit)."""

_BLOCK = 2**22
"""Pixels that are scaled at a time."""
LOW_PERCENTILE, HIGH_PERCENTILE = 0.5, 99.5
"""Intensities that become 0 and 255 where a file stores more than 8 bits."""

# Pillow looks at the content, not at the name: a PostScript file called .png must not start
# an interpreter.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_TURNS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
"""Where Pillow looks for an orientation, besides the tags of TIFF: to ask takes as long as to
decode a small image."""


def read_image(path: Path, name: str) -> NDArray[np.uint8]:
    """Decode an image file to uint8, (H, W) where it is grey and (H, W, 3) RGB where it is not.

    The EXIF orientation is honoured; transparent pixels are laid over black; more than 8 bits are
    scaled by `to_uint8`. An RGB file whose three channels are equal counts as grey. DICOM is
    read as `polyclinic.data.dicom.images.read_image` says, frame 3 of `a.dcm` as `a.dcm#3`.
    Raises `DataError`, which calls the file `name`.
    """
    if not is_image(path.name):
        from polyclinic.data.dicom import header, images  # which use this module

        file, _ = images.split_frame(path)
        if header.is_dicom_name(file.name) or header.is_dicom(file):
            return _grey_if_equal(images.read_image(path, name))
    image = _open(path, name)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return to_uint8(np.asarray(image), name)
    if image.mode == "L":
        return np.array(image)
    if image.mode == "1":
        return np.array(image.convert("L"))
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        alpha = rgba[..., 3:].astype(np.uint16)
        rgb = ((rgba[..., :3] * alpha + 127) // 255).astype(np.uint8)
    else:
        rgb = np.array(image.convert("RGB"))
    return _grey_if_equal(rgb)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """No remarks of Pillow's in the block: what matters of them becomes an error or a finding.

    Filters are the process's, not the thread's: to be entered once, around all threads.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def read_label_map(path: Path, name: str) -> NDArray[np.integer[Any]]:
    """Decode a mask to integers (H, W): grey values, or the indices of a palette, as stored.

    The result has more than 8 bits only where the file has. Raises `DataError`.
    """
    image = _open(path, name)
    if image.mode in ("LA", "PA", "RGBA"):
        image = image.convert({"LA": "L", "PA": "P", "RGBA": "RGB"}[image.mode])
    labels = np.asarray(image)
    if labels.ndim == 3:
        labels = _grey_if_equal(labels)
        if labels.ndim == 3:
            raise DataError(f"{name}: a mask in colours; expected one grey value per class")
    if labels.dtype == np.bool_:
        return labels.astype(np.uint8)
    if np.issubdtype(labels.dtype, np.floating):
        if not np.array_equal(labels, np.rint(labels)):
            raise DataError(f"{name}: a mask with fractions or NaN; expected whole numbers")
        return labels.astype(np.int64)
    return labels


def to_uint8(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Scale any numbers to 0..255 by two robust percentiles of this image; uint8 stays as it is.

    Raises `DataError` where a value is not finite.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * np.uint8(255)
    if not (np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)):
        raise DataError(f"{name}: pixels of type {image.dtype}; expected numbers")
    values = image.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{name}: pixels that are NaN or infinite")
    low, high = np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE))
    if low == high:  # nearly all pixels alike: the few others are all that there is to see
        low, high = values.min(), values.max()
    return scale(values, float(low), float(high))


def scale(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """`low` to 0 and `high` to 255, linear, clipped; all zero where they are the same."""
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    if values.size > _BLOCK and len(values) > 1:  # the fractions of all of it would fill memory
        step = max(1, len(values) * _BLOCK // values.size)
        starts = range(0, len(values), step)
        return np.concatenate([scale(values[n : n + step], low, high) for n in starts])
    # Halved, so that the difference of two huge numbers of opposite sign stays finite.
    share = (values / 2 - low / 2) / (high / 2 - low / 2)
    scaled: NDArray[np.uint8] = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return scaled


def _grey_if_equal(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if rgb.ndim == 2:
        return rgb
    first = rgb[..., 0]
    if np.array_equal(first, rgb[..., 1]) and np.array_equal(first, rgb[..., 2]):
        return np.ascontiguousarray(first)
    return rgb


def _open(path: Path, name: str) -> Image.Image:
    if not is_image(path.name):
        raise DataError(
            f"{name}: not one of the image files {', '.join(IMAGE_EXTENSIONS)}, and no DICOM; "
            "volumes (.nii, .nii.gz) and arrays (.npz) have readers of their own"
        )
    try:
        # given a path, Pillow may map the file, and then turns some TIFFs wrongly
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise DataError(f"{name}: {size} pixels, more than {MAX_PIXELS} in all; refused")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # MPO: a JPEG with previews of itself
                raise DataError(f"{name}: holds {frames} images; expected one per file")
            image.load()
            if image.mode == "P" and image.palette is None:
                raise DataError(f"{name}: colours by number, without the palette that names them")
            if image.format == "TIFF" or image.info.keys() & _TURNS:
                ImageOps.exif_transpose(image, in_place=True)
            return image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image, or damaged beyond recognition") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{name}: more than {MAX_PIXELS} pixels; refused") from None
    except Exception as error:  # decoders trip in many ways over damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: {reason}") from None
