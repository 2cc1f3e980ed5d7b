"""What all competitors share: the link, the device, and the way from the host's memory and back to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Barrier

import torch
from torch import Tensor

from simulator.downlink.budget import LinkBudget

# Above this P / sigma^2 rivals compute in double precision, sums over antennas too, as we do on such drops.
_LOUD = 1e3

# Drops that nobody shares among threads.
FEW = 16


@dataclass
class Setup:
    """power, noise_power: W. device: of all that runs in torch. threads: torch's. pool: as many, during a turn."""

    power: float
    noise_power: float
    device: torch.device
    model: str = "auto"
    threads: int = 1
    pool: Executor | None = field(default=None, init=False)

    @property
    def budget(self) -> LinkBudget:
        """Power and noise, without constraints C3 and C4."""
        return LinkBudget(self.power, self.noise_power)

    @property
    def loud(self) -> bool:
        """Whether single precision is too little."""
        return self.power / self.noise_power > _LOUD

    @contextmanager
    def turn(self, drops: int) -> Iterator[None]:
        """A competitor's turn: threads to share many drops among, each with one of torch's, gone again after it.

        If they stayed, whoever computes next would be held up: torch's own threads give up waiting for work actively
        while a process has more of their kind than there are cores.
        """
        if self.threads == 1 or self.device.type != "cpu" or drops <= FEW:
            yield
            return
        before = torch.get_num_threads()
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as self.pool:
            started = Barrier(self.threads)
            for waiting in [self.pool.submit(started.wait) for _ in range(self.threads)]:
                waiting.result()
            torch.set_num_threads(before)  # each has set its own number, and the one that later threads begin with
            yield
        self.pool = None

    def gram(self, channels: Tensor) -> Tensor:
        """Gamma = (P / sigma^2) H^H H in the channels' precision, complex (drops, users, users)."""
        return (channels.conj() @ channels.mT) * (self.power / self.noise_power)

    def on_host(self, channels: Tensor) -> Tensor:
        """The channels as they wait in the host's memory: page-locked, once, where a GPU fetches them from there."""
        return channels.pin_memory() if self.device.type == "cuda" else channels

    def there(self, channels: Tensor) -> Tensor:
        """The channels on the device."""
        return channels.to(self.device, non_blocking=True)

    def back(self, *results: Tensor) -> list[Tensor]:
        """Results in the host's memory, all of them arrived."""
        if self.device.type != "cuda":
            return list(results)
        landed = [torch.empty(result.shape, dtype=result.dtype, pin_memory=True) for result in results]
        for place, result in zip(landed, results, strict=True):
            place.copy_(result, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return landed
