"""Who is let in: sender, stage, replay, length; and whether all received the same."""

import pytest
import torch

from polyclinic.errors import KnowledgeError
from polyclinic.federation.arrival import FEWEST, Parcel, admit, agree, length, too_long
from polyclinic.federation.knowledge import Knowledge, Schema, pack
from polyclinic.federation.ledger import Label, digest

SCHEMA = Schema({"w": (2,)})
LABEL = Label("fedavg", 0, 2)
MESSAGE = pack(
    Knowledge(
        {"w": torch.tensor([3.0, -4.0])},
        {"examples": 5.0, "loss": 1.0, "received_score": 0.5, "trained_score": 0.6},
    ),
    SCHEMA,
    "eye",
)


def test_what_was_asked_for_is_let_in():
    got = admit(Parcel("eye", LABEL, MESSAGE), "eye", LABEL, SCHEMA, frozenset())
    assert got.tensors["w"].tolist() == [3, -4]


@pytest.mark.parametrize(
    ("parcel", "reason"),
    [
        (Parcel("ear", LABEL, MESSAGE), "it says to come from 'ear'"),
        (
            Parcel("eye", Label("fedavg", 0, 1), MESSAGE),
            "it is of an update to the server, fedavg, seed 0, stage 1, "
            "expected an update to the server, fedavg, seed 0, stage 2",
        ),
        (Parcel("eye", Label("universal", 0, 2), MESSAGE), "it is of an update .*universal"),
        (Parcel("eye", Label("fedavg", 7, 2), MESSAGE), ".* seed 7, stage 2, expected"),
        (Parcel("eye", LABEL, MESSAGE[:-1]), "not a readable message"),
    ],
)
def test_what_was_not_asked_for_is_refused(parcel, reason):
    with pytest.raises(KnowledgeError, match=f"refused from site 'eye': {reason}"):
        admit(parcel, "eye", LABEL, SCHEMA, frozenset())


def test_a_replay_is_refused():
    with pytest.raises(KnowledgeError, match=r"'eye': the same message was let in before \(a re"):
        admit(Parcel("eye", LABEL, MESSAGE), "eye", LABEL, SCHEMA, {digest(MESSAGE)})


def test_length():
    change = {"a": torch.tensor([[3.0]]), "b": torch.tensor([4.0]), "c": torch.zeros(0)}
    assert length(change) == 5
    assert length({"a": torch.full((4,), 1e30)}) == pytest.approx(2e30)  # beyond float32, squared
    assert length({}) == 0


def test_a_change_far_longer_than_the_others_is_refused():
    lengths = {"a": 1.0, "b": 1.2, "c": 0.8, "d": 13.1}
    assert too_long(lengths, 10.0) == {
        "d": "refused from site 'd': its change has length 13.1, more than 10 times the median of "
        "4 sites, 1.1"
    }
    assert too_long({**lengths, "d": 10.9}, 10.0) == {}  # exactly ten medians and less
    assert [*too_long(lengths, 1.05)] == ["b", "d"]


def test_nobody_is_refused_by_length_where_that_says_nothing():
    three = {"a": 1.0, "b": 1.0, "c": 1e9}
    assert FEWEST == 4
    assert too_long(three, 10.0) == {}
    assert too_long({**three, "d": 1.0}, 0.0) == {}  # switched off
    assert too_long({"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0}, 10.0) == {}
    assert too_long({}, 10.0) == {}
    assert [*too_long({**three, "d": 1.0}, 10.0)] == ["c"]


def test_the_median_holds_against_a_minority():
    lengths = {f"s{i}": 1.0 + i / 10 for i in range(5)} | {"x": 1e6, "y": 1e9, "z": 1e6}
    assert {*too_long(lengths, 10.0)} == {"x", "y", "z"}


def test_all_who_received_the_same_agree():
    assert agree({"a": "12ab", "b": "12ab"}) == "12ab"


def test_a_site_that_was_sent_something_else_is_named():
    received = {"a": "1" * 64, "b": "2" * 64, "c": "1" * 64}
    with pytest.raises(
        KnowledgeError,
        match=r"not receive the same encoder \(1{12}: a, c; 2{12}: b\); nobody trains",
    ):
        agree(received)
    with pytest.raises(KnowledgeError, match="no site"):
        agree({})
