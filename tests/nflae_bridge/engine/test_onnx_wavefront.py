"""The compiled near/far classifier against PyTorch's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.onnx_wavefront import CompiledClassifier
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.network.encoders.wavefront import WavefrontClassifier
from simulator.channels.scenario import scenario
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch


def classifier(seed: int, width: int = 24) -> WavefrontClassifier:
    """A classifier whose weights are large enough for every feature to matter."""
    torch.manual_seed(seed)
    built = WavefrontClassifier(width).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(2)
    return built


def users(seed: int, antennas: int, count: int, noise: float) -> torch.Tensor:
    """Near and far users' wavefronts, with noise, in either convention."""
    generator = torch.Generator().manual_seed(seed)
    drawn = scenario("paper", users=count, antennas=antennas).draw(1, generator).channels[0]
    noisy = drawn + noise / antennas**0.5 * torch.randn(drawn.shape, dtype=torch.complex64, generator=generator)
    return torch.where(torch.arange(count).unsqueeze(-1) % 2 == 0, noisy, noisy.conj())


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    antennas=st.integers(1, 300),
    count=st.integers(1, 8),
    noise=st.floats(0, 2),
    scale=st.sampled_from([1e-15, 1.0, 1e12]),
)
def test_it_computes_what_pytorch_does(seed: int, antennas: int, count: int, noise: float, scale: float) -> None:
    built, channels = classifier(seed), scale * users(seed, antennas, count, noise)
    with torch.no_grad():
        expected = built(channels)
    found = CompiledClassifier(built)(channels.numpy())
    assert found.dtype == np.float32
    # Beams of equal energy, of which either may be called the best, come with a single antenna or two.
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("antennas", [1, 16, 100, 256, CompiledClassifier.most_antennas])
def test_no_channel_gets_a_number(antennas: int) -> None:
    assert np.isfinite(CompiledClassifier(classifier(1))(np.zeros((2, 3, antennas), np.complex64))).all()


def test_threads_may_share_it_and_any_number_of_users_comes_back_in_their_shape() -> None:
    compiled = CompiledClassifier(classifier(2))
    channels = users(3, 64, 1000, 0.1).reshape(100, 10, 64).numpy()
    whole = compiled(channels)
    assert whole.shape == (100, 10)
    with ThreadPoolExecutor(4) as pool:
        drops = list(pool.map(compiled, channels))
    np.testing.assert_allclose(np.stack(drops), whole, rtol=0, atol=1e-4)
    assert compiled(channels[:0]).shape == (0, 10)


@pytest.mark.parametrize("antennas", [256, CompiledClassifier.most_antennas + 1])
def test_labels_are_the_same_whoever_computes_them(antennas: int) -> None:
    """The first call's are PyTorch's, the second's are compiled up to so many antennas."""
    engine = load_scheme("nflae", "tiny", "cpu")
    assert isinstance(engine, Engine)
    channels = users(4, antennas, 30, 0.1).reshape(3, 10, antennas)
    first, second = (engine(ChannelBatch(channels), LinkBudget()) for _ in range(2))
    torch.testing.assert_close(first.near_field_score, second.near_field_score, rtol=0, atol=1e-4)
    assert torch.equal(first.near_field, second.near_field)
    assert bool(first.near_field.any())
