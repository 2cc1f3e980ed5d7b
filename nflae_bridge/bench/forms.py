"""The ways to compute an iterative rival, and which of them is the fastest on the drops at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nflae_bridge.bench.cuda_graph import Captured
from nflae_bridge.bench.field import Field
from nflae_bridge.bench.inversion_free import gradient_coefficients
from nflae_bridge.bench.wmmse import Inverse, cholesky_inverse, lu_inverse, one_inverse, wmmse_coefficients

Answer = tuple[Tensor, Tensor]
Solve = Callable[[Tensor], Answer]
# gram, identity, iterations -> X of the precoder V = H X
Coefficients = Callable[[Any, Any, int], Any]

_TINY = float(np.finfo(np.float32).tiny)
_CHUNKS = (64, 128, 256)
_TRIAL_ITERATIONS = (2, 20)
_TRIALS = 5


@dataclass(frozen=True)
class Form:
    """name: for people. make: from a number of iterations to what computes precoder and powers, host to host."""

    name: str
    make: Callable[[int], Solve]


def forms(name: str, field: Field, batch: int) -> list[Form]:
    """All ways to compute ``wmmse`` or ``inversion-free`` on ``batch`` drops; WMMSE of no iterations is RZF."""
    if name == "inversion-free":
        in_torch: dict[str, Coefficients] = {"": gradient_coefficients}
        in_numpy: Coefficients = gradient_coefficients
    else:
        in_torch = {", Cholesky": _wmmse(cholesky_inverse)}
        in_numpy = _wmmse(one_inverse if batch == 1 else np.linalg.inv)
    if field.device.type != "cpu":
        if name == "wmmse":
            in_torch[", LU"] = _wmmse(lu_inverse)
        plain = [Form(f"torch{how}", partial(_on_device, field, which)) for how, which in in_torch.items()]
        graphs = [Form(f"CUDA graph{how}", partial(_as_graph, field, which)) for how, which in in_torch.items()]
        return [*plain, *graphs]
    (how, coefficients), *_ = in_torch.items()
    numpy_name = "NumPy, LAPACK's Cholesky" if name == "wmmse" and batch == 1 else "NumPy"
    ways = {
        f"torch{how}": partial(_on_device, field, coefficients),
        numpy_name: partial(_in_numpy, field, in_numpy),
    }
    return whole_or_in_chunks(ways, field, batch)


def whole_or_in_chunks(ways: dict[str, Callable[[int], Solve]], field: Field, batch: int) -> list[Form]:
    """Ways to compute on the CPU, by name, each also a few drops at a time, whose matrices stay in the cache."""
    shared = -(-batch // field.threads)
    sizes = sorted(size for size in {*_CHUNKS, shared} if size < batch)
    chunked = [
        Form(f"{name}, {drops} at a time", partial(_in_chunks, make, field, drops))
        for drops in sizes
        for name, make in ways.items()
    ]
    return [*(Form(name, make) for name, make in ways.items()), *chunked]


def fastest_form(choices: Sequence[Form], trial: Tensor) -> Callable[[int], Form]:
    """Which form is the fastest at a number of iterations, by the times on ``trial`` of a few and of many.

    Time grows as a straight line with iterations: the medians of five calls at two points tell it at all others.
    """
    if len(choices) == 1:
        return lambda iterations: choices[0]
    runs = [[form.make(iterations) for iterations in _TRIAL_ITERATIONS] for form in choices]
    seconds = np.empty((_TRIALS + 1, len(choices), len(_TRIAL_ITERATIONS)))
    for trials in seconds:
        for form, solves in enumerate(runs):
            for point, solve in enumerate(solves):
                began = time.perf_counter()
                solve(trial)
                trials[form, point] = time.perf_counter() - began
    few, many = np.median(seconds[1:], axis=0).T  # the first to warm up
    slope = (many - few) / (_TRIAL_ITERATIONS[1] - _TRIAL_ITERATIONS[0])

    def choose(iterations: int) -> Form:
        return choices[int((few + slope * (iterations - _TRIAL_ITERATIONS[0])).argmin())]

    return choose


def _wmmse(inverse: Inverse) -> Coefficients:
    return lambda gram, identity, iterations: wmmse_coefficients(gram, identity, iterations, inverse)


def _torch_answer(field: Field, coefficients: Coefficients, iterations: int, channels: Tensor) -> Answer:
    """Precoder, complex64 (drops, users, antennas) with rows of unit norm, and powers (drops, users), W."""
    precision = torch.complex128 if field.loud else torch.complex64
    gram = (channels.conj() @ channels.mT).to(precision) * (field.power / field.noise_power)
    identity = torch.eye(gram.shape[-1], dtype=precision, device=gram.device)
    beams = coefficients(gram, identity, iterations).mT.to(channels.dtype) @ channels
    parts = torch.view_as_real(beams).flatten(-2)
    norm = torch.linalg.vector_norm(parts, dim=-1, keepdim=True).clamp(min=_TINY)
    shares = (norm / norm.amax(-2, keepdim=True)).squeeze(-1).square()
    power = field.power * shares / shares.sum(-1, keepdim=True)
    return torch.view_as_complex(parts.div_(norm).view(*beams.shape, 2)), power


def _numpy_answer(
    field: Field, coefficients: Coefficients, iterations: int, channels: npt.NDArray[np.complex64]
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float32]]:
    """`_torch_answer` in NumPy: where few drops come at a time, calls cost the time, and NumPy's cost the least."""
    precision: Any = np.complex128 if field.loud else np.complex64
    gram = (channels.conj() @ channels.swapaxes(-1, -2)).astype(precision) * precision(field.power / field.noise_power)
    identity = np.eye(gram.shape[-1], dtype=precision)
    beams = coefficients(gram, identity, iterations).swapaxes(-1, -2).astype(channels.dtype) @ channels
    parts = beams.view(np.float32)
    norm = np.sqrt(np.einsum("...n,...n->...", parts, parts))
    parts /= np.maximum(norm, _TINY)[..., None]
    shares = (norm / norm.max(-1, keepdims=True)) ** 2
    return beams, field.power * shares / shares.sum(-1, keepdims=True)


def _on_device(field: Field, coefficients: Coefficients, iterations: int) -> Solve:
    def solve(channels: Tensor) -> Answer:
        precoder, power = field.back(*_torch_answer(field, coefficients, iterations, field.there(channels)))
        return precoder, power

    return solve


def _as_graph(field: Field, coefficients: Coefficients, iterations: int) -> Solve:
    captured = Captured(partial(_torch_answer, field, coefficients, iterations), field.device)

    def solve(channels: Tensor) -> Answer:
        precoder, power = field.back(*captured(channels))
        return precoder, power

    return solve


def _in_numpy(field: Field, coefficients: Coefficients, iterations: int) -> Solve:
    def solve(channels: Tensor) -> Answer:
        values = channels.numpy()
        # One drop without its axis: an axis of length one costs NumPy as much as a long one.
        alone = len(values) == 1
        answer = _numpy_answer(field, coefficients, iterations, values[0] if alone else values)
        precoder, power = (torch.from_numpy(part[None] if alone else part) for part in answer)
        return precoder, power

    return solve


def _in_chunks(make: Callable[[int], Solve], field: Field, drops: int, iterations: int) -> Solve:
    """``drops`` drops at a time; a thread a chunk where there are several."""
    one = make(iterations)

    def solve(channels: Tensor) -> Answer:
        parts = torch.split(channels, drops)
        found = list(map(one, parts) if field.pool is None else field.pool.map(one, parts))
        return torch.cat([precoder for precoder, _ in found]), torch.cat([power for _, power in found])

    return solve
