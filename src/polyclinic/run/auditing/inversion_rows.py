"""Gradient inversion in an audit: a victim that leaks, the same under protection, the run's own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polyclinic.evaluate.audit.bounds import clopper_pearson
from polyclinic.evaluate.audit.inversion import InversionPlan, invert
from polyclinic.evaluate.audit.labels import mean_interval
from polyclinic.evaluate.audit.similarity import Match, best_match
from polyclinic.federation.audit.stages import noise_of
from polyclinic.federation.audit.sums import as_state, summed
from polyclinic.federation.audit.updates import fitted_head, plain, strangers, view_of
from polyclinic.federation.audit.victims import (
    Victim,
    image_victim,
    leaking_victim,
    noisy,
    stage_victim,
    steps_victim,
)
from polyclinic.run.auditing.rows import AuditPlan, Kind, Subject, Told, row
from polyclinic.run.directory import Record
from polyclinic.seeding import derive

LEAK = "one image, one plain gradient, a head that leaks"
_TOLD_ALL = "gradient of encoder and head, the head, the label"
_TOLD_CHANGE = "the encoder's change, the head, labels, the settings"
_OTHERS = 64  # images of the baseline
_FEWEST_SITES = 3


def inversion_rows(subject: Subject, plan: AuditPlan, told: Told) -> Iterator[Record]:
    """Every setting of gradient inversion, the victim that must fall first."""
    size = min(subject.train.size, plan.image_size)
    subject = replace(subject, train=replace(subject.train, size=size))
    search = InversionPlan(steps=plan.inversion_steps, restarts=1)
    each = replace(search, by_tensor=True, smoothness=1e-2)
    settings = list(_settings(subject, plan))
    for number, (name, kind, attacker, make) in enumerate(settings):
        told(name, number / len(settings))
        matches = []
        leaking = kind in ("made to leak", "protected")
        victims = plan.victims if leaking else max(1, plan.victims // 2)
        for victim_number in range(victims):
            victim = make(victim_number)
            found = invert(
                victim.simulate,
                victim.update,
                victim.shape,
                search if leaking else each,
                plan.seed,
                name,
                victim_number,
            )
            others = strangers(
                subject.site, size, max(_OTHERS, len(victim.truth)), plan.seed, victim_number
            )
            matches.append(best_match(found.images.cpu(), victim.truth, others))
        yield _row(name, kind, attacker, matches, plan)


Make = Callable[[int], Victim]


def _settings(subject: Subject, plan: AuditPlan) -> Iterator[tuple[str, Kind, str, Make]]:
    rows = np.random.default_rng(derive(plan.seed, "victims")).permutation(
        subject.site.split["train"]
    )

    def leaking(number: int) -> Victim:
        # a federation may have more sites than this one has images: then some come again
        row = int(rows[number % len(rows)])
        view = view_of(subject.site, row, subject.train.size)
        return leaking_victim(subject.preset, subject.received, view, number)

    yield LEAK, "made to leak", _TOLD_ALL, leaking
    if subject.private:
        _, noise = noise_of(subject.site, subject.train)
        clip = subject.train.privacy.clip
        yield (
            "the same, clipped and with the run's noise",
            "protected",
            _TOLD_ALL,
            lambda n: noisy(leaking(n), noise, clip, derive("audit noise", n).to_bytes(8, "big")),
        )
    if subject.secure:
        sites = max(_FEWEST_SITES, len(subject.config.sites) - len(subject.config.hold_out))
        yield (
            "the same, masked by secure aggregation",
            "protected",
            _TOLD_ALL,
            lambda n: in_secrecy(
                [leaking(n + i) for i in range(_FEWEST_SITES)], subject, alone=True
            ),
        )
        yield (
            f"the same, the sum of {sites} sites with an image each",
            "protected",
            _TOLD_ALL,
            lambda n: in_secrecy([leaking(n + i) for i in range(sites)], subject, alone=False),
        )
    head = fitted_head(
        subject.site, subject.preset, subject.received, plain(subject.train), plan.seed
    )
    site, preset, received, train = (
        subject.site,
        subject.preset,
        subject.received,
        subject.train,
    )
    yield (
        "one image, one plain gradient, the network as it is",
        "stronger attacker",
        _TOLD_ALL,
        lambda n: image_victim(site, preset, received, head, int(rows[n % len(rows)]), train),
    )
    batch = min(plan.inversion_batch, train.batch_size, len(rows))
    if not subject.private:
        yield (
            f"one step, batch of {batch}",
            "stronger attacker",
            _TOLD_CHANGE,
            lambda n: steps_victim(
                site, preset, received, head, train, np.roll(rows, -n * batch)[:batch], 1, n
            ),
        )
        yield (
            f"four steps on a batch of {batch}",
            "stronger attacker",
            _TOLD_CHANGE,
            lambda n: steps_victim(
                site, preset, received, head, train, np.roll(rows, -n * batch)[:batch], 4, n
            ),
        )
    yield (
        "a stage as the run trains",
        subject.alone,
        _TOLD_CHANGE,
        lambda n: stage_victim(site, preset, received, train, batch, plan.seed, n),
    )


def in_secrecy(victims: list[Victim], subject: Subject, *, alone: bool) -> Victim:
    """The first victim as a server sees it under secure aggregation, with the others as sites.

    `alone`: its own masked words, read as numbers. Else the mean of all, whose images are sought
    together; what is to be found is still the first one's. Each site has as many images as the
    audited one; numbers may be as large as a plain gradient's.
    """
    changes = {
        f"site-{i:02d}": as_state([value.cpu() for value in victim.update])
        for i, victim in enumerate(victims)
    }
    clip = max(1.0, *(float(v.abs().max()) for change in changes.values() for v in change.values()))
    found = summed(changes, clip, "audit", subject.weighting, subject.examples)
    seen = found.taken_for_numbers("site-00") if alone else found.mean
    first = victims[0]
    update = [seen[name].to(value) for name, value in zip(sorted(seen), first.update, strict=True)]
    shape = first.shape if alone else (len(victims), *first.shape[1:])
    if alone:
        return replace(first, update=update)

    def simulate(images: Tensor) -> Sequence[Tensor]:
        parts = [v.simulate(images[i : i + 1]) for i, v in enumerate(victims)]
        return [torch.stack(tensors).mean(0) for tensors in zip(*parts, strict=True)]

    return Victim(update, simulate, shape, first.truth)


def _row(name: str, kind: Kind, attacker: str, matches: list[Match], plan: AuditPlan) -> Record:
    psnr, low, high = mean_interval([m.psnr for m in matches], plan.resamples, plan.seed)
    hits = sum(m.succeeded for m in matches)
    share = clopper_pearson(hits, len(matches))
    return row(
        name,
        kind,
        attacker,
        "PSNR of the best reconstruction, dB",
        psnr,
        (low, high) if len(matches) > 1 else None,
        float(np.mean([m.baseline_psnr for m in matches])),
        "succeeds" if hits else "fails",
        ssim=float(np.mean([m.ssim for m in matches])),
        ssim_baseline=float(np.mean([m.baseline_ssim for m in matches])),
        victims=len(matches),
        reconstructed=hits,
        reconstructed_low=share[0],
        reconstructed_high=share[1],
    )
