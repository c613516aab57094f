"""Encoders as files: what is written is what is loaded, and nothing that runs is opened."""

import io
import json
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

import polyclinic
from polyclinic.errors import RunError
from polyclinic.models import exporting as module
from polyclinic.models.encoder import build_encoder
from polyclinic.models.exporting import Exported, read_export, save_export
from polyclinic.models.state import state_of


@pytest.fixture
def folder(tmp_path):
    encoder = build_encoder("small", seed=3)
    save_export(Exported(state_of(encoder), "small", 48, 256, {"method": "mim"}), tmp_path)
    return tmp_path


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("code.py", "print('hello')")
    return content.getvalue()


def test_an_encoder_comes_back_as_a_plain_module(folder):
    encoder = polyclinic.load_encoder(str(folder))
    assert isinstance(encoder, torch.nn.Module)
    assert not encoder.training
    images = torch.rand(2, 1, 20, 33)
    assert torch.equal(encoder.embed(images), build_encoder("small", seed=3).eval().embed(images))
    found = read_export(folder)
    assert (found.image_size, found.largest_side, found.origin) == (48, 256, {"method": "mim"})


def test_the_weights_may_be_named_themselves(folder):
    assert polyclinic.load_encoder(folder / "encoder.safetensors").config.embedding == 240


def test_another_file_of_the_folder_does_not_stand_for_it(folder):
    (folder / "README.md").write_text("x")
    for name in ("README.md", "config.json"):
        with pytest.raises(
            RunError, match=rf"{name}: expected the folder .* its encoder\.safetens"
        ):
            polyclinic.load_encoder(folder / name)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("weights.bin", b"anything", "a PyTorch file, which may hold a pickle"),
        ("extra.pt", b"", "a PyTorch file"),
        ("notes.pkl", b"", "a pickle"),
        ("setup.py", b"", "a program"),
        ("data", pickle.dumps({"a": 1}), "a pickle"),
        ("README", zipped(), "a zip archive"),
        ("run", b"#!/bin/sh\n", "a program"),
        ("sub/x.pkl", b"", "a pickle"),
        ("a/b/c/d/e/x", pickle.dumps({"a": 1}), "a pickle"),
    ],
)
def test_what_could_run_is_refused_wherever_it_lies(folder, name, content, kind):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}: {kind}.*was not opened; expected a folder"):
        polyclinic.load_encoder(folder)


def test_a_run_is_no_export_whatever_lies_in_it(folder):
    change(folder, schema=None)
    (folder / "seed-0").mkdir()
    (folder / "seed-0" / "predictions.npz").write_bytes(zipped())
    with pytest.raises(RunError, match=r"expected schema 'polyclinic\.encoder/1', got None"):
        polyclinic.load_encoder(folder)


def test_nothing_hidden_and_no_link_is_followed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "x.pkl").touch()
    (folder / ".git").mkdir()
    (folder / ".git" / "hook.sh").touch()
    (folder / "round").symlink_to(folder)
    (folder / "away").symlink_to(elsewhere)
    polyclinic.load_encoder(folder)


def test_the_search_for_programs_has_an_end(folder, monkeypatch):
    monkeypatch.setattr(module, "_MAX_FILES", 3)
    (folder / "sub").mkdir()
    (folder / "sub" / "0").touch()
    polyclinic.load_encoder(folder)
    (folder / "sub" / "1").touch()
    with pytest.raises(RunError, match=r"more than 3 files in it, .*; expected a folder with enc"):
        polyclinic.load_encoder(folder)


@pytest.mark.parametrize("content", [pickle.dumps([1] * 9), zipped()])
def test_a_pickle_by_another_name_is_still_one(folder, content):
    (folder / "encoder.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=r"encoder\.safetensors: a (pickle|zip archive); it could"):
        polyclinic.load_encoder(folder)


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path):
    for length in range(1, 800):  # until the header is 0x280 bytes long: 80 02 00 ...
        save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"note": "x" * length})
        if (tmp_path / "a.safetensors").read_bytes()[:2] == b"\x80\x02":
            break
    else:
        pytest.fail("no header of that length")
    with pytest.raises(RunError, match=r"no config\.json in it"):
        polyclinic.load_encoder(tmp_path)


def test_other_weights_are_noticed(folder):
    other = state_of(build_encoder("small", seed=4))
    save_file(other, folder / "encoder.safetensors")
    with pytest.raises(RunError, match=r"not the weights that config\.json was written for"):
        polyclinic.load_encoder(folder)


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"schema": "x"}, r"expected schema 'polyclinic\.encoder/1', got 'x'"),
        ({"preset": "huge"}, r"preset: expected small or base, got 'huge'"),
        ({"preset": "base"}, r"not the weights of the encoder 'base': \d+ tensors are missing"),
        ({"image_size": 0}, r"expected px above 0, got \[0, 256\]"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_line(folder, values, text):
    change(folder, **values)
    with pytest.raises(RunError, match=text) as caught:
        polyclinic.load_encoder(folder)
    assert "\n" not in str(caught.value)


def test_broken_and_missing_files_are_named(folder, tmp_path):
    (folder / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json: cannot be read .*export the encoder again"):
        polyclinic.load_encoder(folder)
    with pytest.raises(RunError, match=r"nowhere: no such file or folder; expected a folder"):
        polyclinic.load_encoder(tmp_path / "nowhere")
