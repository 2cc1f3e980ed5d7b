"""Declare estimation: noisy pilots of one channel to the gains per beam that define its estimate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nflae_bridge.network.csi.beam_gain import BeamGainConfig, BeamGainNetwork, build
from nflae_bridge.tasks.task import Comparison, Measures, Parts, Task, register
from nflae_bridge.training.pilot_data import PilotBatch, PilotDistribution
from nflae_bridge.training.recipe import Preset, Recipe
from simulator.csi.estimation.canonical import CanonicalBeams, canonical_beams

_FLOOR = 1e-4  # of the relative error: below -40 dB nothing is gained


def error_db(estimate: Tensor, channels: Tensor) -> Tensor:
    """Compute the normalised mean squared error of estimates.

    Parameters
    ----------
    estimate : Tensor
        complex64 (series, snapshots, antennas).
    channels : Tensor
        complex64 (series, snapshots, antennas).

    Returns
    -------
    Tensor
        10 log10(||estimate - h||^2 / ||h||^2), float32 (series,), -40 dB at least.
    """
    error = (estimate - channels).abs().square().sum((1, 2)) / channels.abs().square().sum((1, 2))
    return 10 * torch.log10(error + _FLOOR)


_Inputs = tuple[CanonicalBeams, Tensor, Tensor]


@torch.no_grad()
def _prepare(network: BeamGainNetwork, batch: PilotBatch, settings: None) -> _Inputs:
    """Compute the network's input: beams, those of the true channels, and whether the noise variance is known."""
    beams = canonical_beams(batch.observation, batch.geometry)
    return beams, beams.beams_of(batch.channels), batch.known


def _loss(network: BeamGainNetwork, inputs: _Inputs, settings: None) -> Parts:
    beams, truth, known = inputs
    error = error_db(network(beams, beams.received, beams.fit, known), truth).mean()
    below_fit = error_db(beams.fit, truth).mean() - error
    return {"loss": error, "gain_over_fit_db": below_fit}


def _validation(batches: Sequence[PilotBatch], settings: None) -> Callable[[BeamGainNetwork], Measures]:
    """Prepare the network's inputs; measure the mean error, and its distance below that of the sparse fit."""
    prepared: list[_Inputs] = []

    def measure(network: BeamGainNetwork) -> Measures:
        if not prepared:
            prepared.extend(_prepare(network, batch, None) for batch in batches)
        with torch.inference_mode():
            rows = [_loss(network, inputs, None) for inputs in prepared]
        return {name: float(torch.stack([row[name] for row in rows]).mean()) for name in rows[0]}

    return measure


@torch.no_grad()
def _compare(network: BeamGainNetwork, batch: PilotBatch) -> Comparison:
    """Compare negative errors in dB, per series."""
    from simulator.csi.estimation.estimate import estimate_channels

    def figure(method: str) -> tuple[Tensor, list[str]]:
        answer = estimate_channels(batch.observation, batch.geometry, method=method, network=network, known=batch.known)
        return -error_db(answer.channels, batch.channels), answer.method

    figures = {name: figure(name)[0] for name in ("nflae", *ESTIMATE.rivals)}
    guarded, methods = figure("auto")
    return Comparison(figures, guarded, torch.tensor([method != "nflae" for method in methods]))


_PRESETS = {
    "estimate-tiny": Preset(
        "gains per beam from noisy pilots, for any line or panel (shipped)",
        Recipe(
            BeamGainConfig(),
            PilotDistribution(),
            steps=3_000,
            learning_rate=3e-3,
            warm_up=30,
            decay=0.7,
            validate_every=300,
            judge="loss",
        ),
    ),
}

ESTIMATE = register(
    Task(
        name="estimate",
        summary="channels from noisy pilots",
        config=BeamGainConfig,
        build=build,
        parts=("gain_over_fit_db",),
        loss=_loss,
        measures=("gain_over_fit_db",),
        validation=_validation,
        score=lambda measures: -measures["loss"],
        score_meaning="mean error of the channels in dB, negative",
        presets=_PRESETS,
        guard="per user, average of network and classical methods, weighted by Stein's unbiased risk estimates",
        rivals=("ls", "beam-gain", "omp", "polar-omp"),
        figure="error of the channels, dB, negative",
        compare=_compare,
        prepare=_prepare,
    )
)
