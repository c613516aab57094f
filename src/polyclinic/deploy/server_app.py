"""The server's part as Flower runs it: messages to and fro, nothing else. Needs Flower."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from polyclinic.deploy import alone, flower
from polyclinic.deploy.coordinator import coordinate
from polyclinic.deploy.folders import STATUS, Record, working_in, write_record, write_status
from polyclinic.deploy.invites import Register
from polyclinic.deploy.remote import Answer, RemoteSites
from polyclinic.deploy.settings import kept_deployment
from polyclinic.deploy.tasks import Task, to_fields
from polyclinic.errors import PolyclinicError
from polyclinic.run.progress import Progress

RUN, COORDINATOR, FAILURE = "run", "coordinator", "failure.json"
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation of the server's folder, or go on with it."""
    del context
    alone.begun()
    try:
        _run(grid)
    finally:
        alone.finished()


def _run(grid: Grid) -> None:
    folder = Path(os.environ[flower.SERVER])
    with working_in(folder / COORDINATOR):
        deployment = kept_deployment(folder / "deployment.json")
        register = Register(folder)
        sites = RemoteSites(
            GridPost(grid, register),
            deployment.config,
            quorum=deployment.quorum,
            deadline=deployment.server.deadline,
            tell=lambda waiting: _note(folder, waiting=asdict(waiting)),
            roster=register.roster,
        )

        def tell(progress: Progress) -> None:
            _note(folder, progress=asdict(progress))

        try:
            coordinate(deployment.config, folder / RUN, sites, tell)
        except PolyclinicError as error:  # starting again would end in the same way
            record = {"error": str(error), "exit_code": error.exit_code}
            write_record(folder / FAILURE, record)
            raise


class GridPost:
    """Carries tasks by Flower's grid to the nodes of the sites that have joined."""

    def __init__(self, grid: Grid, register: Register) -> None:
        self._grid, self._register = grid, register
        self._nodes: dict[str, int] = {}

    def reachable(self) -> set[str]:
        """The sites whose nodes are there."""
        self._nodes = self._register.nodes()
        there = set(self._grid.get_node_ids())
        return {site for site, node in self._nodes.items() if node in there}

    def send(self, site: str, task: Task) -> str:
        """Send a task; returns the message's number."""
        content = RecordDict({"task": ConfigRecord({**to_fields(task)})})
        kind = "evaluate" if task.kind == "evaluate" else "train"  # Flower knows these alone
        message = Message(content, dst_node_id=self._nodes[site], message_type=kind)
        (number,) = self._grid.push_messages([message])
        return str(number)

    def collect(self, messages: Sequence[str]) -> Iterable[tuple[str, Answer]]:
        """(message's number, answer) of those that have come back."""
        for reply in self._grid.pull_messages(messages) if messages else ():
            if reply.has_error():
                # Flower's own words; those of an error at a site are not among them
                yield reply.metadata.reply_to_message_id, f"its node failed ({reply.error.code})"
            elif set(reply.content) != {"answer"}:
                yield reply.metadata.reply_to_message_id, {}
            else:
                yield reply.metadata.reply_to_message_id, dict(reply.content["answer"])


def _note(folder: Path, **what: Record) -> None:
    for name, content in what.items():
        write_status(folder / f"{name}-{STATUS}", content)
