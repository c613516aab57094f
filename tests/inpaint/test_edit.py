"""Edits of every format: nothing changes outside, records replay, nothing is half written."""

import dataclasses
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint import edit as module
from polyclinic.inpaint import painting
from polyclinic.inpaint.components import KEEP, MIXED, OEDEMA, TUMOUR_FREE
from polyclinic.inpaint.edit import Ask, edit, edit_file, open_painter
from polyclinic.inpaint.files import output, read_source
from polyclinic.inpaint.files.source import from_arrays, sequence_name
from polyclinic.inpaint.likeness import NOT_A_BRAIN
from polyclinic.inpaint.painter import save_painter
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.provenance import array_digest
from polyclinic.inpaint.regions import Region

pytestmark = pytest.mark.usefixtures("exact")
FAST = Settings(steps=1)
BOX = [Ask("box:10,10,18,16", "oedema")]


@settings(max_examples=12, derandomize=True, database=None, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "i2", ">u2", "i4", "u8", "f4", ">f8"]),
    seed=st.integers(0, 99),
    boxed=st.booleans(),
)
def test_nothing_changes_outside(painter, dtype, seed, boxed, heads):
    rng = np.random.default_rng(seed)
    volumes = {"t1n": heads(dtype=dtype, high=100), "t2f": heads(dtype=dtype, high=120, seed=1)}
    source = from_arrays(volumes)
    fill = np.full(source.shape, KEEP, np.int8)
    row, column = rng.integers(0, 28, 2)
    fill[rng.integers(2), row : row + 9, column : column + 7] = rng.integers(0, 5)
    regions = [Region(plane, (plane != KEEP) & boxed) for plane in fill]
    (edited,) = edit(painter, source, regions, FAST)
    outside = fill == KEEP
    for number, before in source.volumes.items():
        after = edited.volumes[number]
        assert after.dtype == before.dtype
        assert after[outside].tobytes() == before[outside].tobytes()
        assert (after[~outside] >= before.min()).all()
    assert np.array_equal(edited.realised == KEEP, outside)
    assert np.array_equal(source.volumes[0], volumes["t1n"])


def test_a_box_has_one_contour_in_all_sequences(painter, monkeypatch, heads):
    source = from_arrays({"t1n": heads(), "t2f": heads(seed=1)})
    fill = np.full(source.shape, KEEP, np.int8)
    fill[0, 8:20, 8:20] = OEDEMA
    seen = []

    def spy(painter, slices, regions, sequence, head_px, chosen, other, report):
        painted = original(painter, slices, regions, sequence, head_px, chosen, other, report)
        seen.append((sequence, regions, painted, other))
        return painted

    original = painting.paint
    monkeypatch.setattr(painting, "paint", spy)
    (edited,) = edit(painter, source, [Region(p, p != KEEP) for p in fill], FAST)
    (first, asked, one, nothing), (second, exact, two, shown) = seen
    assert (first, second) == (3, 0)  # FLAIR decides
    assert asked[0].boxed.any()
    assert not any(region.boxed.any() for region in exact)
    assert nothing is None
    assert shown is one.slices
    assert np.array_equal(one.realised, two.realised)
    assert np.array_equal(edited.realised, one.realised)
    inside = edited.realised[fill != KEEP]
    assert set(np.unique(inside)) <= {TUMOUR_FREE, OEDEMA}


def test_samples_differ_and_are_those_of_their_seeds(painter, heads):
    source = from_arrays({"t1n": heads(1)})
    region = Region(np.full((32, 32), KEEP, np.int8), np.zeros((32, 32), bool))
    region.fill_map[10:16, 10:16] = MIXED
    first, second = edit(painter, source, [region], FAST, samples=2)
    (alone,) = edit(painter, source, [region], Settings(steps=1, seed=1))
    assert np.array_equal(second.volumes[0], alone.volumes[0])
    assert not np.array_equal(first.volumes[0], alone.volumes[0])


def test_an_edit_says_how_far_it_is(painter, heads):
    source, told = from_arrays({"t1n": heads(3), "t2f": heads(3, seed=1)}), []
    fill = np.full(source.shape, KEEP, np.int8)
    fill[:2, 10:16, 10:16] = OEDEMA
    regions = [Region(plane, plane > KEEP) for plane in fill]
    edit(painter, source, regions, FAST, samples=2, report=told.append)
    assert told == [k / 8 for k in range(1, 9)]  # two samples of two sequences of two slices


def test_bad_arrays_are_refused(painter, heads):
    region = Region(np.zeros((32, 32), np.int8), np.zeros((32, 32), bool))
    kept = Region(np.full((32, 32), KEEP, np.int8), np.zeros((32, 32), bool))
    broken = heads(1, np.float32)
    broken[0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"t1n: values that are NaN or infinite"):
        edit(painter, from_arrays({"t1n": broken}), [region], FAST)
    with pytest.raises(DataError, match=r"the region is empty"):
        edit(painter, from_arrays({"t1n": heads(1)}), [kept], FAST)
    with pytest.raises(DataError, match=r"expected a region for each of 2 slices"):
        edit(painter, from_arrays({"t1n": heads(2)}), [region], FAST)


@pytest.mark.parametrize("mode", ["sample", "mean"])
def test_an_image_becomes_an_image_a_mask_and_a_record(painter, tmp_path, mode, write_png):
    path, out = write_png(tmp_path / "scan.png"), tmp_path / "new" / "painted.png"
    chosen = Settings(steps=2, mode=mode)
    (written,) = edit_file(painter, path, BOX, out, chosen, sequence="t2f")
    assert [p.name for p in sorted(out.parent.iterdir())] == [
        "painted.json",
        "painted.mask.png",
        "painted.png",
    ]
    before, after = np.array(Image.open(path)), np.array(Image.open(written.image))
    mask = np.array(Image.open(written.mask))
    assert np.array_equal(before[mask == 0], after[mask == 0])
    assert (before != after).any()
    assert np.argwhere(mask == 2)[[0, -1]].tolist() == [[10, 10], [15, 17]]
    record = json.loads(written.sidecar.read_text())
    assert record["synthetic"] is True
    assert record["machine"].keys() >= {"torch", "numpy", "scipy", "threads"}
    assert (record["sequence"], record["pixels"]) == ("t2f", {"oedema": 48})
    assert record["asked"][0]["region"] == "box:10,10,18,16"


def test_a_case_is_painted_at_the_same_pixels_in_all_sequences(painter, case, tmp_path):
    asks = [Ask("box:4,4,12,12", "edema"), Ask("box:8,8,20,20", "mixture")]
    (written,) = edit_file(painter, case, asks, tmp_path / "out", FAST, slices=(1, 2))
    source, after = read_source(case), read_source(tmp_path / "out")
    changed = {n: source.volumes[n] != after.volumes[n] for n in source.volumes}
    labels = source.grid.to_axial(np.asarray(nibabel.load(written.mask).dataobj))
    assert sorted(np.unique(labels)) == [0, 2, 6]
    for where in changed.values():
        assert where.any()
        assert not where[labels == 0].any()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "c-t1n.nii.gz",
        "c-t2f.nii.gz",
        "edit.json",
        "mask.nii.gz",
    ]


def test_samples_get_folders(painter, tmp_path, write_nifti):
    path = write_nifti(tmp_path / "x_t1.nii.gz")
    written = edit_file(painter, path, BOX, tmp_path / "o", FAST, slices=(0, 1), samples=2)
    assert [w.image.relative_to(tmp_path).as_posix() for w in written] == [
        "o/sample-1/x_t1.nii.gz",
        "o/sample-2/x_t1.nii.gz",
    ]
    assert [w.provenance.settings.seed for w in written] == [0, 1]


