"""Everything that leaves tiny sites is recorded and searched for what must not be in it.

Sites hold sentinels: an image, label names, patients' names, file names. Whatever passes the door
is searched for them in every way of writing that we could think of. Leaks are planted, so that the
search itself is known to find something.
"""

import ast
import base64
import contextlib
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

import polyclinic
from polyclinic.config import FederationConfig
from polyclinic.federation import exchange, ledger
from polyclinic.federation.exchange import Door, site_stage
from polyclinic.federation.knowledge import schema_of
from polyclinic.federation.ledger import Label
from polyclinic.federation.methods import METHODS
from polyclinic.federation.site import train_stage
from polyclinic.federation.verification import verify
from polyclinic.federation.wire import Writing
from polyclinic.models.training import TrainPlan

SIZE = 16
CLASSES = ("sentinel-carcinoma", "sentinel-naevus")
PATIENTS = ("Sentinella^Jane", "Sentinello^John")
FILES = ("ward7/sentinel_0001.png", "ward7/sentinel_0002.png")
TEXTS = (*CLASSES, *PATIENTS, *FILES)
IMAGE = np.random.default_rng(77).integers(0, 256, (SIZE, SIZE), np.uint8)
ROW = 24  # numbers in a row of which the search knows that they are the image's


def encodings():
    """Pieces of the image, a row and a half each, in common ways of writing: name to bytes."""
    pixels = IMAGE.flatten()
    scaled = pixels / 255.0
    values = {
        "0..255": pixels.astype(np.float64),
        "0..1": scaled,
        "-1..1": scaled * 2 - 1,
        "centred": scaled - scaled.mean(),
        "standardised": (scaled - scaled.mean()) / scaled.std(),
    }
    found = {}
    for start in range(0, len(pixels) - ROW, 6 * SIZE):  # multiples of 3, for base64
        part = slice(start, start + ROW)
        raw = pixels[part].tobytes()
        found[f"bytes, {start}"] = raw
        found[f"base64, {start}"] = base64.b64encode(raw)
        found[f"hexadecimal, {start}"] = raw.hex().encode()
        found[f"digits, {start}"] = ", ".join(map(str, pixels[part])).encode()
        for scale, numbers in values.items():
            for kind in ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8"):
                found[f"{scale} as {kind}, {start}"] = numbers[part].astype(kind).tobytes()
    return found


ENCODINGS = encodings()


def searched(message):
    """What of the sentinels is in a message, by name; [] if nothing."""
    blobs = [message]
    with contextlib.suppress(zlib.error):
        blobs.append(zlib.decompress(message))
    found = []
    for blob in blobs:
        found += [name for name, piece in ENCODINGS.items() if piece in blob]
        small = blob.lower()
        for text in TEXTS:
            for kind in ("utf-8", "utf-16-le", "utf-16-be"):
                if text.lower().encode(kind) in small:
                    found.append(f"{text} in {kind}")
        try:
            tensors = load(blob)
        except Exception:  # not a message: its bytes were searched
            continue
        for name, value in tensors.items():
            if _alike(value.double().numpy().flatten()):
                found.append(f"the image's shape in {name}")
    return found


def _alike(numbers):
    """Whether some run of numbers is the image's first rows, scaled and shifted in any way.

    Finds what was multiplied, or rounded to int8, and so is none of the encodings.
    """
    pattern = IMAGE.flatten()[: 4 * SIZE].astype(np.float64)
    n = len(pattern)
    if len(numbers) < n:
        return False
    pattern = (pattern - pattern.mean()) / pattern.std()
    ones = np.ones(n)
    total = np.convolve(numbers, ones, "valid")
    squares = np.convolve(numbers**2, ones, "valid")
    spread = squares - total**2 / n
    varied = spread > 1e-9 * squares  # where all numbers are equal, rounding is all there is
    product = np.convolve(numbers, pattern[::-1], "valid")
    return bool((np.abs(product[varied]) > 0.95 * np.sqrt(spread[varied] * n)).any())


def planted(make_site, name, seed):
    """A tiny site with a sentinel wherever something could leak from."""
    site = make_site("single-label", name, n=16, seed=seed)
    images = site.images.copy()
    images[::3] = IMAGE
    return replace(
        site,
        images=images,
        classes=CLASSES,
        patients=np.array([PATIENTS[i % 2] for i in range(len(images))]),
        keys=tuple(f"{FILES[i % 2]}#{i}" for i in range(len(images))),
    )


@pytest.fixture
def record(federate, make_site, monkeypatch, tmp_path):
    """(method, wire, compress, stages) -> all messages that left two planted sites."""

    def run(method="fedavg", wire="float32", compress="none", stages=1):
        sent = []

        def recorded(message, book, label):
            sent.append(message)
            return leave(message, book, label)

        leave = ledger.leave
        monkeypatch.setattr(exchange, "leave", recorded)
        sites = [planted(make_site, name, seed) for seed, name in enumerate(("a", "b"))]
        fed, _ = federate(method, sites, stages=stages)
        fed.config = replace(fed.config, federation=FederationConfig(wire, compress))
        fed.ledgers = tmp_path / "ledgers"
        METHODS[method](fed)
        return sent

    return run


