"""Augmenting as a run: new cases that readers understand, and that no interruption changes."""

import csv
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from polyclinic.data.patients import patient_of
from polyclinic.data.readers import scan_site
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.augment import REMOVED_MARGIN, apply_edit, fill_map_of, plan_edits
from polyclinic.inpaint.cases import find_cases, read_cases
from polyclinic.inpaint.components import (
    COMPONENTS,
    KEEP,
    MIXED,
    OEDEMA,
    TUMOUR_FREE,
    from_labels,
)
from polyclinic.inpaint.files import read_source
from polyclinic.inpaint.network import NetworkConfig
from polyclinic.inpaint.objectives import OBJECTIVES
from polyclinic.inpaint.painter import Painter, load_painter, save_painter
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.provenance import read_provenance, unpack
from polyclinic.inpaint.replay import replay
from polyclinic.run import augment as module
from polyclinic.run import augment_files
from polyclinic.run.augment import augment
from polyclinic.run.augment_plan import AugmentRun
from polyclinic.run.directory import RunDirectory
from polyclinic.run.painter import PainterRun, load_cases, split_cases
from polyclinic.run.start import is_unused
from polyclinic.seeding import derive

pytestmark = pytest.mark.usefixtures("exact")

TINY = NetworkConfig((16, 16), (False, False), blocks=1, patch=2, crop=16, head_px=28)
AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2, 0, 20], [0, 0, 5, -7], [0, 0, 0, 1]])  # L, P, S
SIDE, SLICES = 32, 6
TOLD = ("log.txt", ".lock")  # the only files with times in them


def volumes(number, channels=2):
    """Stored values int16 and labels uint8 (X, Y, Z): tumours in the slices 2 and 3 of a head that
    the lowest slice shows next to nothing of."""
    rng = np.random.default_rng(derive("volume", number))
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    head = np.repeat((np.hypot(rows, columns) < 13)[..., None], SLICES, axis=-1)
    head[..., 0] = np.hypot(rows, columns) < 1
    distance = np.hypot(rows - rng.uniform(-4, 4), columns - rng.uniform(-4, 4))
    labels = np.zeros(head.shape, np.uint8)
    labels[..., 2:4] = np.select([distance < 1.5, distance < 3, distance < 5], [1, 4, 2], 0)[
        ..., None
    ]
    made = []
    for channel in range(channels):
        tissue = 300 + 80 * channel + 60 * (labels > 0) + rng.normal(0, 20, head.shape)
        made.append(np.where(head, tissue, 0).astype(np.int16))
    return made, labels


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four BraTS-like cases of two hospitals, the last without t1n."""
    folder = tmp_path_factory.mktemp("brats")
    for number in range(4):
        key = f"{'AL' if number < 3 else 'BE'}-{number}"
        (t1n, t2f), labels = volumes(number)
        for name, array in (("t1n", t1n), ("t2f", t2f), ("seg", labels)):
            if (name, number) != ("t1n", 3):
                save(array, folder / key / f"{key}-{name}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory, awake):
    path = tmp_path_factory.mktemp("painter") / "painter.safetensors"
    save_painter(Painter(awake(TINY), OBJECTIVES["flow"], digest=""), path)
    return path


@pytest.fixture
def config(data):
    return AugmentRun(data, 2, settings=Settings(steps=1, seed=5))


@pytest.fixture
def make(config, weights, tmp_path):
    """Runs an augmentation in tmp_path/NAME."""

    def run(name="run", *, resume=False, tell=lambda _: None, **changes):
        asked = dataclasses.replace(config, **changes)
        return augment(asked, tmp_path / name, painter=weights, resume=resume, tell=tell)

    return run


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in TOLD]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows_of(made):
    return list(csv.DictReader(made.manifest.read_text(encoding="utf-8").splitlines()))


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def fill_of(run, key):
    record = read_provenance(run / "records" / f"{key}.json")
    return np.stack([region.fill_map for region in unpack(record.fill, record.shape)]), record


def labels_of(path, order="brats"):
    """The component map of a segmentation, in the slices of `read_source`."""
    (stored,) = read_source(path).volumes.values()
    return from_labels(stored, order, path.name)


def header(path):
    """A NIfTI file's header without the description."""
    nifti = nibabel.load(path).header
    nifti["descrip"] = b""
    return nifti.binaryblock


