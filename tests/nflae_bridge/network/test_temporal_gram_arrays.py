"""The NumPy form of the predictor's network against the PyTorch form, and where it applies."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nflae_bridge.engine.onnx_graphs import CoefficientGraph
from nflae_bridge.network.checkpoint import WEIGHTS, load_checkpoint, save_tensors
from nflae_bridge.network.csi.temporal_gram import TemporalGramConfig, TemporalGramNetwork
from nflae_bridge.network.export import COEFFICIENTS, export_graphs
from nflae_bridge.network.shipped import SHIPPED
from nflae_bridge.tasks.predict import load_predictor
from simulator.csi.small_batch.arrays import Problem, gram_of


def problem(history: int, ahead: int) -> Problem:
    rng = np.random.default_rng(history)
    snapshots = rng.standard_normal((3, 2, history, 6)) + 1j * rng.standard_normal((3, 2, history, 6))
    return Problem(gram_of(snapshots) / 12, rng.uniform(0.01, 1, (3, 2)), ahead)


def frozen() -> TemporalGramNetwork:
    torch.manual_seed(2)
    network = TemporalGramNetwork(TemporalGramConfig())
    torch.nn.init.normal_(network.head.weight, std=0.2)
    network.freeze()
    return network


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


def test_the_shipped_graph_is_of_the_shipped_weights_and_computes_the_same() -> None:
    folder = SHIPPED / "predict-tiny"
    content = export_graphs(load_checkpoint(folder).network, folder / WEIGHTS)[COEFFICIENTS]
    assert content == (folder / COEFFICIENTS).read_bytes()
    run, network = CoefficientGraph(folder).runner(), load_predictor()
    assert run is not None
    rng = np.random.default_rng(3)
    for series, rows in ((1, 1), (4, 17)):
        features = rng.standard_normal((series, rows, 323)).astype(np.float32) / 4
        bias = np.zeros((series, 4, rows, rows), np.float32)
        expected = network.outputs(torch.from_numpy(features), torch.from_numpy(bias)).numpy()
        np.testing.assert_allclose(run(features, bias), expected, atol=1e-4)


def test_a_graph_of_other_weights_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED / "predict-tiny", folder)
    save_tensors(folder / WEIGHTS, frozen().state_dict())
    with caplog.at_level(logging.WARNING, "nflae_bridge.engine"):
        assert CoefficientGraph(folder).runner() is None
    assert "is of other weights" in caplog.text
