"""Judge features by what simple classifiers learn from few labels."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

_NEIGHBOURS = 5
_RIDGE = 1e-2
_TRIALS = 5


def probe_accuracy(features: Tensor, labels: Tensor, labelled: int, test: int, seed: int = 0) -> tuple[float, float]:
    """Return the test accuracy of logistic regression or 5 nearest neighbours, whichever is better, over five trials.

    Parameters
    ----------
    features
        Real (rows, features); standardised on the labelled rows.
    labels
        bool (rows,).
    labelled
        Number of labelled rows, drawn from those before the test rows.
    test
        Number of test rows, the last ones.
    seed
        Seed of the draws.

    Returns
    -------
    mean, deviation : float
        Share of right labels, mean and standard deviation over the draws of the labelled rows; the better classifier is
        chosen on the test rows, alike for all features.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = len(features) - test
    shares = torch.zeros(2, _TRIALS)
    for trial in range(_TRIALS):
        rows = torch.randperm(pool, generator=generator)[:labelled]
        mean, deviation = features[rows].mean(0), features[rows].std(0) + 1e-6 * features[rows].abs().mean() + 1e-12
        known = ((features[rows] - mean) / deviation).clamp(-8, 8)
        asked = ((features[pool:] - mean) / deviation).clamp(-8, 8)
        truth = labels[pool:]
        for index, found in enumerate((_logistic, _nearest)):
            shares[index, trial] = (found(known, labels[rows], asked) == truth).float().mean()
    best = shares[shares.mean(1).argmax()]
    return float(best.mean()), float(best.std())


def _logistic(known: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    weights = torch.zeros(known.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")
    target = labels.float()

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = binary_cross_entropy_with_logits(known @ weights[1:] + weights[0], target)
        loss = loss + _RIDGE * weights[1:].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return (asked @ weights.detach()[1:] + weights.detach()[0]) > 0


def _nearest(known: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    nearest = torch.cdist(asked, known).topk(min(_NEIGHBOURS, len(known)), largest=False).indices
    return labels[nearest].float().mean(-1) > 0.5


def accuracy_cells(rows: pd.DataFrame) -> list[str]:
    """Format accuracies for a table.

    Parameters
    ----------
    rows
        Rows with ``accuracy`` and ``spread``, fractions.

    Returns
    -------
    list of str
        Mean and standard deviation of each row, %.
    """
    pairs = zip(rows["accuracy"], rows["spread"], strict=True)
    return [f"{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in pairs]


def handmade_features(channels: Tensor) -> Tensor:
    """Return power, angular spread and the share of the strongest beam of channels.

    Parameters
    ----------
    channels
        complex64 (rows, antennas).

    Returns
    -------
    Tensor
        float32 (rows, 3): 10 log10 ||h||^2 / N (dB); circular standard deviation of the beams' directions, weighted
        with their powers (rad); share of the strongest DFT beam of the power.
    """
    power = torch.fft.fft(channels).abs().square()
    total = power.sum(-1).clamp(min=1e-30)
    angle = 2 * torch.pi * torch.arange(channels.shape[-1]) / channels.shape[-1]
    resultant = ((power * torch.polar(torch.ones_like(angle), angle)).sum(-1) / total).abs().clamp(1e-6, 1)
    spread = torch.sqrt(-2 * torch.log(resultant))
    level = 10 * torch.log10(total / channels.shape[-1] ** 2)
    return torch.stack([level, spread, power.amax(-1) / total], -1)
