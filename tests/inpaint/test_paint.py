"""`polyclinic.paint`: arrays and paths, the same as the command does."""

import json

import nibabel
import numpy as np
import pytest
from PIL import Image

import polyclinic
from polyclinic.errors import ConfigError, DataError, RunError
from polyclinic.inpaint.edit import Ask, edit_file
from polyclinic.inpaint.painter import save_painter
from polyclinic.inpaint.painting import Settings
from polyclinic.inpaint.replay import replay

pytestmark = pytest.mark.usefixtures("exact")
BOX = [("box:10,10,18,16", "oedema")]


def head(slices=1, dtype=np.int16, seed=0):
    """Axial slices (Z, 32, 32) of a round head in air."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32] - 15.5
    tissue = 200 * rng.uniform(0.4, 1, (slices, 32, 32))
    return np.where(np.hypot(rows, columns) < 13, tissue, 0).astype(dtype)


def mask_at(top, left, shape=(32, 32)):
    mask = np.zeros(shape, np.uint8)
    mask[..., top : top + 6, left : left + 8] = 1
    return mask


@pytest.mark.parametrize("dtype", ["u1", ">i2", "f4", "f8"])
def test_a_slice_comes_back_as_it_was_but_for_the_region(painter, dtype):
    scan = head(dtype=dtype)[0]
    done = polyclinic.paint(scan, [(mask_at(10, 10) > 0, "core")], steps=1, painter=painter)
    assert (done.image.dtype, done.image.shape) == (scan.dtype, scan.shape)
    assert np.array_equal(done.image[done.mask == 0], scan[done.mask == 0])
    assert np.array_equal(done.mask, mask_at(10, 10))
    assert done.mask.dtype == np.uint8
    assert (done.image != scan).any()
    assert done.files == {}
    assert done.record["pixels"] == {"core": 48}
    assert (done.record["format"], done.record["input"]) == ("arrays", "")
    assert list(done.record["inputs"]) == ["unknown"]


def test_an_array_is_painted_as_a_file_of_it(painter, tmp_path):
    """The same pixels as the command, however image and region are given."""
    scan, path, where = head(dtype=np.uint8)[0], tmp_path / "a.png", tmp_path / "m.png"
    Image.fromarray(scan).save(path)
    Image.fromarray(mask_at(10, 10)).save(where)
    options = {"steps": 2, "seed": 3, "sequence": "t2f", "box": True, "painter": painter}
    array = polyclinic.paint(scan, [(mask_at(10, 10), "oedema")], **options)
    read = polyclinic.paint(str(path), [(str(where), "oedema")], **options)
    written = polyclinic.paint(path, [(where, "oedema")], **options, out=tmp_path / "python")
    (command,) = edit_file(
        painter,
        path,
        [Ask(str(where), "oedema")],
        tmp_path / "command",
        Settings(steps=2, seed=3),
        boxed=True,
        sequence="t2f",
    )
    assert np.array_equal(array.image[None], read.image)
    assert np.array_equal(array.mask[None], read.mask)
    assert read.files == {}
    assert list(written.files) == ["image", "mask", "sidecar"]
    assert np.array_equal(np.array(Image.open(command.image)), array.image)
    assert np.array_equal(np.array(Image.open(command.mask)), array.mask)
    made, as_made = (sorted((tmp_path / n).iterdir()) for n in ("python", "command"))
    assert [p.name for p in made] == ["a.json", "a.mask.png", "a.png"]
    assert [p.read_bytes() for p in made] == [p.read_bytes() for p in as_made]
    record = json.loads(json.dumps(written.record))
    assert json.loads(written.files["sidecar"].read_text()) == record


def test_several_seeds_give_the_samples_of_the_command(painter, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(head(dtype=np.uint8)[0]).save(path)
    one, two = (polyclinic.paint(path, BOX, steps=1, seed=seed, painter=painter) for seed in (3, 4))
    asks = [Ask(*BOX[0])]
    samples = edit_file(painter, path, asks, tmp_path / "o", Settings(steps=1, seed=3), samples=2)
    assert [w.provenance.outputs for w in samples] == [one.record["outputs"], two.record["outputs"]]


def test_sequences_by_name_get_the_same_shapes(painter):
    case = {"t1": head(3), "flair": head(3, seed=1)}
    region = mask_at(8, 8, (3, 32, 32))
    region[2] = 0
    done = polyclinic.paint(case, [(region, "mixed")], steps=1, painter=painter)
    assert sorted(done.volumes) == ["t1n", "t2f"]
    assert np.array_equal(done.mask, 6 * region)
    with pytest.raises(DataError, match=r"several sequences, .*: look into `volumes`"):
        _ = done.image


def test_tumour_free_tissue_has_a_number_of_its_own(painter, tmp_path):
    regions = [*BOX, ("box:4,14,8,18", "tumour-free")]
    done = polyclinic.paint(head()[0], regions, steps=1, painter=painter)
    assert np.unique(done.mask, return_counts=True)[1].tolist() == [1024 - 48 - 16, 48, 16]
    assert np.unique(done.mask).tolist() == [0, 2, 5]
    path, png = tmp_path / "a.nii", tmp_path / "a.png"
    nibabel.save(nibabel.Nifti1Image(head().T.copy(), np.diag([-1, -1, 2, 1])), path)
    Image.fromarray(head(dtype=np.uint8)[0]).save(png)
    file = polyclinic.paint(
        path, regions, steps=1, slices=(0, 1), painter=painter, out=tmp_path / "o"
    )
    assert np.unique(nibabel.load(file.files["mask"]).dataobj).tolist() == [0, 2, 5]
    file = polyclinic.paint(png, regions, steps=1, painter=painter, out=tmp_path / "b.png")
    assert np.unique(np.array(Image.open(file.files["mask"]))).tolist() == [0, 2, 5]


def test_numbers_of_numpy_are_numbers(painter):
    options = {"steps": np.int64(1), "seed": np.uint8(3), "guidance": np.float32(1.5)}
    one = polyclinic.paint(head()[0], BOX, painter=painter, **options)
    two = polyclinic.paint(head()[0], BOX, painter=painter, steps=1, seed=3, guidance=1.5)
    assert json.dumps(one.record["settings"]) == json.dumps(two.record["settings"])
    assert np.array_equal(one.image, two.image)


def test_a_painter_may_be_a_file(painter, tmp_path):
    save_painter(painter, tmp_path / "p.safetensors")
    done = polyclinic.paint(head()[0], BOX, steps=1, painter=str(tmp_path / "p.safetensors"))
    assert len(done.record["painter"]) == 64


def test_a_record_of_arrays_is_not_replayed(painter, tmp_path):
    done = polyclinic.paint(head()[0], BOX, steps=1, painter=painter)
    (tmp_path / "r.json").write_text(json.dumps(done.record))
    with pytest.raises(DataError, match=r"of arrays, which no file holds; .* `polyclinic.paint`"):
        replay(tmp_path / "r.json", painter, tmp_path / "out")


@pytest.mark.parametrize(
    ("image", "regions", "options", "error", "expected"),
    [
        (head(), [], {}, ConfigError, r"no region: say where to paint"),
        (head(), ["box:1,1,2,2"], {}, ConfigError, r"expected pairs of a region and a comp"),
        (head(), BOX, {"out": "o"}, ConfigError, r"out: arrays are given back and not written"),
        ({"t1n": head()}, BOX, {"sequence": "t1n"}, ConfigError, r"names of the arrays say it"),
        (head(dtype=complex), BOX, {}, DataError, r"unknown: an array of complex128; exp"),
        (head(2)[None], BOX, {}, DataError, r"arrays: expected axial slices"),
        (head(2), BOX, {}, ConfigError, r"the image has 2 slices; say on which to paint"),
        (head(), [(np.ones((3, 3), int), "core")], {}, DataError, r"shape \(3, 3\); expected \(1"),
        (head(), [(np.ones((32, 32)), "core")], {}, DataError, r"array of float64; expected bool"),
        (head(), [(mask_at(2, 2), None)], {}, ConfigError, r"region: has no colours that say what"),
        (head(), [("box:1,1,2,2", 2)], {}, ConfigError, r"component: expected a name .*, got 2"),
        (head(), BOX, {"seed": 1.5}, ConfigError, r"seed: expected a whole number, got 1\.5"),
        (head(), BOX, {"seed": None}, ConfigError, r"seed: expected a whole number, got None"),
        (head(), BOX, {"guidance": "a"}, ConfigError, r"guidance: expected a number, got 'a'"),
        (head(3).transpose(1, 2, 0), BOX, {}, DataError, r"\(32, 32, 3\), as an image in colours"),
        ("gone.png", BOX, {}, DataError, r"gone\.png: no such file or folder; expected a PNG"),
    ],
)  # fmt: skip
def test_what_does_not_fit_ends_in_one_line(painter, image, regions, options, error, expected):
    with pytest.raises(error, match=expected) as caught:
        polyclinic.paint(image, regions, steps=1, painter=painter, **options)
    assert "\n" not in str(caught.value)


def test_a_mask_is_not_written_over(painter, tmp_path):
    image, mask = tmp_path / "a.png", tmp_path / "m.png"
    Image.fromarray(head(dtype=np.uint8)[0]).save(image)
    Image.fromarray(mask_at(12, 12).astype(np.uint8)).save(mask)
    with pytest.raises(RunError, match=r"would overwrite .*m\.png, which it is made from; c"):
        polyclinic.paint(image, [(mask, "core")], painter=painter, out=mask, force=True)
