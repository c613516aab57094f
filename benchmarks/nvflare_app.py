"""The small federation in NVIDIA FLARE's simulator: one of the engines of `peers.py`.

    python benchmarks/nvflare_app.py FOLDER WORKERS

FOLDER is as `blood_parts.py` makes it. A ModelController sends the encoder to an Executor per part,
each Executor runs Polyclinic's own function for a site's stage, and what comes back is Polyclinic's
packed message: all engines do the same work. With fewer WORKERS (the simulator's `threads`) than
parts, the simulator starts a process for each task, so a part's private head stays in a file of its
app folder. Writes `nvflare.safetensors` (the final encoder) and the notes of `stopwatch.py` into
FOLDER; the simulator's workspace is there, too.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.workflows.model_controller import ModelController
from nvflare.job_config.api import FedJob

import blood_parts
import stopwatch
from polyclinic.data.dataset import SiteData
from polyclinic.federation.aggregation import add, mean
from polyclinic.federation.knowledge import pack, schema_of, unpack
from polyclinic.federation.site import train_stage
from polyclinic.models.state import load_state, save_state


class Part(Executor):
    """One stage at one part."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:  # noqa: ARG002
        """Train on what was sent; returns the packed change."""
        model = FLModelUtils.from_shareable(shareable)
        stage = model.meta["stage"]
        config = blood_parts.load_config(Path(self.folder))
        site = _site(Path(self.folder), fl_ctx.get_identity_name())
        received = {name: torch.from_numpy(np.array(v)) for name, v in model.params.items()}
        kept = Path(fl_ctx.get_prop(FLContextKey.APP_ROOT), "head.safetensors")
        stopwatch.Marks(Path(self.folder), "nvflare").began()
        trained = train_stage(
            site,
            config.preset,
            received,
            load_state(kept) if kept.exists() else None,
            blood_parts.plan_of(config, stage),
            *(config.seeds[0], "fedavg", stage, site.name),
        )
        save_state(trained.head, kept)
        packed = pack(trained.knowledge, schema_of(received), site.name)
        return FLModelUtils.to_shareable(FLModel(params={"knowledge": packed}))


class Rounds(ModelController):
    """The server: as many rounds of federated averaging as the configuration has stages."""

    def __init__(self, folder: str) -> None:
        super().__init__(persistor_id="")
        self.folder = folder

    def run(self) -> None:
        """All rounds."""
        folder = Path(self.folder)
        config = blood_parts.load_config(folder)
        encoder = blood_parts.load_start(folder)
        schema = schema_of(encoder)
        names = [site.name for site in config.sites]
        marks = stopwatch.Marks(folder, "nvflare")
        for stage in range(config.local.stages):
            params = {name: value.numpy() for name, value in encoder.items()}
            model = FLModel(params=params, meta={"stage": stage})
            replies = self.send_model_and_wait(targets=names, data=model)
            arrived = {reply.meta["client_name"]: reply.params["knowledge"] for reply in replies}
            if missing := set(names) - set(arrived):
                raise RuntimeError(f"round {stage + 1}: {len(missing)} parts failed: {missing}")
            # in the order of the configuration: a sum of floats depends on it
            knowledge = [unpack(arrived[name], schema, name) for name in names]
            weights = [k.scalars["examples"] for k in knowledge]
            encoder = add(encoder, mean([k.tensors for k in knowledge], weights))
            down = len(names) * stopwatch.nvflare_bytes([model])
            marks.ended(down=down, up=stopwatch.nvflare_bytes(replies))
        save_state(encoder, folder / "nvflare.safetensors")


@functools.cache
def _site(folder: Path, name: str) -> SiteData:
    return blood_parts.load_part(folder, name)


def main(folder: Path, workers: int) -> None:
    names = [site.name for site in blood_parts.load_config(folder).sites]
    job = FedJob(name="blood", min_clients=len(names))
    job.to_server(Rounds(str(folder)))
    for name in names:
        job.to(Part(str(folder)), name, tasks=["train"])
    sys.exit(job.simulator_run(str(folder / "simulator"), threads=workers))


if __name__ == "__main__":
    # The classes must belong to a module that the simulator's processes can import.
    import nvflare_app

    nvflare_app.main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
