"""A scan to arrays that training can use: decoded, one size, split, checked, and cached."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic.data import cache as disk
from polyclinic.data.cache import Prepared
from polyclinic.data.dataset import IGNORE, Finding, Item, Scan, SiteData, counted
from polyclinic.data.decoding import Decoded, Done, Plan, decode_all, unheard
from polyclinic.data.files import cap_findings
from polyclinic.data.quality import (
    MIN_CORPUS,
    MIN_IMAGES,
    check_site,
    presence,
    unreadable,
)
from polyclinic.data.readers import scan_corpus
from polyclinic.data.resize import pad
from polyclinic.data.splits import leaking_patients, limit_rows, split_items
from polyclinic.data.spool import Spool
from polyclinic.errors import DataError

SIDE_MULTIPLE = 16
"""Sides of segmentation images are multiples of this: encoders halve them four times."""


def prepare_site(
    scan: Scan,
    *,
    name: str,
    image_size: int,
    largest_side: int,
    split_seed: int,
    val_share: float,
    test_share: float,
    max_unreadable: float,
    max_train_images: int = 0,
    cache: Path | None = None,
    workers: int = 0,
    done: Done = unheard,
) -> SiteData:
    """Decode, resize, split and check a site's images.

    Classification and regression: fitted into a square of `image_size` px, black around. For
    segmentation: whole images in a square whose side is the smallest multiple of 16 that holds
    the largest of them, or `largest_side`; larger ones are reduced, none is enlarged, padding is
    `IGNORE` in the label map. One channel where all images are grey, otherwise three.

    Where the training split has more than `max_train_images` (0 for no limit), that many are drawn
    from it by `limit_rows`; validation and test stay whole.

    `cache` is a folder for prepared arrays, None for none; `workers` threads or processes decode,
    0 for one per core; `done` is told the share that is decoded. Raises `DataError` when more than
    the share `max_unreadable` cannot be read, or when what is left cannot be learned from.
    """
    _require_limit(f"site {name!r}", max_train_images, MIN_IMAGES["train"])
    whole, items, blank = _read_whole(
        scan,
        name=name,
        image_size=image_size,
        largest_side=largest_side,
        max_unreadable=max_unreadable,
        cache=cache,
        workers=workers,
        done=done,
    )
    segmentation, targets = scan.task == "segmentation", whole.targets
    notes: list[Finding] = []
    split = split_items(
        items,
        scan.classes,
        seed=split_seed,
        val_share=val_share,
        test_share=test_share,
        presence=presence(targets, len(scan.classes)) if segmentation else None,
    )
    leaks = leaking_patients(items)
    if leaks:
        patients = counted(len(leaks), "patient")
        what = f"{patients} on both sides of the given splits (first: {leaks[0]})"
        notes.append(Finding("warning", "", what, "correct the splits; results look too good"))
    rows = split["train"]
    seed = (split_seed, "limit", name)
    split["train"] = limit_rows(rows, items, scan.classes, max_train_images, *seed)
    notes += _left_undrawn(len(split["train"]), len(rows))
    site = dataclasses.replace(whole, split=split, findings=(*whole.findings, *notes))
    return check_site(site, blank)


def prepare_whole(
    scan: Scan,
    *,
    name: str,
    image_size: int,
    largest_side: int,
    max_unreadable: float,
    cache: Path | None = None,
    workers: int = 0,
    done: Done = unheard,
) -> SiteData:
    """`prepare_site` without splits: every image is in `train`, and none is too few.

    For cross-validation, which splits for itself.
    """
    whole, _, _ = _read_whole(
        scan,
        name=name,
        image_size=image_size,
        largest_side=largest_side,
        max_unreadable=max_unreadable,
        cache=cache,
        workers=workers,
        done=done,
    )
    return whole


def _read_whole(
    scan: Scan,
    *,
    name: str,
    image_size: int,
    largest_side: int,
    max_unreadable: float,
    cache: Path | None,
    workers: int,
    done: Done,
) -> tuple[SiteData, list[Item], NDArray[np.bool_]]:
    """All images that can be read, in `train`; their items; and which have one single value."""
    segmentation = scan.task == "segmentation"
    cap = _round_up(largest_side)

    plan = Plan(cap, segmentation=True) if segmentation else Plan(image_size)
    side = (lambda longest: min(_round_up(longest), cap)) if segmentation else None
    options = {"largest_side": largest_side} if segmentation else {"image_size": image_size}
    prepared, notes = _prepare(scan, plan, side, options, cache, workers, done)
    notes = [*_unreadable(scan, prepared, f"site {name!r}", max_unreadable), *notes]
    items = [scan.items[row] for row in prepared.rows]
    named = {scan.items[row].key for row, _ in prepared.unreadable}  # above already
    _, groups = np.unique([item.patient for item in items], return_inverse=True)
    nobody = np.zeros(0, np.int64)
    site = SiteData(
        name=name,
        task=scan.task,
        classes=scan.classes,
        images=prepared.images,
        targets=_targets(scan, items, prepared),
        patients=groups.astype(np.int64),
        keys=tuple(item.key for item in items),
        split={"train": np.arange(len(items)), "val": nobody, "test": nobody},
        format=scan.format,
        has_patient_ids=scan.has_patient_ids,
        findings=(*(f for f in scan.findings if f.where not in named), *notes),
    )
    return site, items, prepared.blank


def prepare_corpus(
    folder: Path,
    *,
    image_size: int,
    max_unreadable: float = 0.05,
    max_train_images: int = 0,
    split_seed: int = 0,
    cache: Path | None = None,
    workers: int = 0,
    done: Done = unheard,
) -> tuple[NDArray[np.uint8], tuple[Finding, ...]]:
    """The public images as uint8 (N, 3, S, S), and the findings about them.

    S = `image_size`, black around, greys repeated. Where there are more than `max_train_images`
    (0 for no limit), that many are drawn. Raises `DataError` like `prepare_site`, and when fewer
    than `MIN_CORPUS` can be used.
    """
    who = f"corpus {str(folder)!r}"
    _require_limit(who, max_train_images, MIN_CORPUS)
    scan = scan_corpus(folder)
    options = {"image_size": image_size}
    prepared, notes = _prepare(scan, Plan(image_size), None, options, cache, workers, done)
    notes = [*_unreadable(scan, prepared, who, max_unreadable), *notes]
    total = len(prepared.images)
    if total < MIN_CORPUS:
        raise DataError(
            f"{who}: {counted(total, 'image')} to train on; expected at least {MIN_CORPUS}; "
            "add public images, which need no labels"
        )
    items = [scan.items[row] for row in prepared.rows]
    rows = limit_rows(np.arange(total), items, (), max_train_images, split_seed, "corpus")
    notes += _left_undrawn(len(rows), total)
    images = prepared.images if len(rows) == total else prepared.images[rows]
    colour = images if images.shape[1] == 3 else np.repeat(images, 3, axis=1)
    return colour, (*scan.findings, *notes)


def _prepare(
    scan: Scan,
    plan: Plan,
    final_side: Callable[[int], int] | None,
    options: Mapping[str, Any],
    cache: Path | None,
    workers: int,
    done: Done,
) -> tuple[Prepared, list[Finding]]:
    if cache is None:
        return _assemble(decode_all(scan, plan, workers, done), final_side, None), []
    folder = cache / disk.fingerprint(scan, options)
    stored = disk.load(folder)
    if stored is not None:
        return stored, []
    try:
        with (
            disk.filling(folder) as partial,
            closing(decode_all(scan, plan, workers, done)) as decoded,
        ):
            prepared = _assemble(decoded, final_side, partial)
            disk.write_facts(prepared, partial)
        disk.trim(cache, keep=folder)
        return prepared, []
    except OSError as error:
        what = f"prepared images could not be cached ({error.strerror or error})"
        notes = [Finding("warning", "", what, f"free or change {cache}")]
    return _assemble(decode_all(scan, plan, workers, done), final_side, None), notes


def _assemble(
    decoded: Iterable[Decoded],
    final_side: Callable[[int], int] | None,
    folder: Path | None,
) -> Prepared:
    """Arrays of one size: in memory, or in files in `folder`, with little else in memory."""
    spools = [Spool(folder / name if folder else None) for name in ("decoded", "decoded_labels")]
    images, masks = spools
    rows: list[int] = []
    blank: list[bool] = []
    lost: list[tuple[int, str]] = []
    longest, first_side, channels = 1, 1, 1
    try:
        for row, one in enumerate(decoded):
            if one.image is None:
                lost.append((row, one.reason))
                continue
            first_side = first_side if rows else max(one.image.shape[:2])
            longest = max(longest, one.side)
            channels = 3 if one.image.ndim == 3 else channels
            rows.append(row)
            blank.append(one.blank)
            images.append(one.image)
            if one.labels is not None:
                masks.append(one.labels)
        side = final_side(longest) if final_side else first_side
        shape = (len(images), channels, side, side)
        squares = _array((_square(image, channels, side) for image in images), shape, folder)
        padded = (pad(labels, side, IGNORE) for labels in masks)
        flat = (len(masks), side, side)
        maps = _array(padded, flat, folder, disk.LABEL_MAPS) if len(masks) else None
    finally:
        for spool in spools:
            spool.close()
    return Prepared(squares, maps, np.array(rows, np.int64), np.array(blank, np.bool_), tuple(lost))


def _square(image: NDArray[np.uint8], channels: int, side: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) to (channels, side, side), black around."""
    square = pad(image, side, 0)
    if square.ndim == 3:
        return np.moveaxis(square, 2, 0)
    return np.broadcast_to(square, (channels, side, side))


