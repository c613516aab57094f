"""The heavy parts, imported when a command calls them, so that `--help` need not wait."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyclinic.config import Config
from polyclinic.run.progress import Tell

if TYPE_CHECKING:
    from polyclinic.data.dataset import Scan
    from polyclinic.data.readers.reader import TaskChoice
    from polyclinic.federation.verification import Verified
    from polyclinic.models.adopted import Adopted
    from polyclinic.run.data_check import Checked
    from polyclinic.run.predicting import Done


def unknown_format(name: str) -> str:
    """See `polyclinic.data.readers.unknown_format`."""
    from polyclinic.data import readers

    return readers.unknown_format(name)


def scan_site(folder: Path, *, format: str = "auto", task: "TaskChoice" = "auto") -> "Scan":
    """See `polyclinic.data.readers.scan_site`."""
    from polyclinic.data import readers

    return readers.scan_site(folder, format=format, task=task)


def scan_corpus(folder: Path) -> "Scan":
    """See `polyclinic.data.readers.corpus.scan_corpus`."""
    from polyclinic.data.readers import corpus

    return corpus.scan_corpus(folder)


def write_phantoms(
    folder: Path, *, seed: int, images_per_site: int, tell: Callable[[str], None]
) -> None:
    """Made-up sites and a corpus for the demo; see `polyclinic.data.phantoms.write_phantoms`."""
    from polyclinic.data import phantoms

    phantoms.write_phantoms(folder, seed=seed, images_per_site=images_per_site, tell=tell)


def run_experiment(config: Config, out: Path, *, resume: bool, tell: Tell) -> Path:
    """See `polyclinic.run.experiment.run_experiment`."""
    from polyclinic.run import experiment

    return experiment.run_experiment(config, out, resume=resume, tell=tell)


def verify_ledgers(path: Path, key: Path | None, against: Path | None) -> "list[Verified]":
    """See `polyclinic.run.ledgers.verify_ledgers`."""
    from polyclinic.run import ledgers

    return ledgers.verify_ledgers(path, key, against)


def write_report(run: Path) -> Path:
    """See `polyclinic.report.write_report`."""
    from polyclinic import report

    return report.write_report(run)


def export_run(
    run: Path, out: Path, *, method: str | None, seed: int | None, onnx: bool, tell: Tell
) -> tuple[Path, ...]:
    """See `polyclinic.run.exporting.export_run`."""
    from polyclinic.run import exporting

    return exporting.export_run(run, out, method=method, seed=seed, onnx=onnx, tell=tell)


def judge_encoder(
    source: Path,
    data: Path,
    *,
    format: str,
    task: "TaskChoice",
    method: str | None,
    labels_per_class: tuple[int, ...],
    seeds: int,
    tell: Tell,
) -> dict[str, Any]:
    """See `polyclinic.run.judging.judge_encoder`."""
    from polyclinic.run import judging
    from polyclinic.run.encoder_source import find_encoder

    found = find_encoder(source, method=method)
    plan = judging.plan_for(found, labels_per_class=labels_per_class, seeds=seeds)
    return judging.judge_encoder(found, data, plan, tell, format=format, task=task)


def adopt(
    source: Path,
    data: Path,
    out: Path,
    *,
    format: str,
    task: "TaskChoice",
    method: str | None,
    fine_tune: bool,
    coverage: float,
    seed: int,
    tell: Tell,
) -> "Adopted":
    """See `polyclinic.run.adoption.adopt`."""
    from polyclinic.run import adoption
    from polyclinic.run.cross_validation import AdoptPlan
    from polyclinic.run.encoder_source import find_encoder

    plan = AdoptPlan(fine_tune=fine_tune, coverage=coverage, seed=seed)
    found = find_encoder(source, method=method)
    return adoption.adopt(found, data, out, plan, tell, format=format, task=task)


def audit_run(
    source: Path,
    folders: Sequence[Path],
    *,
    attacks: Sequence[str],
    quick: bool,
    method: str | None,
    seed: int,
    format: str,
    task: "TaskChoice",
    tell: Tell,
) -> dict[str, Any]:
    """See `polyclinic.run.auditing.audit.audit_run`, and `polyclinic.deploy.site_audit`."""
    from polyclinic.run.auditing import audit
    from polyclinic.run.auditing.rows import AuditPlan
    from polyclinic.run.encoder_source import find_encoder

    plan = AuditPlan(seed=seed)
    if quick:
        plan = audit.quick_plan(plan)
    chosen = [name for name in audit.ATTACKS if name in attacks]
    if (source / "site.json").is_file():  # the folder of a site that has joined
        from polyclinic.deploy import site_audit

        return site_audit.audit_site(
            source, folders, plan, chosen, tell, method=method, format=format, task=task
        )
    found = find_encoder(source, method=method)
    return audit.audit_run(found, folders, plan, chosen, tell, format=format, task=task)


def predict(model: Path, data: Path, out: Path, *, batch: int, resume: bool, tell: Tell) -> "Done":
    """See `polyclinic.run.predicting.predict`."""
    from polyclinic.models.adopted import load_adopted
    from polyclinic.run import predicting
    from polyclinic.run.prediction_inputs import find_inputs

    loaded = load_adopted(model)
    inputs = find_inputs(data, task=loaded.task, layout=str(loaded.facts.get("format", "")))
    return predicting.predict(loaded, model, inputs, out, batch=batch, resume=resume, tell=tell)


def left_out_line(left_out: Mapping[str, str]) -> str:
    """See `polyclinic.run.prediction_items.left_out_line`."""
    from polyclinic.run import prediction_items

    return prediction_items.left_out_line(left_out)


def check_data(folder: Path, *, jobs: int, tell: Tell) -> "Checked":
    """See `polyclinic.run.data_check.check_data`."""
    from polyclinic.run import data_check

    return data_check.check_data(folder, jobs=jobs, tell=tell)


def findings_json(checked: "Checked") -> dict[str, Any]:
    """See `polyclinic.run.data_check.as_json`."""
    from polyclinic.run import data_check

    return data_check.as_json(checked)


def write_shared(checked: "Checked", path: Path) -> Path:
    """See `polyclinic.run.data_check.write_shared`."""
    from polyclinic.run import data_check

    return data_check.write_shared(checked, path)


def write_contact_sheet(checked: "Checked", path: Path) -> Path:
    """See `polyclinic.report.contact_sheet.write_contact_sheet`."""
    from polyclinic.report import contact_sheet

    return contact_sheet.write_contact_sheet(checked, path)


def fetch(
    collection: str,
    names: Sequence[str],
    out: Path,
    *,
    size: int,
    source: str | None,
    tell: Tell,
) -> Iterator[dict[str, Any]]:
    """Fetch sets one after another; what each is, as it is there. Only `medmnist` is known.

    See `polyclinic.data.fetch.fetch_medmnist`.
    """
    from polyclinic.data import fetch, medmnist
    from polyclinic.run.progress import Progress

    wanted = {name.lower(): medmnist.download(name, size) for name in names}
    for name, download in wanted.items():

        def report(done: int, total: int | None, name: str = name) -> None:
            tell(Progress("fetch", done / total if total else 0.0, site=name))

        folder = out / name
        source = source or medmnist.SOURCE
        new = fetch.fetch_medmnist(download, folder, source=source, report=report)
        yield {
            "collection": collection,
            "name": name,
            "path": str(folder / download.file),
            "licence": download.licence,
            "new": new,
        }
