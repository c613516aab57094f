"""Which test images are shown, and what is said about them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyclinic.data.dataset import IGNORE, SiteData, Task
from polyclinic.evaluate.metrics import Predictions
from polyclinic.evaluate.protocols import Outcome
from polyclinic.run.examples import PER_SITE, read_examples, write_examples


def site(task: Task, targets: np.ndarray, classes: tuple[str, ...]) -> SiteData:
    rows = np.arange(len(targets))
    return SiteData(
        name="north",
        task=task,
        classes=classes,
        images=np.full((len(targets), 1, 8, 8), 7, np.uint8),
        targets=targets,
        patients=rows,
        keys=tuple(f"image-{row}" for row in rows),
        split={"train": rows[:0], "val": rows[:0], "test": rows},
        format="npz",
    )


def outcome(outputs: np.ndarray) -> Outcome:
    empty = Predictions("regression", np.zeros(1), np.zeros(1), np.zeros(1, np.int64))
    return Outcome(empty, outputs, 0.5)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def written(folder: Path, data: SiteData, outputs: np.ndarray) -> list[dict]:
    found = write_examples(folder / "examples", data, "fedavg", outcome(outputs))
    assert read_examples(folder / "examples", ["fedavg"]) == found
    for example in found:
        assert example["method"] == "fedavg"
        assert pixels(folder / example["image"]).shape == (8, 8)
    return found


def test_one_label_comes_with_its_probability(tmp_path: Path):
    data = site("single-label", np.array([0, 0, 0, 1]), ("benign", "malignant"))
    found = written(tmp_path, data, np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]]))
    assert [e["key"] for e in found[:2]] == ["image-0", "image-3"]  # a class each comes first
    said = [(e["truth"], e["predicted"], e["probability"]) for e in found[:2]]
    assert said == [("benign", "benign", 0.9), ("malignant", "benign", 0.6)]


def test_several_labels_are_named_from_a_half_on(tmp_path: Path):
    targets = np.array([[0, 0], [0, 0], [1, 1]], np.uint8)
    data = site("multi-label", targets, ("effusion", "nodule"))
    outputs = np.array([[0.1, 0.2], [0.7, 0.2], [0.5, 0.9]])
    found = written(tmp_path, data, outputs)
    assert [e["key"] for e in found] == ["image-0", "image-2", "image-1"]
    assert [(e["truth"], e["predicted"]) for e in found] == [
        ("none", "none"),
        ("effusion, nodule", "effusion, nodule"),
        ("none", "effusion"),
    ]
    assert {e["probability"] for e in found} == {None}


def test_numbers_are_shown_from_the_smallest_to_the_largest(tmp_path: Path):
    values = np.random.default_rng(0).permutation(20).astype(np.float32)
    found = written(tmp_path, site("regression", values, ()), values + np.float32(0.25))
    truths = [float(e["truth"]) for e in found]
    assert truths == sorted(truths)
    assert (len(truths), truths[0], truths[-1]) == (PER_SITE, 0, 19)
    assert found[0]["predicted"] == "0.25"


def test_masks_keep_their_padding_out(tmp_path: Path):
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[:, :4], truth[:, :, 6:] = 1, IGNORE
    predicted = np.zeros_like(truth)
    predicted[:, :2] = 1
    found = written(tmp_path, site("segmentation", truth, ("background", "organ")), predicted)
    assert [e["dice"] for e in found] == [pytest.approx(2 / 3)] * 2
    assert pixels(tmp_path / found[0]["truth_mask"]).max() == 1


def test_examples_of_a_method_that_left_are_not_read(tmp_path: Path):
    folder = tmp_path / "examples"
    write_examples(folder, site("regression", np.zeros(2), ()), "fedavg", outcome(np.zeros(2)))
    assert read_examples(folder, ["universal"]) == []
    older = folder / "south.json"
    older.write_text('[{"site": "south", "key": "a"}]')  # as versions before wrote it
    assert [e["site"] for e in read_examples(folder, ["universal"])] == ["south"]
