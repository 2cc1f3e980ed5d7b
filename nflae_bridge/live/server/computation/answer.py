"""Hold the outcome of a job, with the times of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from nflae_bridge.live.errors import WireError
from nflae_bridge.live.server.computation.micro_batches import Job

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Answer:
    """Hold the outcome of a job.

    Parameters
    ----------
    job : Job
        Job.
    outcome : dict or WireError
        Arrays by name, drops first, or the fault.
    compute : float
        Computation time of its micro-batch, s.
    notes : tuple of str
        Lines about the history of a prediction.
    check : float
        Part of `compute` in which the channels were checked, s.
    info : dict
        What ``info`` of the answer of a track states.
    """

    job: Job
    outcome: Arrays | WireError
    compute: float
    notes: tuple[str, ...] = ()
    check: float = 0.0
    info: dict[str, Any] = field(default_factory=dict)

    def timing_us(self, began: float) -> Callable[[], dict[str, int]]:
        """Return the function that states the times of the stages once the arrays are encoded.

        Parameters
        ----------
        began : float
            Start of the encoding on the clock of `time.perf_counter`, s.

        Returns
        -------
        callable
            Returns the times by stage, microseconds.
        """

        def stages() -> dict[str, int]:
            now, job = time.perf_counter(), self.job
            decode = max(0.0, job.accepted - job.arrived)
            queue = began - job.arrived - decode - self.compute
            return {
                "decode": round(1e6 * decode),
                "queue": round(1e6 * queue),
                "check": round(1e6 * self.check),
                "compute": round(1e6 * self.compute),
                "encode": round(1e6 * (now - began)),
                "total": round(1e6 * (now - job.arrived)),
            }

        return stages