def test_nothing_is_overwritten_and_nothing_half_written(painter, tmp_path, monkeypatch, write_png):
    path, out = write_png(tmp_path / "a.png"), tmp_path / "out"
    with pytest.raises(RunError, match=r"would overwrite the input"):
        edit_file(painter, path, BOX, path, FAST, force=True)
    (one,) = edit_file(painter, path, BOX, out, FAST)
    with pytest.raises(RunError, match=r"exists already; add --force"):
        edit_file(painter, path, BOX, out, FAST)
    before = {p: p.read_bytes() for p in sorted(out.iterdir())}

    def full(*_):
        raise OSError(28, "No space left on device")

    broken = {"png": dataclasses.replace(output.FORMATS["png"], write_mask=full)}
    with monkeypatch.context() as patched:
        patched.setattr(output, "FORMATS", broken)
        with pytest.raises(RunError, match=r"written \(No space left on device\); free some sp"):
            edit_file(painter, path, BOX, out, Settings(steps=1, seed=3), force=True)
        with pytest.raises(RunError, match=r"cannot be written"):
            edit_file(painter, path, BOX, tmp_path / "other", FAST)
    assert {p: p.read_bytes() for p in sorted(out.iterdir())} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "out"]
    (two,) = edit_file(painter, path, BOX, out, Settings(steps=1, seed=3), force=True)
    assert two.provenance.outputs != one.provenance.outputs


def test_a_drawing_is_not_written_over(painter, tmp_path, write_png):
    path, drawing = write_png(tmp_path / "a.png"), tmp_path / "b.mask.png"
    Image.fromarray(np.where(np.arange(32) < 9, 255, 0).astype(np.uint8)[None].repeat(32, 0)).save(
        drawing
    )
    before = drawing.read_bytes()
    for out in (drawing, tmp_path / "b.png"):  # whose mask would have the drawing's name
        with pytest.raises(RunError, match=r"overwrite .*b\.mask\.png, which it is made from; c"):
            edit_file(painter, path, [Ask(str(drawing), "core")], out, FAST, force=True)
    assert drawing.read_bytes() == before


def test_where_nothing_can_be_written_is_said_before_anything_is_painted(
    painter, tmp_path, monkeypatch, write_png
):
    path = write_png(tmp_path / "a.png")
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "edit", None)
    for out in ("file/out", "file/deep/b.png"):
        with pytest.raises(RunError, match=rf"{out}: .*file is a file; choose another --out"):
            edit_file(painter, path, BOX, tmp_path / out, FAST)
    monkeypatch.setattr(output.os, "access", lambda *_: False)
    with pytest.raises(RunError, match=r"out: .* may not be written to; choose another --out"):
        edit_file(painter, path, BOX, tmp_path / "out", FAST)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "file"]


@pytest.mark.parametrize(("kind", "files"), [("png", 3), ("case", 4), ("samples", 6)])
def test_a_kill_between_files_leaves_no_record_beside_another_image(
    painter, tmp_path, monkeypatch, case, kind, files, write_png
):
    path = case if kind == "case" else write_png(tmp_path / "a.png")
    options = {"slices": (0, 1) if kind == "case" else None, "samples": 1 + (kind == "samples")}
    replace = Path.replace

    def paint(seed):
        chosen = Settings(steps=1, seed=seed)
        return edit_file(painter, path, BOX, tmp_path / "out", chosen, force=True, **options)

    def paint_and_die(seed, moves):
        left = iter(range(moves))

        def dying(self, target):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return replace(self, target)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", dying)
            with pytest.raises(KeyboardInterrupt):
                paint(seed)

    def is_described(written):
        """Whether there is a record; if so, it must be of the image beside it."""
        if not written.sidecar.exists():
            return False
        volumes = read_source(written.image).volumes
        digests = {sequence_name(number): array_digest(v) for number, v in volumes.items()}
        assert digests.items() <= json.loads(written.sidecar.read_text())["outputs"].items()
        return True

    for moves in range(files):
        written = paint(seed=0)
        assert sum(map(is_described, written)) == len(written)
        paint_and_die(seed=5, moves=moves)
        assert sum(map(is_described, written)) < len(written)


