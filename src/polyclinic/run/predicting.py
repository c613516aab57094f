"""Predictions for a folder of images: streamed, in the order of the files, one row for each.

A worker a core takes a group of images, decodes it and asks the network, on one thread: so no core
waits for another, which it would several times a layer where they share a batch. Small images are
decoded by one worker at a time, while the others ask the network. Workers are a group or two ahead
and no more, so that memory does not grow with the folder. Groups depend on the
files alone: a call that was killed and resumed ends with the same bytes as one that was not, and
so does one on another number of cores.
"""

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch

from polyclinic.data.dataset import Item
from polyclinic.data.images import to_uint8
from polyclinic.data.prepare import SIDE_MULTIPLE
from polyclinic.data.resize import fit, letterbox, pad
from polyclinic.errors import ConfigError, DataError
from polyclinic.models.adopted import FACTS, WEIGHTS, Adopted, answer
from polyclinic.models.memory import shortage_explained
from polyclinic.run.prediction_dicom import Drawer
from polyclinic.run.prediction_items import ALONE, Inputs
from polyclinic.run.prediction_masks import FOLDER as MASKS
from polyclinic.run.prediction_masks import write_masks
from polyclinic.run.prediction_rows import Decoded, Mask, Said, columns, kinds_of_rows, row_of
from polyclinic.run.prediction_table import GrowingTable
from polyclinic.run.progress import Progress, Tell, silent

MOST_WORKERS = 16
SMALL = 128 * 128
"""Pixels as stored. Up to so many, most of decoding is Python, which two threads only hand to each
other: together they are slower than one. Larger images are decoded without it, side by side."""
TABLE = "predictions.csv"


@dataclass(frozen=True)
class Done:
    """What predicting gave. The counts are of the table's rows, also those of earlier calls.

    `resumed` is how many rows earlier calls had written: all, where the table was complete.
    `left_out` says of files without a row why: see `Inputs`.
    """

    table: Path
    masks: Path | None
    images: int
    answered: int
    abstained: int
    unreadable: int
    resumed: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)


@shortage_explained()
def predict(
    model: Adopted,
    folder: Path,
    inputs: Inputs,
    out: Path,
    *,
    batch: int = 64,
    resume: bool = False,
    tell: Tell = silent,
) -> Done:
    """Write the answers of `model` (which lies in `folder`) about `inputs`.

    `out` is a file that ends in .csv, or a folder for `predictions.csv` and, of label maps, for
    `masks/`. An image that cannot be read has a row that says why. Raises `ConfigError`,
    `DataError` and `RunError`.
    """
    table, masks = _places(model, inputs, out)
    drawer = Drawer(model.classes, _identity(folder))
    fingerprint = _fingerprint(drawer.identity, inputs, batch)
    with GrowingTable(table, columns(model), fingerprint, resume=resume) as growing:
        resumed = growing.done
        if not growing.complete:
            groups = list(inputs.groups(batch))
            left = _after(groups, growing.done)
            for group, decoded, said in _answered(model, inputs, left, batch):
                written: dict[str, Mask] = {}
                if masks:
                    written = write_masks(inputs, group, decoded, said, masks, drawer)
                rows = [
                    row_of(model, inputs, item, one, answer_, written.get(item.key))
                    for item, one, answer_ in zip(group, decoded, said, strict=True)
                ]
                growing.add(rows)
                tell(Progress("predict", growing.done / len(inputs.items)))
        growing.finish()
    kinds = Counter(kinds_of_rows(table))
    counts = (kinds["answered"], kinds["abstained"], kinds["unreadable"])
    return Done(table, masks, len(inputs.items), *counts, resumed, inputs.left_out)


def _places(model: Adopted, inputs: Inputs, out: Path) -> tuple[Path, Path | None]:
    if out.suffix.lower() == ".csv" and not out.is_dir():
        if model.task == "segmentation":
            raise ConfigError(f"--out: {out}: expected a folder, because this model draws masks")
        return out, None
    if out.is_file():
        raise ConfigError(f"--out: {out}: expected a folder or a file that ends in .csv")
    if model.task != "segmentation":
        return out / TABLE, None
    folder = inputs.scan.folder.resolve()
    if inputs.scan.format != ALONE and out.resolve().is_relative_to(folder):
        raise ConfigError(
            f"--out: {out}: lies in {inputs.scan.folder}, where its masks would be taken for "
            "images; expected a folder elsewhere"
        )
    return out / TABLE, out / MASKS


