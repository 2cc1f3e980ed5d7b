"""Who competes: the network, RZF, WMMSE and its inversion-free kin at several iterations, and the floor under all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from matlab_io.errors import NflaeError
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import load_scheme
from nflae_bridge.studies.benchmark.implementations import (
    Answer,
    Implementation,
    Solve,
    fastest_implementation,
    implementations,
    whole_or_in_chunks,
)
from nflae_bridge.studies.benchmark.inversion_free import warm_starts
from nflae_bridge.studies.benchmark.setup import Setup
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.schemes import needs_sic
from simulator.schemes.options import split_spec

ITERATIONS = {"wmmse": (1, 2, 3, 5, 10, 20, 50, 100), "inversion-free": (5, 10, 20, 30, 50, 100)}
FLOOR = "floor"
_TUNED_DROPS = 256


@dataclass(frozen=True)
class Competitor:
    """A way to get precoders and powers.

    scheme: its name. iterations: how many, of the network its refinement steps; None where there are none.
    form: how it is computed. solve: from channels in the host's memory, complex64 (drops, users, antennas), to the
    precoder (drops, users, antennas) and the powers (drops, users), W, there; the floor has no powers, (0,).
    """

    scheme: str
    iterations: int | None
    implementation: str
    solve: Solve


def competitors(
    names: Sequence[str],
    refinements: Sequence[int],
    setup: Setup,
    trial: Tensor,
    channels: Tensor,
    iterations: Sequence[int] = (),
) -> list[Competitor]:
    """Those of these names, the floor first; the rivals each in the form that is fastest on ``trial``.

    names: of schemes, and inversion-free. trial: channels as they will come, complex64 (drops, users, antennas).
    channels: all of them, on the first of which inversion-free is tuned. iterations: of the iterative ones, instead of
    those of `ITERATIONS`.
    Raises NflaeError if the model or device can't be had, ValueError for an unknown scheme.
    """
    found = [_floor(setup, trial)]
    for name in names:
        if name == "nflae":
            for steps in refinements:
                network = load_scheme("nflae", setup.model, str(setup.device), refinements=steps)
                found.append(Competitor("nflae", steps, "engine", _of_scheme(network, setup)))
        elif split_spec(name)[0] in ITERATIONS:
            name, options = split_spec(name)
            counts = (int(options["iterations"]),) if options else iterations or ITERATIONS[name]
            free = name == "inversion-free"
            unweighted = warm_starts(setup.gram(channels[:_TUNED_DROPS]), counts) if free else {}
            fastest = fastest_implementation(implementations(name, setup, len(trial), unweighted), setup, trial)
            for steps in counts:
                form = fastest(steps)
                how = f"{form.name}, {unweighted[steps]} unweighted" if unweighted.get(steps) else form.name
                found.append(Competitor(name, steps, how, form.make(steps)))
        elif name == "rzf":
            form = fastest_implementation(implementations("wmmse", setup, len(trial), {}), setup, trial, (0,))(0)
            found.append(Competitor(name, None, form.name, form.make(0)))
        elif needs_sic(name):
            raise NflaeError(f"{name} needs receivers with SIC: leave it out")
        else:
            found.append(Competitor(name, None, "torch", _of_scheme(load_scheme(name), setup)))
    return found


def _of_scheme(scheme: Scheme, setup: Setup) -> Solve:
    budget = setup.budget

    def solve(channels: Tensor) -> Answer:
        if isinstance(scheme, Engine):  # brings channels to its device and answers back by itself
            answer = scheme(ChannelBatch(channels), budget)
            return answer.precoder, answer.power
        answer = scheme(ChannelBatch(setup.there(channels)), budget)
        precoder, power = setup.back(answer.precoder, answer.power)
        return precoder, power

    return solve


def _floor(setup: Setup, trial: Tensor) -> Competitor:
    """G = H^H H and W = H C alone, in single precision: what no scheme that forms either can do without."""
    identity = torch.eye(trial.shape[-2], dtype=torch.complex64, device=setup.device)
    coefficients, no_powers = identity.cpu().numpy(), torch.empty(0)

    def in_torch(channels: Tensor) -> Answer:
        there = setup.there(channels)
        gram = there.conj() @ there.mT
        precoder = identity @ there
        del gram
        return setup.back(precoder)[0], no_powers

    def in_numpy(channels: Tensor) -> Answer:
        values = channels.numpy()
        gram = values.conj() @ values.swapaxes(-1, -2)
        precoder = coefficients @ values
        del gram
        return torch.from_numpy(precoder), no_powers

    ways: dict[str, Callable[[int], Solve]] = {"torch": lambda iterations: in_torch}
    if setup.device.type == "cpu":
        ways["NumPy"] = lambda iterations: in_numpy
        choices = whole_or_in_chunks(ways, setup, len(trial))
    else:
        choices = [Implementation(name, make) for name, make in ways.items()]
    form = fastest_implementation(choices, setup, trial, (0,))(0)
    return Competitor(FLOOR, None, form.name, form.make(0))
