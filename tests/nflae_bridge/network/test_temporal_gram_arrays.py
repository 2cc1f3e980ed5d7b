"""The NumPy form of the predictor's network against the PyTorch form, and where it applies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nflae_bridge.network.csi.temporal_gram import TemporalGramConfig, TemporalGramNetwork
from simulator.csi.small_batch.arrays import Problem, gram_of


def problem(history: int, ahead: int) -> Problem:
    rng = np.random.default_rng(history)
    snapshots = rng.standard_normal((3, 2, history, 6)) + 1j * rng.standard_normal((3, 2, history, 6))
    return Problem(gram_of(snapshots) / 12, rng.uniform(0.01, 1, (3, 2)), ahead)


def frozen() -> TemporalGramNetwork:
    torch.manual_seed(2)
    network = TemporalGramNetwork(TemporalGramConfig())
    torch.nn.init.normal_(network.head.weight, std=0.2)
    return network.requires_grad_(False)


@pytest.mark.parametrize(("histories", "ahead"), [((16, 12), 4), ((24, 5), 11), ((4, 2), 1)])
def test_both_forms_compute_the_same_coefficients(histories: tuple[int, int], ahead: int) -> None:
    network = frozen()
    arrays = network.array_predictor()
    assert arrays is not None
    problems = [problem(history, ahead) for history in histories]
    for given, found in zip(problems, arrays(problems), strict=True):
        expected = network(torch.from_numpy(given.gram), torch.from_numpy(given.noise), ahead).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_networks_that_are_trained_have_no_form_for_arrays() -> None:
    assert TemporalGramNetwork(TemporalGramConfig()).array_predictor() is None
    network = frozen()
    assert network.array_predictor() is network.array_predictor()
