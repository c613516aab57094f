"""A hospital that took no part makes the encoder its own: a head on its few labels, and honesty."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyclinic import __version__
from polyclinic.data.dataset import SiteData, counted
from polyclinic.data.prepare import prepare_whole
from polyclinic.data.readers import TaskChoice, scan_site
from polyclinic.errors import ConfigError, DataError
from polyclinic.evaluate.bootstrap import Estimate, cluster_weights, interval
from polyclinic.evaluate.calibration import coverage_curve, errors_of, threshold
from polyclinic.evaluate.folds import labels_shown, patient_folds
from polyclinic.evaluate.metrics import metrics_of, primary_metric
from polyclinic.models.adopted import Adopted, save_adopted
from polyclinic.models.familiarity import calibrated
from polyclinic.models.memory import shortage_explained
from polyclinic.run.adoption_card import adoption_card
from polyclinic.run.cross_validation import AdoptPlan, Judged, cross_validate, fit
from polyclinic.run.encoder_source import TrainedEncoder
from polyclinic.run.experiment import cache_folder
from polyclinic.run.progress import Progress, Tell, silent
from polyclinic.run.whole_folder import require_unused, whole_folder

FEWEST = 8  # images; also what normalising a head over a batch needs


@shortage_explained()
def adopt(
    found: TrainedEncoder,
    folder: Path,
    out: Path,
    plan: AdoptPlan,
    tell: Tell = silent,
    *,
    format: str = "auto",
    task: TaskChoice = "auto",
) -> Adopted:
    """Fit `found` to the labelled images in `folder`, and write the model to the folder `out`.

    `format` and `task` as in `scan_site`.
    The estimate comes from cross-validation by patient, with all of them in one score and an
    interval over patients; the model itself is then fitted to all images. Raises `DataError` where
    the images are too few, `ConfigError` for a plan out of range, `RunError` where `out` is in use.
    """
    if not 0 < plan.coverage <= 1 or plan.folds < 2:
        raise ConfigError(
            f"coverage: expected above 0 and at most 1, got {plan.coverage}; "
            f"folds: expected 2 or more, got {plan.folds}"
        )
    require_unused(out)
    tell(Progress("prepare", 0.0, site=folder.name))
    site = prepare_whole(
        scan_site(folder, format=format, task=task),
        name=folder.resolve().name,
        image_size=found.image_size,
        largest_side=found.largest_side,
        max_unreadable=plan.max_unreadable,
        cache=cache_folder(),
    )
    model = adopt_site(found, site, plan, tell)
    with whole_folder(out) as part:
        save_adopted(model, part)
        (part / "README.md").write_text(adoption_card(model), encoding="utf-8")
    return model


def adopt_site(
    found: TrainedEncoder, site: SiteData, plan: AdoptPlan, tell: Tell = silent
) -> Adopted:
    """What `adopt` makes of images that are prepared and are all in the training split."""
    folds = _folds(site, plan)
    judged = cross_validate(found, site, folds, plan, tell)
    tell(Progress("adopt", folds.max() / (folds.max() + 1), site=site.name))
    fitted = fit(found, site, plan, "all")
    facts = _facts(found, site, folds, judged, plan)
    return Adopted(
        fitted.encoder,
        fitted.head,
        found.preset,
        site.task,
        site.classes,
        found.image_size,
        found.largest_side,
        replace(fitted.calibration, temperature=judged.temperature),
        calibrated(fitted.familiarity, judged.distances),
        threshold(judged.confidence, plan.coverage) if facts["coverage"] else 0.0,
        facts,
    )


def _folds(site: SiteData, plan: AdoptPlan) -> NDArray[np.int64]:
    """The folds of a site; `DataError` where there is too little to cross-validate."""
    patients = len(np.unique(site.patients))
    if len(site) < FEWEST or patients < 4:
        raise DataError(
            f"{site.name}: {counted(len(site), 'image')} of {counted(patients, 'patient')}; "
            f"expected at least {FEWEST} of 4, to fit a head and to say how good it is; "
            "label more images"
        )
    shown = labels_shown(site)
    if site.task == "single-label" and (shown.sum(0) > 0).sum() < 2:
        raise DataError(f"{site.name}: all images have one label; expected two classes or more")
    return patient_folds(site, min(plan.folds, patients), plan.seed)


def _facts(
    found: TrainedEncoder,
    site: SiteData,
    folds: NDArray[np.int64],
    judged: Judged,
    plan: AdoptPlan,
) -> dict[str, Any]:
    weights = cluster_weights(site.patients, plan.bootstrap, plan.seed)
    metrics = {
        name: _estimate(interval([judged.predictions], name, weights))
        for name in metrics_of(site.task)
    }
    curve = coverage_curve(judged.confidence, errors_of(judged.predictions))
    counts: list[int] = []
    if site.task != "regression":
        counts = labels_shown(site).sum(0).tolist()
    return {
        "version": __version__,
        "encoder": found.origin,
        "site": site.name,
        "format": site.format,
        "side": int(site.images.shape[-1]),
        "images": len(site),
        "patients": len(np.unique(site.patients)) if site.has_patient_ids else None,
        "images_by_class": counts,
        "fine_tuned": plan.fine_tune,
        "plan": asdict(plan),
        "folds": int(folds.max()) + 1,
        "metric": primary_metric(site.task),
        "estimates": metrics,
        "calibration": {"before": dict(judged.before), "after": dict(judged.after)},
        "coverage": [asdict(row) for row in curve],
        "findings": [asdict(f) for f in site.findings if f.severity != "info"],
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {key: None if np.isnan(value) else float(value) for key, value in values.items()}
