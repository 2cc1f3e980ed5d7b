"""Describe the link and the device that all competitors share, and move data between host memory and the device."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Barrier

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget
from simulator.problems.options import total_power
from simulator.problems.problem import PrecodingProblem

# Above this P / sigma^2 competitors compute in double precision, sums over antennas included, as the engine does.
_MAX_FP32_SNR = 1e3

# Up to this many drops a call stays on one thread.
SMALL_BATCH = 16


@dataclass
class Setup:
    """Link and device of one comparison.

    Parameters
    ----------
    power, noise_power
        P and sigma^2, W.
    device
        Device of all computation in PyTorch.
    model
        Model of the scheme ``nflae``, see `nflae_bridge.network.shipped.load_model`.
    threads
        PyTorch's CPU threads.
    problem
        Problem that every scheme solves; by default the plain sum rate.

    Attributes
    ----------
    pool
        As many worker threads, within `worker_threads` and where a batch is large enough; None otherwise.
    """

    power: float
    noise_power: float
    device: torch.device
    model: str = "auto"
    threads: int = 1
    problem: PrecodingProblem = field(default_factory=PrecodingProblem)
    pool: Executor | None = field(default=None, init=False)

    @property
    def budget(self) -> LinkBudget:
        """Power and noise, without constraints C3 and C4."""
        return LinkBudget(self.power, self.noise_power)

    def problem_budget(self, antennas: int) -> LinkBudget:
        """Return the link budget of `problem`: P is the sum of the antennas' limits where these hold alone.

        Parameters
        ----------
        antennas
            Number of antennas.

        Returns
        -------
        LinkBudget
            Power and noise, without constraints C3 and C4.
        """
        power = total_power(self.problem, antennas, self.power if self.problem.total_power else None)
        return LinkBudget(power, self.noise_power)

    @property
    def needs_float64(self) -> bool:
        """True where single precision does not suffice."""
        return self.power / self.noise_power > _MAX_FP32_SNR

    @contextmanager
    def worker_threads(self, drops: int) -> Iterator[None]:
        """Provide `pool` for the calls within: threads that share the drops, one PyTorch thread each.

        The threads end with the context. PyTorch's own threads stop waiting actively for work while a process has more
        of them than cores, so threads that stayed would slow down the competitor that computes next.

        Parameters
        ----------
        drops
            Drops per call; up to `SMALL_BATCH`, and on a GPU, there is no pool.
        """
        if self.threads == 1 or self.device.type != "cpu" or drops <= SMALL_BATCH:
            yield
            return
        before = torch.get_num_threads()
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as self.pool:
            started = Barrier(self.threads)
            for waiting in [self.pool.submit(started.wait) for _ in range(self.threads)]:
                waiting.result()
            torch.set_num_threads(before)  # each worker has set its own number and the default of later threads
            yield
        self.pool = None

    def gram(self, channels: Tensor) -> Tensor:
        """Compute Gamma = (P / sigma^2) H^H H in the channels' precision.

        Restates `simulator.downlink.gram.normalised_gram`, which scales the channels instead of the product: K x K
        multiplications here, K x N there.

        Parameters
        ----------
        channels
            Complex (drops, users, antennas), on any device.

        Returns
        -------
        Tensor
            Complex (drops, users, users).
        """
        return (channels.conj() @ channels.mT) * (self.power / self.noise_power)

    def pinned(self, channels: Tensor) -> Tensor:
        """Return the channels in host memory, page-locked where a GPU reads them from there."""
        return channels.pin_memory() if self.device.type == "cuda" else channels

    def to_device(self, channels: Tensor) -> Tensor:
        """Return the channels on the device, without waiting for the transfer."""
        return channels.to(self.device, non_blocking=True)

    def to_host(self, *results: Tensor) -> list[Tensor]:
        """Return the results in host memory, after all transfers have finished."""
        if self.device.type != "cuda":
            return list(results)
        copies = [torch.empty(result.shape, dtype=result.dtype, pin_memory=True) for result in results]
        for copy, result in zip(copies, results, strict=True):
            copy.copy_(result, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return copies
