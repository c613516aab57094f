"""The site's part as Flower runs it: a message in, a message out. Needs Flower."""

import contextlib
import os
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from polyclinic.deploy import alone, flower
from polyclinic.deploy.site_work import respond_from

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One stage."""
    del context
    return _answer(message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """A final encoder judged."""
    del context
    return _answer(message)


def _answer(message: Message) -> Message:
    asked = message.content.config_records.get("task", ConfigRecord())
    alone.begun()
    try:
        fields = respond_from(Path(os.environ[flower.SITE]), dict(asked), _log)
    finally:
        alone.finished()
    return Message(RecordDict({"answer": ConfigRecord({**fields})}), reply_to=message)


def _log(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk is no reason to stop
        print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)
