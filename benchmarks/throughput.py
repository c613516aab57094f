"""How many images a second the small encoder trains on, and what the data pipeline costs.

    python benchmarks/throughput.py            # about three minutes on an idle machine
    python benchmarks/throughput.py --smoke    # seconds: does it work?

For each image size, in turns: `training` takes its batches from Polyclinic's own pipeline (cached
images, shuffled, a random view of each); `step` takes the same steps (forward, loss, backward,
clip, update) on one batch that lies ready in memory; `forward` is inference. `step` is also taken
in the layout that Polyclinic does not choose and, on processors with instructions for it, in
bfloat16.

Claim: no step waits for decoding. `training` reaches at least 85 % of `step`; the difference is the
random views, which are made on the same cores.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import blood_parts
import records

MIN_SHARE = 0.85
SEED = 0
SIZES = (28, 48, 64)
BATCH = 32
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="one size, one step")
    parser.add_argument(
        "--out", type=Path, help="result file (default benchmarks/results/throughput.json; "
        "with --smoke none)"
    )  # fmt: skip
    arguments = parser.parse_args()
    sizes = (16,) if arguments.smoke else SIZES
    steps = 1 if arguments.smoke else 12
    result = records.circumstances(["polyclinic", "torch", "numpy"], seed=SEED)
    result |= {"threads": torch.get_num_threads(), "batch_size": BATCH, "encoder": "small"}
    result["precision"] = _chosen_precision()
    result["rows"] = [_row(size, steps, 1 if arguments.smoke else REPEATS) for size in sizes]
    result["pass"] = all(row["training_share_of_step"] >= MIN_SHARE for row in result["rows"])
    print(json.dumps({"pass": result["pass"]}))
    if arguments.out or not arguments.smoke:
        records.write(result, arguments.out or records.RESULTS / "throughput.json")


def _row(size: int, steps: int, repeats: int) -> dict[str, Any]:
    """Images a second of every kind at one image size: median, and each measurement."""
    kinds = _kinds(size, steps)
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(repeats + 1):  # the first warms up
        for name, work in kinds.items():
            began = time.perf_counter()
            images = work()
            if turn or repeats == 1:
                taken[name].append(images / (time.perf_counter() - began))
    medians = {name: round(statistics.median(values), 1) for name, values in taken.items()}
    share = statistics.median(a / b for a, b in zip(taken["training"], taken["step"], strict=True))
    row = {"image_size_px": size, "images_a_second": medians}
    print(json.dumps(row), flush=True)
    return row | {"training_share_of_step": round(share, 3), "runs": taken}


def _kinds(size: int, steps: int) -> dict[str, Callable[[], int]]:
    """What is measured, by name: functions that return how many images they worked on."""
    from polyclinic.models.training import Batches, TrainPlan

    site = blood_parts.one_site(steps * BATCH, size, SEED)
    plan = TrainPlan(
        size=size, epochs=1, min_steps=steps, max_steps=steps, batch_size=BATCH,
        learning_rate=1e-3, weight_decay=0.05,
    )  # fmt: skip
    batches = Batches(site, plan)
    encoder, head = _model(torch.channels_last)
    plain, plain_head = _model(torch.contiguous_format)
    ready = [next(batches.epochs(1, SEED))] * steps
    images = ready[0][0]

    def forward() -> int:
        head.eval()
        with torch.no_grad():
            for _ in range(steps):
                head(encoder(images), (size, size))
        return steps * BATCH

    kinds = {
        "training": lambda: _steps(encoder, head, batches.epochs(1, SEED)),
        "step": lambda: _steps(encoder, head, ready),
        "forward": forward,
        "step, contiguous": lambda: _steps(plain, plain_head, ready),
    }
    if "avx512_bf16" in _flags() or "amx_bf16" in _flags():
        kinds["step, bfloat16"] = lambda: _steps(encoder, head, ready, torch.bfloat16)
    return kinds


def _model(layout: torch.memory_format) -> tuple[nn.Module, nn.Module]:
    from polyclinic.models.encoder import build_encoder
    from polyclinic.models.heads import build_head

    encoder = build_encoder("small", SEED).to(memory_format=layout)
    return encoder, build_head("single-label", 8, encoder.config, seed=SEED)


def _steps(
    encoder: nn.Module,
    head: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    dtype: torch.dtype = torch.float32,
) -> int:
    """Forward, loss, backward, clip and update on each batch; returns the number of images."""
    parameters = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, 1e-3, fused=True)
    head.train()
    count = 0
    for images, targets in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs = head(encoder(images), (images.shape[2], images.shape[3]))
        loss = nn.functional.cross_entropy(outputs.float(), targets)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        count += len(images)
    return count


def _chosen_precision() -> str:
    from polyclinic.models.device import precision

    return str(precision("cpu")).removeprefix("torch.")


def _flags() -> set[str]:
    """What the processor says that it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((x.split(":", 1)[1] for x in lines if x.startswith("flags")), "").split())


if __name__ == "__main__":
    main()
