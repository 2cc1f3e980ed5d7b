"""The published network's two rivals: the CNN, and the transformer without a trunk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.cnn import CnnEncoder
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.network.trunks.backbone import NoBackbone
from nflae_bridge.training.loss import LossWeights, precoding_loss
from nflae_bridge.training.presets import recipe
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from tests.simulator.definitions import KINDS, draw_channels

Make = Callable[..., PrecodingNetwork]
RIVALS: dict[str, dict[str, Any]] = {
    "cnn": {"kind": "cnn", "family": "none", "head_width": 6},
    "transformer": {"kind": "raw", "family": "none", "head_width": 6},
}


def inputs(channels: torch.Tensor) -> UserInputs:
    one = torch.ones(len(channels))
    return UserInputs(channels, normalised_gram(channels, LinkBudget()), one, 0 * one)


def settled(network: PrecodingNetwork) -> PrecodingNetwork:
    """With the batch norms' averages those of real inputs, so that what differs between inputs reaches the heads."""
    network.train()
    with torch.no_grad():
        for seed in range(40):
            network(inputs(draw_channels(seed, 6, 8, drops=8, spread_db=10) * 5))
    return network.eval()


@pytest.mark.parametrize(("preset", "millions"), [("cnn", 0.92), ("transformer", 13.15)])
def test_rivals_have_their_published_sizes(preset: str, millions: float) -> None:
    with torch.device("meta"):
        network = PrecodingNetwork(recipe(preset).network)
    trained, total = network.parameter_counts()
    assert trained == total
    assert round(total / 1e6, 2) == millions


def test_cnn_has_the_parameters_of_its_layers() -> None:
    """Counted by hand: 3 x 3 kernels without bias, two numbers a plane for each batch norm, three heads."""
    planes = [2, 32, 64, 128, 224, 256]
    kernels = sum(9 * before * after for before, after in itertools.pairwise(planes))
    heads = 3 * (256 * 64 + 64 + 64 + 1)
    with torch.device("meta"):
        network = PrecodingNetwork(recipe("cnn").network)
    assert network.parameter_counts()[1] == kernels + 2 * sum(planes) + heads


@pytest.mark.parametrize("preset", ["cnn", "transformer"])
def test_rivals_learn_from_the_same_drops_by_the_same_loss(preset: str) -> None:
    published, rival = recipe("paper"), recipe(preset)
    for name in ("data", "loss", "steps", "learning_rate", "betas", "warm_up", "decay", "validate_every", "judge"):
        assert getattr(rival, name) == getattr(published, name), name
    assert rival.judge == "loss"
    assert rival.steps == 500 * rival.data.train // rival.data.batch  # type: ignore[attr-defined]


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("users", [1, 2, 5, 17])
def test_any_number_of_users_gets_shares(make_network: Make, rival: str, users: int) -> None:
    with torch.no_grad():
        output = make_network(**RIVALS[rival])(inputs(draw_channels(0, users, 8, drops=3)))
    for value in (output.near_field_logit, output.dual_power_fractions, output.power_fractions):
        assert value.shape == (3, users)
        assert bool(value.isfinite().all())
    for power_fractions in (output.dual_power_fractions, output.power_fractions):
        torch.testing.assert_close(power_fractions.sum(-1), torch.ones(3))


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("antennas", [4, 16])
def test_rivals_refuse_another_number_of_antennas(make_network: Make, rival: str, antennas: int) -> None:
    with pytest.raises(NflaeError, match=f"takes 8 antennas, got {antennas}; use a gram model"):
        make_network(**RIVALS[rival])(inputs(draw_channels(0, 2, antennas)))


def test_missing_channels_are_refused_as_such(make_network: Make) -> None:
    gram = normalised_gram(draw_channels(0, 2, 8), LinkBudget())
    with pytest.raises(NflaeError, match="takes 8 antennas, got none"):
        make_network(**RIVALS["cnn"])(UserInputs(None, gram, torch.ones(1), torch.zeros(1)))


@pytest.fixture(params=RIVALS)
def rival_network(request: pytest.FixtureRequest, make_network: Make) -> PrecodingNetwork:
    return settled(make_network(**RIVALS[request.param]))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), users=st.integers(1, 8), kind=st.sampled_from(KINDS))
