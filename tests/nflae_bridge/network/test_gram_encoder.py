"""The gram encoder: what it sees, and what must not change it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nflae_bridge.network.encoders.gram import (
    PAIR_FEATURES,
    USER_FEATURES,
    Constraints,
    FeatureInputs,
    gram_features,
)
from nflae_bridge.network.encoders.interface import UserInputs
from nflae_bridge.network.encoders.wavefront import (
    FEATURES,
    LONG_SUBARRAY,
    WavefrontClassifier,
    curvature_features,
    fourier,
    subarray_beams,
    subarray_length,
    subarrays_of,
)
from nflae_bridge.network.model import NetworkOutput, PrecodingNetwork
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.geometry.arrays import UniformLinearArray
from simulator.geometry.near_field import wavefront_curvature
from simulator.geometry.steering import near_field_steering
from tests.simulator.definitions import KINDS, draw_channels, structured_beams, unit_rows

Make = Callable[..., PrecodingNetwork]


def labels(drops: int, users: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((drops, users)) < 0.5)


def run(
    network: PrecodingNetwork,
    channels: torch.Tensor,
    near_field: torch.Tensor | None,
    budget: LinkBudget | None = None,
) -> NetworkOutput:
    gram, drops = normalised_gram(channels, budget or LinkBudget()), len(channels)
    with torch.no_grad():
        return network(UserInputs(channels, gram, torch.full((drops,), 0.6), torch.full((drops,), 0.3), near_field))


def assert_same_shares(first: NetworkOutput, second: NetworkOutput, order: torch.Tensor | None = None) -> None:
    for name in ("dual_power_fractions", "power_fractions"):
        ours, theirs = getattr(first, name), getattr(second, name)
        torch.testing.assert_close(theirs, ours if order is None else ours[:, order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["coherence", "causal"])
@pytest.mark.parametrize("users", [1, 2, 5, 16])
def test_shares_are_positive_and_sum_to_one(make_network: Make, attention: str, users: int) -> None:
    output = run(make_network(attention=attention), draw_channels(0, users, 8, drops=4), labels(4, users))
    for power_fractions in (output.dual_power_fractions, output.power_fractions):
        assert power_fractions.shape == (4, users)
        assert bool((power_fractions > 0).all())
        torch.testing.assert_close(power_fractions.sum(-1), torch.ones(4))


def test_loud_network_answers_to_its_inputs(make_network: Make) -> None:
    """Else the invariances below would hold of a constant."""
    network, channels = make_network(), draw_channels(0, 4, 8, drops=2, spread_db=10)
    reference = run(network, channels, labels(2, 4))
    assert float(reference.power_fractions.std()) > 0.01
    others = (
        run(network, draw_channels(1, 4, 8, drops=2, spread_db=10), labels(2, 4)),
        run(network, channels, ~labels(2, 4)),
        run(network, channels, labels(2, 4), LinkBudget(noise_power=1.0)),
    )
    for other in others:
        assert float((other.power_fractions - reference.power_fractions).abs().max()) > 1e-3


@pytest.mark.parametrize("attention", ["coherence", "causal"])
@pytest.mark.parametrize("kind", ["gaussian", "rank-deficient", "near-parallel"])
def test_rotation_of_antenna_space_changes_nothing_given_labels(make_network: Make, attention: str, kind: str) -> None:
    """Gamma alone decides: also on another number of antennas."""
    network, channels = make_network(attention=attention), draw_channels(2, 5, 12, kind, drops=3, spread_db=20)
    rng = np.random.default_rng(0)
    unitary = np.linalg.qr(rng.standard_normal((40, 40)) + 1j * rng.standard_normal((40, 40)))[0][:12]
    rotated = (channels.to(torch.complex128) @ torch.from_numpy(unitary)).to(torch.complex64)
    near = labels(3, 5)
    assert_same_shares(run(network, channels, near), run(network, rotated, near))


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), users=st.integers(1, 10), kind=st.sampled_from(KINDS))
def test_users_phases_change_nothing(make_network: Make, seed: int, users: int, kind: str) -> None:
    network, channels = make_network(), draw_channels(seed, users, 8, kind, spread_db=10)
    phase = torch.polar(torch.ones(users), 6.3 * torch.rand(users, generator=torch.Generator().manual_seed(seed)))
    for near in (labels(1, users, seed), None):
        first, second = run(network, channels, near), run(network, channels * phase[:, None], near)
        assert first.near_field_logit is not None
        assert second.near_field_logit is not None
        torch.testing.assert_close(first.near_field_logit, second.near_field_logit, rtol=0, atol=1e-4)
        if near is not None or bool((first.near_field_logit.abs() > 1e-3).all()):
            assert_same_shares(first, second)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e5])
def test_unit_of_the_csi_changes_nothing(make_network: Make, scale: float) -> None:
    network, channels = make_network(attention="causal"), draw_channels(3, 4, 8, drops=2, spread_db=10)
    reference = run(network, channels, None, LinkBudget(1.0, 0.01))
    scaled = run(network, channels * scale, None, LinkBudget(4.0, 0.04 * scale**2))
    assert_same_shares(reference, scaled)
    torch.testing.assert_close(scaled.near_field_logit, reference.near_field_logit, rtol=0, atol=1e-4)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    users=st.integers(1, 10),
    kind=st.sampled_from(KINDS),
    attention=st.sampled_from(["coherence", "causal"]),
)
def test_permuting_users_permutes_the_answer(
    make_network: Make, seed: int, users: int, kind: str, attention: str
) -> None:
    network = make_network(attention=attention)
    channels = draw_channels(seed, users, 8, kind, drops=2, spread_db=10)
    order = torch.randperm(users, generator=torch.Generator().manual_seed(seed))
    near = labels(2, users, seed)
    first, second = run(network, channels, near), run(network, channels[:, order], near[:, order])
    assert_same_shares(first, second, order)
    assert first.near_field_logit is not None
    torch.testing.assert_close(second.near_field_logit, first.near_field_logit[:, order], rtol=0, atol=1e-5)


def test_phases_do_not_reorder_equal_users_before_a_causal_backbone(make_network: Make) -> None:
    network, near = make_network(attention="causal"), torch.tensor([[True, False]])
    phase = torch.polar(torch.ones(2), torch.tensor([0.7, 2.2]))
    for seed in range(20):
        channels = draw_channels(seed, 2, 8)  # two users of unit norm: every sum over |Gamma|^2 is the same
        assert_same_shares(run(network, channels, near), run(network, channels * phase[:, None], near))


def test_drops_do_not_see_each_other(make_network: Make) -> None:
    network, channels, near = make_network(attention="causal"), draw_channels(4, 5, 8, drops=6), labels(6, 5)
    together = run(network, channels, near)
    for drop in range(6):
        alone = run(network, channels[drop : drop + 1], near[drop : drop + 1])
        torch.testing.assert_close(alone.power_fractions[0], together.power_fractions[drop], rtol=0, atol=1e-6)


def test_channels_may_be_missing_if_labels_are_given(make_network: Make) -> None:
    network, channels, near = make_network(), draw_channels(5, 3, 8), labels(1, 3)
    gram, one = normalised_gram(channels, LinkBudget()), torch.ones(1)
    output = network(UserInputs(None, gram, 0.6 * one, 0.3 * one, near))
    assert output.near_field_logit is None
    assert_same_shares(run(network, channels, near), output)
    with pytest.raises(ValueError, match="channels or near-field labels"):
        network(UserInputs(None, gram, one, one, None))


def features_of(
    gram: torch.Tensor, near: torch.Tensor, alpha_c: float, min_rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    one = torch.ones(len(gram))
    return gram_features(FeatureInputs.of(gram), Constraints(near, alpha_c * one, min_rate * one), torch.float32)


def test_without_constraints_features_are_those_of_constraints_that_never_bind() -> None:
    gram = normalised_gram(draw_channels(6, 4, 8, drops=3, spread_db=10), LinkBudget(1.0, 0.02))
    free = gram_features(FeatureInputs.of(gram), None, torch.float32)
    for found, expected in zip(free, features_of(gram, torch.zeros(3, 4, dtype=torch.bool), 1.0, 0.0), strict=True):
        torch.testing.assert_close(found, expected)


def test_features_are_what_they_are_called() -> None:
    channels, noise = draw_channels(6, 4, 8, drops=1, spread_db=10), 0.02
    near = torch.tensor([[True, False, False, True]])
    gram = normalised_gram(channels, LinkBudget(1.0, noise))
    users, pairs = features_of(gram, near, 0.7, 0.3)
    assert users.shape == (1, 4, USER_FEATURES)
    assert pairs.shape == (1, 4, 4, PAIR_FEATURES)
    h = channels[0].numpy().astype(complex)
    gains = np.linalg.norm(h, axis=1) ** 2 / noise
    coherence = np.abs(unit_rows(h).conj() @ unit_rows(h).T) ** 2
    beams = unit_rows(structured_beams(h, np.full(4, 0.25), noise))
    seen = np.abs(h.conj() @ beams.T) ** 2 / noise / 4
    rate = np.log2(1 + np.diag(seen) / (1 + seen.sum(1) - np.diag(seen)))
    crowd = coherence - np.eye(4)
    expected = {
        0: np.log10(gains) / 2,
        1: np.log10(gains / gains.max()),
        3: rate / 4,
        4: rate - rate.mean(),
        6: crowd.max(1),
        7: crowd.sum(1) / 2,
        10: [1, 0, 0, 1],
        11: np.full(4, 0.5),
        12: np.full(4, 0.7),
        13: np.full(4, 0.3),
        14: np.ones(4),
        15: np.full(4, 1.0),
    }
    for index, value in expected.items():
        np.testing.assert_allclose(users[0, :, index], value, atol=1e-5, err_msg=f"user feature {index}")
    np.testing.assert_allclose(pairs[0, ..., 0], coherence, atol=1e-5)
    np.testing.assert_allclose(pairs[0, ..., 6], np.log1p(seen) / 2, atol=1e-5)
    np.testing.assert_allclose(pairs[0, ..., 7], np.log1p(seen.T) / 2, atol=1e-5)
    np.testing.assert_allclose(pairs[0, ..., 4], np.log10(gains[:, None] / gains[None]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("users", "antennas"), [(1, 1), (1, 8), (6, 2), (16, 8)])
@pytest.mark.parametrize("noise", [1e-8, 1e8])
def test_features_are_finite_on_degenerate_drops(kind: str, users: int, antennas: int, noise: float) -> None:
    gram = normalised_gram(draw_channels(7, users, antennas, kind, spread_db=60), LinkBudget(1.0, noise))
    for features in features_of(gram, labels(1, users), 1.0, 0.0):
        assert bool(features.isfinite().all())
        assert float(features.abs().max()) < 200


def wavefront_features(channels: torch.Tensor) -> torch.Tensor:
    users = channels.reshape(-1, channels.shape[-1])
    return curvature_features(*best_beams(users))[:, 0].reshape(*channels.shape[:-1], FEATURES)


def best_beams(channels: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """By the Fourier matrix for short sub-arrays, by an FFT for long ones."""
    length = subarray_length(channels.shape[-1])
    matrix = fourier(length, channels.device) if length <= LONG_SUBARRAY else None
    return subarray_beams(subarrays_of(channels), matrix)


@pytest.mark.parametrize("antennas", [1, 5, 17, 256, 1024, 1030, 2000])
def test_the_best_beam_is_that_of_a_fourier_transform(antennas: int) -> None:
    channels = draw_channels(6, 3, antennas)[0].numpy()
    length = -(-antennas // 16)
    padded = np.zeros((3, 16 * length), complex)
    padded[:, :antennas] = channels / np.linalg.norm(channels, axis=-1, keepdims=True)
    beams = np.fft.fft(padded.reshape(3, 16, length), 2 * length) / np.sqrt(length)
    energy = (np.abs(beams) ** 2).sum(1)
    (real, imaginary), around = best_beams(torch.from_numpy(channels))
    outputs = torch.complex(real, imaginary)
    for user, best in enumerate(energy.argmax(-1)):
        places = [best, (best - 2) % (2 * length), (best + 2) % (2 * length)]
        np.testing.assert_allclose(around[user], energy[user, places], rtol=1e-4, atol=1e-6)
        expected = beams[user, :, best] / np.linalg.norm(beams[user, :, best])
        np.testing.assert_allclose(outputs[user], expected, atol=1e-5)


def test_the_second_features_are_those_of_the_conjugated_channels() -> None:
    (real, imaginary), energies = best_beams(draw_channels(9, 40, 256)[0])
    features = curvature_features((real, imaginary), energies)
    conjugated = curvature_features((real, -imaginary), energies[:, [0, 2, 1]])
    torch.testing.assert_close(features, conjugated.flip(1), rtol=0, atol=1e-4)
    assert not torch.allclose(features[:, 0], features[:, 1], atol=1e-2)


def test_wavefront_features_follow_their_definition_in_complex_numbers() -> None:
    (real, imaginary), energies = best_beams(draw_channels(12, 9, 256)[0])
    found = curvature_features((real, imaginary), energies).numpy()
    outputs = torch.complex(real, imaginary).numpy().astype(complex)
    steps = outputs[:, 1:] * outputs[:, :-1].conj()
    flat = outputs * np.exp(-1j * np.angle(steps.sum(1, keepdims=True)) * np.arange(16))
    flat *= np.exp(-1j * np.angle(flat.sum(1, keepdims=True)))
    steps = flat[:, 1:] * flat[:, :-1].conj()
    bends = steps[:, 1:] * steps[:, :-1].conj()
    mean_bend = (16 * bends.sum(1, keepdims=True)).view(float).clip(-3, 3)
    aperture = (np.arange(16) + 0.5) / 16 - 0.5
    slope = np.arange(32) / 16 - 1
    chirp = np.exp(
        -2j * np.pi * np.linspace(0, 2.6, 14)[:, None, None] ** 2 * aperture**2
        + 2j * np.pi * slope[:, None] * 8 * aperture
    )
    for reading, (values, bend, around, mean) in enumerate(
        (
            (flat, bends, energies.numpy(), mean_bend),
            (flat.conj(), bends.conj(), energies[:, [0, 2, 1]].numpy(), mean_bend * [1, -1]),
        )
    ):
        match = np.abs(np.einsum("ut,bst->ubs", values, chirp.conj()) / 4).max(2)
        unit = bend / np.abs(bend)
        parts = [4 * values.real, 4 * values.imag, 4 * np.abs(values), unit.real, unit.imag, around]
        expected = np.concatenate([*parts, match, match - match[:, :1], mean], 1)
        np.testing.assert_allclose(found[:, reading], expected, rtol=0, atol=1e-4)


def test_the_classifier_takes_the_larger_logit_of_both_readings() -> None:
    channels, larger = draw_channels(13, 6, 256)[0], set()
    for seed in range(8):  # the first reading is the larger one for some weights, the second for others
        torch.manual_seed(seed)
        classifier = WavefrontClassifier()
        readings = classifier.layers(curvature_features(*best_beams(channels)))[..., 0]
        torch.testing.assert_close(classifier(channels), readings.amax(-1), rtol=0, atol=1e-5)
        larger |= set(readings.argmax(-1).tolist())
    assert larger == {0, 1}


@pytest.mark.parametrize("antennas", [3, 100, 256])
def test_matrix_and_fft_give_the_same_beams(antennas: int) -> None:
    subarrays = subarrays_of(draw_channels(11, 8, antennas)[0])
    (real, imaginary), energies = best_beams(draw_channels(11, 8, antennas)[0])
    (real2, imaginary2), energies2 = subarray_beams(subarrays, None)
    torch.testing.assert_close(energies, energies2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(real, real2, rtol=0, atol=1e-5)
    torch.testing.assert_close(imaginary, imaginary2, rtol=0, atol=1e-5)


def test_many_users_are_classified_like_few() -> None:
    channels = draw_channels(10, 10, 64, drops=100)
    classifier = WavefrontClassifier()
    one_by_one = torch.cat([classifier(drop.unsqueeze(0)) for drop in channels])
    torch.testing.assert_close(classifier(channels), one_by_one, rtol=0, atol=1e-4)


@pytest.mark.parametrize("antennas", [1, 2, 15, 16, 17, 64, 200, 300])
def test_wavefront_features_serve_every_array_and_no_scale_or_phase(antennas: int) -> None:
    channels = draw_channels(8, 4, antennas)
    features = wavefront_features(channels)
    assert features.shape == (1, 4, FEATURES)
    assert bool(features.isfinite().all())
    moved = wavefront_features(channels * torch.polar(torch.tensor(3e-7), torch.tensor(2.0)))
    torch.testing.assert_close(moved, features, rtol=0, atol=2e-3)
    assert bool(wavefront_features(torch.zeros(1, antennas, dtype=torch.complex64)).isfinite().all())
    classifier = WavefrontClassifier()
    assert classifier(channels).shape == (1, 4)
    # a file of rows h_k^H reaches us conjugated: the label must not depend on that
    torch.testing.assert_close(classifier(channels.conj()), classifier(channels), rtol=0, atol=1e-4)


@pytest.mark.parametrize("antennas", [64, 128, 256, 512])
def test_best_matching_chirp_is_the_users_curvature(antennas: int) -> None:
    """Fourteen features are the match with beta = 0, 0.2, ... 2.6, whatever the array and the angle."""
    array = UniformLinearArray(antennas=antennas)
    for beta in (0.0, 0.4, 0.8, 1.2, 1.8):
        angle = torch.linspace(-0.9, 0.9, 25, dtype=torch.float64)
        reach = (array.aperture * torch.cos(angle)) ** 2 / (2 * array.wavelength * max(beta, 0.01) ** 2)
        if beta:
            torch.testing.assert_close(wavefront_curvature(array, angle, reach), torch.full_like(angle, beta))
        features = wavefront_features(near_field_steering(array, angle, reach))
        match = features[:, 48 + 28 + 3 : 48 + 28 + 3 + 14]
        found = 0.2 * match.argmax(-1)
        # a quarter cycle over a sub-array is the resolution near beta = 0
        assert float((found - beta).abs().max()) <= (0.41 if beta < 0.5 else 0.21)
