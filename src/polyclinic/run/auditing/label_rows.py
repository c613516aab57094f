"""Label inference in an audit: from the head, which stays home, and from the encoder's change."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyclinic.evaluate.audit.bounds import clopper_pearson
from polyclinic.evaluate.audit.labels import (
    counts_from_head,
    counts_from_updates,
    label_of_one,
    mean_interval,
    overlap,
    whole_counts,
)
from polyclinic.federation.audit.stages import noise_of, private_stage_of
from polyclinic.federation.audit.updates import (
    bias_gradient,
    fitted_head,
    narrowed,
    plain,
    steps_change,
)
from polyclinic.federation.privacy.sgd import Sampling
from polyclinic.federation.privacy.units import units_of
from polyclinic.models.encoder import PRESETS
from polyclinic.models.heads import build_head
from polyclinic.models.state import State, state_of
from polyclinic.run.auditing.rows import AuditPlan, Kind, Subject, Told, row
from polyclinic.run.directory import Record
from polyclinic.seeding import derive

_BATCH = 32  # images of a batch at most
_FEWEST_ONES = 20  # single images: fewer cannot tell a perfect attack from guessing two classes
_SHARE = "share of a batch whose labels are found"


def label_rows(subject: Subject, plan: AuditPlan, told: Told) -> Iterator[Record]:
    """Labels of single images and class counts of batches.

    Only where an image has one label and the training images have two or more: else there is
    nothing to find.
    """
    if subject.site.task != "single-label":
        return
    if len(np.unique(subject.site.targets[subject.site.split["train"]])) < 2:
        return
    site, preset, received = subject.site, subject.preset, subject.received
    rng = np.random.default_rng(derive(plan.seed, "labels"))
    train = site.split["train"]
    others = np.concatenate([site.split["val"], site.split["test"]])
    head = fitted_head(site, preset, received, plain(subject.train), plan.seed)
    batch = max(2, min(subject.train.batch_size, _BATCH))

    told("the head's gradient", 0.0)
    ones = balanced(site.targets, train, max(_FEWEST_ONES, plan.label_victims), rng)
    hits = sum(
        label_of_one(bias_gradient(site, preset, received, head, ones[i : i + 1])[0])
        == int(site.targets[one])
        for i, one in enumerate(ones)
    )
    frequent = np.bincount(site.targets[ones].astype(np.int64)).max() / len(ones)
    interval = clopper_pearson(hits, len(ones))
    yield row(
        "one image, the head's gradient leaves",
        "made to leak",
        "the gradient of the head's bias",
        "share of labels found",
        hits / len(ones),
        interval,
        frequent,
        "succeeds" if interval[0] > frequent else "fails",
        victims=len(ones),
    )

    batches = [composed(site.targets, train, batch, rng) for _ in range(plan.label_victims)]
    truth = torch.stack([_counts(site.targets, rows, len(site.classes)) for rows in batches])
    fresh = state_of(
        build_head(site.task, len(site.classes), PRESETS[preset], seed=derive(plan.seed, "fresh"))
    )
    kinds: list[tuple[str, Kind, State]] = [
        ("an unfitted", "made to leak", fresh),
        ("the fitted", "stronger attacker", head),
    ]
    for name, kind, state in kinds:
        predicted = torch.stack(
            [
                bias_gradient(site, preset, received, state, rows)[1]
                for rows in _by_class(site.targets, others, len(site.classes))
            ]
        )
        found = [
            counts_from_head(
                bias_gradient(site, preset, received, state, rows)[0], predicted, batch
            )
            for rows in batches
        ]
        yield _overlap_row(
            f"a batch of {batch}, the gradient of {name} head leaves",
            kind,
            "the gradient of the head's bias, the model, other images of the site",
            found,
            truth,
            batch,
            plan,
        )

    own_head = fitted_head(
        narrowed(site, others), preset, received, plain(subject.train), plan.seed, "attacker"
    )
    simulated, known = [], []
    for number in range(plan.simulated):
        told("the encoder's change", (number + 1) / (plan.simulated + plan.label_victims))
        rows = composed(site.targets, others, batch, rng)
        known.append(_counts(site.targets, rows, len(site.classes)))
        simulated.append(_change(subject, own_head, rows, plan.seed, "simulated", number))
    own, counts = torch.stack(simulated), torch.stack(known)
    found = []
    for number, rows in enumerate(batches):
        told(
            "the encoder's change",
            (plan.simulated + number + 1) / (plan.simulated + plan.label_victims),
        )
        change = _change(subject, head, rows, plan.seed, "victim", number)
        found.append(counts_from_updates(change, own, counts, batch))
    yield _overlap_row(
        f"one step on a batch of {batch}, the head stays home",
        subject.alone,
        f"the encoder's change, {plan.simulated} updates of its own on other images of the site",
        found,
        truth,
        batch,
        plan,
    )


def balanced(
    targets: NDArray[np.generic], rows: NDArray[np.int64], number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """At least `number` of `rows`, as many of each class, drawn with replacement.

    So whoever guesses is right once in as many as there are classes, however rare they are.
    """
    labels = targets[rows].astype(np.int64)
    present = np.unique(labels)
    each = math.ceil(number / len(present))
    return np.concatenate([rng.choice(rows[labels == label], each) for label in present])


def composed(
    targets: NDArray[np.generic], rows: NDArray[np.int64], batch: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """A batch whose share of each class is drawn anew, so that it is not known beforehand."""
    labels = targets[rows].astype(np.int64)
    present = np.unique(labels)
    shares = rng.dirichlet(np.ones(len(present)))
    drawn = rng.choice(present, batch, p=shares)
    return np.array([rng.choice(rows[labels == label]) for label in drawn], np.int64)


def _change(subject: Subject, head: State, rows: NDArray[np.int64], *seed: int | str) -> Tensor:
    """The encoder's change by one step of the run's own training on the batch of `rows`, (P,)."""
    plan = replace(
        subject.train, epochs=1, min_steps=1, max_steps=1, batch_size=len(rows), stages=1
    )
    site = narrowed(subject.site, rows)
    if subject.private:
        _, noise = noise_of(subject.site, subject.train)
        sampling = Sampling(units_of(site, "record"), 1.0, 1)
        change = private_stage_of(
            site, subject.preset, subject.received, plan, sampling, noise, *seed
        ).change
    else:
        change = steps_change(site, subject.preset, subject.received, head, plan, *seed)
    return torch.cat([change[name].flatten() for name in sorted(change)])


def _by_class(
    targets: NDArray[np.generic], rows: NDArray[np.int64], classes: int
) -> list[NDArray[np.int64]]:
    """The rows of each class, or all where there are none."""
    found = [rows[targets[rows] == label] for label in range(classes)]
    return [own if len(own) else rows for own in found]


def _counts(targets: NDArray[np.generic], rows: NDArray[np.int64], classes: int) -> Tensor:
    return torch.from_numpy(np.bincount(targets[rows].astype(np.int64), minlength=classes))


def _overlap_row(
    setting: str,
    kind: Kind,
    attacker: str,
    found: list[Tensor],
    truth: Tensor,
    batch: int,
    plan: AuditPlan,
) -> Record:
    shares = [overlap(f, t) for f, t in zip(found, truth, strict=True)]
    value, low, high = mean_interval(shares, plan.resamples, plan.seed)
    guess = whole_counts(truth.double().mean(0), batch)
    baseline = float(np.mean([overlap(guess, t) for t in truth]))
    return row(
        setting,
        kind,
        attacker,
        _SHARE,
        value,
        (low, high),
        baseline,
        "succeeds" if low > baseline else "fails",
        victims=len(shares),
    )
