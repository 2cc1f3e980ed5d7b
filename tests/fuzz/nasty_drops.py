"""Drops that are legal and nasty: ill-conditioned, far apart in gain, of any scale, with constraints hard to meet."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch

from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.shipped import load_model
from simulator.downlink.budget import LinkBudget
from simulator.downlink.constraints import check_constraints
from simulator.downlink.precoding import ChannelBatch, Precoding
from simulator.downlink.sinr import achieved_sinr, rates
from simulator.schemes import scheme

KINDS = ("gaussian", "identical", "parallel", "low-rank", "orthogonal", "one-antenna", "constant", "scattered-scale")
SCHEMES = ("mrt", "zf", "rzf", "wmmse:iterations=1", "wmmse:iterations=30", "sdma", "ldma", "noma")
TOLERANCE = 1e-6
C4_TOLERANCE = 1e-5
BATCH_COST = 4e6


@dataclass(frozen=True)
class Situation:
    """A batch with its budget, and the scheme that precodes it."""

    batch: ChannelBatch
    budget: LinkBudget
    refinements: int
    scheme: str
    text: str


def situation(seed: int, drops: int | None = 4) -> Situation:
    """The drops of a seed; as many as are quick together for None."""
    rng = np.random.default_rng(seed)
    users = int(rng.integers(1, 41)) if rng.random() < 0.7 else int(rng.integers(1, 6))
    antennas = int(rng.choice([1, 2, 3, 5, 16, 17, 31, 64, 130, 256, 600]))
    if drops is None:
        drops = int(np.clip(BATCH_COST / (users**2 * (users + antennas)), 4, 4096))
    kind = str(rng.choice(KINDS))
    h = _channels(rng, kind, (drops, users, antennas))
    spread = float(rng.choice([0, 20, 80, 200]))
    h = h * 10 ** (spread * (rng.random((drops, users, 1)) - 0.5) / 20)
    if rng.random() < 0.2:  # dead antennas, but no dead user
        h[..., : max(1, antennas // 3)] *= antennas < 2
    scale = float(rng.choice([1, 1, 1, 1e-6, 1e-12, 1e12])) if spread > 80 else 10 ** float(rng.uniform(-25, 15))
    h = (h * scale).astype(np.complex64)
    h[~np.any(h != 0, -1)] = np.float32(scale)
    energy = np.sum(np.abs(h.astype(np.complex128)) ** 2, -1)
    snr_db = rng.uniform(-60, 100, drops)
    power = 10.0 ** rng.uniform(-3, 3, drops)
    noise = power * energy.max(-1) * 10 ** (-snr_db / 10)
    level = np.log10(noise)
    shift = 10.0 ** (np.clip(-28 - level, 0, 27) + np.clip(30 - level, -27, 0))  # budgets are within 300 dB of 1 W
    power, noise = power * shift, np.clip(noise * shift, 1e-30, 1e30)
    alpha = np.where(rng.random(drops) < 0.5, 1.0, rng.uniform(0.001, 1, drops)) if rng.random() < 0.4 else 1.0
    rate = np.where(rng.random(drops) < 0.3, 0.0, 10 ** rng.uniform(-6, 1.2, drops)) if rng.random() < 0.4 else 0.0
    labels = torch.from_numpy(rng.random((drops, users)) < 0.5) if rng.random() < 0.3 else None
    refinements = int(rng.choice([0, 0, 1, 2, 5, 40]))
    scheme = str(rng.choice(SCHEMES)) if rng.random() < 0.4 else "nflae"
    budget = LinkBudget(*(torch.as_tensor(value) if np.ndim(value) else value for value in (power, noise, alpha, rate)))
    with np.printoptions(threshold=8, edgeitems=2):
        text = (
            f"seed {seed}: {scheme}, refine {refinements}, K {users}, N {antennas}, {drops} drops, {kind}, spread"
            f" {spread:g} dB, scale {scale:.3g}, SNR {np.round(snr_db)} dB, alpha_c {np.round(alpha, 3)}, min_rate"
            f" {np.round(rate, 6)}"
        )
    return Situation(ChannelBatch(torch.from_numpy(h), labels), budget, refinements, scheme, text)


def _channels(rng: np.random.Generator, kind: str, shape: tuple[int, int, int]) -> np.ndarray:
    drops, users, antennas = shape

    def gaussian(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2 * shape[-1])

    h, phase = gaussian(*shape), np.exp(2j * np.pi * rng.random((drops, users, 1)))
    if kind == "identical":
        return np.asarray(h[:, :1] * phase)
    if kind == "parallel":
        return np.asarray(h[:, :1] * phase + 10 ** rng.uniform(-9, 0, (drops, users, 1)) * h)
    if kind == "low-rank":
        rank = int(rng.integers(1, max(2, min(users, antennas))))
        return np.asarray(gaussian(drops, users, rank) @ gaussian(drops, rank, antennas))
    if kind == "orthogonal":
        rank = min(users, antennas)
        basis = np.linalg.qr(gaussian(drops, antennas, rank))[0].swapaxes(-1, -2)
        return np.asarray(np.take(basis, np.arange(users) % rank, axis=1) * phase)
    if kind == "one-antenna":
        only = np.zeros(shape, complex)
        np.put_along_axis(only, rng.integers(0, antennas, (drops, users, 1)), phase, -1)
        return only
    if kind == "constant":
        return np.ones(shape, complex)
    if kind == "scattered-scale":
        return np.asarray(h * 10 ** rng.uniform(-6, 6, shape))
    return h


def faults(case: Situation, answer: Precoding, rzf: Precoding) -> list[str]:
    """What an answer must not be, in words; none for a right answer."""
    batch, budget = case.batch, case.budget
    found = []
    values = {
        "precoder": answer.precoder,
        "power": answer.power,
        "score": answer.near_field_score,
        "sinr": answer.sinr,
        "rate": answer.rate,
    }
    if not bool(answer.uplink_power.isnan().all()):
        values["lambda"] = answer.uplink_power
    found += [f"{name} is not finite" for name, value in values.items() if not bool(value.isfinite().all())]
    found += [
        f"{name} is negative"
        for name in ("power", "sinr", "lambda")
        if name in values and bool((values[name] < 0).any())
    ]
    check = check_constraints(batch.channels, answer.precoder, answer.power, answer.near_field, budget)
    for field in fields(check):
        excess = getattr(check, field.name)
        if field.name == "min_rate":
            if answer.needs_sic:
                continue
            excess = excess[answer.feasible]
        if not bool((excess <= (C4_TOLERANCE if field.name == "min_rate" else TOLERANCE)).all()):
            found.append(f"{field.name} is broken by {float(excess.max()):.3g}")
    if case.scheme == "nflae":
        if not bool((answer.feasible | ~rzf.feasible).all()):
            found.append("RZF meets C4 and the answer does not")
        alike = answer.feasible == rzf.feasible
        short = 1 - answer.sum_rate / rzf.sum_rate.clamp(min=1e-9)
        if not bool((short[alike] <= TOLERANCE).all()):
            found.append(f"below RZF by {float(short[alike].max()):.3g}")
        by_hand = rates(achieved_sinr(batch.channels, answer.precoder, answer.power, budget.noise_power)).sum(-1)
        off = (by_hand - answer.sum_rate).abs() / (1 + by_hand)
        if not bool((off <= 1e-3).all()):
            found.append(f"reported rate is off by {float(off.max()):.3g}")
    return found


@cache
def _engine(backend: str | None) -> Engine:
    return Engine(load_model("tiny", torch.device("cpu")), backend=backend)


def attempt(seed: int, folder: object = None, drops: int | None = 4) -> list[str]:
    """Return the faults of the answer to a seed."""
    case = situation(seed, drops)
    if case.scheme == "nflae":
        solver = _engine("torch" if seed % 2 else None).refined(case.refinements)
    else:
        solver = scheme(case.scheme)
    answer = solver(case.batch, case.budget)
    textbook = scheme("rzf")(ChannelBatch(case.batch.channels, answer.near_field), case.budget)
    found = faults(case, answer, textbook)
    if case.scheme == "nflae":
        peak = float(case.batch.channels.abs().amax())
        scaled = case.batch.channels * (2.0**-40 if peak > 1 else 2.0**40)
        score = _engine("torch" if seed % 2 else None).near_field_score(scaled)
        if not torch.allclose(score, answer.near_field_score, rtol=0, atol=1e-3):
            found.append("labels depend on scale")
    return [f"{fault} ({case.text})" for fault in found]


def attempt_many(seed: int, folder: object = None) -> list[str]:
    """Return the faults of the answer to the large batch of a seed."""
    return attempt(seed, folder, None)
