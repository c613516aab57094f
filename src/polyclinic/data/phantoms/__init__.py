"""Procedural medical phantoms: eight made-up hospitals and a public corpus, from one seed.

They stand in for real data wherever those may not go (tests, demonstrations, a first run), in the
very formats that the readers read. Each specialty has a module with `generate(count, seed=...,
size=...)`, which gives arrays with true labels or masks, and `write(folder, ...)`, which writes
them as a site's folder. Same seed, same bytes; no specialty depends on another one.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from polyclinic.data.phantoms import (
    blood,
    brain,
    breast,
    chest,
    corpus,
    histology,
    nuclei,
    retina,
    skin,
)
from polyclinic.errors import ConfigError, DataError

__all__ = ["SPECIALTIES", "write_phantoms"]


class Write(Protocol):
    """Write one specialty's folder; `images` is the size of a classification site."""

    def __call__(self, folder: Path, *, seed: int, images: int, image_size: int) -> None: ...


SPECIALTIES: dict[str, Write] = {
    "blood": blood.write,
    "skin": skin.write,
    "chest": chest.write,
    "breast": breast.write,
    "histology": histology.write,
    "brain": brain.write,
    "retina": retina.write,
    "nuclei": nuclei.write,
}
"""Every specialty: the name of its site's folder, and what writes it."""

LEAST_IMAGES = 8
"""Fewest images per site: one for each class of `blood`."""


def write_phantoms(
    folder: Path,
    *,
    seed: int = 0,
    images_per_site: int = 160,
    corpus_images: int = 320,
    image_size: int = 64,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write `folder/sites/<specialty>/` and `folder/corpus/`; return `folder`.

    Sites for segmentation get fewer and larger images: `brain` images_per_site // 16 cases,
    `retina` // 6, `nuclei` // 4, and never fewer than six. `image_size` is in px. Everything is
    written beside `folder` first and moved at the end, so an interrupted call leaves no folder
    that looks complete. `tell` is called with one line per finished part.

    Raises `ConfigError` for a number out of range, and `DataError` when `folder` exists and is
    not an empty folder, or cannot be written.
    """
    for name, number, least in (
        ("seed", seed, 0),
        ("images_per_site", images_per_site, LEAST_IMAGES),
        ("corpus_images", corpus_images, 1),
        ("image_size", image_size, 16),
    ):
        if number < least:
            raise ConfigError(f"phantoms: {name}: expected at least {least}, got {number}")
    if image_size % 2:
        raise ConfigError(f"phantoms: image_size: expected an even number, got {image_size}")
    partial = folder.parent / f".{folder.name}.partial-{os.getpid()}"
    try:
        _refuse_full(folder)
        partial.mkdir(parents=True)
        try:
            for specialty, write in SPECIALTIES.items():
                write(
                    partial / "sites" / specialty,
                    seed=seed,
                    images=images_per_site,
                    image_size=image_size,
                )
                _tell(tell, f"{specialty}: written")
            corpus.write(partial / "corpus", seed=seed, images=corpus_images, image_size=image_size)
            _tell(tell, f"corpus: {corpus_images} images written")
            _refuse_full(folder)  # it may have been filled in the meantime
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{folder}: phantoms cannot be written ({error})") from None
    return folder


def _refuse_full(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected a new or empty folder for the phantoms, but it holds something; "
            "choose another folder, or delete this one"
        )


def _tell(tell: Callable[[str], None] | None, line: str) -> None:
    if tell is not None:
        tell(line)
