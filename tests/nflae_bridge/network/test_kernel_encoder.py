"""The kernel encoder: what its features are, and what must not change its answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.network.checkpoint import WEIGHTS, load_checkpoint, read_tensors, save_checkpoint, save_tensors
from nflae_bridge.network.config import BackboneConfig, EncoderConfig, NetworkConfig
from nflae_bridge.network.encoders.gram import Constraints, GramMagnitudes
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.encoders.kernel import KERNELS, USER_FEATURES, kernel_features
from nflae_bridge.network.model import PrecodingNetwork
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from tests.simulator.definitions import KINDS, draw_channels, unit_rows


def loud_network() -> PrecodingNetwork:
    """A network whose weights are large enough for every part to matter."""
    torch.manual_seed(1)
    encoder = EncoderConfig(kind="kernel", blocks=2, edge_width=4)
    network = PrecodingNetwork(NetworkConfig(encoder, BackboneConfig(family="none", width=16))).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return network


def shares(network: PrecodingNetwork, channels: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """lambda / P, then P_k / P, under constraints."""
    gram, one = normalised_gram(channels, LinkBudget()), torch.ones(len(channels))
    with torch.no_grad():
        output = network(UserInputs(None, gram, 0.6 * one, 0.3 * one, near))
    return torch.stack([output.dual_power_fractions, output.power_fractions])


def test_the_network_answers_to_channels_labels_and_messages() -> None:
    """Else the invariances below would hold of a constant."""
    network, channels = loud_network(), draw_channels(0, 4, 8, drops=2, spread_db=10)
    near = torch.tensor([[True, False, False, True]] * 2)
    reference = shares(network, channels, near)
    assert float((shares(network, channels, ~near) - reference).abs().max()) > 1e-3
    assert float((shares(network, draw_channels(1, 4, 8, drops=2), near) - reference).abs().max()) > 1e-3
    with torch.no_grad():
        for message in network.encoder.messages:  # type: ignore[union-attr]
            message.weight.zero_()  # type: ignore[union-attr,operator]
    assert float((shares(network, channels, near) - reference).abs().max()) > 1e-4


@pytest.mark.parametrize("kind", ["gaussian", "rank-deficient", "near-parallel"])
def test_order_phases_and_rotations_of_antenna_space_change_nothing(kind: str) -> None:
    network, channels = loud_network(), draw_channels(2, 5, 12, kind, drops=3, spread_db=20)
    rng = np.random.default_rng(0)
    near = torch.from_numpy(rng.random((3, 5)) < 0.5)
    reference = shares(network, channels, near)
    unitary = np.linalg.qr(rng.standard_normal((40, 40)) + 1j * rng.standard_normal((40, 40)))[0][:12]
    rotated = (channels.to(torch.complex128) @ torch.from_numpy(unitary)).to(torch.complex64)
    turned = channels * torch.exp(1j * torch.arange(5)).to(torch.complex64)[:, None]
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(shares(network, rotated, near), reference, rtol=0, atol=1e-4)
    torch.testing.assert_close(shares(network, turned, near), reference, rtol=0, atol=1e-4)
    permuted = shares(network, channels[:, order], near[:, order])
    torch.testing.assert_close(permuted, reference[..., order], rtol=0, atol=1e-4)


def test_features_are_what_they_are_called() -> None:
    channels, noise = draw_channels(6, 4, 8, drops=1, spread_db=10), 0.02
    gram, near, one = normalised_gram(channels, LinkBudget(1.0, noise)), torch.tensor([[True, False, False, True]]), 1.0
    constraints = Constraints(near, torch.tensor([0.7 * one]), torch.tensor([0.3 * one]))
    users, kernels = kernel_features(GramMagnitudes.of(gram), constraints, torch.float64)
    assert users.shape == (1, 4, USER_FEATURES)
    assert len(kernels) == KERNELS
    h = channels[0].numpy().astype(complex)
    gains = np.linalg.norm(h, axis=1) ** 2 / noise
    coherence = np.abs(unit_rows(h).conj() @ unit_rows(h).T) ** 2 - np.eye(4)
    alone = gains / (4 + gains)  # 1 - ((I + Gamma / K)^-1)_kk of a user by itself
    expected = [coherence, -np.log(1.0001 - coherence * np.outer(alone, alone))]
    for found, kernel in zip(kernels, expected, strict=True):
        np.testing.assert_allclose(found[0], kernel, atol=1e-5)
    shared = np.log(1 + gains / 4)
    by_user = {
        0: np.log(gains) / 5,
        1: shared / 3,
        2: np.log(1 + coherence @ gains / 4) / 3,
        3: expected[0].sum(1) / 2,
        4: expected[1].sum(1) / 2,
        5: coherence.max(1),
        6: np.full(4, np.log(gains).mean() / 5),
        7: np.full(4, shared.mean() / 3),
        8: [1, 0, 0, 1],
        9: np.full(4, 0.5),
        10: np.full(4, 0.7),
        11: np.full(4, 0.3),
        12: np.ones(4),
        13: np.full(4, np.log(4) / 2),
    }
    for index, value in by_user.items():
        np.testing.assert_allclose(users[0, :, index], value, atol=1e-5, err_msg=f"user feature {index}")


def test_models_with_the_features_of_earlier_versions_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, loud_network(), {})
    tensors, _ = read_tensors(tmp_path / WEIGHTS)
    tensors["encoder.users.weight"] = torch.zeros(16, 19)
    save_tensors(tmp_path / WEIGHTS, tensors)
    with pytest.raises(NflaeError, match=r"model\.json: a kernel encoder of an earlier version; train it again"):
        load_checkpoint(tmp_path)


def test_the_logarithmic_kernel_is_exact_for_two_users() -> None:
    """Beside a second user, ((I + Gamma / K)^-1)_11 is what it is alone times the exponential of the kernel."""
    gram = normalised_gram(draw_channels(3, 2, 8, drops=3, spread_db=10), LinkBudget(1.0, 0.1)).to(torch.complex128)
    _, kernels = kernel_features(GramMagnitudes.of(gram), None, torch.float64)
    inverse = np.linalg.inv(np.eye(2) + gram.numpy() / 2)[:, 0, 0].real
    alone = 1 / (1 + gram[:, 0, 0].real.numpy() / 2)
    np.testing.assert_allclose(inverse / alone, np.exp(kernels[1][:, 0, 1].numpy()), rtol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("users", "antennas"), [(1, 1), (6, 2), (16, 8)])
@pytest.mark.parametrize("noise", [1e-8, 1e8])
def test_features_are_finite_on_degenerate_drops(kind: str, users: int, antennas: int, noise: float) -> None:
    gram = normalised_gram(draw_channels(7, users, antennas, kind, spread_db=60), LinkBudget(1.0, noise))
    features, kernels = kernel_features(GramMagnitudes.of(gram), None, torch.float32)
    for values in (features, *kernels):
        assert bool(values.isfinite().all())
        assert float(values.abs().max()) < 200
