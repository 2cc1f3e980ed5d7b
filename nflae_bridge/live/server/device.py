"""Compute micro-batches of jobs on the device, one batch at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io.errors import NflaeError
from matlab_io.version import __version__
from nflae_bridge.engine.devices import choose_device, drops_per_block
from nflae_bridge.engine.engine import Engine
from nflae_bridge.files.validation import Channels, first_bad_drop
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol import PrecodeRequest
from nflae_bridge.live.server.micro_batches import BatchKey, Job
from nflae_bridge.network.shipped import load_model, model_folder
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, result_arrays
from simulator.schemes import check_scheme, needs_sic, scheme_names
from simulator.schemes import scheme as registered
from simulator.schemes.options import split_spec
from simulator.schemes.registry import unusable_schemes

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
    """

    job: Job
    outcome: Arrays | WireError
    compute: float


class Device:
    """Hold the device with the models on it; computations of several threads take turns.

    Parameters
    ----------
    model, device : str
        As for `load_scheme`.

    Raises
    ------
    NflaeError
        If either cannot be loaded.
    """

    def __init__(self, model: str, device: str) -> None:
        self.device = choose_device(device)
        self.model = model_folder(model, self.device.type).resolve().name
        self._engine = Engine(load_model(model, self.device), self.device)
        self.unusable = unusable_schemes()
        self.schemes = ("nflae", *(name for name in scheme_names() if name not in self.unusable))
        self._seconds_per_drop: dict[BatchKey, float] = {}
        self._lock = threading.Lock()

    def check_scheme(self, spec: str) -> None:
        """Check the scheme of a request, given as ``NAME`` or ``NAME:OPTION=VALUE:...``; raises WireError."""
        try:
            check_scheme(spec, ("nflae",))
        except NflaeError as error:
            raise WireError("bad_request", str(error)) from None
        reason = self.unusable.get(split_spec(spec)[0])
        if reason is not None:
            raise WireError("bad_request", reason)

    def warm_up(self) -> None:
        """Compute trial batches, so that the first request meets no loading; engines compile at the second call."""
        channels = np.exp(2j * np.pi * np.random.default_rng(0).random((1, 2, 16))).astype(np.complex64)
        for name in ("nflae", "nflae", "rzf"):
            self.compute([Job([], PrecodeRequest("", channels, scheme=name), time.perf_counter())])

    def seconds(self, job: Job) -> float:
        """Return the estimated time of a job by the last one of its key, s; infinite for a new key."""
        return self._seconds_per_drop.get(job.key, float("inf")) * job.drops

    def info(self, request: PrecodeRequest) -> dict[str, str | float | int]:
        """Return the ``info`` of an answer: scheme, model, version, convention and link budget."""
        is_network = request.scheme == "nflae"
        return {
            "scheme": request.scheme,
            "receiver": "sic" if not is_network and needs_sic(request.scheme) else "linear",
            "model": self.model if is_network else "",
            "refine": request.refine if is_network else 0,
            "version": __version__,
            "convention": request.convention,
            **request.quantities,
        }

    def compute(self, jobs: Sequence[Job]) -> list[Answer]:
        """Compute jobs of one key; a job with unusable channels affects no other.

        Parameters
        ----------
        jobs : sequence of Job
            Micro-batch.

        Returns
        -------
        list of Answer
            In the order of the jobs.
        """
        with self._lock, torch.inference_mode():
            began = time.perf_counter()
            prepared = [_channels(job.request) for job in jobs]
            good = [job.request for job, made in zip(jobs, prepared, strict=True) if not isinstance(made, WireError)]
            channels = [made for made in prepared if not isinstance(made, WireError)]
            results = iter(self._precode(good, channels) if good else ())
            outcomes = [made if isinstance(made, WireError) else next(results) for made in prepared]
            elapsed = time.perf_counter() - began
            self._seconds_per_drop[jobs[0].key] = elapsed / sum(job.drops for job in jobs)
            return [Answer(job, outcome, elapsed) for job, outcome in zip(jobs, outcomes, strict=True)]

    def _precode(
        self, requests: Sequence[PrecodeRequest], channels: Sequence[Channels]
    ) -> Iterator[Arrays | WireError]:
        together = torch.from_numpy(channels[0] if len(channels) == 1 else np.concatenate(channels))
        whole = self._in_blocks(requests, together.to(self.device))
        start = 0
        for request in requests:
            stop = start + len(request.channels)
            arrays: Arrays = {name: whole[name][start:stop] for name in request.want}
            start = stop
            checked = arrays.get("sum_rate", arrays.get("precoder"))  # finite if all the others are
            yield _OVERFLOW if checked is not None and not np.isfinite(checked).all() else arrays

    def _in_blocks(self, requests: Sequence[PrecodeRequest], channels: torch.Tensor) -> Arrays:
        """Compute the arrays that any of the requests names, for all drops, in blocks that fit into memory."""
        first = requests[0]
        scheme = self._engine.refined(first.refine) if first.scheme == "nflae" else registered(first.scheme)
        wanted = first.want if len(requests) == 1 else {name for request in requests for name in request.want}
        labels, budget = _labels(requests, self.device), _budget(requests, self.device)
        drops, users, antennas = channels.shape
        step = drops_per_block(users, antennas)
        if drops <= step:
            return result_arrays(scheme(ChannelBatch(channels, labels), budget), names=wanted)
        parts: list[Arrays] = []
        for start in range(0, drops, step):
            stop = min(start + step, drops)
            batch = ChannelBatch(channels[start:stop], None if labels is None else labels[start:stop])
            parts.append(result_arrays(scheme(batch, budget.slice(start, stop)), names=wanted))
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}


_OVERFLOW = WireError(
    "bad_channels",
    "the rates are not finite numbers: scale the channels, power and noise power to a common unit",
)


def _channels(request: PrecodeRequest) -> Channels | WireError:
    """Return the request's h_k, complex64, or the fault of the first unusable drop."""
    with np.errstate(over="ignore"):  # values beyond single precision are reported below, as Inf
        channels: Channels = np.array(request.channels, np.complex64)  # a copy: torch requires writable memory
    if request.convention == "direct":
        np.conj(channels, out=channels)
    bad = first_bad_drop(channels)
    return channels if bad is None else WireError("bad_channels", f"drop {bad.drop + 1}, {bad.describe()}")


def _labels(requests: Sequence[PrecodeRequest], device: torch.device) -> torch.Tensor | None:
    """Return the given labels, bool (drops, users); None if the scheme finds them."""
    if requests[0].near_field is None:
        return None
    return torch.from_numpy(np.concatenate([request.near_field for request in requests])).to(device)


def _budget(requests: Sequence[PrecodeRequest], device: torch.device) -> LinkBudget:
    """Join the budgets: numbers where the requests agree, else tensors (drops,)."""
    repeats = [len(request.channels) for request in requests]
    budgets = [request.quantities for request in requests]

    def join(name: str) -> float | torch.Tensor:
        values = [budget[name] for budget in budgets]
        if len(set(values)) == 1:
            return values[0]
        return torch.from_numpy(np.repeat(values, repeats)).to(device)

    return LinkBudget(**{name: join(name) for name in budgets[0]})