@pytest.mark.parametrize("removes", [False, True])
def test_new_cases_keep_every_other_voxel_and_the_originals(make, data, tmp_path, removes):
    before = contents(data)
    made = make(count=4, remove_tumours=removes)
    assert contents(data) == before
    rows = rows_of(made)
    assert [row["key"] for row in rows] == [
        f"{row['target']}_painted-0000{n}" for n, row in enumerate(rows)
    ]
    for row in rows:
        key, real = row["key"], data / row["target"]
        new = made.cases / key
        fill, record = fill_of(tmp_path / "run", key)
        source, painted = read_source(real), read_source(new)
        assert source.volumes.keys() == painted.volumes.keys()
        for number, values in painted.volumes.items():
            old = source.volumes[number]
            assert values.dtype == old.dtype == np.int16
            assert np.array_equal(values[fill == KEEP], old[fill == KEEP])
            assert not np.array_equal(values[fill > 0], old[fill > 0])
        for name in ("t1n", "t2f"):
            one, two = new / f"{key}-{name}.nii.gz", real / f"{row['target']}-{name}.nii.gz"
            assert one.exists() == two.exists()
            assert not one.exists() or header(one) == header(two)
            assert bool(row[f"sha256_{name}"]) == one.exists()
        assert b"SYNTHETIC" in nibabel.load(new / f"{key}-t2f.nii.gz").header["descrip"].item()
        was = labels_of(real / f"{row['target']}-seg.nii.gz")
        is_now = labels_of(new / f"{key}-seg.nii.gz")
        kept = np.zeros_like(was) if removes else was
        assert np.array_equal(is_now, np.where(fill > 0, fill, kept))
        assert set(np.unique(nibabel.load(new / f"{key}-seg.nii.gz").dataobj)) <= {0, 1, 2, 3}
        width = 2 * REMOVED_MARGIN + 1
        removed = ndimage.binary_dilation(was > 0, np.ones((1, width, width))) & (fill <= 0)
        border = fill_map_of(np.where(fill > 0, fill, 0).astype(np.uint8), kept) == TUMOUR_FREE
        assert np.array_equal(fill == TUMOUR_FREE, border | (removed & removes))
        assert int(row["removed"]) == removes * (was > 0).sum()
        for number, name in enumerate(COMPONENTS[1:], 1):
            assert int(row[name]) == (fill == number).sum()
        first, end = map(int, row["slices"].split(":"))
        assert [first, end - 1] == np.flatnonzero((fill > 0).any((1, 2)))[[0, -1]].tolist()
        assert (row["donor"] != row["target"], row["hospital"]) == (True, "")
        assert (row["painter"], row["seed"]) == (record.painter, str(record.settings.seed))
        seg = (new / f"{key}-seg.nii.gz").read_bytes()
        assert row["sha256_seg"] == hashlib.sha256(seg).hexdigest()


def test_readers_take_the_new_cases_for_a_data_set(make, data):
    made = make(count=3)
    cases = list(read_cases(find_cases(made.cases)))
    rows = {row["key"]: row for row in rows_of(made)}
    assert {case.key for case in cases} == rows.keys()
    real = {case.key: case for case in read_cases(find_cases(data))}
    for case in cases:
        row = rows[case.key]
        assert case.volumes.keys() == real[row["target"]].volumes.keys()
        assert case.rows == real[row["target"]].rows == (1, 2, 3, 4, 5)
    painted = sum(int(row[name]) for row in rows_of(made) for name in COMPONENTS[1:])
    assert made.voxels == {
        name: sum(int(row[name]) for row in rows_of(made)) for name in COMPONENTS[1:4]
    }
    assert sum(made.voxels.values()) == painted > 0
    scan = scan_site(made.cases)
    assert scan.format == "brats"
    labels = [scan.load(item)[1] for item in scan.items]
    assert sum(int((one > 0).sum()) for one in labels) == sum(
        int((case.components > 0).sum()) for case in cases
    )


def beside(data, made, folder, flat=True):
    """One folder with the real cases and the painted ones, flat or in folders of their own."""
    for source, name in ((data, "real"), (made.cases, "painted")):
        shutil.copytree(source, folder if flat else folder / name, dirs_exist_ok=True)
    return folder


def sides_of(cases, split):
    """The splits that the cases of each patient are in."""
    found = {}
    for name, rows in split.items():
        for row in rows:
            found.setdefault(cases[row].patient, set()).add(name)
    return found


