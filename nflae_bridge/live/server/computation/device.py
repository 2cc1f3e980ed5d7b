"""Compute micro-batches of jobs on the device, one batch at a time."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from matlab_io.errors import NflaeError
from matlab_io.reading.receive_antennas import combine
from matlab_io.result import RECEIVE_COMBINER
from matlab_io.version import __version__
from nflae_bridge.engine.devices import choose_device, drops_per_block
from nflae_bridge.engine.engine import Engine
from nflae_bridge.files.labels import precode_labelled
from nflae_bridge.files.validation import Channels, first_bad_drop
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.messages import PLAIN, PrecodeRequest, PredictRequest
from nflae_bridge.live.server.computation.costs import PREDICTION, UNKNOWN_SECONDS, CostModel, measure
from nflae_bridge.live.server.computation.micro_batches import Job, PredictionKey, batch_key
from nflae_bridge.live.server.computation.prediction import (
    Predictor,
    precode_request,
    prediction_arrays,
    prediction_info,
    trial_request,
)
from nflae_bridge.live.server.computation.problems import is_finite, label_source, solve_request
from nflae_bridge.live.server.computation.problems import trial_request as problem_trial
from nflae_bridge.network.shipped import load_model, model_folder
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, result_arrays
from simulator.interruption import interrupted_by
from simulator.schemes import check_scheme, needs_sic, scheme_names
from simulator.schemes import scheme as registered
from simulator.schemes.options import split_spec
from simulator.schemes.registry import unusable_schemes

Arrays = dict[str, npt.NDArray[Any]]
Interrupt = Callable[[], None]


def _not_interrupted() -> None:
    """Let the computation go on."""


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
    """

    job: Job
    outcome: Arrays | WireError
    compute: float
    notes: tuple[str, ...] = ()


