"""Canaries in an audit: is the epsilon that is claimed refuted, and are planted failures caught."""

from collections.abc import Iterator
from dataclasses import replace

from polyclinic.evaluate.audit.bounds import best_least_epsilon
from polyclinic.evaluate.audit.masks import MaskCheck, mask_reuse
from polyclinic.federation.audit.planted import (
    FLAWS,
    Flaw,
    Planted,
    mechanism_canaries,
    stage_canaries,
)
from polyclinic.federation.audit.stages import noise_of
from polyclinic.federation.audit.sums import masked_twice
from polyclinic.federation.audit.updates import fitted_head, narrowed, plain, steps_change
from polyclinic.run.auditing.rows import AuditPlan, Kind, Subject, Told, row
from polyclinic.run.directory import Record

DEMONSTRATED_NOISE = 4.0
"""Noise, in clips, in which failures are planted: wide enough that a claim can be refuted."""

_MEASURE = "lower bound of epsilon"
_MASKS = "share of differences near 0"


def canary_rows(subject: Subject, plan: AuditPlan, told: Told) -> Iterator[Record]:
    """Planted failures, which must be caught; then the run's own mechanism, stage and masks."""
    privacy = subject.train.privacy
    for name, flaw in FLAWS.items():
        told(name, 0.0)
        planted = mechanism_canaries(
            privacy, DEMONSTRATED_NOISE, plan.canaries, plan.seed, flaw=flaw
        )
        yield bound_row(f"one step, {name}", "made to leak", planted, flaw)
    told("the mechanism as it is", 0.3)
    noise = noise_of(subject.site, subject.train)[1] if subject.private else DEMONSTRATED_NOISE
    planted = mechanism_canaries(privacy, noise, plan.canaries, plan.seed, "sound")
    kind: Kind = "as the run trains" if subject.private else "protected"
    whose = "the run's noise" if subject.private else f"noise {DEMONSTRATED_NOISE:g}"
    yield bound_row(f"one step, {whose}", kind, planted)
    if subject.private:
        told("a stage as the run trains", 0.5)
        number = min(plan.stage_canaries, len(subject.site.split["train"]) // 2)
        planted = stage_canaries(
            subject.site,
            subject.preset,
            subject.received,
            subject.train,
            noise,
            number,
            plan.seed,
        )
        yield bound_row("a stage as the run trains", "as the run trains", planted)
    if subject.secure:
        told("masks", 0.9)
        yield from mask_rows(subject, plan)


def bound_row(setting: str, kind: Kind, planted: Planted, flaw: Flaw | None = None) -> Record:
    """What the guesses about canaries refute, against what is claimed."""
    bound, guesses, right = best_least_epsilon(planted.scores, planted.included, planted.delta)
    above = bound > planted.claimed
    verdict = "above the claim" if above else "within the claim"
    if flaw is not None:
        verdict = "caught" if above else "missed"
    return row(
        setting,
        kind,
        "the noisy sum, all images, the canaries"
        if setting.startswith("one step")
        else "the encoder's change, the head, the canaries",
        _MEASURE,
        bound,
        None,
        planted.claimed,
        verdict,  # type: ignore[arg-type]
        canaries=len(planted.scores),
        guesses=guesses,
        right=right,
        delta=planted.delta,
        confidence=0.95,
    )


def mask_rows(subject: Subject, plan: AuditPlan) -> Iterator[Record]:
    """Two stages of one site under secure aggregation, with masks that serve twice and without."""
    head = fitted_head(
        subject.site, subject.preset, subject.received, plain(subject.train), plan.seed
    )
    batch = subject.site.split["train"][: subject.train.batch_size]
    short = replace(plain(subject.train), epochs=1, min_steps=1, max_steps=1)
    short = replace(short, batch_size=max(2, len(batch)))
    site = narrowed(subject.site, batch)
    first, second = (
        steps_change(site, subject.preset, subject.received, head, short, plan.seed, stage)
        for stage in range(2)
    )
    sites = len(subject.config.sites) - len(subject.config.hold_out)
    clip = subject.config.federation.secure_clip
    for reused in (True, False):
        one, other, _ = masked_twice(
            first,
            second,
            sites,
            clip,
            "audit",
            subject.weighting,
            subject.examples,
            reused=reused,
        )
        yield mask_row(mask_reuse(one, other), planted=reused)


def mask_row(check: MaskCheck, *, planted: bool) -> Record:
    """Whether a mask that serves twice is seen, and none is where masks are fresh."""
    if planted:
        verdict = "caught" if check.reused else "missed"
    else:
        verdict = "succeeds" if check.reused else "fails"
    return row(
        "two stages, masks that serve twice" if planted else "two stages, masks of their own",
        "made to leak" if planted else "as the run trains",
        "one site's masked words of two stages",
        _MASKS,
        check.near,
        None,
        1 / 16,
        verdict,  # type: ignore[arg-type]
        p_value=check.p_value,
        words=len(check.difference),
    )
