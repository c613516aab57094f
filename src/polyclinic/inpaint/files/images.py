"""PNG, JPEG and TIFF: one grey slice. All are written as PNG, which loses nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from polyclinic.data.images import MAX_PIXELS
from polyclinic.errors import DataError
from polyclinic.inpaint.components import UNKNOWN_SEQUENCE
from polyclinic.inpaint.files.source import Source, Storage
from polyclinic.inpaint.provenance import Provenance, as_record

EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
TEXT_KEY = "Polyclinic"
"""Keyword of the PNG text chunk with the provenance."""
_FORMATS = ("PNG", "JPEG", "TIFF")
_KEPT = ("dpi", "icc_profile")


def read(path: Path, sequence: int | None) -> Source:
    """An image of 8 or 16 bits: grey, or in colours whose channels are equal.

    Raises `DataError` for all others.
    """
    pixels, about = _pixels(path)
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    number = UNKNOWN_SEQUENCE if sequence is None else sequence
    return Source(
        path,
        "png",
        {number: np.ascontiguousarray(grey)[None]},
        {number: Storage(str(path))},
        {path.name: path},
        held=(pixels, about),
    )


def write(
    source: Source, edited: dict[int, NDArray[Any]], out: Path, provenance: Provenance
) -> None:
    """Write the file `out`: the same mode and bits, with `provenance` in text chunks."""
    pixels, about = source.held
    (grey,) = edited.values()
    if pixels.ndim == 3:
        alpha = pixels[..., 3:]  # stays as it is
        written = np.concatenate([np.repeat(grey[0][..., None], 3, axis=-1), alpha], axis=-1)
    else:
        written = grey[0]
    text = PngInfo()
    text.add_text("Description", provenance.summary)
    record = {**as_record(provenance), "input": source.path.name}  # no folders of the user's
    text.add_text(TEXT_KEY, json.dumps(record), zip=True)
    Image.fromarray(written).save(out, "PNG", pnginfo=text, **about)


def write_mask(source: Source, labels: NDArray[np.uint8], out: Path) -> None:
    """Write a mask (1, H, W) as the PNG `out`."""
    del source
    Image.fromarray(labels[0]).save(out, "PNG")


def _pixels(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """Pixels (H, W), or (H, W, 3 or 4) as RGB with equal channels, uint8 or uint16."""
    try:
        # given a path, Pillow may map the file, and then turns some TIFFs wrongly
        with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path}: more than {MAX_PIXELS} pixels; refused")
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise DataError(f"{path}: holds several images; expected one")
            if image.format == "PNG" and _has_deep_colours(path):
                raise DataError(f"{path}: colours of 16 bits; expected grey of 8 or 16 bits")
            about = {key: image.info[key] for key in _KEPT if key in image.info}
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            plain: Image.Image = image
            if image.mode in ("P", "PA", "LA"):
                plain = image.convert("RGBA" if image.has_transparency_data else "RGB")
            pixels = np.array(plain)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected an image to paint on") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a PNG, JPEG or TIFF image, or damaged") from None
    except Exception as error:  # decoders trip in many ways over damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason})") from None
    if pixels.dtype == np.bool_:
        raise DataError(f"{path}: black and white, 1 bit; expected a grey slice of 8 or 16 bits")
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        pixels = pixels.astype(np.uint16)  # in the byte order of this machine
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        raise DataError(f"{path}: pixels of type {pixels.dtype}; expected grey of 8 or 16 bits")
    if pixels.ndim == 3 and not _is_grey(pixels):
        raise DataError(f"{path}: an image in colours; expected a grey MRI slice")
    return pixels, about


def _has_deep_colours(path: Path) -> bool:
    """Whether a PNG has 16 bits a channel and several of them, of which Pillow drops half."""
    with path.open("rb") as file:
        depth, kind = file.read(26)[24:26]
    return depth == 16 and kind != 0


def _is_grey(pixels: NDArray[Any]) -> bool:
    first = pixels[..., :1]
    return pixels.shape[-1] in (3, 4) and bool((pixels[..., :3] == first).all())
