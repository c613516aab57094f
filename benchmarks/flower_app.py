"""The small federation in Flower's simulation: one of the engines of `peers.py`.

    python benchmarks/flower_app.py FOLDER WORKERS

FOLDER is as `blood_parts.py` makes it. A ServerApp sends the encoder to a ClientApp per part, each
ClientApp runs Polyclinic's own function for a site's stage, and what comes back is Polyclinic's
packed message: all engines do the same work. A part's private head stays in its Flower context.
Writes `flower.safetensors` (the final encoder) and the notes of `stopwatch.py` into FOLDER. Ray
leaves its session in the temporary folder, which `peers.py` removes.
"""

import functools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

import blood_parts
import stopwatch
from polyclinic.data.dataset import SiteData
from polyclinic.federation.aggregation import add, mean
from polyclinic.federation.knowledge import pack, schema_of, unpack
from polyclinic.federation.site import train_stage
from polyclinic.models.state import save_state

client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One stage at one part."""
    task: Any = message.content["task"]
    folder, stage = Path(task["folder"]), task["stage"]
    config = blood_parts.load_config(folder)
    site = _site(folder, config.sites[int(context.node_config["partition-id"])].name)
    received = message.content.array_records["encoder"].to_torch_state_dict()
    kept = context.state.array_records.get("head")
    stopwatch.Marks(folder, "flower").began()
    trained = train_stage(
        site,
        config.preset,
        dict(received),
        None if kept is None else dict(kept.to_torch_state_dict()),
        blood_parts.plan_of(config, stage),
        *(config.seeds[0], "fedavg", stage, site.name),
    )
    context.state["head"] = ArrayRecord(trained.head)
    packed = pack(trained.knowledge, schema_of(received), site.name)
    reply = ConfigRecord({"site": site.name, "knowledge": packed})
    return Message(RecordDict({"reply": reply}), reply_to=message)


@functools.cache
def _site(folder: Path, name: str) -> SiteData:
    return blood_parts.load_part(folder, name)


def server_app(folder: Path) -> ServerApp:
    """The server: as many rounds of federated averaging as the configuration has stages."""
    app = ServerApp()

    @app.main()
    def rounds(grid: Grid, context: Context) -> None:  # noqa: ARG001
        config = blood_parts.load_config(folder)
        encoder = blood_parts.load_start(folder)
        schema = schema_of(encoder)
        names = [site.name for site in config.sites]
        marks = stopwatch.Marks(folder, "flower")
        while len(nodes := list(grid.get_node_ids())) < len(names):
            time.sleep(0.05)
        for stage in range(config.local.stages):
            task = ConfigRecord({"folder": str(folder), "stage": stage})
            messages = [
                Message(
                    RecordDict({"encoder": ArrayRecord(encoder), "task": task}),
                    dst_node_id=node,
                    message_type="train",
                )
                for node in nodes
            ]
            down = stopwatch.flower_bytes(messages)  # their content goes once they are sent
            replies = list(grid.send_and_receive(messages))
            if failed := [reply.error for reply in replies if reply.has_error()]:
                raise RuntimeError(f"round {stage + 1}: {len(failed)} parts failed: {failed[0]}")
            arrived: Any = {r["site"]: r for r in (reply.content["reply"] for reply in replies)}
            # in the order of the configuration: a sum of floats depends on it
            knowledge = [unpack(arrived[name]["knowledge"], schema, name) for name in names]
            weights = [k.scalars["examples"] for k in knowledge]
            encoder = add(encoder, mean([k.tensors for k in knowledge], weights))
            marks.ended(down=down, up=stopwatch.flower_bytes(replies))
        save_state(encoder, folder / "flower.safetensors")

    return app


def main(folder: Path, workers: int) -> None:
    run_simulation(
        server_app=server_app(folder),
        client_app=client_app,
        num_supernodes=len(blood_parts.load_config(folder).sites),
        backend_config={
            # The names of Ray's sockets may have 107 characters: the folder's path must be short.
            "init_args": {"num_cpus": workers, "_temp_dir": tempfile.gettempdir()},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    # The functions must belong to a module that Ray's processes can import, not to the script.
    import flower_app

    flower_app.main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
