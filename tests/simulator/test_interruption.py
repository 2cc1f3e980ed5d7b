"""Iterative computations are interrupted once per step, in the thread and the block that say so."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from simulator.csi.prediction.kalman import kalman
from simulator.downlink.balancing import max_min_dual_powers
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch
from simulator.downlink.structure import wmmse_iterations
from simulator.interruption import check_interrupt, interrupted_by
from simulator.schemes import scheme

HISTORY = 12


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))


def gram() -> torch.Tensor:
    channels = drawn(2, 3, 8)
    return channels.conj() @ channels.mT


def precode(name: str) -> Callable[[], object]:
    return lambda: scheme(name)(ChannelBatch(drawn(2, 3, 8).to(torch.complex64)), LinkBudget())


def predict() -> object:
    series = drawn(1, HISTORY, 6)
    return kalman(series @ series.mH, torch.full((1,), 0.1, dtype=torch.float64), 2)


COMPUTATIONS = {
    "wmmse": (lambda: wmmse_iterations(gram(), 37), 37),
    "wmmse scheme": (precode("wmmse:iterations=21"), 21),
    "max-min": (lambda: max_min_dual_powers(gram(), 9), 9),
    "kalman": (predict, 1),  # one number of poles
}


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_a_computation_is_interrupted_once_per_step_and_ends_with_the_exception(name: str) -> None:
    compute, steps = COMPUTATIONS[name]
    calls: list[int] = []
    with interrupted_by(lambda: calls.append(1)):
        compute()
    assert len(calls) == steps
    compute()
    assert len(calls) == steps

    def end() -> None:
        calls.append(1)
        if len(calls) == steps + 1:
            raise TimeoutError

    with pytest.raises(TimeoutError), interrupted_by(end):
        compute()
    assert len(calls) == steps + 1


@pytest.mark.parametrize("name", ["noma", "sdma", "ldma"])
def test_schemes_with_steps_per_user_are_interrupted(name: str) -> None:
    calls: list[int] = []
    with interrupted_by(lambda: calls.append(1)):
        precode(name)()
    assert len(calls) >= 3


def test_interrupts_are_nested_and_those_of_one_thread() -> None:
    calls: list[str] = []
    with interrupted_by(lambda: calls.append("outer")):
        with interrupted_by(lambda: calls.append("inner")):
            check_interrupt()
        check_interrupt()
        other = threading.Thread(target=check_interrupt)
        other.start()
        other.join()
    check_interrupt()
    assert calls == ["inner", "outer"]
