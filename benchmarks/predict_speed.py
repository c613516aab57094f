"""How near `polyclinic predict` comes to the bare forward pass of its encoder.

    python benchmarks/predict_speed.py            # ten minutes on an idle machine
    python benchmarks/predict_speed.py --smoke    # seconds: does it work?

`forward` is the encoder on one batch that lies ready in memory, again and again. `predict` is
everything: files read and decoded by threads, brought to the network's size, encoder and head,
calibration, the out-of-distribution score, a row each in the table. A turn is one call, with all
that it does once, on some thousand images. Both take turns, so that both meet the same machine; the
share is the median over turns of the ratio of a turn and its neighbour. Both are measured on the
clock and in processor seconds, which other processes disturb less. The images are made up (breast
ultrasound of the phantoms, as PNG and as JPEG), and the head is fitted to a few of them.

Each row of CASES is one kind of files and one size of the network's input. The first is the
smallest of both that the docs speak of, for which decoding weighs most.

Claim: `predict` reaches at least 80 % of `forward`, in every case.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import records

MIN_SHARE = 0.8
SHOWN = ("files", "seen_px", "share_of_forward", "share_of_forward_in_processor_seconds")
SEED = 0
BATCH = 64


@dataclass(frozen=True)
class Case:
    """`stored` and `seen`: sides in px of the files, and of what the network sees."""

    ends: str
    stored: int
    seen: int


CASES: tuple[Case, ...] = (
    Case(".png", 64, 48),
    Case(".jpg", 64, 64),
    Case(".png", 128, 96),
    Case(".jpg", 256, 128),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="few images, one turn, one case")
    parser.add_argument("--turns", type=int, default=5, help="of both (default 5)")
    parser.add_argument("--batches", type=int, default=64, help="in a turn (default 64)")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/predict_speed.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    turns, batches, cases = arguments.turns, arguments.batches, CASES
    if arguments.smoke:
        turns, batches, cases = 1, 2, CASES[:1]
    result = records.circumstances(["polyclinic", "torch", "numpy", "pillow"], seed=SEED)
    result |= {"threads": torch.get_num_threads(), "batch_size": BATCH, "encoder": "small"}
    result["cases"] = []
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            row = _measure(case, Path(folder), batches, turns)
        result["cases"].append(row)
        print(json.dumps({key: row[key] for key in SHOWN}), flush=True)
    shares = [row["share_of_forward"] for row in result["cases"]]
    result |= {"load_after": round(os.getloadavg()[0], 2), "least_share": min(shares)}
    result["pass"] = min(shares) >= MIN_SHARE
    print(json.dumps({"least_share": result["least_share"], "pass": result["pass"]}))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "predict_speed.json")


def _measure(case: Case, folder: Path, batches: int, turns: int) -> dict[str, Any]:
    from polyclinic.models.adopted import load_adopted
    from polyclinic.models.device import autocast, device
    from polyclinic.run.predicting import predict
    from polyclinic.run.prediction_inputs import find_inputs

    images = batches * BATCH
    model_folder = _model(case, folder)
    new = folder / "new"
    _write_images(case, new, images, labelled=False)
    model, inputs = load_adopted(model_folder), find_inputs(new)
    batch = torch.rand(BATCH, 1, case.seen, case.seen, device=device())

    @torch.no_grad()
    def forward() -> None:
        for _ in range(batches):
            with autocast():
                model.encoder.embed(batch)
        if batch.is_cuda:
            torch.cuda.synchronize()

    def predicting() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        predict(model, model_folder, inputs, folder / "out", batch=BATCH)

    kinds: dict[str, Callable[[], None]] = {"forward": forward, "predict": predicting}
    wall: dict[str, list[float]] = {name: [] for name in kinds}
    processor: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(turns + 1):  # the first warms up
        for name in kinds if turn % 2 else reversed(kinds):
            began, used = time.perf_counter(), time.process_time()
            kinds[name]()
            if turn:
                wall[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - used)
    return {
        "files": f"{case.ends[1:]}, {case.stored} px",
        "stored_px": case.stored,
        "seen_px": case.seen,
        "images": images,
        "images_a_second": {n: round(images / statistics.median(v), 1) for n, v in wall.items()},
        "share_of_forward": _share(wall),
        "share_of_forward_in_processor_seconds": _share(processor),
        "seconds": wall,
        "processor_seconds": processor,
    }


def _share(seconds: dict[str, list[float]]) -> float:
    pairs = zip(seconds["forward"], seconds["predict"], strict=True)
    return round(statistics.median(forward / predict for forward, predict in pairs), 3)


def _model(case: Case, folder: Path) -> Path:
    """A model of an untrained encoder: its speed is that of a trained one."""
    from polyclinic.models.encoder import build_encoder
    from polyclinic.models.state import state_of
    from polyclinic.run.adoption import adopt
    from polyclinic.run.cross_validation import AdoptPlan
    from polyclinic.run.encoder_source import TrainedEncoder

    _write_images(case, folder / "labelled", 64, labelled=True)
    state = state_of(build_encoder("small", SEED))
    found = TrainedEncoder(state, "small", case.seen, 256, {"method": "random"})
    adopt(found, folder / "labelled", folder / "model", AdoptPlan(folds=2, bootstrap=20))
    return folder / "model"


def _write_images(case: Case, folder: Path, count: int, *, labelled: bool) -> None:
    from polyclinic.data.phantoms import breast

    rng = np.random.default_rng(SEED + labelled)
    kinds = breast.CLASSES
    drawn = [breast.paint(rng, kinds[n % 3], case.stored) for n in range(min(count, 48))]
    for number in range(count):
        place = folder / f"class{number % 3}" if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.roll(drawn[number % len(drawn)], number // len(drawn), axis=1)
        Image.fromarray(pixels).save(place / f"{number:05d}{case.ends}")


if __name__ == "__main__":
    main()
