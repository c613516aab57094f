"""Who decodes when: the answers themselves are tested in `test_using`."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from polyclinic.data.dataset import Item
from polyclinic.run import predicting
from polyclinic.run.prediction_rows import Decoded


def answered(read, monkeypatch) -> int:
    """Groups of one image that two workers decode with `read`, in turn."""
    monkeypatch.setattr(predicting.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(predicting, "_decoder", lambda *_: read)
    monkeypatch.setattr(predicting, "_asked", lambda _, decoded, __: [None] * len(decoded))
    groups = [[Item(str(n), str(n))] for n in range(6)]
    done = list(predicting._answered(SimpleNamespace(), SimpleNamespace(), iter(groups), 1))
    assert [group for group, _, _ in done] == groups
    return len(done)


def image(side: int) -> Decoded:
    return Decoded(np.zeros((1, 8, 8), np.uint8), (side, side))


@pytest.mark.parametrize("side", [0, 128])  # 0: of a file that could not be read
def test_small_images_are_decoded_one_at_a_time(side: int, monkeypatch):
    free = threading.Lock()
    crowded = []

    def read(_: Item) -> Decoded:
        crowded.append(not free.acquire(blocking=False))
        threading.Event().wait(0.01)  # long enough for the other worker to come in, if it may
        free.release()
        return image(side)

    answered(read, monkeypatch)
    assert crowded == [False] * 6


def test_large_images_are_decoded_side_by_side(monkeypatch):
    both = threading.Barrier(2, timeout=60)

    def read(item: Item) -> Decoded:
        if int(item.key) >= 2:  # the first two tell how large they are
            both.wait()
        return image(129)

    assert answered(read, monkeypatch) == 6