def test_painted_cases_stay_with_their_patient_in_the_training_of_a_painter(make, data):
    made = make(count=8)
    targets = {row["key"]: row["target"] for row in rows_of(made)}
    for folders in ((data, made.cases), (made.cases, data)):
        cases = load_cases(folders, "auto")
        assert {c.key: c.patient for c in cases if c.key in targets} == targets
        assert {case.patient for case in cases} == {path.name for path in data.iterdir()}
        for seed in range(5):
            sides = sides_of(cases, split_cases(cases, PainterRun(folders, split_seed=seed)))
            assert all(len(names) == 1 for names in sides.values())
    alone = {case.key: case.patient for case in load_cases((made.cases,), "auto")}
    assert alone == targets
    left = load_cases((data, made.cases), "auto", leave_out=("AL-1",))
    assert not any("AL-1" in case.key for case in left)


def test_painted_cases_of_a_folder_one_deeper_meet_the_real_ones(make, data, tmp_path):
    shutil.copytree(data, tmp_path / "all" / "glioma")
    made = make(data=tmp_path / "all", count=4)
    assert {row["target"].split("/")[0] for row in rows_of(made)} == {"glioma"}
    for folder in (tmp_path / "all", tmp_path / "all" / "glioma"):
        cases = load_cases((folder, made.cases), "auto")
        assert len({case.patient for case in cases}) == 4


@pytest.mark.parametrize("flat", [True, False])
def test_painted_cases_stay_with_their_patient_at_a_site(make, data, tmp_path, flat):
    made = make(count=6)
    site = beside(data, made, tmp_path / "site", flat)
    patients = {}
    for item in scan_site(site, format="brats").items:
        patients[item.key.partition("#")[0].rpartition("/")[2]] = item.patient
    assert len(patients) == 4 + 6
    for row in rows_of(made):
        assert patients[row["key"]] == patients[row["target"]]
    assert len(set(patients.values())) == 4


def test_the_run_has_pictures_and_says_how_far_it_is(make, tmp_path):
    told = []
    made, run = make(tell=told.append), tmp_path / "run"
    sheet = pixels_of(run / "contact-sheet.png")
    previews = [pixels_of(run / "previews" / f"{row['key']}.png") for row in rows_of(made)]
    assert sheet.shape[0] == sum(picture.shape[0] for picture in previews)
    assert sheet.shape[1] == max(picture.shape[1] for picture in previews)
    assert np.array_equal(sheet[: len(previews[0]), : previews[0].shape[1]], previews[0])
    steps = [step.done for step in told if step.phase == "augment" and not step.message]
    assert steps == [0.0, 0.5, 1.0]
    assert "4 cases, laid out as brats" in (run / "log.txt").read_text()
    assert not (run / augment_files.WORKSHOP).exists()


def test_a_record_makes_the_case_again(make, data, weights, tmp_path):
    made = make(remove_tumours=True)
    row = rows_of(made)[0]
    sidecar = tmp_path / "run" / "records" / f"{row['key']}.json"
    again = replay(sidecar, load_painter(weights), tmp_path / "again")
    was = read_provenance(sidecar)
    assert again.provenance == dataclasses.replace(was, input=again.provenance.input)
    assert (sidecar.parent / was.input).resolve() == (data / row["target"]).resolve()
    asked = [one.region for one in again.provenance.asked]
    assert asked == [
        f"border of the new tumour, and the tumour of {row['target']}",
        f"tumour of {row['donor']}, deformed",
    ]
    old, new = read_source(tmp_path / "again"), read_source(made.cases / row["key"])
    assert all(np.array_equal(old.volumes[n], new.volumes[n]) for n in old.volumes)


