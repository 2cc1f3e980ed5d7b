"""Labels by the curvature are those of the classifier, which is applied where the curvature does not decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nflae_bridge.engine.numpy_backend.near_field import LEAST_USERS, NearFieldScores
from nflae_bridge.engine.onnx_graphs import WavefrontGraph
from nflae_bridge.engine.schemes import load_network
from simulator.channels.scenario import scenario
from simulator.geometry.clear_waves import clear_waves

ENGINE = load_network("tiny", "cpu")


class Watched(NearFieldScores):
    """Note the users that are classified."""

    def __init__(self) -> None:
        super().__init__(ENGINE.network, WavefrontGraph(ENGINE.checkpoint.folder))
        self.given: list[torch.Tensor] = []

    def classify(self, channels: torch.Tensor) -> torch.Tensor:
        self.given.append(channels)
        return super().classify(channels)


@pytest.mark.parametrize(
    ("name", "antennas", "most"), [("paper", 128, 0.06), ("paper", 201, 0.12), ("paper", 256, 0.12), ("uav", 128, 0.97)]
)
def test_labels_by_the_curvature_are_those_of_the_classifier(name: str, antennas: int, most: float) -> None:
    channels = scenario(name, 10, antennas).draw(100, torch.Generator().manual_seed(3)).channels
    scores = Watched()
    found, expected = scores(channels), scores.classify(channels)
    assert torch.equal(found > 0.5, expected > 0.5)
    assert float((found - expected).abs().max()) < 0.04
    references, doubtful, everyone = scores.given
    assert references.shape[1] < 20
    assert doubtful.shape[1] < most * 1000
    assert everyone is channels
    assert torch.equal(scores(channels, clear_waves(channels)), found)


def waves(curvature: torch.Tensor, antennas: int = 256) -> torch.Tensor:
    t = (torch.arange(antennas) + 0.5) / antennas - 0.5
    return torch.exp(2j * torch.pi * curvature[:, None] * t.square()).to(torch.complex64)


def test_curvatures_near_the_border_and_beyond_the_classifier_are_classified(monkeypatch: pytest.MonkeyPatch) -> None:
    curvature = torch.tensor(
        [0.0, 0.58, 0.84, 0.91, 0.95, 0.97, 1.02, 1.05, 1.12, 1.42, 19.5, 20.5], dtype=torch.float64
    )
    channels = waves(curvature).repeat(16, 1, 1)
    scores = Watched()
    found = scores(channels)
    doubtful = [4, 5, 6, 11]
    assert torch.equal(scores.given[1].reshape(16, 4, 256), channels[:, doubtful])
    torch.testing.assert_close(found, scores.classify(channels), atol=5e-3, rtol=0)
    # Wider limits where the wave explains less of the energy.
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(channels.shape, dtype=torch.complex64, generator=generator)
    for level, least, most, doubtful in ((0.085, 0.99, 0.995, 6), (0.14, 0.97, 0.99, 8)):
        clear = clear_waves(channels + level * noise)
        between = (least < clear.share) & (clear.share < most)
        assert between[:, :10].mean() > 0.9
        scores.given.clear()
        scores(channels, clear)
        assert 16 * (doubtful - 1) < scores.given[0].shape[1] < 16 * (doubtful + 1)

    # A classifier of another border.
    monkeypatch.setattr(Watched, "classify", lambda self, users: torch.full(users.shape[:-1], 0.8))
    assert (Watched()(channels) == 0.8).all()


def test_few_users_few_antennas_and_a_reference_are_classified() -> None:
    channels = waves(torch.zeros(LEAST_USERS - 1))[None]
    short = waves(torch.zeros(LEAST_USERS), 127)[None]
    for given in (channels, short):
        scores = Watched()
        scores(given)
        assert len(scores.given) == 1
        assert scores.given[0].shape == given.shape
    scores = Watched()
    scores(channels[:, :3], clear_waves(channels[:, :3]))
    assert [each.shape[1] > 3 for each in scores.given] == [True]  # the references alone
    reference = NearFieldScores(ENGINE.network, None)
    everyone = waves(torch.full((LEAST_USERS,), 0.3))[None]
    assert torch.equal(reference(everyone), reference.classify(everyone))


def test_labels_of_close_waves_dark_halves_and_tapers_are_those_of_the_classifier() -> None:
    generator, users, antennas = np.random.default_rng(7), 1000, 256
    place = (np.arange(antennas) + 0.5) / antennas - 0.5

    def drawn(curvature: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return np.exp(-2j * np.pi * (curvature[:, None] * place**2 + slope[:, None] * antennas * place))

    curvature, slope = generator.uniform(0.6, 1.4, users), generator.uniform(-0.5, 0.5, users)
    first, turned = drawn(curvature, slope), np.exp(2j * np.pi * generator.random((users, 1)))
    second = turned * drawn(generator.uniform(0, 3, users), slope + generator.uniform(-2, 2, users) / antennas)
    scores = NearFieldScores(ENGINE.network, WavefrontGraph(ENGINE.checkpoint.folder))
    dark = np.abs(place + 0.5) > 0.01
    for channels in (
        first + 0.1 * second,
        first + 0.35 * second,
        first + 0.45 * second,
        first * (place > 0),
        first * dark,
        first * (place + 0.5),
    ):
        given = torch.from_numpy(channels.astype(np.complex64))[None]
        assert torch.equal(scores(given) > 0.5, scores.classify(given) > 0.5)
