"""Device and precision: chosen by measurement, overridden by the environment."""

import pytest
import torch

from polyclinic.errors import ConfigError
from polyclinic.models import device as module
from polyclinic.models.device import (
    autocast,
    describe,
    device,
    fixed_precision,
    fixed_threads,
    precision,
)


@pytest.fixture
def free(exact, monkeypatch):
    """On the CPU, but free to choose the precision."""
    monkeypatch.delenv("POLYCLINIC_PRECISION")
    module._fastest.cache_clear()
    yield
    module._fastest.cache_clear()


def test_the_environment_decides(exact, monkeypatch):
    monkeypatch.setenv("POLYCLINIC_DEVICE", "cpu:0")
    assert device() == torch.device("cpu:0")
    monkeypatch.setenv("POLYCLINIC_PRECISION", "bfloat16")
    assert precision() == torch.bfloat16


@pytest.mark.parametrize(
    ("seconds", "chosen"), [(0.5, torch.bfloat16), (0.9, torch.float32), (20, torch.float32)]
)
def test_bfloat16_must_win_clearly(free, monkeypatch, seconds, chosen):
    times = {torch.float32: 1.0, torch.bfloat16: seconds}
    monkeypatch.setattr(module, "_step_seconds", times.__getitem__)
    assert precision() == chosen


def test_the_choice_is_made_once(free, monkeypatch):
    timed = []
    monkeypatch.setattr(module, "_step_seconds", lambda dtype: timed.append(dtype) or 1.0)
    precision()
    with torch.inference_mode(False), torch.no_grad():
        precision()
    assert len(timed) == 2


def test_a_precision_that_is_fixed_is_neither_measured_nor_asked_for(free, monkeypatch):
    monkeypatch.setattr(module, "_step_seconds", None)
    with fixed_precision(torch.bfloat16):
        assert describe()["precision"] == "bfloat16"
        monkeypatch.setenv("POLYCLINIC_PRECISION", "float32")
        assert precision() == torch.bfloat16
    assert precision() == torch.float32


def test_a_step_can_be_timed_where_gradients_are_off():
    with torch.no_grad():
        assert module._step_seconds(torch.float32) > 0


def test_autocast_is_nothing_in_float32(exact, monkeypatch):
    x = torch.ones(2, 2)
    with autocast():
        assert (x @ x).dtype == torch.float32
    monkeypatch.setenv("POLYCLINIC_PRECISION", "bfloat16")
    with autocast():
        assert (x @ x).dtype == torch.bfloat16


def test_threads_are_fixed_for_a_while(exact):
    with fixed_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


def test_what_a_run_records(exact):
    found = describe()
    assert found["device"] == "cpu"
    assert found["precision"] == "float32"
    assert found["threads"] == 1
    assert found["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["meta", "cuda:4096"])
def test_a_device_that_computes_nothing_is_refused(exact, monkeypatch, name):
    monkeypatch.setenv("POLYCLINIC_DEVICE", name)
    with pytest.raises(
        ConfigError, match=rf"POLYCLINIC_DEVICE: expected a device .* got '{name}' \(\w+"
    ):
        describe()


def test_nonsense_in_the_environment_is_said_plainly(exact, monkeypatch):
    monkeypatch.setenv("POLYCLINIC_DEVICE", "toaster")
    with pytest.raises(ConfigError, match=r"POLYCLINIC_DEVICE: expected a device .* got 'toaster'"):
        device()
    monkeypatch.setenv("POLYCLINIC_PRECISION", "float7")
    with pytest.raises(ConfigError, match="expected one of float32, bfloat16, got 'float7'"):
        precision()
