"""The compiled network against PyTorch's, and the features of a single drop against those of a batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nflae_bridge.engine.numpy_features import FeatureInputs, features
from nflae_bridge.engine.numpy_small_batch import Drops
from nflae_bridge.engine.onnx_graph import FromSecondUse
from nflae_bridge.engine.onnx_network import CompiledNetwork, compilable
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.gram import gram_features
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.model import PrecodingNetwork
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.sinr import rates, sinr
from simulator.downlink.structure import structured_beams


def network(seed: int, heads: int = 2, per_head: int = 8, layers: int = 2) -> PrecodingNetwork:
    """A small network whose weights are large enough for every part to matter."""
    torch.manual_seed(seed)
    backbone = BackboneConfig(width=heads * per_head, layers=layers, heads=heads, attention="coherence")
    built = PrecodingNetwork(NetworkConfig(EncoderConfig(kind="gram", blocks=0), backbone)).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            spread = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
            parameter.add_(torch.randn_like(parameter), alpha=spread)
    return built


def inputs(seed: int, drops: int, users: int, snr_db: float = 10.0) -> UserInputs:
    generator = torch.Generator().manual_seed(seed)
    channels = torch.randn(drops, users, 24, dtype=torch.complex64, generator=generator)
    gram = normalised_gram(channels, LinkBudget(1.0, 24 * 10 ** (-snr_db / 10)))
    one = torch.ones(drops, dtype=torch.float64)
    nobody = torch.zeros(drops, users, dtype=torch.bool)
    return UserInputs(None, gram, one, 0 * one, nobody)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    heads=st.integers(1, 4),
    per_head=st.integers(1, 12),
    layers=st.integers(1, 4),
    users=st.integers(1, 12),
    drops=st.integers(1, 4),
)
def test_it_computes_what_pytorch_does(
    seed: int, heads: int, per_head: int, layers: int, users: int, drops: int
) -> None:
    built, asked = network(seed, heads, per_head, layers), inputs(seed, drops, users)
    assert compilable(built)
    with torch.no_grad():
        expected = built(asked)
    seen = gram_features(asked.gram, asked.near_field, asked.alpha_c, asked.min_rate)  # type: ignore[arg-type]
    found = CompiledNetwork(built).power_fractions(*(part.numpy() for part in seen))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[..., 0], expected.dual_power_fractions.numpy(), rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(found[..., 1], expected.power_fractions.numpy(), rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_a_user_who_is_given_nothing_makes_no_drop_without_numbers() -> None:
    built, asked = network(1), inputs(1, drops=1, users=4)
    with torch.no_grad():
        built.heads["power"].bias.fill_(-1e4)
    seen = gram_features(asked.gram, asked.near_field, asked.alpha_c, asked.min_rate)  # type: ignore[arg-type]
    found = CompiledNetwork(built).power_fractions(*(part.numpy() for part in seen))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(EncoderConfig(kind="gram", blocks=1), BackboneConfig(width=16, layers=1, heads=2)),
        NetworkConfig(EncoderConfig(kind="gram"), BackboneConfig(width=16, layers=1, heads=2, attention="causal")),
        NetworkConfig(EncoderConfig(kind="cnn"), BackboneConfig(width=16, layers=1, heads=2)),
    ],
)
def test_networks_of_other_kinds_are_left_to_pytorch(config: NetworkConfig) -> None:
    assert not compilable(PrecodingNetwork(config))


def test_it_is_compiled_once_and_not_for_a_single_use() -> None:
    built = network(2)
    asked = FromSecondUse(lambda: CompiledNetwork(built))
    assert asked() is None
    with ThreadPoolExecutor(4) as pool:
        compiled = {id(one) for one in pool.map(lambda _: asked(), range(16))}
    assert compiled == {id(asked())}


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), drops=st.integers(1, 3), users=st.integers(1, 12), snr_db=st.floats(-30, 30))
def test_features_of_few_drops_are_those_of_many(seed: int, drops: int, users: int, snr_db: float) -> None:
    asked = inputs(seed, drops, users, snr_db)
    expected = gram_features(asked.gram, asked.near_field, asked.alpha_c, asked.min_rate)  # type: ignore[arg-type]
    equal = torch.full((drops, users), 1 / users, dtype=torch.float64)
    beams = structured_beams(asked.gram, equal)
    gram = asked.gram.numpy()
    own = np.einsum("dkk->dk", gram).real.copy()
    coherence = np.abs(gram) ** 2 / (own[:, :, None] * own[:, None])
    coherence[:, np.arange(users), np.arange(users)] = 0
    rate = rates(sinr(beams.effective_gains, equal)).numpy()
    inverse = np.ascontiguousarray(beams.coefficients.numpy())
    found = features(FeatureInputs(own, coherence, inverse, beams.effective_gains.numpy(), rate))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.flags.c_contiguous
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    drops=st.integers(1, 4),
    users=st.integers(1, 15),
    snr_db=st.floats(-60, 80),
    unit=st.sampled_from([1e-18, 1e-7, 1.0, 1e12, 1e18]),
    coherent=st.booleans(),
)
def test_inner_products_are_right_in_single_precision_and_in_double(
    seed: int, drops: int, users: int, snr_db: float, unit: float, coherent: bool
) -> None:
    generator = np.random.default_rng(seed)
    channels = generator.normal(size=(drops, users, 24, 2)).view(np.complex128)[..., 0] * unit
    if coherent:
        channels[-1, -1] = channels[-1, 0] + 1e-3 * channels[-1, -1]
    channels = channels.astype(np.complex64)
    snr = 10 ** (snr_db / 10) / (24 * unit**2)
    found = Drops.of(channels, snr)
    exact = channels.astype(np.complex128) * np.sqrt(snr)
    gram = exact.conj() @ exact.transpose(0, 2, 1)
    needs_float64 = np.zeros(drops, bool) if found.needs_float64 is None else found.needs_float64
    for drop in range(drops):
        own = gram[drop].diagonal().real
        precision = 1e-13 if needs_float64[drop] else 1e-6
        np.testing.assert_allclose(found.gram[drop], gram[drop], rtol=0, atol=precision * own.max())
        assert needs_float64[drop] or (own.max() < 3e3 and found.coherence[drop].max() <= 0.999)
    if users > 1 and coherent:
        assert needs_float64[-1]
    if users > 12 or unit in (1e-18, 1e18):
        assert needs_float64.all()
