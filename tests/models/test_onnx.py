"""The ONNX file gives what PyTorch gives, at sizes that it was not exported at."""

import sys

import numpy as np
import pytest
import torch

from polyclinic.errors import ConfigError, RunError
from polyclinic.models import onnx as ours
from polyclinic.models.encoder import build_encoder, pool


def test_onnx_equals_torch_at_several_sizes(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    encoder = build_encoder("small", seed=1).eval()
    with torch.no_grad():
        for number, parameter in enumerate(encoder.parameters()):
            parameter += 0.02 * torch.sin(torch.arange(parameter.numel()) + number).view_as(
                parameter
            )  # blocks begin as the identity
    path = tmp_path / "encoder.onnx"
    assert ours.write_onnx(encoder, path) <= ours.TOLERANCE
    assert [p.name for p in tmp_path.iterdir()] == ["encoder.onnx"]
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["embedding", "map_2", "map_4", "map_8", "map_16"]
    for shape in ((1, 3, 64, 64), (5, 3, 17, 90), (2, 3, 112, 33)):
        images = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            maps = encoder(images)
        outputs = session.run(None, {"images": images.numpy()})
        for expected, found in zip([pool(maps), *maps], outputs, strict=True):
            np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"the package .*onnxruntime.*polyclinic\[onnx\]"):
        ours.write_onnx(build_encoder("small", seed=1), tmp_path / "e.onnx")


def test_a_file_that_differs_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: None)
    monkeypatch.setattr(ours, "_difference", lambda *_: 0.5)
    with pytest.raises(RunError, match=r"differs from PyTorch by 0\.5, more than 0\.0001"):
        ours.write_onnx(build_encoder("small", seed=1), tmp_path / "e.onnx")