def test_the_decathlon_becomes_brats_like_folders(make, tmp_path):
    folder = tmp_path / "msd"
    names = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    for number in range(3):
        channels, labels = volumes(number, 4)
        other = np.array([0, 2, 1, 0, 3], np.uint8)[labels]  # oedema first, then core
        save(np.stack(channels, axis=-1), folder / "imagesTr" / f"BRATS_{number}.nii.gz")
        save(other, folder / "labelsTr" / f"BRATS_{number}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({"modality": names}))
    made = make(data=folder)
    for row in rows_of(made):
        fill, _ = fill_of(tmp_path / "run", row["key"])
        new = made.cases / row["key"]
        real = nibabel.load(folder / "imagesTr" / f"{row['target']}.nii.gz")
        painted = read_source(new)
        grid = painted.grid
        assert np.array_equal(grid.affine, real.affine)
        for channel, number in enumerate((3, 0, 1, 2)):
            old = grid.to_axial(np.asarray(real.dataobj)[..., channel])
            assert painted.volumes[number].dtype == old.dtype
            assert np.array_equal(painted.volumes[number][fill == KEEP], old[fill == KEEP])
            assert not np.array_equal(painted.volumes[number], old)
        was = labels_of(folder / "labelsTr" / f"{row['target']}.nii.gz", "msd")
        is_now = labels_of(new / f"{row['key']}-seg.nii.gz")
        assert np.array_equal(is_now, np.where(fill > 0, fill, was))
    assert len(list(read_cases(find_cases(made.cases)))) == 2


@pytest.mark.parametrize("sequence", [None, "t2f"])
def test_images_with_masks_stay_images_with_masks(make, tmp_path, sequence):
    folder = tmp_path / "pictures"
    for number in range(3):
        (stored, _), labels = volumes(number)
        for plane in (1, 2):  # without a tumour, and with one
            for kind, array in (("images", stored // 3), ("masks", (labels > 0) * 255)):
                path = folder / kind / f"{number}-{plane}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array[..., plane].astype(np.uint8)).save(path)
    tinted = (stored[..., 1, None] // 3 * (0.1, 1, 0.1)).astype(np.uint8)
    Image.fromarray(tinted).save(folder / "images/c.png")
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(folder / "masks/c.png")
    told = []
    made = make(data=folder, sequence=sequence, tell=told.append)
    assert [one.message for one in told if "an image in colours" in one.message]
    for row in rows_of(made):
        fill, _ = fill_of(tmp_path / "run", row["key"])
        new = pixels_of(made.cases / "images" / f"{row['key']}.png")
        old = pixels_of(folder / row["target"])
        mask = pixels_of(made.cases / "masks" / f"{row['key']}.png")
        assert new.dtype == old.dtype
        assert np.array_equal(new[fill[0] == KEEP], old[fill[0] == KEEP])
        assert np.array_equal(mask, np.where(fill[0] == MIXED, 255, 0))
        assert (row["sha256_image"] != "", row["sha256_t1n"]) == (True, "")
        record = json.loads((tmp_path / "run/records" / f"{row['key']}.json").read_text())
        assert record["sequence"] == (sequence or "unknown")
    assert [case.components.max() for case in read_cases(find_cases(made.cases))] == [MIXED] * 2
    scan = scan_site(made.cases)
    assert (scan.format, len(scan.items), scan.findings) == ("image-masks", 2, ())
    targets = {row["target"] for row in rows_of(made)}
    assert {item.patient for item in scan.items} == targets
    whose = "/([0-9])-"
    found = read_cases(find_cases(made.cases, "auto", whose))
    assert {case.patient for case in found} == {name[len("images/")] for name in targets}
    both = scan_site(beside(folder, made, tmp_path / "both"))
    assert len(both.items) == 7 + 2
    names = {f"images/{path.name}" for path in (folder / "images").iterdir()}
    assert {item.patient for item in both.items} == names


class StoppedError(Exception):
    pass


def stopping(monkeypatch, at):
    """Let the call number `at` of all that could be cut off raise; returns the calls so far."""
    calls = []

    def watched(owner, name):
        real = getattr(owner, name)

        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == at + 1:
                raise StoppedError
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    watched(Path, "replace")
    watched(module, "edit")
    watched(RunDirectory, "record")
    watched(augment_files.nifti, "write_mask")
    return calls


def test_a_run_that_is_cut_off_anywhere_ends_with_the_same_files(make, tmp_path, monkeypatch):
    make("whole", remove_tumours=True)
    whole = contents(tmp_path / "whole")
    for at in itertools.count():
        name = f"cut-{at}"
        with monkeypatch.context() as patch:
            calls = stopping(patch, at)
            try:
                make(name, remove_tumours=True)
                break
            except StoppedError:
                pass
        for case in (tmp_path / name).glob("cases/*"):  # whole, or not there
            files = {f"{path.relative_to(tmp_path / name)}" for path in case.iterdir()}
            assert files == {path for path in whole if path.startswith(f"cases/{case.name}/")}
            assert (tmp_path / name / "records" / f"{case.name}.json").exists()
        make(name, remove_tumours=True, resume=not is_unused(tmp_path / name))
        assert contents(tmp_path / name) == whole
    assert len(calls) >= 15


def test_a_run_goes_on_with_more_cases_but_not_with_fewer(make, tmp_path):
    make("run")
    make("run", count=3, resume=True)
    make("whole", count=3)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"3 cases are planned already, got --add 2; expected"):
        make("run", resume=True)


def test_a_case_that_was_damaged_is_painted_again(make, tmp_path):
    made = make()
    whole = contents(tmp_path / "run")
    one, two = (row["key"] for row in rows_of(made))
    (made.cases / two / f"{two}-t2f.nii.gz").write_bytes(b"torn")
    (tmp_path / "run" / "previews" / f"{one}.png").unlink()
    make(resume=True)
    assert contents(tmp_path / "run") == whole


def test_a_full_disk_leaves_no_half_case(make, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(augment_files.nifti, "write_mask", full)
        with pytest.raises(
            RunError, match=r"the disk is full; free some space, then give the same"
        ):
            make()
    assert not list((tmp_path / "run").glob("cases/*"))
    assert not (tmp_path / "run" / augment_files.WORKSHOP).exists()
    make("whole")
    make(resume=True)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_other_data_or_another_painter_cannot_go_on(make, config, data, weights, tmp_path):
    copy = tmp_path / "copy"
    for name, content in contents(data).items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    make(data=copy)
    donor = json.loads((tmp_path / "run" / "plan.json").read_text())["edits"][0]["donor"]
    _, labels = volumes(17)
    save(labels, copy / donor / f"{donor}-seg.nii.gz")
    with pytest.raises(DataError, match=r"copy: its cases are no longer those from which"):
        make(data=copy, resume=True)
    painter = load_painter(weights)
    with torch.no_grad():
        next(iter(painter.network.parameters())).add_(1)
    save_painter(painter, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"the run to resume has another `painter`: was '"):
        augment(
            dataclasses.replace(config, data=copy),
            tmp_path / "run",
            painter=tmp_path / "other.safetensors",
            resume=True,
        )


def test_tumours_can_be_removed_and_none_added(make, data, weights, tmp_path):
    before = contents(data)
    made = make(components=("tumour-free",))
    again = make(components=("tumour-free",), count=3, resume=True)
    assert contents(data) == before
    assert (made.voxels, again.count) == ({}, 3)
    rows = rows_of(again)
    assert len({row["target"] for row in rows}) == 3
    for row in rows:
        key, real = row["key"], data / row["target"]
        fill, record = fill_of(tmp_path / "run", key)
        assert set(np.unique(fill)) == {KEEP, TUMOUR_FREE}
        was = labels_of(real / f"{row['target']}-seg.nii.gz")
        width = 2 * REMOVED_MARGIN + 1
        around = ndimage.binary_dilation(was > 0, np.ones((1, width, width)))
        assert np.array_equal(fill == TUMOUR_FREE, around)
        assert not labels_of(again.cases / key / f"{key}-seg.nii.gz").any()
        old, new = read_source(real), read_source(again.cases / key)
        for number, values in new.volumes.items():
            assert np.array_equal(values[~around], old.volumes[number][~around])
            assert not np.array_equal(values[around], old.volumes[number][around])
        assert (row["donor"], row["slices"]) == ("", "2:4")
        assert int(row["removed"]) == (was > 0).sum()
        assert {row[name] for name in COMPONENTS[1:]} == {"0"}
        assert [one.region for one in record.asked] == [f"the tumour of {row['target']}"]
    assert len(list(read_cases(find_cases(again.cases)))) == 3
    repeated = replay(
        tmp_path / "run" / "records" / f"{key}.json", load_painter(weights), tmp_path / "again"
    )
    assert repeated.provenance.asked == record.asked


def test_patients_that_are_held_out_neither_lend_nor_get_a_shape(make, tmp_path):
    listed = tmp_path / "use.txt"
    listed.write_text("AL-0\n\nAL-2\r\n")
    used = {row[kind] for row in rows_of(make(patients=listed)) for kind in ("target", "donor")}
    assert used == {"AL-0", "AL-2"}
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["AL-1", "BE-3", "elsewhere"], "test": ["AL-0"]}))
    rows = rows_of(make("other", patients=splits))
    assert {row[kind] for row in rows for kind in ("target", "donor")} == {"AL-1", "BE-3"}


def test_patients_that_the_painter_held_out_are_left_out(make, weights, tmp_path, monkeypatch):
    def told_by(splits):
        monkeypatch.setattr(module, "splits_beside", lambda _: splits)

    told = []
    told_by({"train": ["AL-0"], "val": ["AL-1"], "test": ["BE-3", "elsewhere"]})
    rows = rows_of(make(tell=told.append))
    assert {row[kind] for row in rows for kind in ("target", "donor")} == {"AL-0", "AL-2"}
    assert any(": 2 cases left out, of patients that the painter's" in p.message for p in told)
    listed = tmp_path / "use.txt"
    listed.write_text("AL-1\nBE-3\n")
    rows = rows_of(make("listed", patients=listed))
    assert {row[kind] for row in rows for kind in ("target", "donor")} == {"AL-1", "BE-3"}
    told_by({"train": [], "val": [], "test": ["AL-7", "BE-3"]})  # each letter is one patient
    with pytest.raises(DataError, match=r"all 4 cases are of patients that the painter's training"):
        make("none", patient_pattern="^(.)")


def test_patients_that_were_held_out_in_another_folder_are_left_out(
    make, data, tmp_path, monkeypatch
):
    shutil.copytree(data, tmp_path / "all" / "glioma")
    told = []

    def told_by(splits):
        told.clear()
        monkeypatch.setattr(module, "splits_beside", lambda _: splits)

    for name, folder in (("plain", data), ("deeper", tmp_path / "all")):
        for number, prefix in enumerate(("", "glioma/", "lgg/")):
            names = {"train": ["AL-0"], "val": ["AL-1"], "test": ["BE-3"]}
            told_by({split: [prefix + key for key in keys] for split, keys in names.items()})
            rows = rows_of(make(f"{name}-{number}", data=folder, tell=told.append))
            used = {row[kind] for row in rows for kind in ("target", "donor")}
            assert {key.rpartition("/")[2] for key in used} == {"AL-0", "AL-2"}
            assert not any("none of its cases is known" in one.message for one in told)
    told_by({"train": ["x"], "val": ["y"], "test": ["z"]})
    make("unknown", tell=told.append)
    assert any("none of its cases is known from the painter's" in one.message for one in told)
    told_by(None)
    make("alone", tell=told.append)
    assert any("no splits.json beside the painter says whom" in one.message for one in told)


def test_painted_copies_of_held_out_patients_are_left_out(make, data, tmp_path, monkeypatch):
    made = make(count=4)
    splits = {"train": [], "val": ["AL-1"], "test": ["BE-3"]}
    monkeypatch.setattr(module, "splits_beside", lambda _: splits)
    both = beside(data, made, tmp_path / "both")
    rows = rows_of(make("again", data=both, count=4))
    used = {row[kind] for row in rows for kind in ("target", "donor")}
    assert {patient_of(key) for key in used} == {"AL-0", "AL-2"}


def test_what_has_no_room_is_told(make, data, tmp_path):
    full = tmp_path / "full"
    shutil.copytree(data, full)
    path = full / "BE-3" / "BE-3-seg.nii.gz"
    labels = np.asarray(nibabel.load(path).dataobj).copy()
    labels[:] = 2  # all of the head
    save(labels, path)
    told = []
    rows = rows_of(make(data=full, count=6, balance="site", sites="^([A-Z]+)", tell=told.append))
    assert {row["hospital"] for row in rows} == {"AL"}
    (message,) = (one.message for one in told if "--balance site drew them" in one.message)
    assert re.search(r"[1-6] of 6 new cases .* no room: [1-6] BE$", message)
    assert message in (tmp_path / "run" / "log.txt").read_text()


def test_files_hold_what_is_painted_in_memory(make, data, weights):
    """The scarcity study paints cases in memory; an edit is the same there, but for rounding."""
    settings = Settings(steps=1, seed=5, grain=False)  # grain differs where slices are left out
    augmented = make(count=3, remove_tumours=True, settings=settings)
    cases, rows = augmented.cases, rows_of(augmented)
    real = list(read_cases(find_cases(data)))
    planned = plan_edits(real, 3, "none", (), 5, removes=True)
    for edit, row in zip(planned, rows, strict=True):
        made = apply_edit(load_painter(weights), real, edit, settings)
        assert (edit.key, str(edit.seed)) == (row["key"], row["seed"])
        files = read_source(cases / edit.key)
        assert files.volumes.keys() == made.volumes.keys()
        for number, stored in files.volumes.items():
            darkest = read_source(data / edit.target).volumes[number].min()
            exact = made.scalings[number].undo(made.volumes[number], np.dtype(np.float64))
            difference = stored[list(made.rows)] - exact.clip(min=darkest)
            assert np.abs(difference).max() <= 0.51
        labels = labels_of(cases / edit.key / f"{edit.key}-seg.nii.gz")
        assert np.array_equal(labels[list(made.rows)], made.components)


def test_the_manifest_names_the_hospital(make):
    rows = rows_of(make(count=6, balance="site", sites=r"^([A-Z]+)-"))
    assert all(row["hospital"] == row["target"][:2] for row in rows)
    assert {row["hospital"] for row in rows} == {"AL", "BE"}


def test_only_the_components_that_are_asked_for(make):
    made = make(components=("edema",))
    assert made.voxels.keys() == {COMPONENTS[OEDEMA]}


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"components": ("tumour-free", "core")},
            ConfigError,
            r"tumour-free adds nothing, so it stands alone; expected it, or some of core",
        ),
        (
            {"components": ("tumour-free",), "balance": "component"},
            ConfigError,
            r"`component` is of tumours that are added; expected site or none",
        ),
        ({"components": ("oedma",)}, ConfigError, r"did you mean `oedema`"),
        ({"components": ("mixed",)}, DataError, r"no case shows mixed"),
        ({"balance": "site"}, ConfigError, r"`site` needs the hospital of each case; add --sites"),
        ({"sites": "("}, ConfigError, r"sites: '\(' is no regular expression"),
        ({"sites": "AL"}, ConfigError, r"sites: 'AL' has no group; expected one in brackets"),
        ({"sites": "(AL)"}, ConfigError, r"sites: '\(AL\)' finds no hospital in the name BE-3"),
        ({"order": "mask"}, ConfigError, r"labels mean a mixture, for which BraTS has no number"),
        ({"patients": Path("absent")}, ConfigError, r"absent: cannot be read"),
        ({"patients": Path("absent.json")}, ConfigError, r"absent\.json: cannot be read"),
        ({"data": Path("nowhere")}, DataError, r"nowhere: no such folder"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(make, tmp_path, monkeypatch, changes, error, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        make(**changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "error", "text"),
    [
        ("a.txt", "AL-0\nAL-9\n", ConfigError, r"AL-9 is no case of .*, such as AL-0"),
        ("a.txt", "\n", DataError, r"a\.txt: names no case of"),
        ("a.json", '{"train": ["x"]}', DataError, r"a\.json: names no case of"),
        ("a.json", '{"test": []}', ConfigError, r"expected the splits\.json of `inpaint train`"),
        ("a.json", "[]", ConfigError, r"a\.json: cannot be read .*expected a JSON object"),
    ],
)
def test_a_wrong_list_of_patients(make, tmp_path, name, content, error, text):
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=text):
        make(patients=tmp_path / name)