def _array(
    rows: Iterable[NDArray[np.uint8]],
    shape: tuple[int, ...],
    folder: Path | None,
    name: str = disk.IMAGES,
) -> NDArray[np.uint8]:
    """`rows` as one array of `shape`, which lies in `folder` where there is one."""
    if folder is not None:
        disk.write_array(folder / name, shape, rows)
        return disk.open_array(folder / name)
    array = np.zeros(shape, np.uint8)
    for number, row in enumerate(rows):
        array[number] = row
    return array


def _unreadable(
    scan: Scan, prepared: Prepared, who: str, max_unreadable: float
) -> tuple[Finding, ...]:
    """Findings about unreadable images; `DataError` where there are too many, or no other."""
    bad, total = prepared.unreadable, len(scan.items)
    if not bad:
        return ()
    if len(bad) > max_unreadable * total or len(bad) == total:
        row, reason = bad[0]
        raise DataError(
            f"{who}: {len(bad)} of {total} images ({100 * len(bad) / total:.3g} %) cannot be "
            f"read, more than {100 * max_unreadable:.3g} %; first: {scan.items[row].key} "
            f"({reason}); repair or remove them, or raise data.max_unreadable"
        )
    return cap_findings(unreadable((scan.items[row].key, reason) for row, reason in bad))


def _require_limit(who: str, most: int, least: int) -> None:
    """Refuse a limit below what training needs: no image that is added would cure that."""
    if 0 < most < least:
        raise DataError(
            f"{who}: data.max_train_images is {most}; expected 0 for all images, or at least "
            f"{least}; change it in the configuration"
        )


def _left_undrawn(kept: int, total: int) -> list[Finding]:
    if kept == total:
        return []
    what = f"{kept} of {total} images drawn to train on"
    return [Finding("info", "", what, "raise data.max_train_images for more")]


def _targets(scan: Scan, items: list[Item], prepared: Prepared) -> NDArray[np.generic]:
    if scan.task == "segmentation":
        if prepared.label_maps is None:
            raise DataError(f"{scan.folder}: no image has a mask")
        return prepared.label_maps
    kinds = {"single-label": np.int64, "multi-label": np.uint8, "regression": np.float32}
    return np.array([item.target for item in items], dtype=kinds[scan.task])


def _round_up(side: int) -> int:
    return -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE
