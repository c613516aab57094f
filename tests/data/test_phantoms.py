"""The phantoms: formats, determinism, true labels and masks, and classes worth learning."""

import csv
import hashlib
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from polyclinic.data import phantoms
from polyclinic.data.phantoms import (
    SPECIALTIES,
    blood,
    brain,
    breast,
    chest,
    corpus,
    histology,
    nuclei,
    retina,
    samples,
    shapes,
    skin,
    texture,
    write_phantoms,
)
from polyclinic.errors import ConfigError, DataError

CLASSIFIED = (blood, skin, chest, breast, histology)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    return write_phantoms(folder, seed=3, images_per_site=24, corpus_images=30, image_size=32)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def _manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- writing -------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(written, tmp_path):
    sizes = {"images_per_site": 24, "corpus_images": 30, "image_size": 32}
    again = write_phantoms(tmp_path / "again", seed=3, **sizes)
    other = write_phantoms(tmp_path / "other", seed=4, **sizes)
    assert _hashes(written) == _hashes(again)
    images = [name for name in _hashes(written) if name.endswith((".jpg", ".png"))]
    first, second = _hashes(written), _hashes(other)
    assert not any(first[name] == second.get(name) for name in images)


def test_no_clock_reaches_the_files(tmp_path, monkeypatch):
    import time

    write = SPECIALTIES["brain"], SPECIALTIES["histology"]
    for at in (1e9, 1.6e9):
        monkeypatch.setattr(time, "time", lambda at=at: at)
        for specialty in write:
            specialty(tmp_path / str(at), seed=0, images=8, image_size=16)
    assert _hashes(tmp_path / str(1e9)) == _hashes(tmp_path / str(1.6e9))


def test_folders_of_all_specialties_and_nothing_else(written):
    assert {path.name for path in (written / "sites").iterdir()} == set(SPECIALTIES)
    assert {path.name for path in written.iterdir()} == {"sites", "corpus"}
    assert [path.name for path in written.parent.iterdir()] == [written.name]  # no partial folder


def test_no_image_carries_metadata(written):
    for path in written.rglob("*.[jp][pn]g"):
        with Image.open(path) as image:
            assert not image.getexif(), path
            assert not {"comment", "exif", "Title", "Description"} & set(image.info), path
            assert not getattr(image, "text", {}), path


def test_tell_hears_of_every_part(tmp_path):
    heard: list[str] = []
    write_phantoms(
        tmp_path / "p", images_per_site=8, corpus_images=2, image_size=16, tell=heard.append
    )
    assert [line.split(":")[0] for line in heard] == [*SPECIALTIES, "corpus"]


def test_an_empty_folder_is_filled(tmp_path):
    write_phantoms(tmp_path, images_per_site=8, corpus_images=2, image_size=16)
    assert len(list((tmp_path / "corpus").iterdir())) == 2


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match=r"expected a new or empty folder.*choose another"):
        write_phantoms(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(DataError, match=r"mine\.txt: expected a new or empty folder"):
        write_phantoms(tmp_path / "mine.txt")


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("images_per_site", 7, "images_per_site: expected at least 8, got 7"),
        ("corpus_images", 0, "corpus_images: expected at least 1"),
        ("image_size", 8, "image_size: expected at least 16"),
        ("image_size", 33, "expected an even number, got 33"),
        ("seed", -1, "seed: expected at least 0"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, option, value, says):
    with pytest.raises(ConfigError, match=says):
        write_phantoms(tmp_path / "p", **{option: value})
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no space left on device")])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(folder, **_):
        folder.mkdir(parents=True)
        raise error

    monkeypatch.setitem(SPECIALTIES, "retina", fail)
    expected = DataError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_phantoms(tmp_path / "p", images_per_site=8, corpus_images=2, image_size=16)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_fills_up_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    folder = tmp_path / "p"

    def intrude(*_, **__):
        folder.mkdir()
        (folder / "theirs").write_text("x")

    monkeypatch.setattr(phantoms.corpus, "write", intrude)
    with pytest.raises(DataError, match="holds something"):
        write_phantoms(folder, images_per_site=8, image_size=16)
    assert [path.name for path in folder.iterdir()] == ["theirs"]


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("site", "module"), [("blood", blood), ("breast", breast)])
def test_class_folders(written, site, module):
    folders = {path.name: list(path.iterdir()) for path in (written / "sites" / site).iterdir()}
    assert set(folders) == set(module.CLASSES)
    assert sum(map(len, folders.values())) == 24
    for path in chain.from_iterable(folders.values()):
        with Image.open(path) as image:
            assert image.size == (32, 32)
            assert (image.mode, path.suffix) == (
                ("RGB", ".jpg") if site == "blood" else ("L", ".png")
            )


@pytest.mark.parametrize(
    ("site", "columns", "mode"),
    [
        ("skin", ["path", "label", "patient_id", "site"], "RGB"),
        ("chest", ["path", "label", "patient_id"], "L"),
    ],
)
def test_manifests(written, site, columns, mode):
    folder = written / "sites" / site
    rows = _manifest(folder)
    assert list(rows[0]) == columns
    assert len(rows) == 24
    assert {row["path"] for row in rows} == {
        f"images/{path.name}" for path in (folder / "images").iterdir()
    }
    for row in rows:
        assert row["label"] not in row["path"] + row["patient_id"]
        with Image.open(folder / row["path"]) as image:
            assert (image.size, image.mode) == ((32, 32), mode)
    labels = {row["patient_id"]: set() for row in rows}
    for row in rows:
        labels[row["patient_id"]].add(row["label"])
    assert all(len(own) == 1 for own in labels.values())  # a patient has one truth


def test_histology_is_one_medmnist_file(written):
    folder = written / "sites" / "histology"
    assert [path.name for path in folder.iterdir()] == ["histology.npz"]
    with np.load(folder / "histology.npz", allow_pickle=False) as arrays:
        counts = [len(arrays[f"{split}_images"]) for split in ("train", "val", "test")]
        assert counts == [17, 2, 5]
        for split in ("train", "val", "test"):
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
            assert images.shape[1:] == (32, 32, 3)
            assert images.dtype == labels.dtype == np.uint8
            assert labels.shape == (len(images), 1)
        assert len(arrays.files) == 6
        assert set(arrays["train_labels"].ravel()) <= set(range(len(histology.CLASSES)))


def test_brain_cases_are_brats_folders(written):
    cases = sorted((written / "sites" / "brain").iterdir())
    assert len(cases) == 6
    assert {case.name.split("_")[1] for case in cases} == set(brain.SCANNERS)
    missing = 0
    for case in cases:
        names = {path.name.removeprefix(f"{case.name}-") for path in case.iterdir()}
        assert "seg.nii.gz" in names
        assert names <= {f"{name}.nii.gz" for name in (*brain.SEQUENCES, "seg")}
        missing += len(names) < 5
        for path in case.iterdir():
            volume = nib.load(path)
            assert volume.shape == (48, 48, 8)
            wanted = np.uint8 if path.name.endswith("seg.nii.gz") else np.int16
            assert volume.get_data_dtype() == wanted
            assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
            np.testing.assert_allclose(volume.header.get_zooms(), (4.5, 4.5, 9.5))
            middle = volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1]
            np.testing.assert_allclose(middle[:3], 0, atol=1e-4)
    assert missing == 1


def test_retina_pairs(written):
    folder = written / "sites" / "retina"
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == sorted(path.name for path in (folder / "masks").iterdir())
    assert len(names) == 6
    for name in names:
        mask, image = _pixels(folder / "masks" / name), _pixels(folder / "images" / name)
        assert mask.shape == (64, 64)
        assert set(np.unique(mask)) == {0, 255}
        assert image.shape == (64, 64, 3)


def test_nuclei_pairs(written):
    folder = written / "sites" / "nuclei"
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == sorted(path.name for path in (folder / "labels").iterdir())
    for name in names:
        with Image.open(folder / "labels" / name) as image:
            assert image.mode == "I;16"
            assert image.size == (48, 48)
        assert _pixels(folder / "images" / name).shape == (48, 48, 3)


def test_corpus_is_flat_and_mixed(written):
    paths = list((written / "corpus").iterdir())
    assert len(paths) == 30
    assert Counter(path.suffix for path in paths).keys() == {".jpg", ".png"}
    modes = set()
    for path in paths:
        with Image.open(path) as image:
            modes.add(image.mode)
    assert modes == {"RGB", "L"}


def test_every_kind_of_corpus_image_draws():
    for number, kind in enumerate(corpus.KINDS):
        image = kind(np.random.default_rng(number), 32)
        assert image.shape[:2] == (32, 32)
        assert image.std() > 5


# --- truth ---------------------------------------------------------------------------------------


def test_an_image_does_not_depend_on_how_many_follow():
    for module in (retina, nuclei):
        few, many = module.generate(2, size=48), module.generate(4, size=48)
        for a, b in zip(few, many[:2], strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.mask, b.mask)


def test_streams_are_independent_of_each_other():
    first = [rng.random() for rng in samples.streams(0, "blood", 3)]
    assert first == [rng.random() for rng in samples.streams(0, "blood", 5)][:3]
    others = [rng.random() for name in ("skin", "chest") for rng in samples.streams(0, name, 3)]
    assert len({*first, *others}) == 9


@pytest.mark.parametrize("count", [8, 24, 160, 333])
def test_labels_follow_the_shares_and_leave_no_class_out(count):
    labels = samples.assign_labels(np.random.default_rng(0), skin.SHARES, count)
    counts = Counter(labels)
    assert len(labels) == count
    assert set(counts) == set(skin.SHARES)
    assert min(counts.values()) >= min(3, count // 7)


def test_skin_is_skewed_and_photographs_some_lesions_twice():
    drawn = skin.generate(100, size=16)
    counts = Counter(sample.label for sample in drawn)
    assert counts["nv"] > 10 * counts["akiec"]
    assert counts["nv"] > counts["mel"] > counts["df"]
    lesions = Counter(sample.patient for sample in drawn)
    assert 5 < sum(n > 1 for n in lesions.values()) < 30
    assert len({(sample.patient, sample.device) for sample in drawn}) == len(lesions)
    assert len({sample.image.tobytes() for sample in drawn}) == 100  # two views differ


def test_chest_patients_repeat_with_one_anatomy():
    drawn = chest.generate(60, size=32)
    films: dict[str, list[samples.Labelled]] = {}
    for sample in drawn:
        films.setdefault(sample.patient, []).append(sample)
    assert {len(own) for own in films.values()} == {1, 2, 3}
    assert all(len({sample.label for sample in own}) == 1 for own in films.values())
    same, different = [], []
    groups = [own for own in films.values() if len(own) > 1 and own[0].label == "bacteria"]
    for own, next_own in pairwise(groups):
        a, b, c = (s.image.ravel().astype(float) for s in (own[0], own[1], next_own[0]))
        same.append(np.corrcoef(a, b)[0, 1])
        different.append(np.corrcoef(a, c)[0, 1])
    assert np.mean(same) > np.mean(different)


@pytest.fixture(scope="module")
def heads():
    return [
        brain.anatomy(rng, 96, 6) for rng in samples.streams(0, "heads for the contrast tests", 4)
    ]


@pytest.mark.parametrize("hospital", sorted(brain.SCANNERS))
def test_brain_tissues_have_the_contrast_of_each_sequence(heads, hospital):
    rng = np.random.default_rng(1)
    mean = {sequence: np.zeros(9) for sequence in brain.SEQUENCES}
    for tissue, _ in heads:
        # Away from borders: partial volume is not what this is about.
        pure = ndimage.minimum_filter(tissue, (3, 3, 1)) == ndimage.maximum_filter(
            tissue, (3, 3, 1)
        )
        for sequence in brain.SEQUENCES:
            volume = brain.scan(rng, tissue, sequence, brain.SCANNERS[hospital])
            assert volume.dtype == np.int16
            assert volume.min() >= 0
            for kind in range(9):
                chosen = (tissue == kind) & pure
                if chosen.sum() < 20:  # a thin rim has no inside
                    chosen = tissue == kind
                mean[sequence][kind] += np.median(volume[chosen]) / len(heads)
    t1n, t1c, t2w, t2f = (mean[sequence] for sequence in brain.SEQUENCES)
    assert t1n[brain.FLUID] < t1n[brain.GREY] < t1n[brain.WHITE] < t1n[brain.FAT]
    assert t1n[brain.NECROSIS] < t1n[brain.SWELLING] < t1n[brain.WHITE]
    assert t1c[brain.RIM] > 1.2 * t1c[brain.WHITE] > 1.2 * t1c[brain.NECROSIS]
    assert t1n[brain.RIM] < t1n[brain.WHITE]  # it enhances only after contrast
    assert t2w[brain.FLUID] == t2w.max()
    assert t2w[brain.WHITE] < t2w[brain.GREY] < t2w[brain.SWELLING]
    assert t2f[brain.SWELLING] == t2f.max()
    assert t2f[brain.FLUID] < 0.5 * t2f[brain.WHITE]


def test_brain_parts_lie_in_the_brain_and_match_the_tissues(heads):
    for tissue, parts in heads:
        for part, own in (
            (brain.CORE, brain.NECROSIS),
            (brain.OEDEMA, brain.SWELLING),
            (brain.ENHANCING, brain.RIM),
        ):
            assert (parts == part).sum() > 0
            np.testing.assert_array_equal(parts == part, tissue == own)
        core = parts == brain.CORE
        around = ndimage.binary_dilation(core, np.ones((3, 3, 1))) & ~core
        assert np.all(parts[around] == brain.ENHANCING)
        spread = ndimage.binary_dilation(parts > 0, np.ones((3, 3, 1)))
        assert not np.isin(tissue[spread], (brain.AIR, brain.FAT)).any()


def test_hospitals_differ_and_cases_miss_a_sequence():
    cases = brain.generate(10, size=32, slices=4)
    assert len({case.name for case in cases}) == 10
    assert [len(case.sequences) for case in cases] == [4, 4, 3, 4, 4, 4, 4, 3, 4, 4]
    level = {
        case.hospital: np.mean([np.percentile(v, 99) for v in case.sequences.values()])
        for case in cases
    }
    assert level["GA"] > 1.5 * level["AL"] > 2 * level["BE"]


def test_vessels_are_darker_than_what_surrounds_them():
    for sample in retina.generate(6, size=96):
        assert set(np.unique(sample.mask)) == {0, 1}
        assert 0.02 < sample.mask.mean() < 0.3
        green = sample.image[..., 1].astype(float)
        near = ndimage.binary_dilation(sample.mask, iterations=4) & (sample.mask == 0)
        near &= green > 10  # inside the field of view
        assert np.median(green[sample.mask == 1]) < np.median(green[near]) - 3
        assert sample.image[sample.mask == 1].max(axis=1).min() > 10  # no vessel outside it


def test_instances_are_numbered_without_gaps_and_differ_from_the_ground():
    for sample in nuclei.generate(6, size=64):
        ids = np.unique(sample.mask)
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        assert len(ids) > 4
        assert np.bincount(sample.mask.ravel()).min() >= nuclei.LEAST_AREA
        grey = sample.image.mean(axis=2)
        inside, ground = grey[sample.mask > 0], grey[sample.mask == 0]
        assert abs(np.median(inside) - np.median(ground)) > 15


# --- worth learning ------------------------------------------------------------------------------


def _simple_features(image: np.ndarray) -> list[float]:
    pixels = image.reshape(*image.shape[:2], -1).astype(float)
    grey = pixels.mean(axis=2)
    quarter = len(grey) // 4
    middle = pixels[quarter:-quarter, quarter:-quarter].mean(axis=(0, 1))
    slopes = [np.abs(slope).mean() for slope in np.gradient(grey)]
    tones = np.percentile(grey, [1, 5, 20, 50, 80, 95, 99])
    return [*pixels.mean(axis=(0, 1)), *pixels.std(axis=(0, 1)), *middle, *slopes, *tones]


@pytest.mark.parametrize("module", CLASSIFIED, ids=lambda m: m.__name__.rsplit(".", 1)[-1])
def test_classes_are_learnable_but_not_by_a_line_through_pixels(module):
    train, test = (module.generate(count, seed=s, size=32) for s, count in ((0, 140), (1, 100)))
    truth = [[sample.label for sample in part] for part in (train, test)]
    pixels = [np.array([s.image.ravel() / 255 for s in part]) for part in (train, test)]
    features = [np.array([_simple_features(s.image) for s in part]) for part in (train, test)]
    linear = make_pipeline(
        PCA(30, random_state=0), StandardScaler(), LogisticRegression(max_iter=500)
    ).fit(pixels[0], truth[0])
    forest = RandomForestClassifier(60, random_state=0).fit(features[0], truth[0])
    chance = 1 / len(module.CLASSES)
    by_line = balanced_accuracy_score(truth[1], linear.predict(pixels[1]))
    by_forest = balanced_accuracy_score(truth[1], forest.predict(features[1]))
    assert by_line < 0.9
    assert max(by_line, by_forest) > 1.4 * chance


# --- shared drawing ------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.7, 3.0, (1.0, 4.0)])
def test_noises_are_standardised(sigma):
    rng = np.random.default_rng(0)
    for noise in (texture.smooth_noise(rng, (40, 41), sigma), texture.fractal_noise(rng, (40, 41))):
        assert noise.shape == (40, 41)
        assert abs(noise.mean()) < 1e-9
        assert noise.std() == pytest.approx(1)


def test_speckle_has_the_contrast_of_rayleigh_amplitudes():
    amplitude = texture.speckle(np.random.default_rng(0), (256, 256), (0.6, 0.9))
    assert amplitude.mean() == pytest.approx(1, abs=0.02)
    assert amplitude.std() / amplitude.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.03)


def test_an_ellipse_has_its_area():
    for size in (32, 64):
        area = (shapes.ellipse(size, (0.1, -0.1), (0.6, 0.3), 0.4) >= 0.5).mean() * 4
        assert area == pytest.approx(np.pi * 0.6 * 0.3, rel=0.05)


def test_many_ellipses_at_once_agree_with_one_after_the_other():
    rng = np.random.default_rng(0)
    centres, radii = rng.uniform(-1, 1, (12, 2)), rng.uniform(0.1, 0.3, (12, 2))
    angles = rng.uniform(0, np.pi, 12)
    level, _, owner = shapes.strew(rng, 48, centres, radii, angles, rough=0)
    slow = np.array(
        [
            shapes.ellipse(48, tuple(c), tuple(r), a)
            for c, r, a in zip(centres, radii, angles, strict=True)
        ]
    )
    np.testing.assert_array_equal(level > 0, (slow > 0.5).any(axis=0))
    inside = level > 0
    assert (np.take_along_axis(slow, owner[None], 0)[0][inside] > 0.5).all()


def test_the_package_names_what_it_offers():
    assert set(phantoms.__all__) == {"SPECIALTIES", "write_phantoms"}
    assert len(SPECIALTIES) == 8