def leaking(how):
    """A site's training that puts the image into the change of its encoder."""

    def train(site, preset, received, head, plan, *seed):
        trained = train_stage(site, preset, received, head, plan, *seed)
        name, room = next((k, v) for k, v in received.items() if v.numel() >= 2 * IMAGE.size)
        flat = torch.zeros(room.numel())
        flat[7 : 7 + IMAGE.size] = torch.from_numpy(how(IMAGE.flatten() / 255.0)).float()
        trained.knowledge.tensors[name] = flat.view(room.shape)
        return trained

    return train


@pytest.mark.parametrize("method", ["universal", "fedavg", "fedprox"])
def test_nothing_of_the_sentinels_leaves(record, method):
    sent = record(method)
    assert len(sent) == 2
    assert [found for message in sent for found in searched(message)] == []


@pytest.mark.parametrize(("wire", "compress"), [("float16", "none"), ("int8", "zlib")])
def test_nothing_leaves_in_another_wire(record, wire, compress):
    sent = record("fedavg", wire, compress, stages=2)  # the second adds what rounding left
    assert len(sent) == 4
    assert [found for message in sent for found in searched(message)] == []


def test_what_leaves_is_what_the_ledgers_say(record, tmp_path):
    sent = record("universal")
    found = [verify(tmp_path / "ledgers" / f"{name}.jsonl") for name in ("a", "b")]
    assert [f.problems for f in found] == [(), ()]
    assert found[0].sent | found[1].sent == {ledger.digest(message) for message in sent}
    text = b"".join((tmp_path / "ledgers" / f"{name}.jsonl").read_bytes() for name in "ab")
    assert searched(text) == []


def test_a_method_that_works_alone_sends_nothing(record):
    assert record("local") == record("mim") == []


PLAN = TrainPlan(16, epochs=1, min_steps=1, max_steps=1, batch_size=8, learning_rate=1e-3,
                 weight_decay=0.0)  # fmt: skip
LEAKS = {
    "0..1": lambda x: x,
    "-1..1": lambda x: 2 * x - 1,
    "standardised": lambda x: (x - x.mean()) / x.std(),
    "made small": lambda x: 1e-4 * x,
    "made negative": lambda x: 1e-3 - 3e-3 * x,
}


@pytest.mark.parametrize("how", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_a_planted_image_is_found(exact, make_site, start, monkeypatch, how, wire):
    monkeypatch.setattr(exchange, "train_stage", leaking(how))
    door = Door(Label("fedavg", 0, 1), Writing(wire))
    site, seed = planted(make_site, "a", 0), (0, "fedavg", 0, "a")
    parcel, _ = site_stage(site, "small", start, None, PLAN, schema_of(start), seed, door)
    assert searched(parcel.message)


def test_planted_bytes_and_texts_are_found():
    raw = IMAGE.tobytes()
    for message in (
        raw,
        raw[SIZE:],
        b"..." + base64.b64encode(raw),
        raw.hex().encode(),
        str(IMAGE.flatten().tolist()).encode(),
        zlib.compress(raw),
        (IMAGE / 255.0).astype(">f4").tobytes(),
        ((IMAGE / 255.0) * 2 - 1).astype("<f2").tobytes(),
        b"{'label': 'Sentinel-Naevus'}",
        PATIENTS[0].encode("utf-16-le"),
        zlib.compress(FILES[1].encode()),
    ):
        assert searched(message), message[:40]
    assert searched(b"nothing at all") == []


def test_a_text_cannot_be_planted_because_there_is_no_place_for_it(record, monkeypatch):
    def naming(site, preset, received, head, plan, *seed):
        trained = train_stage(site, preset, received, head, plan, *seed)
        trained.knowledge.tensors[CLASSES[0]] = torch.zeros(1)
        return trained

    monkeypatch.setattr(exchange, "train_stage", naming)
    with pytest.raises(polyclinic.errors.RunError, match=r"every site failed \(a: .*not declared"):
        record("fedavg")


# One way out: whoever packs knowledge for a journey hands it to `leave`.


def calls(tree, name):
    return [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == name
    ]


def test_what_is_packed_in_the_federation_goes_through_the_one_way_out():
    folder = Path(polyclinic.__file__).parent / "federation"
    packing = {p.name for p in folder.glob("*.py") if calls(ast.parse(p.read_text()), "pack")}
    leaving = {p.name for p in folder.glob("*.py") if calls(ast.parse(p.read_text()), "leave")}
    assert packing == leaving == {"exchange.py"}
    assert len(calls(ast.parse((folder / "exchange.py").read_text()), "leave")) == 1
