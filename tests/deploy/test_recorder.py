"""Every field of every answer of sites on other machines, searched for what must not be in it."""

from dataclasses import replace

import numpy as np
import pytest
from tests.federation.test_recorder import CLASSES, FILES, IMAGE, PATIENTS, searched

from polyclinic.deploy import site_work
from polyclinic.deploy.coordinator import coordinate
from polyclinic.deploy.remote import RemoteSites
from polyclinic.errors import DataError


@pytest.fixture
def answers(letters, monkeypatch):
    """Planted sites: (site, kind of task, answer as bytes) of all that they have answered."""
    real, collect, found = site_work.Site.prepared, letters.collect, []

    def planted(self, data):
        site = real(self, data)
        images = site.images.copy()
        images[::3] = np.broadcast_to(IMAGE, images[::3].shape)
        count = len(images)
        return replace(
            site,
            images=images,
            classes=CLASSES if len(site.classes) == len(CLASSES) else site.classes,
            patients=np.array([PATIENTS[i % 2] for i in range(count)]),
            keys=tuple(f"{FILES[i % 2]}#{i}" for i in range(count)),
        )

    def recorded(messages):
        for message, answer in collect(messages):
            name, task = letters.sent[int(message)]
            for field, value in answer.items():
                content = value if isinstance(value, bytes) else str(value).encode()
                found.append((name, task.kind, field.encode() + b"=" + content))
            yield message, answer

    monkeypatch.setattr(site_work.Site, "prepared", planted)
    letters.collect = recorded
    return found


def run(letters, deployment, out):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    sites = RemoteSites(
        letters, deployment.config, quorum=2, deadline=50.0, tell=lambda _: None,
        clock=lambda: now[0], sleep=sleep,
    )  # fmt: skip
    return coordinate(deployment.config, out, sites)


def test_nothing_of_an_image_a_patient_or_a_file_is_in_what_sites_answer(
    answers, letters, deployment, tmp_path
):
    run(letters, deployment, tmp_path / "run")
    assert {kind for _, kind, _ in answers} == {"train", "evaluate"}
    assert {name for name, _, _ in answers} == {"north", "south", "west"}
    for name, kind, content in answers:
        assert searched(content.partition(b"=")[2]) == [], (name, kind)


def test_nor_is_it_in_the_answer_of_a_site_that_fails(
    answers, letters, deployment, tmp_path, monkeypatch
):
    real = site_work.site_stage

    def fails(site, *given):
        if site.name == "south":
            raise DataError(f"{FILES[0]}: of {PATIENTS[0]}, {CLASSES[0]}: cannot be read")
        if site.name == "west" and given[5][2] == 1:
            raise ValueError(IMAGE.tobytes(), *PATIENTS)
        return real(site, *given)

    monkeypatch.setattr(site_work, "site_stage", fails)
    with pytest.raises(Exception, match=r"quorum"):
        run(letters, deployment, tmp_path / "run")
    refusals = {(name, content) for name, _, content in answers if b"refusal" in content}
    assert refusals == {("south", b"refusal=data"), ("west", b"refusal=bug")}
    assert PATIENTS[0] in " ".join(letters.logs["south"])
    assert PATIENTS[1] in " ".join(letters.logs["west"])
