"""Select the backend that computes a batch, and state why.

Every backend computes the same; they differ in the time they take per call and per drop.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Literal, NamedTuple

from matlab_io.errors import NflaeError
from nflae_bridge.engine.user_selection import is_overloaded
from simulator.downlink.budget import LinkBudget


class Backend(Enum):
    """Name the implementations of the engine.

    TORCH: PyTorch, on every device and under every constraint. NUMPY: NumPy and the network exported to ONNX Runtime,
    or a kernel encoder in NumPy, for drops without constraints on a CPU. CUDA_GRAPHS: PyTorch's kernels, captured once
    per shape. TRITON: three kernels of our own in place of PyTorch's, captured likewise.
    """

    TORCH = "torch"
    NUMPY = "numpy"
    CUDA_GRAPHS = "cuda_graphs"
    TRITON = "triton"


class Selection(NamedTuple):
    """Hold a backend and the reason for it.

    Attributes
    ----------
    backend
        The backend.
    reason
        Text of the reason, for logs and reports.
    """

    backend: Backend
    reason: str


class Facilities(NamedTuple):
    """Hold what an engine provides for a batch of some shape.

    Attributes
    ----------
    without_numpy
        Reason for which the NumPy backend cannot be used, "" if it can.
    numpy_requested
        Whether an earlier batch could have used NumPy, for which ONNX Runtime is loaded at the second one; true where
        it is not needed.
    graphs
        State of the CUDA graphs of the shape: ``none`` without a GPU, ``new``, ``seen`` or ``impossible``.
    triton_users
        Users per drop up to which the Triton kernels compute; 0 without them.
    """

    without_numpy: str
    numpy_requested: bool
    graphs: Literal["none", "new", "seen", "impossible"]
    triton_users: int


_BY_NUMPY = Selection(Backend.NUMPY, "drops without constraints")


def select_backend(
    shape: Sequence[int], budget: LinkBudget, facilities: Facilities, requested: Backend | None = None
) -> Selection:
    """Select the backend of a batch.

    Parameters
    ----------
    shape
        Drops, users and antennas.
    budget
        Link budget.
    facilities
        Backends that the engine provides.
    requested
        Backend to use instead of the one that takes the least time, at the first call already.

    Returns
    -------
    Selection

    Raises
    ------
    NflaeError
        If the requested backend cannot compute the batch.
    """
    drops, users, antennas = shape
    constrained = budget.constrains_near_field or budget.demands_rates
    without_numpy = facilities.without_numpy or ("C3 or C4 can bind" if constrained else "" if drops else "no drops")
    if requested is None and facilities.graphs == "none":
        if without_numpy:
            return Selection(Backend.TORCH, without_numpy)
        if not facilities.numpy_requested:
            return Selection(Backend.TORCH, "loading ONNX Runtime for one batch takes longer than the batch")
        return _BY_NUMPY
    reasons = {"none": "there is no CUDA device", "impossible": "an operation cannot be captured"}
    without_graphs = reasons.get(facilities.graphs, "" if drops else "no drops")
    without_triton = without_graphs
    if not without_triton and users > facilities.triton_users:
        without_triton = f"the kernels take up to {facilities.triton_users} users"
    elif not without_triton and is_overloaded(users, antennas):
        without_triton = "as many users as antennas or more: the kernels do not select users"
    if requested is not None:
        excluded = {
            Backend.NUMPY: without_numpy,
            Backend.CUDA_GRAPHS: without_graphs,
            Backend.TRITON: without_triton,
        }.get(requested, "")
        if excluded:
            raise NflaeError(f"backend {requested.value} cannot compute this batch: {excluded}")
        return Selection(requested, "requested")
    if without_graphs:
        return Selection(Backend.TORCH, without_graphs)
    if facilities.graphs == "new":
        return Selection(Backend.TORCH, "the first batch of its shape; the second one is captured")
    if without_triton:
        return Selection(Backend.CUDA_GRAPHS, without_triton)
    return Selection(Backend.TRITON, f"at most {facilities.triton_users} users")