def _identity(folder: Path) -> str:
    """What is unique to the model in `folder`."""
    digest = hashlib.sha256()
    for name in (WEIGHTS, FACTS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _fingerprint(identity: str, inputs: Inputs, batch: int) -> str:
    digest = hashlib.sha256(f"{identity} {batch} {inputs.scan.folder.resolve()}".encode())
    for item in inputs.items:
        digest.update(b"\0" + item.key.encode())
    return digest.hexdigest()


def _after(groups: Sequence[Sequence[Item]], done: int) -> Iterator[Sequence[Item]]:
    seen = 0
    for group in groups:
        if seen >= done:
            yield group
        seen += len(group)


def _answered(
    model: Adopted, inputs: Inputs, groups: Iterator[Sequence[Item]], batch: int
) -> Iterator[tuple[Sequence[Item], list[Decoded], list[Said | None]]]:
    """Each group with its images and what the model says of them, in turn."""
    read = _decoder(model, inputs)
    in_turn, small = threading.Lock(), True

    def work(group: Sequence[Item]) -> tuple[list[Decoded], list[Said | None]]:
        nonlocal small
        with in_turn if small else nullcontext():
            decoded = [read(item) for item in group]
        pixels = [height * width for height, width in (one.size for one in decoded)]
        small = sum(pixels) <= SMALL * len(pixels)  # the next groups will be like this one
        return decoded, _asked(model, decoded, batch)

    workers = min(MOST_WORKERS, torch.get_num_threads())
    # OpenMP keeps the number of threads for each thread that asks: the caller's stays as it is
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[tuple[Sequence[Item], Future[tuple[list[Decoded], list[Said | None]]]]] = deque()
    try:
        while True:
            for group in islice(groups, workers + 1 - len(waiting)):
                waiting.append((group, pool.submit(work, group)))
            if not waiting:
                return
            group, done = waiting.popleft()
            yield group, *done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decoder(model: Adopted, inputs: Inputs) -> Callable[[Item], Decoded]:
    """Images as `data.prepare` made them for training."""
    cap = _round_up(model.largest_side)
    usual = int(model.facts.get("side", SIDE_MULTIPLE))

    def read(item: Item) -> Decoded:
        try:
            pixels = to_uint8(inputs.scan.load(item)[0], item.key)
        except DataError as error:
            return Decoded(None, reason=str(error).removeprefix(f"{item.key}: "))
        size = (pixels.shape[0], pixels.shape[1])
        if model.task == "segmentation":
            fitted = fit(pixels, cap, enlarge=False)
            square = pad(fitted, max(usual, _round_up(max(fitted.shape[:2]))), 0)
        else:
            square = letterbox(pixels, model.image_size)
        planes = square[None] if square.ndim == 2 else np.moveaxis(square, 2, 0)
        return Decoded(np.ascontiguousarray(planes), size)

    return read


def _asked(model: Adopted, decoded: Sequence[Decoded], batch: int) -> list[Said | None]:
    """The model's answers, in order; None where there is no image."""
    said: list[Said | None] = [None] * len(decoded)
    rows = [row for row, one in enumerate(decoded) if one.pixels is not None]
    for _, same in groupby(rows, lambda row: _shape(decoded[row])):
        chosen = list(same)
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            pixels = np.stack([p for row in part if (p := decoded[row].pixels) is not None])
            answers = answer(model, torch.from_numpy(pixels).float() / 255)
            told = (
                answers.scores.numpy(),
                answers.confidence.tolist(),
                answers.strangeness.tolist(),
            )
            for row, score, confidence, strangeness in zip(part, *told, strict=True):
                said[row] = Said(score, confidence, strangeness)
    return said


def _shape(decoded: Decoded) -> tuple[int, ...]:
    return () if decoded.pixels is None else decoded.pixels.shape


def _round_up(side: int) -> int:
    return -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE
