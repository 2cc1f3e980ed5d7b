"""Which backend is selected, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from matlab_io.errors import NflaeError
from nflae_bridge.engine.backends import Backend, Facilities, select_backend
from nflae_bridge.engine.engine import Engine
from nflae_bridge.network.checkpoint import load_checkpoint
from nflae_bridge.network.shipped import SHIPPED
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch

FREE, NEAR, RATES = LinkBudget(1.0, 0.01), LinkBudget(1.0, 0.01, 0.5), LinkBudget(1.0, 0.01, 1.0, 0.5)
CPU = Facilities("", True, "none", 0)
GPU = Facilities("the network is not on the CPU", False, "seen", 16)


def batch(drops: int = 1, users: int = 3, antennas: int = 32) -> ChannelBatch:
    return ChannelBatch(torch.ones(drops, users, antennas, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("given", "budget", "facilities", "backend", "reason"),
    [
        (batch(), FREE, CPU, Backend.NUMPY, "without constraints"),
        (batch(500), FREE, CPU, Backend.NUMPY, "without constraints"),
        (batch(0), FREE, CPU, Backend.TORCH, "no drops"),
        (batch(), NEAR, CPU, Backend.TORCH, "C3 or C4 can bind"),
        (batch(), RATES, CPU, Backend.TORCH, "C3 or C4 can bind"),
        (batch(), FREE, Facilities("", False, "none", 0), Backend.TORCH, "loading ONNX Runtime"),
        (batch(), FREE, Facilities("no graph", True, "none", 0), Backend.TORCH, "no graph"),
        (batch(), FREE, GPU, Backend.TRITON, "at most 16 users"),
        (batch(1, 16), FREE, GPU, Backend.TRITON, "at most 16 users"),
        (batch(1, 17), FREE, GPU, Backend.CUDA_GRAPHS, "up to 16 users"),
        (batch(1, 7, 8), FREE, GPU, Backend.TRITON, "at most 16 users"),
        (batch(1, 8, 8), FREE, GPU, Backend.CUDA_GRAPHS, "do not select users"),
        (batch(1, 1, 1), FREE, GPU, Backend.TRITON, "at most 16 users"),
        (batch(), NEAR, GPU, Backend.TRITON, "at most 16 users"),
        (batch(), RATES, GPU, Backend.TRITON, "at most 16 users"),
        (batch(), FREE, Facilities("", True, "new", 16), Backend.TORCH, "first batch of its shape"),
        (batch(), FREE, Facilities("", True, "impossible", 16), Backend.TORCH, "cannot be captured"),
    ],
)
def test_the_selection_and_its_reason(
    given: ChannelBatch, budget: LinkBudget, facilities: Facilities, backend: Backend, reason: str
) -> None:
    selection = select_backend(given.channels.shape, budget, facilities)
    assert selection.backend is backend
    assert reason in selection.reason


@pytest.mark.parametrize(
    ("requested", "budget", "facilities", "reason"),
    [
        (Backend.NUMPY, NEAR, CPU, "C3 or C4 can bind"),
        (Backend.NUMPY, FREE, GPU, "not on the CPU"),
        (Backend.CUDA_GRAPHS, FREE, CPU, "no CUDA device"),
        (Backend.TRITON, FREE, CPU, "no CUDA device"),
        (Backend.TRITON, FREE, Facilities("", True, "seen", 2), "up to 2 users"),
    ],
)
def test_a_backend_that_cannot_compute_the_batch_is_refused(
    requested: Backend, budget: LinkBudget, facilities: Facilities, reason: str
) -> None:
    with pytest.raises(NflaeError, match=f"backend {requested.value} cannot compute this batch: .*{reason}"):
        select_backend(batch().channels.shape, budget, facilities, requested)


@pytest.mark.parametrize(
    ("requested", "facilities"),
    [
        (Backend.TORCH, GPU),
        (Backend.NUMPY, Facilities("", False, "none", 0)),
        (Backend.CUDA_GRAPHS, Facilities("", False, "new", 16)),
        (Backend.TRITON, Facilities("", False, "new", 16)),
    ],
)
def test_a_requested_backend_is_taken_at_the_first_call(requested: Backend, facilities: Facilities) -> None:
    assert select_backend(batch().channels.shape, FREE, facilities, requested).backend is requested


def selected(engine: Engine, **size: Any) -> Backend:
    return engine.select_backend(batch(**size), FREE).backend


def test_the_second_batch_of_an_engine_is_numpys() -> None:
    engine = Engine(load_checkpoint(SHIPPED / "tiny"))
    assert selected(engine) is Backend.TORCH
    engine(batch(), NEAR)
    assert selected(engine) is Backend.TORCH
    engine(batch(), FREE)
    assert selected(engine) is Backend.NUMPY
    assert selected(engine.refined(2)) is Backend.NUMPY
    assert engine.select_backend(batch(), NEAR).backend is Backend.TORCH


def test_without_comparison_pytorch_computes() -> None:
    engine = Engine(load_checkpoint(SHIPPED / "tiny"), with_fallback=False)
    for _ in range(2):
        engine(batch(), FREE)
    assert "compared" in engine.select_backend(batch(), FREE).reason
