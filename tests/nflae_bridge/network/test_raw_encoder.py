"""The raw encoder and the published network's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from matlab_io.errors import NflaeError
from nflae_bridge.network.config import EncoderConfig
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.encoders.raw import RawEncoder
from nflae_bridge.network.model import PrecodingNetwork
from nflae_bridge.training.presets import recipe
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from tests.simulator.definitions import KINDS, draw_channels

Make = Callable[..., PrecodingNetwork]


def inputs(channels: torch.Tensor) -> UserInputs:
    one = torch.ones(len(channels))
    return UserInputs(channels, normalised_gram(channels, LinkBudget()), one, 0 * one)


def test_published_network_has_the_published_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """5.95 M trained of 129.56 M; weights are not needed to count them, so they live on the meta device."""

    def gpt2_small(source: str, **_: Any) -> torch.nn.Module:
        assert source == "gpt2"
        return transformers.GPT2Model(transformers.GPT2Config())

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", gpt2_small)
    with torch.device("meta"):
        network = PrecodingNetwork(recipe("paper").network)
    trained, total = network.parameter_counts()
    assert round(trained / 1e6, 2) == 5.95
    assert round(total / 1e6, 2) == 129.56
    backbone = list(network.backbone.parameters())
    assert round(sum(p.numel() for p in backbone) / 1e6, 2) == 124.44
    assert round(sum(p.numel() for p in backbone if p.requires_grad) / 1e6, 2) == 0.82
    assert trained == sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_raw_encoder_reads_real_then_imaginary_parts() -> None:
    encoder = RawEncoder(EncoderConfig(kind="raw", blocks=0, antennas=3)).eval()
    channels = torch.tensor([[[1 + 2j, 3 + 4j, 5 + 6j]]], dtype=torch.complex64)
    tokens = encoder(inputs(channels)).tokens
    torch.testing.assert_close(tokens, torch.tensor([[[1.0, 3, 5, 2, 4, 6]]]), rtol=1e-4, atol=1e-4)


def test_raw_encoder_normalises_over_users_and_drops() -> None:
    encoder = RawEncoder(EncoderConfig(kind="raw", blocks=0, antennas=4)).train()
    channels = draw_channels(0, 5, 4, drops=64) * 30 + 7
    tokens = encoder(inputs(channels)).tokens.flatten(0, 1)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(8), rtol=0, atol=1e-4)
    torch.testing.assert_close(tokens.std(0, correction=0), torch.ones(8), rtol=0, atol=1e-3)


@pytest.mark.parametrize("antennas", [4, 16])
def test_raw_encoder_refuses_another_number_of_antennas(make_network: Make, antennas: int) -> None:
    with pytest.raises(NflaeError, match=f"takes 8 antennas, got {antennas}"):
        make_network(kind="raw")(inputs(draw_channels(0, 2, antennas)))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), users=st.integers(1, 8), kind=st.sampled_from(KINDS))
def test_permuting_users_permutes_the_answer(make_network: Make, seed: int, users: int, kind: str) -> None:
    network = make_network(kind="raw", attention="causal")
    channels = draw_channels(seed, users, 8, kind, drops=2, spread_db=10) * 5
    order = torch.randperm(users, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        first, second = network(inputs(channels)), network(inputs(channels[:, order]))
    for name in ("near_field_logit", "dual_power_fractions", "power_fractions"):
        torch.testing.assert_close(getattr(second, name), getattr(first, name)[:, order], rtol=1e-4, atol=1e-5)
    assert users == 1 or float(first.power_fractions.std()) > 1e-4  # not a constant
