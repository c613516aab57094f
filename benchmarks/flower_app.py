"""The small federation in Flower's simulation: one of the engines of `engines.py`.

    python benchmarks/flower_app.py FOLDER WORKERS

FOLDER is as `blood_parts.py` makes it. A ServerApp sends the encoder to a ClientApp per part, each
ClientApp runs Polyclinic's own function for a site's stage, and what comes back is Polyclinic's
packed message: both engines do the same work. A part's private head stays in its Flower context.
Writes `flower.safetensors` (the final encoder) and `flower.json` (when the first site began to
train, when each round ended) into FOLDER.
"""

import functools
import json
import math
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

import blood_parts
from polyclinic.data.dataset import SiteData
from polyclinic.federation.aggregation import add, mean
from polyclinic.federation.knowledge import pack, schema_of, unpack
from polyclinic.federation.site import train_stage
from polyclinic.models.state import save_state
from polyclinic.models.training import TrainPlan

client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One stage at one part."""
    task = message.content["task"]
    site = _site(Path(task["folder"]), int(context.node_config["partition-id"]))
    received = message.content["encoder"].to_torch_state_dict()
    kept = context.state.array_records.get("head")
    began = time.monotonic()
    trained = train_stage(
        site,
        task["preset"],
        dict(received),
        None if kept is None else dict(kept.to_torch_state_dict()),
        TrainPlan(**json.loads(task["plan"])),
        *(task["seed"], "fedavg", task["stage"], site.name),
    )
    context.state["head"] = ArrayRecord(trained.head)
    reply = {
        "site": site.name,
        "knowledge": pack(trained.knowledge, schema_of(received), site.name),
        "began": began,
        "threads": torch.get_num_threads(),
    }
    return Message(RecordDict({"reply": ConfigRecord(reply)}), reply_to=message)


@functools.cache
def _site(folder: Path, number: int) -> SiteData:
    return blood_parts.load_part(folder, blood_parts.load_config(folder).sites[number].name)


def server_app(folder: Path) -> ServerApp:
    """The server: as many rounds of federated averaging as the configuration has stages."""
    app = ServerApp()

    @app.main()
    def rounds(grid: Grid, context: Context) -> None:  # noqa: ARG001
        config = blood_parts.load_config(folder)
        encoder = blood_parts.load_start(folder)
        schema = schema_of(encoder)
        names = [site.name for site in config.sites]
        began: list[float] = []
        ended: list[float] = []
        threads = 0
        while len(nodes := list(grid.get_node_ids())) < len(names):
            time.sleep(0.05)
        for stage in range(config.local.stages):
            content = {
                "folder": str(folder),
                "preset": config.preset,
                "plan": json.dumps(asdict(_plan(folder, stage))),
                "seed": config.seeds[0],
                "stage": stage,
            }
            messages = [
                Message(
                    RecordDict({"encoder": ArrayRecord(encoder), "task": ConfigRecord(content)}),
                    dst_node_id=node,
                    message_type="train",
                )
                for node in nodes
            ]
            replies = list(grid.send_and_receive(messages))
            if failed := [reply.error for reply in replies if reply.has_error()]:
                raise RuntimeError(f"round {stage + 1}: {len(failed)} parts failed: {failed[0]}")
            arrived = {r["site"]: r for r in (reply.content["reply"] for reply in replies)}
            # in the order of the configuration: a sum of floats depends on it
            knowledge = [unpack(arrived[name]["knowledge"], schema, name) for name in names]
            weights = [k.scalars["examples"] for k in knowledge]
            encoder = add(encoder, mean([k.tensors for k in knowledge], weights))
            ended.append(time.monotonic())
            began += [reply["began"] for reply in arrived.values()]
            threads = max(reply["threads"] for reply in arrived.values())
        save_state(encoder, folder / "flower.safetensors")
        times = {"first_step": min(began), "stages_ended": ended, "threads": threads}
        (folder / "flower.json").write_text(json.dumps(times))

    return app


def _plan(folder: Path, stage: int) -> TrainPlan:
    config = blood_parts.load_config(folder)
    local = config.local
    decay = 0.5 * (1 + math.cos(math.pi * stage / local.stages))
    return TrainPlan(
        size=config.data.image_size,
        epochs=local.epochs,
        min_steps=local.min_steps,
        max_steps=local.max_steps,
        batch_size=local.batch_size,
        learning_rate=local.learning_rate * max(decay, 0.05),
        weight_decay=local.weight_decay,
        dense_head_epochs=local.dense_head_epochs,
    )


def main(folder: Path, workers: int) -> None:
    parts = len(blood_parts.load_config(folder).sites)
    # Ray leaves its session behind: in a folder of our own, which goes. The names of its sockets
    # may have 107 characters, so the path must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary:
        run_simulation(
            server_app=server_app(folder),
            client_app=client_app,
            num_supernodes=parts,
            backend_config={
                "init_args": {"num_cpus": workers, "_temp_dir": temporary},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )


if __name__ == "__main__":
    # The functions must belong to a module that Ray's processes can import, not to the script.
    import flower_app

    flower_app.main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
