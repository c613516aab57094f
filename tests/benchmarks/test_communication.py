"""Quality against bytes: which stages are judged, what is counted, and when the claim holds."""

from types import SimpleNamespace

import pytest
import torch

import communication
import tuning
from polyclinic.config import Config
from polyclinic.federation.site import NORMS
from polyclinic.federation.stages import Stages, StageStore


def test_stages_are_judged_at_powers_of_two_and_at_the_end():
    assert communication.shown(1) == [1]
    assert communication.shown(8) == [1, 2, 4, 8]
    assert communication.shown(6) == [1, 2, 4, 6]


def test_every_way_is_of_a_method_that_exchanges_and_of_settings_that_there_are(tmp_path):
    for method, settings in communication.WAYS.values():
        assert method in communication.TITLES
        tuning.changed(Config((), tmp_path), settings)
    assert {communication.LEAD, communication.OVER} <= communication.WAYS.keys()


def test_fedbn_is_judged_with_each_sites_own_normalisation():
    shared = {"norms.0.weight": torch.zeros(2), "stem.weight": torch.ones(1)}
    own = {f"{NORMS}norms.0.weight": torch.full((2,), 3.0)}
    stages = Stages(1, 2, {"": shared}, {"blood": own})
    found = communication.encoders_of("fedbn", stages, ["blood", "skin"])
    assert found["blood"]["norms.0.weight"].tolist() == [3, 3]
    assert found["skin"]["norms.0.weight"].tolist() == [0, 0]
    assert communication.encoders_of("fedavg", stages, ["blood"])["blood"] is shared


def test_a_curve_has_the_encoder_of_each_stage_and_the_bytes_until_then(monkeypatch, tmp_path):
    def trained(config, method, seed, data, workers, start, folder, log):
        store = StageStore(folder, log)
        for done in range(1, config.local.stages + 1):
            said = {"blood": {"bytes_up": 10, "bytes_down": 30}}
            state = {"weight": torch.tensor([float(done)])}
            record = {"unit": f"{done}", "stage": done, "sites": said}
            store.save(Stages(done, config.local.stages, {"": state}), record)

    def probe(preset, encoder, *_):
        return SimpleNamespace(validation=float(encoder["weight"]) / 10)

    start = {"weight": torch.tensor([0.5])}
    monkeypatch.setattr(tuning, "trained", trained)
    monkeypatch.setattr(tuning, "start_of", lambda *_: start)
    monkeypatch.setattr(communication, "linear_probe", probe)
    data = SimpleNamespace(sites={"blood": None})
    config = tuning.changed(Config((), tmp_path), {"local.stages": 3})
    found = communication.curve(config, data, "universal", 0, tmp_path)
    assert [(point["stage"], point["bytes"], point["mean"]) for point in found] == [
        (0, 0, 0.05), (1, 40, 0.1), (2, 80, 0.2), (3, 120, 0.3)
    ]  # fmt: skip


def points(*found):
    """A curve of (bytes, mean)."""
    return [
        {"stage": n, "bytes": size, "mean": mean, "linear-probe": {"blood": mean}}
        for n, (size, mean) in enumerate(found)
    ]


@pytest.mark.parametrize(
    ("score", "share", "passes"), [(0.8, 0.05, True), (0.6, 0.2, False), (0.1, None, False)]
)
def test_the_share_is_of_the_bytes_until_the_last_score_of_the_other_is_reached(
    score, share, passes
):
    theirs = points((0, 0.2), (50, 0.75), (100, 0.7))
    ours = points((0, 0.3), (5, score), (20, score + 0.1))
    rows = [
        {"way": way, "seed": 4, "curve": found}
        for way, found in ((communication.LEAD, ours), (communication.OVER, theirs))
    ]
    found = communication.summed_up(rows)["bar"]
    assert (found["share"], found["pass"], found["seeds"]) == (share, passes, [4])


def test_a_seed_that_never_gets_there_leaves_no_mean_share_and_no_rival_no_verdict():
    theirs, ours = points((0, 0.2), (100, 0.7)), points((0, 0.3), (5, 0.9))
    rows = [
        {"way": way, "seed": seed, "curve": found}
        for way, seed, found in (
            (communication.LEAD, 0, ours),
            (communication.LEAD, 1, points((0, 0.3), (5, 0.6))),
            (communication.OVER, 0, theirs),
            (communication.OVER, 1, theirs),
        )
    ]
    assert communication.summed_up(rows)["bar"]["share"] is None
    assert communication.summed_up(rows)["bar"]["pass"] is False
    assert communication.summed_up(rows[:1])["bar"]["pass"] is None


def test_curves_are_means_over_seeds_and_drawn_with_a_line_each(tmp_path):
    rows = [
        {"way": "fedavg", "seed": seed, "curve": points((0, 0.2), (2**20, last))}
        for seed, last in enumerate((0.4, 0.6))
    ]
    result = communication.summed_up(rows)
    assert result["ways"][0]["curve"][1]["mean"] == pytest.approx(0.5)
    communication._draw(result, tmp_path)
    assert "FedAvg" in (tmp_path / "communication.svg").read_text(encoding="utf-8")
