"""Measure the accuracy of the near-field labels from noisy CSI."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from reach_table.drops import (
    scaled_region,
)
from reach_table.measuring import (
    CSI_SNR_DB,
    Bench,
    Point,
    Row,
    generator,
    percent,
    run_points,
)
from simulator.channels.scenario import Scenario, scenario
from simulator.csi.impairments import noisy_csi
from simulator.geometry.localization import most_likely_labels
from simulator.geometry.near_field import far_field_test

NEAR_FAR_TARGETS = (0.960, 0.977, 0.989, 0.994, 0.996)


def near_far(bench: Bench) -> list[Row]:
    """Measure the accuracy from noisy CSI at N = 256; then, without a target, other N and conjugated wavefronts."""
    drawn = scenario("paper", 10, 256).draw(bench.drops, generator(500))

    def one(index: int, snr_db: int, target: float) -> Row:
        noisy = noisy_csi(drawn.channels, snr_db, generator(510 + index))
        return near_far_row(bench, noisy, drawn.near_field, snr_db, target)

    steps: list[Point] = [
        partial(one, index, snr_db, target)
        for index, (snr_db, target) in enumerate(zip(CSI_SNR_DB, NEAR_FAR_TARGETS, strict=True))
    ]
    for index, antennas in enumerate((128, 512)):
        scene = scenario("paper", 10, antennas)
        steps.append(partial(other_array, bench, scene, 530 + 20 * index, f"N = {antennas}, same region"))
        where = f"N = {antennas}, region scaled with N²"
        steps.append(partial(other_array, bench, scaled_region(scene), 540 + 20 * index, where))
    where = "N = 256, conjugated wavefronts (the other sign of time)"
    steps.append(partial(other_array, bench, scenario("paper", 10, 256), 500, where, True))
    return run_points("near-far", steps)


def near_far_row(bench: Bench, noisy: Tensor, truth: Tensor, snr_db: int, target: float) -> Row:
    """Measure the accuracy at one CSI SNR beside those of the far-field test and of maximum likelihood."""
    value = accuracy(labels(bench, noisy), truth)
    rivals = {
        "fft_test": accuracy(far_field_test(noisy), truth),
        "maximum_likelihood": accuracy(most_likely_labels(scenario("paper").array, noisy), truth),
    }
    half = 1.96 * math.sqrt(value * (1 - value) / truth.numel())
    return Row(
        "near-far",
        f"near/far accuracy, N = 256, {snr_db} dB an antenna",
        f"≥ {target:.3f}",
        f"{value:.4f}",
        value >= target,
        f"± {half:.4f}; maximum likelihood {rivals['maximum_likelihood']:.4f}; FFT test {rivals['fft_test']:.4f}",
        {"accuracy": value, "low95": value - half, "high95": value + half, **rivals},
    )


def other_array(bench: Bench, scene: Scenario, point: int, where: str, conjugated: bool = False) -> Row:
    """Measure the accuracies at all CSI SNRs, without a target."""
    drawn = scene.draw(bench.drops, generator(point))
    values = []
    for index, snr_db in enumerate(CSI_SNR_DB):
        noisy = noisy_csi(drawn.channels, snr_db, generator(point + 10 + index))
        noisy = noisy.conj().resolve_conj() if conjugated else noisy
        values.append(accuracy(labels(bench, noisy), drawn.near_field))
    near = float(drawn.near_field.double().mean())
    return Row(
        "near-far",
        f"near/far accuracy, {where}, " + " / ".join(map(str, CSI_SNR_DB)) + " dB",
        "-",
        " / ".join(f"{value:.4f}" for value in values),
        None,
        f"{percent(near)} are near",
        {f"accuracy_{snr_db}": value for snr_db, value in zip(CSI_SNR_DB, values, strict=True)},
    )


def labels(bench: Bench, channels: Tensor) -> Tensor:
    """Compute the engine's labels, bool (drops, users), on the CPU."""
    return torch.cat([bench.engine.near_field(batch.channels).cpu() for batch in bench.split(channels)])


def accuracy(found: Tensor, truth: Tensor) -> float:
    """Compute the fraction of correct labels."""
    return float((found == truth).double().mean())
