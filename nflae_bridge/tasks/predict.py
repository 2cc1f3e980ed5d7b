"""Declare the task ``predict``: the next snapshots of channels from their noisy history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from nflae_bridge.network.csi.temporal_gram import TemporalGramConfig, TemporalGramNetwork
from nflae_bridge.network.shipped import load_model
from nflae_bridge.tasks.task import Comparison, Measures, Parts, Task, register
from nflae_bridge.training.loss import predicted_rate_loss
from nflae_bridge.training.moving_paths import draw_moving_paths, draw_rich_paths
from nflae_bridge.training.recipe import CPU, Preset, Recipe, Streams
from simulator.csi.beams import ArrayGeometry
from simulator.csi.prediction.linear import PreparedWindow, prepare_window
from simulator.csi.prediction.registry import predict_window
from simulator.csi.prediction.window import Window

_VALIDATION_SEED = 7_777_777
_FAR_WEIGHT = 0.25
_FLOOR = 1e-3
_BEAMS = 8  # strong beams per window in training
_NOISE = 0.01  # sigma^2 / P of the link in the loss


@dataclass(frozen=True)
class HistoryBatch:
    """Hold noisy histories and the snapshots that follow them.

    Parameters
    ----------
    window
        The histories.
    future
        True snapshots, complex64 (series, ahead, antennas).
    """

    window: Window
    future: Tensor

    def to(self, device: torch.device) -> HistoryBatch:
        """Return the batch on ``device``."""
        window = self.window
        moved = Window(window.snapshots.to(device), window.noise_variance.to(device), window.geometry)
        return HistoryBatch(moved, self.future.to(device))


@dataclass(frozen=True)
class MovingUsers:
    """Distribution of histories: sums of rays of `nflae_bridge.training.moving_paths` with white noise.

    Parameters
    ----------
    series
        Series per batch of a line array; three times as many without geometry.
    antennas, histories
        Choices of N and P, one each per batch.
    ahead
        Snapshots to predict.
    known_line
        Share of batches in which the array is known to be a line.
    snr_db
        Range of the SNR per antenna, dB.
    noisy, noisy_snr_db
        Share of series whose SNR is drawn up to ``noisy_snr_db``, dB, instead.
    rich
        Share of batches in rich scattering, `draw_rich_paths` instead of `draw_moving_paths`.
    """

    series: int = 64
    antennas: tuple[int, ...] = (16, 32, 64, 64, 128)
    histories: tuple[int, ...] = (16, 16, 16, 16, 16, 12, 8, 5)
    ahead: int = 8
    known_line: float = 2 / 3
    snr_db: tuple[float, float] = (-5.0, 30.0)
    noisy: float = 0.5
    noisy_snr_db: float = 12.0
    rich: float = 0.5

    def training(self, seed: int, step: int, device: torch.device = CPU) -> HistoryBatch:
        """Draw the batch of a step.

        Parameters
        ----------
        seed, step
            Seed of the run, and step.
        device
            Device on which the batch is drawn.

        Returns
        -------
        HistoryBatch
            The batch.
        """
        streams = Streams.of(seed, step, device)
        antennas = self.antennas[int(torch.randint(len(self.antennas), (1,), generator=streams.host))]
        history = self.histories[int(torch.randint(len(self.histories), (1,), generator=streams.host))]
        line = bool(torch.rand(1, generator=streams.host) < self.known_line)
        return self._draw(antennas, history, ArrayGeometry("line" if line else "none"), streams)

    def validation(self) -> list[HistoryBatch]:
        """Return eight batches of the longest history, half of them with a known line."""
        generator = torch.Generator().manual_seed(_VALIDATION_SEED)
        streams = Streams(generator, generator)
        choices = [(n, kind) for n in sorted(set(self.antennas)) for kind in ("none", "line")]
        return [self._draw(n, max(self.histories), ArrayGeometry(kind), streams) for n, kind in choices]  # type: ignore[arg-type]

    def _draw(self, antennas: int, history: int, geometry: ArrayGeometry, streams: Streams) -> HistoryBatch:
        series = self.series if geometry.kind == "line" else 3 * self.series
        slots = max(self.histories)
        generator, device = streams.tensors, streams.tensors.device
        rich = bool(torch.rand(1, generator=streams.host) < self.rich)
        draw = draw_rich_paths if rich else draw_moving_paths
        channels = draw(series, antennas, slots + self.ahead, generator, slots, streams.host)[:, slots - history :]
        level, kind = torch.rand(2, series, generator=generator, device=device)
        low, high = self.snr_db
        highest = torch.where(kind < self.noisy, self.noisy_snr_db, high)
        variance = 10 ** -((low + (highest - low) * level) / 10)
        noise = torch.randn(channels.shape, dtype=torch.complex64, generator=generator, device=device)
        noisy = channels + variance.sqrt()[:, None, None] * noise
        return HistoryBatch(Window(noisy[:, :history], variance, geometry), channels[:, history:])


@dataclass(frozen=True)
class PredictionLoss:
    """Weights of the loss.

    Parameters
    ----------
    rate
        Weight of the share of the sum rate that predicted CSI costs; beside it, the mean logarithm of NMSE and of
        1 - SGCS count 1.
    """

    rate: float = 3.0


def _errors(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the NMSE and 1 - SGCS (squared generalised cosine similarity), real (series, ahead)."""
    power, other = truth.abs().square().sum(-1), found.abs().square().sum(-1)
    error = (found - truth).abs().square().sum(-1) / power
    similarity = (found.conj() * truth).sum(-1).abs().square() / (power * other).clamp(min=1e-30)
    return error, (1 - similarity).clamp(min=0)


@dataclass(frozen=True)
class _Inputs:
    """Prepared batch: the histories, and the snapshots that follow them."""

    window: PreparedWindow
    future: Tensor

    def predict(self, network: TemporalGramNetwork) -> Tensor:
        """Predict as many snapshots as follow, complex64 (series, ahead, antennas)."""
        return self.window.apply(network(self.window.gram, self.window.noise, self.future.shape[1]))


@torch.no_grad()
def _prepare(network: TemporalGramNetwork, batch: HistoryBatch, settings: PredictionLoss) -> _Inputs:
    return _Inputs(prepare_window(batch.window, _BEAMS, mixture=True), batch.future)


def _loss(network: TemporalGramNetwork, inputs: _Inputs, settings: PredictionLoss) -> Parts:
    """Return the weighted logarithms of errors and lost rate; horizons beyond the fourth count a quarter."""
    predicted = inputs.predict(network)
    error, dissimilarity = _errors(predicted, inputs.future)
    logarithm = (torch.log10(error + _FLOOR) + torch.log10(dissimilarity + _FLOOR)) / 2
    lost = predicted_rate_loss(predicted, inputs.future, _NOISE)
    each = logarithm.mean(0) + settings.rate * lost
    total = each[:4].mean() + (_FAR_WEIGHT * each[4:].mean() if len(each) > 4 else 0)
    nmse_db = 10 * torch.log10(error.detach()[:, :4].clamp(min=1e-12)).mean()
    return {"loss": total, "nmse_db": nmse_db, "lost_rate": lost[:4].mean().detach()}


def _validation(batches: Sequence[HistoryBatch], settings: PredictionLoss) -> Callable[[TemporalGramNetwork], Measures]:
    """Compute the mean NMSE over the first four horizons, dB, that of autoregression less it, and the lost sum rate."""
    rivals = [_mean_nmse_db(predict_window(b.window, 4, "ar").channels, b) for b in batches]

    @torch.no_grad()
    def measure(network: TemporalGramNetwork) -> Measures:
        prepared = [_prepare(network, batch, settings) for batch in batches]
        found = [_loss(network, inputs, settings) for inputs in prepared]
        predicted = [inputs.predict(network)[:, :4] for inputs in prepared]
        errors = [_mean_nmse_db(each, batch) for each, batch in zip(predicted, batches, strict=True)]
        mean = sum(errors) / len(errors)
        return {
            "loss": sum(float(each["loss"]) for each in found) / len(found),
            "nmse_db": mean,
            "below_ar_db": sum(rivals) / len(rivals) - mean,
            "lost_rate": sum(float(each["lost_rate"]) for each in found) / len(found),
        }

    return measure


def _mean_nmse_db(found: Tensor, batch: HistoryBatch) -> float:
    return float(_series_nmse_db(found, batch).mean())


def _series_nmse_db(found: Tensor, batch: HistoryBatch) -> Tensor:
    error, _ = _errors(found, batch.future[:, : found.shape[1]])
    return 10 * torch.log10(error.clamp(min=1e-12)).mean(-1)


def _score(measures: Measures) -> float:
    return measures["below_ar_db"]


@torch.no_grad()
def _compare(network: TemporalGramNetwork, batch: HistoryBatch) -> Comparison:
    """Compare the mean NMSE over four horizons, dB, with the sign changed."""
    ahead = min(4, batch.future.shape[1])
    answer = predict_window(batch.window, ahead, "auto", network)
    methods = ("nflae", *PREDICT.rivals)
    figures = {m: -_series_nmse_db(predict_window(batch.window, ahead, m, network).channels, batch) for m in methods}
    other = torch.tensor([method != "nflae" for method in answer.method])
    return Comparison(figures, -_series_nmse_db(answer.channels, batch), other)


@cache
def load_predictor(model: str = "auto") -> TemporalGramNetwork:
    """Load a network of this task on the CPU, for `simulator.csi.prediction.registry.predict_window`.

    Parameters
    ----------
    model : str
        See `nflae_bridge.network.shipped.load_model`.

    Returns
    -------
    TemporalGramNetwork
        The network, whose parameters have no gradients.

    Raises
    ------
    NflaeError
        If the model is missing, damaged or of another task.
    """
    from nflae_bridge.engine.onnx_graphs import CoefficientGraph

    checkpoint = load_model(model, torch.device("cpu"), "predict")
    network = checkpoint.network
    assert isinstance(network, TemporalGramNetwork)
    network.freeze(CoefficientGraph(checkpoint.folder).runner())
    return network


PREDICT = register(
    Task(
        name="predict",
        summary="the next snapshots of channels from their noisy history",
        config=TemporalGramConfig,
        build=lambda config, offline: TemporalGramNetwork(config),
        parts=("nmse_db", "lost_rate"),
        loss=_loss,
        measures=("nmse_db", "below_ar_db", "lost_rate"),
        validation=_validation,
        score=_score,
        score_meaning="NMSE below that of vector autoregression, dB",
        presets={
            "predict-tiny": Preset(
                "GPT-2 of width 64 over the temporal Gram matrices of a window (shipped)",
                Recipe(
                    TemporalGramConfig(),
                    MovingUsers(),
                    PredictionLoss(),
                    steps=6_000,
                    decay=0.5,
                    warm_up=50,
                    validate_every=250,
                    judge="loss",
                ),
            )
        },
        guard="per user, by the error of each method on the last known snapshots",
        rivals=("ar", "kalman", "hold"),
        figure="NMSE over four snapshots with the sign changed, dB",
        compare=_compare,
        prepare=_prepare,
    )
)
