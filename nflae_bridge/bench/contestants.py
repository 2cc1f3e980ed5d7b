"""Who competes: the network, RZF, WMMSE and its inversion-free kin at several iterations, and the floor under all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nflae_bridge.bench.inversion_free import inversion_free, inversion_free_numpy
from nflae_bridge.bench.numpy_wmmse import in_chunks, wmmse_numpy
from nflae_bridge.engine import load_scheme
from simulator.link import ChannelBatch, LinkBudget
from simulator.precoding import Scheme
from simulator.schemes import scheme
from simulator.schemes.wmmse import wmmse

Answer = tuple[Any, Any]
Solve = Callable[[Tensor], Answer]

ITERATIONS = {"wmmse": (1, 2, 3, 5, 10, 20, 50, 100), "inversion-free": (5, 10, 20, 30, 50, 100)}
FLOOR = "floor"

# Above this SNR the K x K matrices of the NumPy and inversion-free rivals are in double precision.
_LOUD = 1e3
_TRIAL_ITERATIONS = 10
_TRIALS = 5
_CHUNKS = (128, 256)


@dataclass(frozen=True)
class Contestant:
    """A way to get precoders and powers.

    scheme: its name. iterations: how many, of the network its refinement steps; None where there are none.
    form: how it is computed. solve: from channels in the host's memory, complex64 (drops, users, antennas), to the
    precoder (drops, users, antennas) and the powers (drops, users), W, there; None for powers: no answer, only a floor.
    each_alone: a drop's answer doesn't depend on how many are computed at once by more than rounding.
    """

    scheme: str
    iterations: int | None
    form: str
    solve: Solve
    each_alone: bool = True


@dataclass(frozen=True)
class Field:
    """What all contestants share. power, noise_power: W. device: of all that runs in torch. pool: threads, if several."""

    power: float
    noise_power: float
    device: torch.device
    model: str = "auto"
    pool: Executor | None = None
    threads: int = 1

    @property
    def budget(self) -> LinkBudget:
        """Power and noise, without constraints C3 and C4."""
        return LinkBudget(self.power, self.noise_power)

    @property
    def loud(self) -> bool:
        """Whether single precision is too little for K x K matrices."""
        return self.power / self.noise_power > _LOUD


def contestants(
    names: Sequence[str], refinements: Sequence[int], field: Field, trial: Tensor, iterations: Sequence[int] = ()
) -> list[Contestant]:
    """Those of these names, the floor first; the rivals each in the form that is fastest on ``trial``.

    names: of nflae, rzf, wmmse, inversion-free. trial: channels as they will come, complex64 (drops, users, antennas).
    iterations: of the iterative ones, instead of those of `ITERATIONS`.
    Raises NflaeError if the model or device can't be had.
    """
    found = [_floor(field, trial.shape[-2])]
    for name in names:
        if name == "nflae":
            for steps in refinements:
                network = load_scheme("nflae", field.model, str(field.device), refinements=steps)
                found.append(Contestant("nflae", steps, "torch", _in_torch(network, field), each_alone=False))
        elif name in ITERATIONS:
            fastest = fastest_form(forms(name, field, len(trial)), trial)
            found += [fastest(steps) for steps in iterations or ITERATIONS[name]]
        else:
            found.append(Contestant(name, None, "torch", _in_torch(scheme(name), field)))
    return found


Form = Callable[[int], Contestant]


def forms(name: str, field: Field, batch: int) -> list[Form]:
    """The ways to compute an iterative rival on ``batch`` drops; each makes a contestant of a number of iterations."""
    numpy_precision = np.complex128 if field.loud else np.complex64
    torch_precision = torch.complex128 if field.loud else torch.complex64
    sizes = (field.power, field.noise_power)

    def in_torch(steps: int) -> Contestant:
        if name == "wmmse":
            return Contestant(name, steps, "torch", _in_torch(partial(wmmse, iterations=steps), field))
        free = partial(_inversion_free, field=field, iterations=steps, precision=torch_precision)
        return Contestant(name, steps, "torch", free)

    def in_numpy(steps: int) -> Contestant:
        function: Any = wmmse_numpy if name == "wmmse" else inversion_free_numpy

        def one(channels: Any) -> Answer:
            answer: Answer = function(channels, *sizes, steps, numpy_precision)
            return answer

        return Contestant(name, steps, "numpy", lambda channels: one(channels.numpy()))

    def chunked(drops: int, steps: int) -> Contestant:
        whole = in_numpy(steps)
        one = whole.solve
        return replace(
            whole,
            form=f"numpy, {drops} at a time",
            solve=lambda channels: in_chunks(lambda part: one(torch.from_numpy(part)), channels.numpy(), drops, field.pool),
        )

    if field.device.type != "cpu":
        return [in_torch]
    shared = {-(-batch // field.threads)} if field.pool is not None else set()
    drops = sorted(size for size in {*_CHUNKS, *shared} if size < batch)
    return [in_torch, in_numpy, *(partial(chunked, size) for size in drops)]


def fastest_form(choices: Sequence[Form], trial: Tensor) -> Form:
    """The form whose median time on ``trial`` is least, ten iterations a call, all forms in turn."""
    if len(choices) == 1:
        return choices[0]
    runs = [form(_TRIAL_ITERATIONS) for form in choices]
    seconds = np.empty((_TRIALS, len(runs)))
    for run in runs:
        run.solve(trial)
    for trials in seconds:
        for index, run in enumerate(runs):
            began = time.perf_counter()
            run.solve(trial)
            trials[index] = time.perf_counter() - began
    return choices[int(np.median(seconds, axis=0).argmin())]


def _in_torch(scheme: Scheme, field: Field) -> Solve:
    budget = field.budget

    def solve(channels: Tensor) -> Answer:
        answer = scheme(ChannelBatch(channels.to(field.device)), budget)
        return answer.precoder.cpu(), answer.power.cpu()

    return solve


@torch.no_grad()
def _inversion_free(channels: Tensor, field: Field, iterations: int, precision: torch.dtype) -> Answer:
    precoder, power = inversion_free(
        channels.to(field.device), field.power, field.noise_power, iterations, precision
    )
    return precoder.cpu(), power.cpu()


def _floor(field: Field, users: int) -> Contestant:
    """G = H^H H and W = H C alone, in single precision: what no scheme that forms either can do without."""
    coefficients = torch.eye(users, dtype=torch.complex64, device=field.device)

    def solve(channels: Tensor) -> Answer:
        there = channels.to(field.device)
        gram = there.conj() @ there.transpose(-1, -2)
        precoder = coefficients @ there
        del gram
        return precoder.cpu(), None

    return Contestant(FLOOR, None, "torch", solve)
