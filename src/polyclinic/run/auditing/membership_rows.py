"""Membership inference in an audit: a victim that learnt by heart, and the run's own training."""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from polyclinic.evaluate.audit.membership import (
    Membership,
    confidence,
    halves,
    judge_membership,
)
from polyclinic.federation.audit.shadows import learnt_by_heart, train_shadows
from polyclinic.run.auditing.rows import AuditPlan, Kind, Subject, Told, row
from polyclinic.run.directory import Record
from polyclinic.seeding import derive

LEAK = "shuffled labels, learnt by heart"
OWN = "a stage as the run trains"
BY_HEART = 32  # images of the victim that learns by heart, half of which train a model
_WHOLE = "the encoder and its head"


def membership_rows(subject: Subject, plan: AuditPlan, told: Told) -> Iterator[Record]:
    """LiRA on models that learnt shuffled labels, and on a stage of the run's own training."""
    train = np.random.default_rng(derive(plan.seed, "pool")).permutation(
        subject.site.split["train"]
    )
    pool = np.sort(train[: min(BY_HEART, len(train))])
    inside = halves(plan.models, len(pool), plan.seed, LEAK)
    learnt = learnt_by_heart(
        subject.site,
        subject.preset,
        subject.received,
        pool,
        inside,
        plan.seed,
        told=lambda done: told(LEAK, (done + 1) / plan.models / 4),
    )
    judged = judge_membership(confidence(learnt), inside, plan.resamples, plan.seed)
    yield _row(LEAK, "made to leak", _WHOLE, judged, inside)

    pool = np.sort(train[: min(plan.pool, len(train))])
    inside = halves(plan.models, len(pool), plan.seed, OWN)
    shadows = train_shadows(
        subject.site,
        subject.preset,
        subject.received,
        subject.train,
        pool,
        inside,
        plan.seed,
        told=lambda done: told(OWN, 0.25 + 0.75 * (done + 1) / plan.models),
    )
    seen: list[tuple[Kind, str, NDArray[np.float64]]] = [
        ("stronger attacker", _WHOLE, shadows.own),
        (subject.alone, "the encoder", shadows.fitted),
    ]
    for kind, who, losses in seen:
        judged = judge_membership(confidence(losses), inside, plan.resamples, plan.seed)
        yield _row(OWN, kind, who, judged, inside)


def _row(
    setting: str, kind: Kind, who: str, judged: Membership, inside: NDArray[np.bool_]
) -> Record:
    models = len(inside)
    return row(
        setting,
        kind,
        f"{who}, labels, {models - 1} shadow models on the site's own images",
        "true positives at 1 % false",
        judged.tpr,
        (judged.tpr_low, judged.tpr_high),
        judged.tpr_guess,
        "succeeds" if judged.succeeded else "fails",
        **{name: value for name, value in asdict(judged).items() if name.startswith("auc")},
        p_value=judged.p_value,
        images=int(inside.shape[1]),
        models=models,
    )
