import numpy as np
import pytest
import torch

from polyclinic.models.encoder import Encoder, EncoderConfig, build_encoder
from polyclinic.models.loading import encoder_with, features_with
from polyclinic.models.side_by_side import SideBySide, apart, beside
from polyclinic.models.state import state_of


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (1, 3, 40, 24)])
def test_maps_are_those_of_each_encoder_in_turn(shape):
    pair = [build_encoder("small", seed) for seed in (1, 2)]
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = SideBySide(pair)
        maps, own = both(images), [encoder(images) for encoder in pair]
        embedded = both.embed(images)
    for stage, together in enumerate(maps):
        assert together.shape[1] == both.config.widths[stage] == 2 * pair[0].config.widths[stage]
        first, second = together.chunk(2, dim=1)
        assert torch.equal(first, own[0][stage])
        assert torch.equal(second, own[1][stage])
    assert embedded.shape == (shape[0], both.config.embedding)


def test_weights_put_beside_each_other_come_apart_again():
    states = [state_of(build_encoder("small", seed)) for seed in range(3)]
    together = beside(*states)
    for state, again in zip(states, apart(together), strict=True):
        assert state.keys() == again.keys()
        assert all(torch.equal(state[name], again[name]) for name in state)
    assert state_of(features_with("small", together)).keys() == together.keys()


def test_the_weights_of_one_encoder_are_that_encoder():
    state = state_of(build_encoder("small", 1))
    assert apart(state) == [state]
    found, known = features_with("small", state), encoder_with("small", state)
    assert isinstance(found, Encoder)
    images = torch.from_numpy(np.linspace(0, 1, 32 * 32, dtype=np.float32)).reshape(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(found.embed(images), known.embed(images))


def test_encoders_of_other_depth_are_refused():
    shallow = Encoder(EncoderConfig((16, 32), (1, 1)))
    with pytest.raises(ValueError, match=r"equally many stages, got \[2, 4\]"):
        SideBySide([build_encoder("small", 0), shallow])
