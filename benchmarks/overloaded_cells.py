"""Measure the sum rate with as many users as antennas or more: the table in docs/measurements/models.md.

    python benchmarks/overloaded_cells.py [--model tiny] [--drops 200] [--antennas 8] [--users 8 16] [--snr 20]

The reference of a drop is the best of WMMSE with 600 iterations from three starts (matched filters, regularised zero
forcing, regularised zero forcing of selected users) and the result itself. All rates are recomputed from precoders and
powers. Channels are those of `problems.py`, of a mean squared norm of 1, so that the SNR is of the mean user. Times
are those of a call over those of the same with antennas without gain added, so that users are not selected.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from problems import NARROW, SEED, Case, correlated_rayleigh, draw_channels
from torch import Tensor

from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.user_selection import select_users
from nflae_bridge.network.shipped import load_model
from simulator.downlink.budget import LinkBudget
from simulator.downlink.gram import normalised_gram
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.sinr import achieved_sinr, rates, sinr
from simulator.downlink.structure import structured_beams, wmmse_step
from simulator.problems.problem import PrecodingProblem

ITERATIONS = 600


def draw(name: str, drops: int, users: int, antennas: int, cache: Path | None) -> Tensor:
    """Draw channels, or read those drawn before, complex64 (drops, users, antennas)."""
    file = None if cache is None else cache / f"{name}_{drops}_{users}_{antennas}.npy"
    if file is not None and file.is_file():
        return torch.from_numpy(np.load(file))
    if name == "rayleigh":
        channels = correlated_rayleigh(drops, users, antennas, 1, SEED + users)[:, :, 0]
        channels = channels / torch.sqrt(channels.abs().square().sum(-1).mean())
    else:
        channels = draw_channels(name, drops, users, Case(lambda *_: PrecodingProblem(), "", antennas=antennas))
    if file is not None:
        np.save(file, channels.numpy())
    return channels


def reference(channels: Tensor, budget: LinkBudget) -> Tensor:
    """Compute the sum rate of converged WMMSE from three starts, float64 (drops,)."""
    gram = normalised_gram(channels, budget)
    equal = torch.full_like(gram.real[..., 0], 1 / gram.shape[-1])
    selected = select_users(gram, channels.shape[-1])
    found = []
    for dual, power in ((1e-6 * equal, equal), (equal, equal), (selected, selected)):
        beams = structured_beams(gram, dual)
        for _ in range(ITERATIONS):
            dual, beams, power = wmmse_step(gram, beams, power)
        found.append(rates(sinr(beams.effective_gains, power)).sum(-1))
    return torch.stack(found).amax(0)


def sum_rate(result: Precoding, channels: Tensor, budget: LinkBudget) -> Tensor:
    """Recompute the sum rate from precoder and power, float64 (drops,)."""
    return rates(achieved_sinr(channels, result.precoder, result.power, budget.noise_power)).sum(-1)


def seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Return the least time of a call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def ratio_of_times(engine: Engine, channels: Tensor, budget: LinkBudget) -> float:
    """Return the time of a call over that with antennas without gain added, so that users are not selected."""
    padded = torch.nn.functional.pad(channels, (0, channels.shape[1] + 1 - channels.shape[2]))
    with_selection, without = (partial(engine, ChannelBatch(each), budget) for each in (channels, padded))
    return seconds(with_selection) / seconds(without)


def main() -> None:
    """Measure and print one line per set of channels and number of users."""
    parser = argparse.ArgumentParser(description="Measure overloaded cells; see the head of this file.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--drops", type=int, default=200, help="drops per point")
    parser.add_argument("--antennas", type=int, default=8)
    parser.add_argument("--users", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--snr", nargs="+", type=float, default=[20.0], help="dB")
    parser.add_argument("--channels", nargs="+", choices=NARROW, default=list(NARROW))
    parser.add_argument("--cache", type=Path, help="folder for the channels")
    given = parser.parse_args()
    checkpoint = load_model(given.model, torch.device("cpu"))
    compared, alone = Engine(checkpoint), Engine(checkpoint, with_fallback=False)
    print("| channels | users | SNR, dB | mean | worst decile | network alone | fallback | time, 1 drop | 64 drops |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for users in given.users:
        for name in given.channels:
            channels = draw(name, given.drops, users, given.antennas, given.cache)
            for snr_db in given.snr:
                budget = LinkBudget(1.0, 10 ** (-snr_db / 10))
                result = compared(ChannelBatch(channels), budget)
                ours = sum_rate(result, channels, budget)
                network = sum_rate(alone(ChannelBatch(channels), budget), channels, budget)
                best = torch.maximum(reference(channels, budget), ours)
                worst = (ours / best).sort().values[: max(1, len(ours) // 10)].mean()
                shares = [
                    ours.mean() / best.mean(),
                    worst,
                    network.mean() / best.mean(),
                    result.fallback.double().mean(),
                ]
                times = [ratio_of_times(compared, channels[:drops], budget) for drops in (1, 64)]
                figures = [f"{100 * float(share):.2f}" for share in shares] + [f"{each:.1f}" for each in times]
                print(f"| {name} | {users} | {snr_db:g} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
