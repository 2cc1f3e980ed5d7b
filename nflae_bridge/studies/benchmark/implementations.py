"""Implement the iterative schemes in several ways and choose the fastest for the drops of the comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nflae_bridge.studies.benchmark.cuda_graph import Captured
from nflae_bridge.studies.benchmark.inversion_free import gradient_coefficients
from nflae_bridge.studies.benchmark.setup import Setup
from nflae_bridge.studies.benchmark.wmmse import Inverse, cholesky_inverse, lu_inverse, one_inverse, wmmse_coefficients

# Precoder, complex64 (drops, users, antennas) with rows of unit norm, and powers (drops, users), W.
Answer = tuple[Tensor, Tensor]
Solve = Callable[[Tensor], Answer]
# gram, identity, iterations -> X of the precoder V = H X
Coefficients = Callable[[Any, Any, int], Any]

_TINY = float(np.finfo(np.float32).tiny)
_CHUNKS = (64, 128, 256)
_TRIAL_ITERATIONS = (2, 20)
_SMALL_BATCH_TRIALS, _TRIALS, _SMALL, _TRIAL_DROPS = 25, 5, 100, 2048
_DISCARDED = 3.0  # implementations this many times as slow as the fastest are not timed further


@dataclass(frozen=True)
class Implementation:
    """One way to compute a scheme.

    Parameters
    ----------
    name
        Name in tables and figures.
    make
        Returns, for a number of iterations, the function from channels to precoder and powers, all in host memory.
    """

    name: str
    make: Callable[[int], Solve]


def implementations(name: str, setup: Setup, batch: int, unweighted: Mapping[int, int]) -> list[Implementation]:
    """List all ways to compute ``wmmse`` or ``inversion-free``; WMMSE without iterations is RZF.

    Parameters
    ----------
    name
        ``wmmse`` or ``inversion-free``.
    setup
        Link and device.
    batch
        Drops per call.
    unweighted
        Unweighted steps of ``inversion-free`` by its number of iterations; none where that is not listed.

    Returns
    -------
    list of Implementation
        On a GPU PyTorch and CUDA graphs; on the CPU PyTorch and NumPy, also with the batch in chunks.
    """

    def gradient(gram: Any, identity: Any, iterations: int) -> Any:
        return gradient_coefficients(gram, identity, iterations, unweighted.get(iterations, 0))

    if name == "inversion-free":
        in_torch: dict[str, Coefficients] = {"": gradient}
        in_numpy: Coefficients = gradient
    else:
        in_torch = {", Cholesky": _wmmse(cholesky_inverse)}
        in_numpy = _wmmse(one_inverse if batch == 1 else np.linalg.inv)
    if setup.device.type != "cpu":
        if name == "wmmse":
            in_torch[", LU"] = _wmmse(lu_inverse)
        plain = [Implementation(f"torch{how}", partial(_on_device, setup, which)) for how, which in in_torch.items()]
        graphs = [
            Implementation(f"CUDA graph{how}", partial(_as_graph, setup, which)) for how, which in in_torch.items()
        ]
        return [*plain, *graphs]
    (how, coefficients), *_ = in_torch.items()
    numpy_name = "NumPy, LAPACK's Cholesky" if name == "wmmse" and batch == 1 else "NumPy"
    ways = {
        f"torch{how}": partial(_on_device, setup, coefficients),
        numpy_name: partial(_in_numpy, setup, in_numpy),
    }
    return whole_or_in_chunks(ways, setup, batch)


def whole_or_in_chunks(ways: Mapping[str, Callable[[int], Solve]], setup: Setup, batch: int) -> list[Implementation]:
    """List ways to compute on the CPU, each for the whole batch and for chunks whose matrices stay in the cache.

    Parameters
    ----------
    ways
        By name, as `Implementation.make`.
    setup
        Link and device.
    batch
        Drops per call.

    Returns
    -------
    list of Implementation
        The whole batch first, then the chunk sizes below it, among them one chunk per thread.
    """
    per_thread = -(-batch // setup.threads)
    sizes = sorted(size for size in {*_CHUNKS, per_thread} if size < batch)
    chunked = [
        Implementation(f"{name}, {drops} at a time", partial(_in_chunks, make, setup, drops))
        for drops in sizes
        for name, make in ways.items()
    ]
    return [*(Implementation(name, make) for name, make in ways.items()), *chunked]


def fastest_implementation(
    choices: Sequence[Implementation], setup: Setup, trial: Tensor, iterations: Sequence[int] = _TRIAL_ITERATIONS
) -> Callable[[int], Implementation]:
    """Find the fastest implementation by timing all of them on the same drops.

    Time is linear in the iterations, so the fastest calls of few and of many iterations predict it for all others.

    Parameters
    ----------
    choices
        Implementations of one scheme.
    setup
        Link and device.
    trial
        Channels, complex64 (drops, users, antennas); the first 2,048 drops are used.
    iterations
        Few and many; or one number, if only that one is needed.

    Returns
    -------
    callable
        From a number of iterations to the implementation that is fastest there.
    """
    if len(choices) == 1:
        return lambda wanted: choices[0]
    trial = trial[:_TRIAL_DROPS]
    solvers = [[choice.make(number) for number in iterations] for choice in choices]
    fastest = np.full((len(choices), len(iterations)), np.inf)
    timed = list(range(len(choices)))
    for call in range(1 + (_TRIALS if len(trial) > _SMALL else _SMALL_BATCH_TRIALS)):
        for index in timed:
            for point, solve in enumerate(solvers[index]):
                with setup.worker_threads(len(trial)):
                    began = time.perf_counter()
                    solve(trial)
                    taken = time.perf_counter() - began
                if call:  # the first call warms up; other load on the machine only ever adds time
                    fastest[index, point] = min(fastest[index, point], taken)
        if call:
            competitive = (fastest < _DISCARDED * fastest.min(0)).any(-1)
            timed = [index for index in timed if competitive[index]]
    slope = (fastest[:, -1] - fastest[:, 0]) / max(1, iterations[-1] - iterations[0])

    def choose(wanted: int) -> Implementation:
        return choices[int((fastest[:, 0] + slope * (wanted - iterations[0])).argmin())]

    return choose


def _wmmse(inverse: Inverse) -> Coefficients:
    return lambda gram, identity, iterations: wmmse_coefficients(gram, identity, iterations, inverse)


def _torch_answer(setup: Setup, coefficients: Coefficients, iterations: int, channels: Tensor) -> Answer:
    """Compute an answer with PyTorch on the device."""
    if setup.needs_float64:
        channels = channels.to(torch.complex128)
    gram = setup.gram(channels)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    beams = coefficients(gram, identity, iterations).mT @ channels
    parts = torch.view_as_real(beams).flatten(-2)
    norm = torch.linalg.vector_norm(parts, dim=-1, keepdim=True).clamp(min=_TINY)
    power_fractions = (norm / norm.amax(-2, keepdim=True)).squeeze(-1).square()
    power = setup.power * power_fractions / power_fractions.sum(-1, keepdim=True)
    return torch.view_as_complex(parts.div_(norm).float().view(*beams.shape, 2)), power


def _numpy_answer(
    setup: Setup, coefficients: Coefficients, iterations: int, channels: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[Any]]:
    """Compute an answer with NumPy, whose calls cost the least; with few drops per call that decides.

    Restates `_torch_answer` and `Setup.gram` for NumPy arrays.
    """
    if setup.needs_float64:
        channels = channels.astype(np.complex128)
    gram = (channels.conj() @ channels.swapaxes(-1, -2)) * channels.real.dtype.type(setup.power / setup.noise_power)
    beams = coefficients(gram, np.eye(gram.shape[-1], dtype=gram.dtype), iterations).swapaxes(-1, -2) @ channels
    parts = beams.view(beams.real.dtype)
    norm = np.sqrt(np.einsum("...n,...n->...", parts, parts))
    parts /= np.maximum(norm, _TINY)[..., None]
    power_fractions = (norm / norm.max(-1, keepdims=True)) ** 2
    return beams.astype(np.complex64, copy=False), setup.power * power_fractions / power_fractions.sum(
        -1, keepdims=True
    )


def _on_device(setup: Setup, coefficients: Coefficients, iterations: int) -> Solve:
    def solve(channels: Tensor) -> Answer:
        precoder, power = setup.to_host(*_torch_answer(setup, coefficients, iterations, setup.to_device(channels)))
        return precoder, power

    return solve


def _as_graph(setup: Setup, coefficients: Coefficients, iterations: int) -> Solve:
    captured = Captured(partial(_torch_answer, setup, coefficients, iterations), setup.device)

    def solve(channels: Tensor) -> Answer:
        precoder, power = setup.to_host(*captured(channels))
        return precoder, power

    return solve


def _in_numpy(setup: Setup, coefficients: Coefficients, iterations: int) -> Solve:
    def solve(channels: Tensor) -> Answer:
        values = channels.numpy()
        # A batch axis of length one costs NumPy as much as a long one.
        single = len(values) == 1
        answer = _numpy_answer(setup, coefficients, iterations, values[0] if single else values)
        precoder, power = (torch.from_numpy(part[None] if single else part) for part in answer)
        return precoder, power

    return solve


def _in_chunks(make: Callable[[int], Solve], setup: Setup, drops: int, iterations: int) -> Solve:
    """Compute the batch in chunks of ``drops`` drops, one chunk per thread where there is a pool."""
    solve_chunk = make(iterations)

    def solve(channels: Tensor) -> Answer:
        parts = torch.split(channels, drops)
        answers = list(map(solve_chunk, parts) if setup.pool is None else setup.pool.map(solve_chunk, parts))
        return torch.cat([precoder for precoder, _ in answers]), torch.cat([power for _, power in answers])

    return solve