def test_permuting_users_permutes_the_answer(rival_network: PrecodingNetwork, seed: int, users: int, kind: str) -> None:
    network = rival_network
    channels = draw_channels(seed, users, 8, kind, drops=2, spread_db=10) * 5
    order = torch.randperm(users, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        first, second = network(inputs(channels)), network(inputs(channels[:, order]))
    for name in ("near_field_logit", "dual_power_fractions", "power_fractions"):
        torch.testing.assert_close(getattr(second, name), getattr(first, name)[:, order], rtol=1e-4, atol=1e-5)
    assert users == 1 or float(first.power_fractions.std()) > 1e-4  # not a constant


@pytest.mark.parametrize("changed", [0, 5])
def test_users_see_each_other(rival_network: PrecodingNetwork, changed: int) -> None:
    """There is no trunk for it: another neighbour must change a user's token through the encoder alone."""
    channels = draw_channels(1, 6, 8) * 5
    other = channels.clone()
    other[:, changed] = draw_channels(2, 1, 8)[:, 0] * 5
    with torch.no_grad():
        first, second = (rival_network.encoder(inputs(each)).tokens for each in (channels, other))
    assert bool(((first - second).abs().amax(-1) > 1e-4).all())


def test_cnn_reads_one_plane_of_real_and_one_of_imaginary_parts() -> None:
    """Its first convolution, with all other layers taken away, is a 3 x 3 correlation at every second antenna."""
    encoder = CnnEncoder(EncoderConfig(kind="cnn", antennas=6)).eval()
    channels = draw_channels(3, 4, 6)
    image = torch.stack([channels.real, channels.imag], 1)[0]
    kernel = encoder.layers[1].weight.detach()
    with torch.no_grad():
        found = encoder.layers[:2](image[None])[0]
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1)) / (1 + 1e-5) ** 0.5  # an untrained norm: epsilon alone
    for user in range(4):
        for column in range(3):
            patch = padded[:, user : user + 3, 2 * column : 2 * column + 3]
            expected = (kernel * patch).sum((1, 2, 3))
            torch.testing.assert_close(found[:, user, column], expected, rtol=1e-4, atol=1e-5)
    assert encoder(inputs(channels)).tokens.shape == (1, 4, 256)


@pytest.mark.parametrize("kind", ["gram", "raw", "cnn"])
def test_network_without_a_trunk_has_no_weights_of_one_and_trains(make_network: Make, kind: str) -> None:
    network = make_network(kind=kind, family="none", head_width=6)
    assert isinstance(network.backbone, NoBackbone)
    assert not list(network.backbone.parameters())
    assert not any(name.startswith("backbone.") for name in network.state_dict())
    given, near = inputs(draw_channels(4, 3, 8, drops=4)), torch.arange(12).reshape(4, 3) % 2 == 0
    output = network.train()(given)
    precoding_loss(output, given.gram, near, given.alpha_c, given.min_rate, LossWeights()).total.backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not missing or (kind == "gram" and all("bias" in name for name in missing))  # no attention to bias


def test_trunk_that_is_none_hands_on_what_it_got() -> None:
    tokens = torch.randn(2, 3, 16)
    trunk = NoBackbone(BackboneConfig(family="none", width=16))
    assert torch.equal(trunk(tokens, torch.randn(2, 4, 3, 3)), tokens)


@pytest.mark.parametrize("head_width", [0, 6])
def test_training_starts_from_equal_shares_whatever_the_heads(make_network: Make, head_width: int) -> None:
    network = make_network(kind="cnn", family="none", head_width=head_width, loud=False)
    with torch.no_grad():
        output = network(inputs(draw_channels(5, 4, 8, drops=3)))
    for power_fractions in (output.dual_power_fractions, output.power_fractions):
        torch.testing.assert_close(power_fractions, torch.full((3, 4), 0.25), rtol=0, atol=0.01)


def test_unknown_encoder_lists_what_there_is() -> None:
    with pytest.raises(NflaeError, match=r"'image'.*gram, kernel, raw and cnn"):
        PrecodingNetwork(NetworkConfig(EncoderConfig(kind="image")))  # type: ignore[arg-type]