def test_names_of_the_output_fit_its_format(painter, tmp_path, case, write_png):
    path = write_png(tmp_path / "a.png")
    for source, name, samples, expected in [
        (path, "x.nii.gz", 1, r"a\.png is written as \.png; expected such a name, or a folder"),
        (path, "x.png", 2, r"one file for 2 samples; expected a folder"),
        (case, "x.nii.gz", 1, r"expected a folder, as .*case is one"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            edit_file(painter, source, BOX, tmp_path / name, FAST, samples=samples, slices=(0, 1))
    with pytest.raises(RunError, match=r"within the input folder"):
        edit_file(painter, case, BOX, case / "out", FAST, slices=(0, 1))


def test_unknown_names_and_missing_regions(painter, tmp_path, write_png):
    path = write_png(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"no component 'oedem'.*did you mean `oedema`"):
        edit_file(painter, path, [Ask("box:1,1,2,2", "oedem")], tmp_path / "o")
    with pytest.raises(ConfigError, match=r"no region: say where to paint with --region"):
        edit_file(painter, path, [], tmp_path / "o")


def test_an_image_of_something_else_gets_a_warning(painter, tmp_path, write_png):
    stripes = np.tile(np.arange(32, dtype=np.uint8) * 7, (32, 1))
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    (odd,) = edit_file(painter, tmp_path / "stripes.png", BOX, tmp_path / "a", FAST, sequence="t2f")
    assert "does not look like an axial brain" in odd.provenance.warnings[0]
    assert odd.provenance.unlikeness >= NOT_A_BRAIN
    path = write_png(tmp_path / "head.png")
    (head,) = edit_file(painter, path, BOX, tmp_path / "b", FAST, sequence="t2f")
    assert head.provenance.warnings == ()
    assert 0 < json.loads(head.sidecar.read_text())["unlikeness"] < NOT_A_BRAIN
    corner = [Ask("box:0,0,4,4", "core")]
    (air,) = edit_file(painter, path, corner, tmp_path / "c", FAST, sequence="t2f")
    assert air.provenance.warnings == ("most of the region lies outside of the head",)


def test_dicom_that_says_it_is_no_mr_gets_a_warning(painter, tmp_path, write_dicom):
    for modality, expected in {
        "CT": ("its modality is CT, expected MR: what is painted may mean nothing",),
        "MR": (),
        "": (),
    }.items():
        about = {"Modality": modality, "SeriesDescription": "AX FLAIR"}
        path = write_dicom(tmp_path / f"a{modality}.dcm", **about)
        (one,) = edit_file(painter, path, BOX, tmp_path / "out", FAST, force=True)
        assert one.provenance.warnings == expected
        assert one.provenance.sequence == "t2f"


def test_dicom_files_with_uids_as_names_do_not_collide(painter, tmp_path, write_dicom):
    written = [
        edit_file(painter, write_dicom(tmp_path / name), BOX, tmp_path / "out", FAST)[0]
        for name in ("1.2.3.4", "1.2.3.5")
    ]
    assert written[0].mask.name == "1.2.3.4.mask.nii.gz"
    names = [f"1.2.3.{n}{end}" for n in "45" for end in ("", ".json", ".mask.nii.gz")]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names


def test_several_means_would_be_the_same(painter, tmp_path, write_png):
    path = write_png(tmp_path / "a.png")
    mean = Settings(mode="mean")
    with pytest.raises(ConfigError, match=r"samples: 2 means would be the same image.*expected 1"):
        edit_file(painter, path, BOX, tmp_path / "out", mean, samples=2)
    assert not (tmp_path / "out").exists()


def test_painters_are_opened_or_asked_for(painter, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "small.safetensors")
    with pytest.raises(ConfigError, match=r"comes without a painter; name one .* with --painter"):
        open_painter()
    for missing in (tmp_path / "gone", tmp_path):
        with pytest.raises(ConfigError, match=rf"{missing}: no such painter; --painter expects"):
            open_painter(missing)
    save_painter(painter, tmp_path / "small.safetensors")
    save_painter(painter, tmp_path / "run" / "painter.safetensors")
    for path in (None, tmp_path / "run", tmp_path / "run" / "painter.safetensors"):
        assert open_painter(path).objective.name == "flow"