class Device:
    """Hold the device with the models on it; computations of several threads take turns, except on a CPU.

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
        self._predictor = Predictor(self.device.type)
        self.unusable = unusable_schemes()
        self.schemes = ("nflae", *(name for name in scheme_names() if name not in self.unusable))
        self.costs = CostModel()
        # s; processor time, which other programs do not affect, where the calling thread computes.
        self.clock = time.thread_time if self.device.type == "cpu" else time.perf_counter
        # Kernels and the buffers of CUDA graphs are shared by all computations; a CPU computes beside another one.
        self.computes_beside = self.device.type == "cpu"
        self._lock = contextlib.nullcontext() if self.computes_beside else threading.RLock()

    def check_scheme(self, spec: str) -> None:
        """Check the scheme of a request, given as ``NAME`` or ``NAME:OPTION=VALUE:...``; raises WireError."""
        try:
            check_scheme(spec, ("nflae",))
        except NflaeError as error:
            raise WireError("bad_request", str(error)) from None
        reason = self.unusable.get(split_spec(spec)[0])
        if reason is not None:
            raise WireError("bad_request", reason)

    def check_prediction(self, antennas: int, prediction: PredictionKey) -> None:
        """Check the options of a prediction.

        Parameters
        ----------
        antennas : int
            Number of antennas.
        prediction : PredictionKey
            Options.

        Raises
        ------
        WireError
            If there is no such method or geometry, or the horizon or the panel does not fit.
        """
        self._predictor.check(antennas, prediction)

    def calibrate(self, scheme: str) -> None:
        """Compute the trial batches of a scheme without options, or of predictions, for its estimates."""
        try:
            small, large = measure(functools.partial(self._seconds, scheme))
        except Exception:  # of a scheme of another package; its first request has the same fault
            small = large = UNKNOWN_SECONDS
        self.costs.calibrate(scheme, small, large)

    def _seconds(self, scheme: str, users: int, antennas: int) -> float:
        channels = np.exp(2j * np.pi * np.random.default_rng(0).random((1, users, antennas))).astype(np.complex64)
        with self._lock, torch.inference_mode():
            began = self.clock()
            if scheme == PREDICTION:
                self._predictor.predict(trial_request(users, antennas))
            elif "/" in scheme:
                self._solve(problem_trial(scheme, channels), _not_interrupted)
            else:
                list(self._precode([PrecodeRequest("", channels, scheme=scheme)], _not_interrupted))
            return self.clock() - began

    def info(self, request: PrecodeRequest) -> dict[str, Any]:
        """Return the ``info`` of an answer: scheme, model, version, convention and link budget."""
        found: dict[str, Any] = {"version": __version__, "convention": request.convention}
        if isinstance(request, PredictRequest):
            found |= prediction_info(request.options)
            if not request.options.precodes:
                return found
        is_network = request.scheme == "nflae"
        return found | {
            "scheme": request.scheme,
            "receiver": "sic" if not is_network and needs_sic(request.scheme) else "linear",
            "model": self.model if is_network else "",
            "refine": request.refine if is_network else 0,
            **request.quantities,
            **({} if request.problem is PLAIN else {"problem": sorted(request.problem.parts)}),
        }

    def compute(self, jobs: Sequence[Job], interrupt: Interrupt = _not_interrupted) -> list[Answer]:
        """Compute jobs of one key; a job with unusable channels affects no other.

        Parameters
        ----------
        jobs : sequence of Job
            Micro-batch.
        interrupt : callable
            Called between the blocks of a long batch, and on a CPU between the iterations of a long block; may compute
            other jobs meanwhile, whose time is not counted.

        Returns
        -------
        list of Answer
            In the order of the jobs.

        Raises
        ------
        Exception
            That of `interrupt`, which ends the computation, or that of a scheme.
        """
        between = _Interrupts(self.clock, interrupt)
        # Buffers of CUDA graphs are shared: other jobs on a GPU are computed between blocks only.
        within = interrupted_by(between.within) if self.computes_beside else contextlib.nullcontext()
        with self._lock, torch.inference_mode(), within:
            try:
                if jobs[0].request.problem is not PLAIN:
                    return [self._solved(job, between) for job in jobs]
                if jobs[0].key[-1] is not None:
                    return [self._predicted(job, between) for job in jobs]
                return self._precoded(jobs, between)
            except _Ended as ended:
                raise ended.reason from None

    def _precoded(self, jobs: Sequence[Job], between: _Interrupts) -> list[Answer]:
        began, worked = time.perf_counter(), self.clock()
        reduced = [_reduce(job.request) for job in jobs]
        faults = [_fault(request, between) for request, _ in reduced]
        good = [request for (request, _), fault in zip(reduced, faults, strict=True) if fault is None]
        results = iter(self._precode(good, between) if good else ())
        outcomes = [next(results) if fault is None else fault for fault in faults]
        for (_, combiner), outcome in zip(reduced, outcomes, strict=True):
            if combiner is not None and isinstance(outcome, dict):
                outcome[RECEIVE_COMBINER.name] = combiner
        if not any(isinstance(outcome, WireError) for outcome in outcomes):
            drops = sum(job.drops for job in jobs)
            self.costs.learn(jobs[0].key, drops, self.clock() - worked - between.seconds)
        elapsed = time.perf_counter() - began
        return [Answer(job, outcome, elapsed) for job, outcome in zip(jobs, outcomes, strict=True)]

    def _predicted(self, job: Job, interrupts: _Interrupts) -> Answer:
        """Predict the channels of a job, and precode them if it says so."""
        interrupts()
        paused, began, worked = interrupts.seconds, time.perf_counter(), self.clock()
        request = job.request
        assert isinstance(request, PredictRequest)
        try:
            found = self._predictor.predict(request)
        except WireError as fault:
            return Answer(job, fault, time.perf_counter() - began)
        arrays = prediction_arrays(request, found)
        if request.options.precodes:
            precoded = next(self._precode([precode_request(request, found)], interrupts))
            if isinstance(precoded, WireError):
                return Answer(job, precoded, time.perf_counter() - began)
            arrays |= precoded
        self.costs.learn(job.key, job.drops, self.clock() - worked - (interrupts.seconds - paused))
        return Answer(job, {name: arrays[name] for name in request.want}, time.perf_counter() - began, found.notes)

    def _solved(self, job: Job, interrupts: _Interrupts) -> Answer:
        """Solve the precoding problem of a job."""
        interrupts()
        paused, began, worked = interrupts.seconds, time.perf_counter(), self.clock()
        request, outcome = job.request, _fault(job.request, interrupts)
        found = self._solve(request, interrupts) if outcome is None else outcome
        if not isinstance(found, WireError):
            self.costs.learn(job.key, job.drops, self.clock() - worked - (interrupts.seconds - paused))
        return Answer(job, found, time.perf_counter() - began)

    def _solve(self, request: PrecodeRequest, interrupt: Interrupt) -> Arrays | WireError:
        channels = _channels(request.channels, request.convention)
        arrays = solve_request(self._engine.refined(request.refine), request, channels, self.device, interrupt)
        return _OVERFLOW if not is_finite(arrays) else {name: arrays[name] for name in request.want}

    def _precode(self, requests: Sequence[PrecodeRequest], interrupt: Interrupt) -> Iterator[Arrays | WireError]:
        wanted = requests[0].want if len(requests) == 1 else {name for request in requests for name in request.want}
        whole = self._in_blocks(requests, wanted, interrupt)
        start = 0
        for request in requests:
            stop = start + len(request.channels)
            arrays: Arrays = {name: whole[name][start:stop] for name in request.want}
            start = stop
            yield arrays if is_finite(arrays) else _OVERFLOW

    def _in_blocks(self, requests: Sequence[PrecodeRequest], wanted: Collection[str], interrupt: Interrupt) -> Arrays:
        """Compute the wanted arrays for all drops, in blocks of limited memory and time."""
        first = requests[0]
        drops = sum(len(request.channels) for request in requests)
        _, users, antennas = first.channels.shape
        step = drops_per_block(users, antennas)
        if len(requests) == 1:
            step = min(step, self._drops_between_interrupts(first))
        elif drops > step:
            each = [self._in_blocks([request], wanted, interrupt) for request in requests]
            return {name: np.concatenate([arrays[name] for arrays in each]) for name in wanted}
        if drops <= step:
            return self._block(requests, 0, drops, wanted)
        whole: Arrays = {}
        for start in range(0, drops, step):
            if start:
                interrupt()
            part = self._block([first], start, min(start + step, drops), wanted)
            if not start:
                whole = {name: np.empty((drops, *values.shape[1:]), values.dtype) for name, values in part.items()}
            for name, values in part.items():
                whole[name][start : start + len(values)] = values
        return whole

    def _drops_between_interrupts(self, request: PrecodeRequest) -> int:
        if len(request.channels) == 1:
            return 1
        key = batch_key(request)
        # At least twice the time that a single drop takes: most of it may not depend on the number of drops.
        seconds = max(_BLOCK_SECONDS, 2 * self.costs.estimate(key, 1))
        step = self.costs.drops_within(key, seconds)
        return step if 2 * step < len(request.channels) else len(request.channels)

    def _block(self, requests: Sequence[PrecodeRequest], start: int, stop: int, wanted: Collection[str]) -> Arrays:
        """Compute some drops of one request, or all of several."""
        first = requests[0]
        scheme = self._engine.refined(first.refine) if first.scheme == "nflae" else registered(first.scheme)
        parts = [_channels(request.channels[start:stop], request.convention) for request in requests]
        channels = torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts)).to(self.device)
        labels = None
        if isinstance(first.near_field, np.ndarray):
            given = [each.near_field[start:stop] for each in requests if isinstance(each.near_field, np.ndarray)]
            labels = torch.from_numpy(np.concatenate(given)).to(self.device)
        budget = _budget(requests, self.device)
        own = first.scheme == "nflae" and first.near_field is None
        if labels is None and not own and (budget.constrains_near_field or _LABELS & set(wanted)):
            # As in files, labels do not depend on the scheme.
            source = label_source(first, self._engine)
            return result_arrays(precode_labelled(scheme, channels, budget, source, None), names=wanted)
        return result_arrays(scheme(ChannelBatch(channels, labels), budget), names=wanted)


class _Ended(BaseException):
    """Carry the exception of an interrupt through code that handles the exceptions of a computation."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class _Interrupts:
    """Call an interrupt, and measure the time that it takes."""

    def __init__(self, clock: Callable[[], float], interrupt: Interrupt) -> None:
        self._clock, self._interrupt = clock, interrupt
        self._last = clock()
        self.seconds = 0.0

    def __call__(self) -> None:
        self.seconds -= self._clock()
        self._interrupt()
        self._last = self._clock()
        self.seconds += self._last

    def within(self) -> None:
        """Call the interrupt between the iterations of a block that has taken the time of one."""
        if self._clock() - self._last > _BLOCK_SECONDS:
            try:
                self()
            except Exception as reason:
                raise _Ended(reason) from None


