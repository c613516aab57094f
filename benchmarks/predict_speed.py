"""How near `polyclinic predict` comes to the bare forward pass of its encoder.

    python benchmarks/predict_speed.py            # about a minute on an idle machine
    python benchmarks/predict_speed.py --smoke    # seconds: does it work?

`forward` is the encoder on one batch that lies ready in memory, again and again. `predict` is
everything: PNG files read and decoded by threads, resized, encoder and head, calibration, the
out-of-distribution score, a row each in the table. Both take turns. The images are made up, and
the head is fitted to a few of them.

Claim: `predict` reaches at least 80 % of `forward` on the cores of this machine.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import records

MIN_SHARE = 0.8
SEED = 0
SIZE = 48  # px, what the encoder sees
STORED = 64  # px, what the files hold
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="few images, one turn")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/predict_speed.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    images, turns = (128, 1) if arguments.smoke else (4096, 5)
    result = records.circumstances(["polyclinic", "torch", "numpy", "pillow"], seed=SEED)
    result |= {"threads": torch.get_num_threads(), "batch_size": BATCH, "encoder": "small"}
    result |= {"image_size_px": SIZE, "stored_px": STORED, "images": images}
    with tempfile.TemporaryDirectory() as folder:
        result |= _measure(Path(folder), images, turns)
    result["pass"] = result["share_of_forward"] >= MIN_SHARE
    print(json.dumps({"share_of_forward": result["share_of_forward"], "pass": result["pass"]}))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "predict_speed.json")


def _measure(folder: Path, images: int, turns: int) -> dict[str, Any]:
    from polyclinic.models.adopted import load_adopted
    from polyclinic.models.device import autocast, device
    from polyclinic.run.predicting import predict
    from polyclinic.run.prediction_inputs import find_inputs

    model_folder = _model(folder)
    new = folder / "new"
    _write_images(new, images, labelled=False)
    model, inputs = load_adopted(model_folder), find_inputs(new)
    batch = torch.rand(BATCH, 1, SIZE, SIZE, device=device())

    @torch.no_grad()
    def forward() -> None:
        for _ in range(images // BATCH):
            with autocast():
                model.encoder.embed(batch)
        if batch.is_cuda:
            torch.cuda.synchronize()

    def predicting() -> None:
        shutil.rmtree(folder / "out", ignore_errors=True)
        predict(model, model_folder, inputs, folder / "out", batch=BATCH)

    kinds: dict[str, Callable[[], None]] = {"forward": forward, "predict": predicting}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(turns + 1):  # the first warms up
        for name, work in kinds.items():
            began = time.perf_counter()
            work()
            if turn:
                taken[name].append(images / (time.perf_counter() - began))
    pairs = zip(taken["predict"], taken["forward"], strict=True)
    return {
        "images_a_second": {name: round(statistics.median(v), 1) for name, v in taken.items()},
        "share_of_forward": round(statistics.median(a / b for a, b in pairs), 3),
        "runs": taken,
    }


def _model(folder: Path) -> Path:
    """A model of an untrained encoder: its speed is that of a trained one."""
    from polyclinic.models.encoder import build_encoder
    from polyclinic.models.state import state_of
    from polyclinic.run.adoption import adopt
    from polyclinic.run.cross_validation import AdoptPlan
    from polyclinic.run.encoder_source import TrainedEncoder

    _write_images(folder / "labelled", 64, labelled=True)
    state = state_of(build_encoder("small", SEED))
    found = TrainedEncoder(state, "small", SIZE, 256, {"method": "random"})
    adopt(found, folder / "labelled", folder / "model", AdoptPlan(folds=2, bootstrap=20))
    return folder / "model"


def _write_images(folder: Path, count: int, *, labelled: bool) -> None:
    rng = np.random.default_rng(SEED + labelled)
    for number in range(count):
        label = number % 2
        place = folder / f"class{label}" if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(90 + 40 * label, 25, (STORED, STORED)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:05d}.png")


if __name__ == "__main__":
    main()
