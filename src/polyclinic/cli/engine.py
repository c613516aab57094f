"""The heavy parts, imported when a command calls them, so that `--help` need not wait."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polyclinic.config import Config, SiteConfig
from polyclinic.run.progress import Tell

if TYPE_CHECKING:
    from polyclinic.data.dataset import Scan
    from polyclinic.data.readers.reader import TaskChoice
    from polyclinic.deploy.status import State
    from polyclinic.deploy.terms import Checked as SiteChecked
    from polyclinic.federation.verification import Verified
    from polyclinic.inpaint.files.output import Written
    from polyclinic.models.adopted import Adopted
    from polyclinic.run.augment import Augmented
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


def train_painter(
    data: Sequence[Path],
    out: Path,
    *,
    size: Literal["small", "large"],
    objective: Literal["flow", "ddpm", "regression"],
    steps: int,
    batch_size: int,
    seed: int,
    labels: Literal["auto", "brats", "msd", "mask"],
    sequence: str | None,
    phantoms: int,
    leave_out: Sequence[str],
    patient_pattern: str | None,
    resume: bool,
    tell: Tell,
) -> Path:
    """See `polyclinic.run.painter.train_painter`."""
    from polyclinic.inpaint.baselines import regression_plan
    from polyclinic.inpaint.training import PaintPlan
    from polyclinic.run import painter

    plan = PaintPlan(size=size, objective=objective, steps=steps, batch_size=batch_size, seed=seed)
    if objective == "regression":
        plan = regression_plan(plan)
    config = painter.PainterRun(
        tuple(data),
        order=labels,
        phantoms=phantoms,
        leave_out=tuple(leave_out),
        patient_pattern=patient_pattern,
        sequence=sequence,
        plan=plan,
    )
    return painter.train_painter(config, out, resume=resume, tell=tell)


def edit_file(
    path: Path,
    asks: Sequence[tuple[str, str | None]],
    out: Path,
    *,
    boxed: bool,
    slices: tuple[int, int] | None,
    sequence: str | None,
    steps: int,
    guidance: float,
    seed: int,
    mode: Literal["sample", "mean"],
    samples: int,
    painter: Path | None,
    force: bool,
    tell: Tell,
) -> "list[Written]":
    """See `polyclinic.inpaint.edit.edit_file`."""
    from polyclinic.inpaint import edit
    from polyclinic.inpaint.painting import Settings
    from polyclinic.run.progress import Progress, time_left

    left = time_left()
    left(0.0)
    return edit.edit_file(
        edit.open_painter(painter),
        path,
        [edit.Ask(region, component) for region, component in asks],
        out,
        Settings(steps=steps, guidance=guidance, seed=seed, mode=mode),
        boxed=boxed,
        slices=slices,
        sequence=sequence,
        samples=samples,
        force=force,
        report=lambda done: tell(Progress("edit", done, seconds_left=left(done))),
    )


def replay_edit(
    sidecar: Path, out: Path, *, path: Path | None, painter: Path | None, force: bool
) -> "Written":
    """See `polyclinic.inpaint.replay.replay`."""
    from polyclinic.inpaint import edit
    from polyclinic.inpaint import replay as job

    return job.replay(sidecar, edit.open_painter(painter), out, path=path, force=force)


def augment(
    data: Path,
    out: Path,
    *,
    count: int,
    components: tuple[str, ...],
    balance: Literal["none", "size", "component", "site"],
    remove_tumours: bool,
    sites: str | None,
    patients: Path | None,
    patient_pattern: str | None,
    labels: Literal["auto", "brats", "msd", "mask"],
    sequence: str | None,
    painter: Path | None,
    steps: int,
    guidance: float,
    seed: int,
    resume: bool,
    tell: Tell,
) -> "Augmented":
    """See `polyclinic.run.augment.augment`."""
    from polyclinic.inpaint.painting import Settings
    from polyclinic.run import augment as job
    from polyclinic.run.augment_plan import AugmentRun

    config = AugmentRun(
        data=data,
        count=count,
        order=labels,
        components=components,
        balance=balance,
        remove_tumours=remove_tumours,
        sites=sites,
        patients=patients,
        patient_pattern=patient_pattern,
        sequence=sequence,
        settings=Settings(steps=steps, guidance=guidance, seed=seed),
    )
    return job.augment(config, out, painter=painter, resume=resume, tell=tell)


def evaluate_painter(
    painter: Path,
    data: Sequence[Path],
    out: Path,
    *,
    phantoms: bool,
    split: Literal["test", "val"],
    labels: Literal["auto", "brats", "msd", "mask"],
    steps: int,
    segmenter: Path | None,
    max_slices: int,
    samples: int,
    seed: int,
    resume: bool,
    tell: Tell,
) -> tuple[Path, Path]:
    """Results and report; see `polyclinic.run.painter_evaluation.evaluation.evaluate_painter`."""
    from polyclinic.report.painting import write_painting_report
    from polyclinic.run.painter_evaluation import evaluation

    config = evaluation.Evaluation(
        painter=painter,
        data=tuple(data),
        order=labels,
        phantoms=phantoms,
        split=split,
        steps=steps,
        segmenter=segmenter,
        max_slices=max_slices,
        samples=samples,
        seed=seed,
    )
    results = evaluation.evaluate_painter(config, out, resume=resume, tell=tell)
    return results, write_painting_report(out)


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


def require_deployment(federation: Path) -> None:
    """Raise `ConfigError` where FEDERATION, or what runs it, is not as it must be."""
    from polyclinic.deploy import flower, settings

    flower.require()
    settings.load_deployment(federation)


def serve(federation: Path, state: Path, say: Callable[[str], None]) -> Path:
    """See `polyclinic.deploy.server.serve`."""
    from polyclinic.deploy import server

    return server.serve(federation, state, say)


def invite_again(federation: Path, state: Path, site: str) -> tuple[Path, bool]:
    """See `polyclinic.deploy.server.invite_again`."""
    from polyclinic.deploy import server

    return server.invite_again(federation, state, site)


def server_ready(state: Path) -> bool:
    """See `polyclinic.deploy.server.ready`."""
    from polyclinic.deploy import server

    return server.ready(state)


def usual_site_folder(invite: Path) -> Path:
    """See `polyclinic.deploy.site.usual_folder`."""
    from polyclinic.deploy import site

    return site.usual_folder(invite)


def join_federation(
    invite: Path,
    state: Path,
    *,
    data: Path,
    format: str,
    task: str,
    tells_scores: bool | None,
) -> str:
    """See `polyclinic.deploy.site.join`."""
    from polyclinic.deploy import site

    return site.join(invite, state, data=data, format=format, task=task, tells_scores=tells_scores)


def work_for_federation(state: Path, say: Callable[[str], None]) -> None:
    """See `polyclinic.deploy.site.work`."""
    from polyclinic.deploy import site

    site.work(state, say)


def site_roster(state: Path, confirm: str | None) -> tuple[dict[str, str], str, bool]:
    """See `polyclinic.deploy.site.roster`."""
    from polyclinic.deploy import site

    return site.roster(state, confirm)


def site_ready(state: Path) -> bool:
    """See `polyclinic.deploy.site.ready`."""
    from polyclinic.deploy import site

    return site.ready(state)


def preflight(invite: Path, state: Path | None) -> "Iterator[SiteChecked]":
    """See `polyclinic.deploy.preflight.preflight`."""
    from polyclinic.deploy import preflight as checks

    return checks.preflight(invite, state)


def check_site_data(
    invite: Path, data: Path, *, format: str, task: "TaskChoice", tell: Tell
) -> "list[SiteChecked]":
    """See `polyclinic.deploy.preflight.check_data`."""
    from polyclinic.deploy import preflight as checks
    from polyclinic.run.progress import Progress, time_left

    site, left = SiteConfig(data.name or "data", data, format, task), time_left()

    def done(share: float) -> None:
        tell(Progress("prepare", share, seconds_left=left(share)))

    return list(checks.check_data(invite, site, done))


def in_background(arguments: Sequence[str], log: Path, ready: Callable[[], bool]) -> int:
    """See `polyclinic.deploy.background.in_background`."""
    from polyclinic.deploy import background

    return background.in_background(arguments, log, ready)


def stop_server(state: Path) -> bool:
    """See `polyclinic.deploy.server.stop`."""
    from polyclinic.deploy import server

    return server.stop(state)


def stop_site(state: Path) -> bool:
    """See `polyclinic.deploy.site.stop`."""
    from polyclinic.deploy import site

    return site.stop(state)


def deployed_states(folders: Sequence[Path]) -> "list[State]":
    """See `polyclinic.deploy.status.states`; all of the working folder where none is named."""
    from polyclinic.deploy import status

    return status.states(folders) if folders else status.states_in(Path())