def test_the_originals_are_not_written_into(config, data, weights):
    with pytest.raises(RunError, match=r"new: within the data set .*; choose another --out"):
        augment(config, data / "new", painter=weights)


def test_a_run_goes_on_with_the_levels_that_it_was_begun_with(make, monkeypatch):
    from polyclinic.inpaint import objectives as module

    make()
    flow = dataclasses.replace(module.OBJECTIVES["flow"], levels=module.Levels(power=2.0))
    monkeypatch.setitem(module.OBJECTIVES, "flow", flow)  # as another version may have it
    with pytest.raises(ConfigError, match=r"the run to resume has another `settings"):
        make(resume=True, count=3)


def test_cases_that_cannot_be_painted_on_are_left_out(make, data, tmp_path):
    folder = tmp_path / "mixed"
    for name, content in contents(data).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    twice = folder / "AL-1" / "AL-1_flair.nii.gz"  # the same sequence under its older name
    twice.write_bytes((folder / "AL-1" / "AL-1-t2f.nii.gz").read_bytes())
    (folder / "AL-2" / "AL-2-t1n.nii.gz").write_bytes(b"not a volume")
    told = []
    rows = rows_of(make(data=folder, tell=told.append))
    assert {row[kind] for row in rows for kind in ("target", "donor")} == {"AL-0", "BE-3"}
    left_out = [one.message for one in told if one.message.endswith("; left out")]
    assert [message.partition(":")[0] for message in left_out] == ["AL-1", "AL-2"]
