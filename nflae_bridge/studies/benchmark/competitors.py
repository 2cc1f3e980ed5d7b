"""Prepare the competitors: the network, RZF, WMMSE and its inversion-free variant, other schemes, and the floor."""

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
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme
from simulator.problems.dispatch import ProblemScheme
from simulator.schemes import needs_sic, scheme
from simulator.schemes.options import split_spec

ITERATIONS = {"wmmse": (1, 2, 3, 5, 10, 20, 50, 100), "inversion-free": (5, 10, 20, 30, 50, 100)}
FLOOR = "floor"
PLAIN_CALL = "plain nflae"
"""The network on the plain sum rate, the unit of the times of other problems."""

WITHOUT_OBJECTIVE = (FLOOR, PLAIN_CALL)
"""Competitors that are timed only, because they do not solve the problem."""

_TUNED_DROPS = 256


@dataclass(frozen=True)
class Competitor:
    """One way to compute precoders and powers, as the comparison times it.

    Parameters
    ----------
    scheme
        The scheme's name.
    iterations
        Number of iterations, of the network its refinement steps; None where there are none.
    implementation
        Name of the implementation.
    solve
        From channels in host memory, complex64 (drops, users, antennas), to the precoder (drops, users, antennas) and
        the powers (drops, users), W, in host memory; the floor has no powers, (0,).
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
    """Prepare the competitors of these names, the floor first, each in its fastest implementation on ``trial``.

    For another problem than the plain sum rate, the plain call of the network follows the floor.

    Parameters
    ----------
    names
        Scheme specifications, and ``inversion-free``.
    refinements
        Numbers of refinement steps of ``nflae``, one competitor each.
    setup
        Link and device.
    trial
        Channels as one call receives them, complex64 (drops, users, antennas).
    channels
        All channels; the warm start of ``inversion-free`` is chosen on the first of them.
    iterations
        Numbers of iterations of the iterative schemes, in place of `ITERATIONS`.

    Returns
    -------
    list of Competitor
        In the order of ``names``.

    Raises
    ------
    NflaeError
        If the model cannot be loaded or the device is not available, and for a scheme that needs receivers with SIC.
    SchemeError
        For an unknown scheme or option.
    """
    found = [_floor(setup, trial)]
    if not setup.problem.is_plain:
        return [*found, *_of_problem(names, refinements, setup, trial.shape[-1])]
    for name in names:
        if name == "nflae":
            for steps in refinements:
                network = load_scheme("nflae", setup.model, str(setup.device), refinements=steps)
                found.append(Competitor("nflae", steps, "engine", _of_scheme(network, setup, setup.budget)))
        elif split_spec(name)[0] in ITERATIONS:
            found += _iterative(name, setup, trial, channels, iterations)
        elif name == "rzf":
            chosen = fastest_implementation(implementations("wmmse", setup, len(trial), {}), setup, trial, (0,))(0)
            found.append(Competitor(name, None, chosen.name, chosen.make(0)))
        elif needs_sic(name):
            raise NflaeError(f"{name} needs receivers with SIC: leave it out")
        else:
            found.append(Competitor(name, None, "torch", _of_scheme(scheme(name), setup, setup.budget)))
    return found


def _iterative(spec: str, setup: Setup, trial: Tensor, channels: Tensor, iterations: Sequence[int]) -> list[Competitor]:
    """Prepare an iterative scheme at several numbers of iterations, or at that of the specification."""
    name, options = split_spec(spec)
    counts = (int(options["iterations"]),) if options else iterations or ITERATIONS[name]
    unweighted = warm_starts(setup.gram(channels[:_TUNED_DROPS]), counts) if name == "inversion-free" else {}
    fastest = fastest_implementation(implementations(name, setup, len(trial), unweighted), setup, trial)
    found = []
    for steps in counts:
        chosen = fastest(steps)
        how = f"{chosen.name}, {unweighted[steps]} unweighted" if unweighted.get(steps) else chosen.name
        found.append(Competitor(name, steps, how, chosen.make(steps)))
    return found


def _of_problem(names: Sequence[str], refinements: Sequence[int], setup: Setup, antennas: int) -> list[Competitor]:
    """Prepare the plain call of the network and the schemes of the problem, ``nflae`` per number of refinements."""

    def network(steps: int) -> Scheme:
        return load_scheme("nflae", setup.model, str(setup.device), refinements=steps)

    budget = setup.problem_budget(antennas)
    found = [Competitor(PLAIN_CALL, None, "engine", _of_scheme(network(0), setup, setup.budget))]
    for name in names:
        of_network = name == "nflae"
        for steps in refinements if of_network else (0,):
            solver = ProblemScheme(setup.problem, network(steps), name)
            solve = _of_scheme(solver, setup, budget)
            found.append(Competitor(name, steps if of_network else None, "problem", solve))
    return found


def _of_scheme(scheme: Scheme, setup: Setup, budget: LinkBudget) -> Solve:
    def solve(channels: Tensor) -> Answer:
        if isinstance(scheme, Engine):  # transfers channels and answers itself, as for the server
            found = scheme.arrays(channels.numpy(), budget, ("precoder", "power"))
            return torch.from_numpy(found["precoder"]), torch.from_numpy(found["power"])
        answer = scheme(ChannelBatch(setup.to_device(channels)), budget)
        precoder, power = setup.to_host(answer.precoder, answer.power)
        return precoder, power

    return solve


def _floor(setup: Setup, trial: Tensor) -> Competitor:
    """Prepare the floor: G = H^H H and W = H C alone, in single precision, a lower bound for every scheme."""
    identity = torch.eye(trial.shape[-2], dtype=torch.complex64, device=setup.device)
    coefficients, no_powers = identity.cpu().numpy(), torch.empty(0)

    def in_torch(channels: Tensor) -> Answer:
        on_device = setup.to_device(channels)
        gram = on_device.conj() @ on_device.mT
        precoder = identity @ on_device
        del gram
        return setup.to_host(precoder)[0], no_powers

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
    chosen = fastest_implementation(choices, setup, trial, (0,))(0)
    return Competitor(FLOOR, None, chosen.name, chosen.make(0))
