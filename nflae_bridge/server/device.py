"""The owner of the device: turns a micro-batch of jobs into answers, one batch at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nflae_bridge import __version__
from nflae_bridge.devices import choose_device
from nflae_bridge.engine import Engine
from nflae_bridge.models import load_model, model_folder
from nflae_bridge.pipeline import drops_per_block, fault_of, good_drops, result_arrays
from nflae_bridge.server.queue import Job, Key
from nflae_bridge.wire import PrecodeRequest, WireError
from simulator.link import ChannelBatch, LinkBudget
from simulator.precoding import Scheme
from simulator.schemes import scheme, scheme_names

Channels = npt.NDArray[np.complex64]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Answer:
    """What became of a job: its arrays, or why there are none. compute: seconds its batch took."""

    job: Job
    arrays: Arrays
    error: WireError | None
    compute: float


class Device:
    """The device with the models on it.

    model, device: as `engine.load_scheme` takes them. Raises NflaeError if either can't be had.
    """

    def __init__(self, model: str, device: str) -> None:
        self.device = choose_device(device)
        self.model = model_folder(model, self.device.type).resolve().name
        self._engine = Engine(load_model(model, self.device), self.device)
        self.schemes = ("nflae", *scheme_names())
        self._seconds_a_drop: dict[Key, float] = {}
        self._mine = threading.Lock()

    def warm_up(self) -> None:
        """Compute something, so that the first request finds everything loaded."""
        channels = np.exp(2j * np.pi * np.random.default_rng(0).random((1, 2, 16))).astype(np.complex64)
        for name in ("nflae", "rzf"):
            self.compute([Job([], PrecodeRequest("", channels, scheme=name), time.perf_counter())])

    def seconds(self, job: Job) -> float:
        """How long a job like this took last time, s; infinite for one never seen."""
        return self._seconds_a_drop.get(job.key, float("inf")) * job.drops

    def info(self, request: PrecodeRequest) -> dict[str, str | float | int]:
        """What an answer says about how it was made."""
        ours = request.scheme == "nflae"
        return {
            "scheme": request.scheme,
            "model": self.model if ours else "",
            "refine": request.refine if ours else 0,
            "version": __version__,
            "convention": request.convention,
            "power": request.power,
            "noise_power": request.noise_power,
            "alpha_c": request.alpha_c,
            "min_rate": request.min_rate,
        }

    def compute(self, jobs: Sequence[Job]) -> list[Answer]:
        """Answers to jobs of one key, in their order; a job whose channels can't be used spoils no other."""
        with self._mine:
            began = time.perf_counter()
            prepared = [_channels(job.request) for job in jobs]
            good = [job for job, made in zip(jobs, prepared, strict=True) if not isinstance(made, WireError)]
            channels = [made for made in prepared if not isinstance(made, WireError)]
            results = iter(self._precode(good, channels)) if good else iter(())
            elapsed = time.perf_counter() - began
            self._seconds_a_drop[jobs[0].key] = elapsed / sum(job.drops for job in jobs)
            return [
                Answer(job, {}, made, elapsed) if isinstance(made, WireError) else _checked(job, next(results), elapsed)
                for job, made in zip(jobs, prepared, strict=True)
            ]

    def _precode(self, jobs: Sequence[Job], channels: Sequence[Channels]) -> Iterator[Arrays]:
        requests = [job.request for job in jobs]
        scheme = self._scheme(requests[0])
        together = torch.from_numpy(channels[0] if len(channels) == 1 else np.concatenate(channels))
        labels = _labels(requests, requests[0].scheme != "nflae")
        budget = _budget(requests, self.device)
        drops, users, antennas = together.shape
        step = drops_per_block(users, antennas)
        parts: list[Arrays] = []
        for start in range(0, drops, step):
            stop = min(start + step, drops)
            near = None if labels is None else labels[start:stop].to(self.device)
            batch = ChannelBatch(together[start:stop].to(self.device), near)
            answer = scheme(batch, budget.slice(start, stop))
            parts.append(result_arrays(answer, np.ones(stop - start, bool)))
        whole = parts[0] if len(parts) == 1 else {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}
        start = 0
        for request in requests:
            stop = start + len(request.channels)
            yield {name: values[start:stop] for name, values in whole.items()}
            start = stop

    def _scheme(self, request: PrecodeRequest) -> Scheme:
        return self._engine.refined(request.refine) if request.scheme == "nflae" else scheme(request.scheme)


def _channels(request: PrecodeRequest) -> Channels | WireError:
    """The request's h_k, complex64; or what is wrong with them."""
    channels: Channels = np.array(request.channels, np.complex64)  # a copy: torch wants memory it may write to
    if request.convention == "direct":
        np.conj(channels, out=channels)
    good = good_drops(channels)
    if good.all():
        return channels
    bad = fault_of(channels[~good][0], int(np.flatnonzero(~good)[0]))
    antenna = "" if bad.antenna is None else f", antenna {bad.antenna + 1}"
    place = f"drop {bad.drop + 1}, user {bad.user + 1}{antenna}"
    return WireError("bad_channels", f"{place} is {bad.fault} (counted from 1)")


def _checked(job: Job, arrays: Arrays, elapsed: float) -> Answer:
    if np.isfinite(arrays["sum_rate"]).all():
        return Answer(job, arrays, None, elapsed)
    reason = "the rates come out as no finite numbers; are the channels scaled beyond reason for this power and noise?"
    return Answer(job, {}, WireError("bad_channels", reason), elapsed)


def _labels(requests: Sequence[PrecodeRequest], labels_change_nothing: bool) -> torch.Tensor | None:
    """Labels to go by, bool (drops, users); None: the scheme finds them.

    Finding them costs more than some schemes themselves, so where no answer depends on them and nobody asked for
    them, they aren't looked for.
    """
    if requests[0].near_field is not None:
        return torch.from_numpy(np.concatenate([request.near_field for request in requests]))
    unasked = not any(name in request.want for request in requests for name in ("near_field", "near_field_score"))
    if labels_change_nothing and unasked and all(request.alpha_c == 1 for request in requests):
        drops = sum(len(request.channels) for request in requests)
        return torch.zeros(drops, requests[0].channels.shape[1], dtype=torch.bool)
    return None


def _budget(requests: Sequence[PrecodeRequest], device: torch.device) -> LinkBudget:
    """One budget for all the drops: numbers where the requests agree, else tensors (drops,)."""
    repeats = [len(request.channels) for request in requests]

    def together(values: list[float]) -> float | torch.Tensor:
        if len(set(values)) == 1:
            return values[0]
        return torch.from_numpy(np.repeat(values, repeats)).to(device)

    return LinkBudget(
        together([request.power for request in requests]),
        together([request.noise_power for request in requests]),
        together([request.alpha_c for request in requests]),
        together([request.min_rate for request in requests]),
    )
