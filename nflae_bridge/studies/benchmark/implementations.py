"""The ways to compute an iterative rival, and which of them is the fastest on the drops at hand."""

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

Answer = tuple[Tensor, Tensor]
Solve = Callable[[Tensor], Answer]
# gram, identity, iterations -> X of the precoder V = H X
Coefficients = Callable[[Any, Any, int], Any]

_TINY = float(np.finfo(np.float32).tiny)
_CHUNKS = (64, 128, 256)
_TRIAL_ITERATIONS = (2, 20)
_TRIALS, _FEW_TRIALS, _SMALL, _TRIAL_DROPS = 25, 5, 100, 2048
_HOPELESS = 3.0  # times as long as the quickest: tried no further


@dataclass(frozen=True)
class Implementation:
    """name: for people. make: from a number of iterations to what computes precoder and powers, host to host."""

    name: str
    make: Callable[[int], Solve]


def implementations(name: str, setup: Setup, batch: int, unweighted: Mapping[int, int]) -> list[Implementation]:
    """All ways to compute ``wmmse`` or ``inversion-free`` on ``batch`` drops; WMMSE of no iterations is RZF.

    unweighted: of inversion-free's steps, by the number of its iterations; none where that isn't listed.
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
    """Ways to compute on the CPU, by name, each also a few drops at a time, whose matrices stay in the cache."""
    shared = -(-batch // setup.threads)
    sizes = sorted(size for size in {*_CHUNKS, shared} if size < batch)
    chunked = [
        Implementation(f"{name}, {drops} at a time", partial(_in_chunks, make, setup, drops))
        for drops in sizes
        for name, make in ways.items()
    ]
    return [*(Implementation(name, make) for name, make in ways.items()), *chunked]


def fastest_implementation(
    choices: Sequence[Implementation], setup: Setup, trial: Tensor, iterations: Sequence[int] = _TRIAL_ITERATIONS
) -> Callable[[int], Implementation]:
    """Which form is the fastest at a number of iterations, by the times on ``trial`` (at most 2,048 drops of it).

    Time grows as a straight line with iterations: the quickest calls of few and of many tell it for all others.
    iterations: few and many; or one number, if no other will be asked for.
    """
    if len(choices) == 1:
        return lambda wanted: choices[0]
    trial = trial[:_TRIAL_DROPS]
    runs = [[form.make(number) for number in iterations] for form in choices]
    quickest = np.full((len(choices), len(iterations)), np.inf)
    candidates = list(range(len(choices)))
    for call in range(1 + (_FEW_TRIALS if len(trial) > _SMALL else _TRIALS)):
        for form in candidates:
            for point, solve in enumerate(runs[form]):
                with setup.turn(len(trial)):
                    began = time.perf_counter()
                    solve(trial)
                    taken = time.perf_counter() - began
                if call:  # the first is to warm up; what else the machine does only ever adds
                    quickest[form, point] = min(quickest[form, point], taken)
        if call:
            near = (quickest < _HOPELESS * quickest.min(0)).any(-1)
            candidates = [form for form in candidates if near[form]]
    slope = (quickest[:, -1] - quickest[:, 0]) / max(1, iterations[-1] - iterations[0])

    def choose(wanted: int) -> Implementation:
        return choices[int((quickest[:, 0] + slope * (wanted - iterations[0])).argmin())]

    return choose


def _wmmse(inverse: Inverse) -> Coefficients:
    return lambda gram, identity, iterations: wmmse_coefficients(gram, identity, iterations, inverse)


def _torch_answer(setup: Setup, coefficients: Coefficients, iterations: int, channels: Tensor) -> Answer:
    """Precoder, complex64 (drops, users, antennas) with rows of unit norm, and powers (drops, users), W."""
    if setup.loud:
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
    """`_torch_answer` in NumPy: where few drops come at a time, calls cost the time, and NumPy's cost the least."""
    if setup.loud:
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
        precoder, power = setup.back(*_torch_answer(setup, coefficients, iterations, setup.there(channels)))
        return precoder, power

    return solve


def _as_graph(setup: Setup, coefficients: Coefficients, iterations: int) -> Solve:
    captured = Captured(partial(_torch_answer, setup, coefficients, iterations), setup.device)

    def solve(channels: Tensor) -> Answer:
        precoder, power = setup.back(*captured(channels))
        return precoder, power

    return solve


def _in_numpy(setup: Setup, coefficients: Coefficients, iterations: int) -> Solve:
    def solve(channels: Tensor) -> Answer:
        values = channels.numpy()
        # One drop without its axis: an axis of length one costs NumPy as much as a long one.
        alone = len(values) == 1
        answer = _numpy_answer(setup, coefficients, iterations, values[0] if alone else values)
        precoder, power = (torch.from_numpy(part[None] if alone else part) for part in answer)
        return precoder, power

    return solve


def _in_chunks(make: Callable[[int], Solve], setup: Setup, drops: int, iterations: int) -> Solve:
    """``drops`` drops at a time; a thread a chunk where there are several."""
    one = make(iterations)

    def solve(channels: Tensor) -> Answer:
        parts = torch.split(channels, drops)
        found = list(map(one, parts) if setup.pool is None else setup.pool.map(one, parts))
        return torch.cat([precoder for precoder, _ in found]), torch.cat([power for _, power in found])

    return solve