_LABELS = {"near_field", "near_field_score"}
_BLOCK_SECONDS = 0.02  # estimated time between interrupts
_CHECKED_NUMBERS = 1 << 20
_OVERFLOW = WireError(
    "bad_channels",
    "the rates are not finite numbers: scale the channels, power and noise power to a common unit",
)


def _reduce(request: PrecodeRequest) -> tuple[PrecodeRequest, npt.NDArray[np.complex64] | None]:
    """Treat the receive antennas of a request; return it with channels of one antenna per user, and the combiners."""
    if request.receive_antennas is None:
        return request, None
    rows = request.channels.conj() if request.convention == "direct" else request.channels
    channels, combiner = combine(rows, request.receive_antennas)
    return replace(request, channels=channels, convention="hermitian", receive_antennas=None), combiner


def _fault(request: PrecodeRequest, interrupt: Interrupt) -> WireError | None:
    """Return the fault of the first unusable drop of a request."""
    drops, *others = request.channels.shape
    step = max(1, _CHECKED_NUMBERS // math.prod(others))
    for start in range(0, drops, step):
        if start:
            interrupt()
        with np.errstate(over="ignore"):  # values beyond single precision are reported as Inf
            checked = np.asarray(request.channels[start : start + step], np.complex64)
        bad = first_bad_drop(checked)
        if bad is not None:
            return WireError("bad_channels", f"drop {start + bad.drop + 1}, {bad.describe()}")
    return None


def _channels(channels: npt.NDArray[Any], convention: str) -> Channels:
    """Return h_k of some drops, complex64, in memory that can be written, as PyTorch requires."""
    copied: Channels = np.array(channels, np.complex64)
    if convention == "direct":
        np.conj(copied, out=copied)
    return copied


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
