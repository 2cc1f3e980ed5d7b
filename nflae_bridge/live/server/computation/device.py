"""Compute micro-batches of jobs on the device, one batch at a time."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from matlab_io.errors import NflaeError
from matlab_io.result import RECEIVE_COMBINER
from matlab_io.version import __version__
from nflae_bridge.engine.cuda_graphs.inputs import FEW
from nflae_bridge.engine.cuda_graphs.packed import UnusableChannels
from nflae_bridge.engine.cuda_graphs.schemes import RecordedScheme
from nflae_bridge.engine.devices import choose_device, drops_per_block
from nflae_bridge.engine.engine import Engine
from nflae_bridge.engine.schemes import classical_scheme
from nflae_bridge.files.labels import precode_labelled
from nflae_bridge.files.validation import Channels
from nflae_bridge.live.errors import WireError
from nflae_bridge.live.protocol.memory import empty_array
from nflae_bridge.live.protocol.messages import PLAIN, PrecodeRequest, PredictRequest, TrackRequest, quantities_of
from nflae_bridge.live.server.computation.answer import Answer, Arrays
from nflae_bridge.live.server.computation.costs import PREDICTION, TRACK, UNKNOWN_SECONDS, CostModel, measure
from nflae_bridge.live.server.computation.drops import (
    OVERFLOW,
    combine_antennas,
    fault_of_request,
    joint_budget,
    page_locked_channels,
    writable_channels,
)
from nflae_bridge.live.server.computation.engines import Engines
from nflae_bridge.live.server.computation.interrupts import BLOCK_SECONDS, Ended, Interrupt, Interrupts, not_interrupted
from nflae_bridge.live.server.computation.micro_batches import Job, PredictionKey, batch_key
from nflae_bridge.live.server.computation.problems import check_problem, is_finite, label_source, solve_request
from nflae_bridge.live.server.computation.problems import trial_request as problem_trial
from nflae_bridge.live.server.computation.sequences.prediction import (
    Predictor,
    precode_request,
    prediction_arrays,
    prediction_info,
    trial_request,
)
from nflae_bridge.live.server.computation.sequences.tracks import Tracks
from nflae_bridge.live.server.computation.sequences.tracks import trial_request as track_trial
from simulator.downlink.budget import LinkBudget
from simulator.downlink.precoding import ChannelBatch, Scheme, result_arrays
from simulator.interruption import interrupted_by
from simulator.problems.problem import PrecodingProblem
from simulator.schemes import check_scheme, needs_sic, scheme_names
from simulator.schemes.options import split_spec
from simulator.schemes.registry import unusable_schemes

_LABELS = {"near_field", "near_field_score"}
_KEPT_SCHEMES, _KEPT_TERMS = 16, 256


class Device:
    """Hold the device with the models on it; computations of several threads take turns, except on a CPU.

    Parameters
    ----------
    model, device : str
        As for `load_scheme`.
    effort : str, optional
        Effort in place of the model, see `Engines`.

    Raises
    ------
    NflaeError
        If a model or the device cannot be used.
    """

    def __init__(self, model: str, device: str, effort: str | None = None) -> None:
        self.device = choose_device(device)
        self._engines = Engines(model, effort, self.device)
        self.model = self._engines.own
        self._classical: dict[tuple[str, str], Scheme] = {}
        self._predictor = Predictor(self.device.type)
        self.tracks = Tracks()
        self.unusable = unusable_schemes()
        self.schemes = ("nflae", *(name for name in scheme_names() if name not in self.unusable))
        self.costs = CostModel()
        self.check_scheme = functools.lru_cache(_KEPT_SCHEMES)(self._check_scheme)
        self._terms = functools.lru_cache(_KEPT_TERMS)(self._stated_terms)
        # s; processor time, which other programs do not affect, where the calling thread computes.
        self.clock = time.thread_time if self.device.type == "cpu" else time.perf_counter
        # Kernels and the buffers of CUDA graphs are shared by all computations; a CPU computes beside another one.
        self.computes_beside = self.device.type == "cpu"
        self._lock = threading.RLock()

    def _check_scheme(self, spec: str) -> None:
        """Check the scheme of a request, given as ``NAME`` or ``NAME:OPTION=VALUE:...``; raises WireError."""
        try:
            check_scheme(spec, ("nflae",))
        except NflaeError as error:
            check_problem(PrecodingProblem(), LinkBudget(), spec)  # names the problems that the scheme solves
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

    def calibrate(self, scheme: str, interrupt: Interrupt = not_interrupted) -> float:
        """Compute the trial batches of a scheme without options, or of predictions, for its estimates.

        Parameters
        ----------
        scheme : str
            Name for `CostModel.calibrate`.
        interrupt : callable
            As for `compute`.

        Returns
        -------
        float
            Time of the trials, s.

        Raises
        ------
        Exception
            That of `interrupt`, which ends the trials.
        """
        between = Interrupts(self.clock, interrupt)
        try:
            with torch.inference_mode(), interrupted_by(between.within) if self.computes_beside else self._lock:
                small, large = measure(functools.partial(self._seconds, scheme, between))
        except Ended as ended:
            raise ended.reason from None
        except Exception:  # of a scheme of another package; its first request has the same fault
            small = large = UNKNOWN_SECONDS
        self.costs.calibrate(scheme, small, large)
        return between.worked()

    def _seconds(self, scheme: str, between: Interrupts, users: int, antennas: int) -> float:
        between.within()
        channels = np.exp(2j * np.pi * np.random.default_rng(0).random((1, users, antennas))).astype(np.complex64)
        before = between.worked()
        if scheme == PREDICTION:
            self._predictor.predict(trial_request(users, antennas))
        elif scheme == TRACK:
            Tracks().advance(b"", track_trial(users, antennas))
        elif "/" in scheme:
            self._solve(problem_trial(scheme, channels), between.within)
        else:
            self._precode([PrecodeRequest("", channels, scheme=scheme)], between.within)
        return between.worked() - before

    def info(self, request: PrecodeRequest) -> dict[str, Any]:
        """Return the ``info`` of an answer: scheme, model, version, convention and link budget."""
        found: dict[str, Any] = {"version": __version__, "convention": request.convention}
        if isinstance(request, TrackRequest):
            return found
        if isinstance(request, PredictRequest):
            found |= prediction_info(request.options)
            if not request.options.precodes:
                return found
        if request.problem is not PLAIN:
            found["problem"] = sorted(request.problem.parts)
        return found | self._terms(request.scheme, request.effort, request.refine, request.budget)

    def _stated_terms(self, scheme: str, effort: str | None, refine: int, budget: LinkBudget) -> dict[str, Any]:
        """Return scheme, model and link budget; equal for all requests of a loop."""
        model, steps = self._engines.choice(effort, refine) if scheme == "nflae" else ("", 0)
        return {
            "scheme": scheme,
            "receiver": "sic" if scheme != "nflae" and needs_sic(scheme) else "linear",
            "model": model,
            "refine": steps,
            **quantities_of(budget),
        }

    def compute(self, jobs: Sequence[Job], interrupt: Interrupt = not_interrupted) -> list[Answer]:
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
        between = Interrupts(self.clock, interrupt)
        with interrupted_by(between.within) if self.computes_beside else self._lock:
            try:
                if jobs[0].request.problem is not PLAIN:
                    return [self._solved(job, between) for job in jobs]
                if isinstance(jobs[0].request, TrackRequest):
                    return [self.tracks.answer(job) for job in jobs]
                if isinstance(jobs[0].request, PredictRequest):
                    return [self._predicted(job, between) for job in jobs]
                return self._precoded(jobs, between)
            except Ended as ended:
                raise ended.reason from None

    def _precoded(self, jobs: Sequence[Job], between: Interrupts) -> list[Answer]:
        began = time.perf_counter()
        requests, combiners = zip(*map(combine_antennas, [job.request for job in jobs]), strict=True)
        outcomes, check = self._outcomes(requests, between)
        faults = drops = 0
        for job, combiner, outcome in zip(jobs, combiners, outcomes, strict=True):
            drops += job.drops
            if isinstance(outcome, WireError):
                faults += 1
            elif combiner is not None:
                outcome[RECEIVE_COMBINER.name] = combiner
        if not faults:
            self.costs.learn(jobs[0].key, drops, between.worked())
        elapsed = time.perf_counter() - began
        return [Answer(job, outcome, elapsed, check=check) for job, outcome in zip(jobs, outcomes, strict=True)]

    def _outcomes(
        self, requests: Sequence[PrecodeRequest], interrupt: Interrupt
    ) -> tuple[list[Arrays | WireError], float]:
        """Check the channels and compute the good requests; the network on a GPU checks them along with computing.

        The second result is the time of checks on the host, s.
        """
        first, began = requests[0], time.perf_counter()
        if self.device.type == "cuda" and first.scheme == "nflae" and first.near_field is None:
            with contextlib.suppress(UnusableChannels):
                return self._precode(requests, interrupt, checked=False), 0.0
        faults = [fault_of_request(request, interrupt) for request in requests]
        check = time.perf_counter() - began
        good = [request for request, fault in zip(requests, faults, strict=True) if fault is None]
        results = iter(self._precode(good, interrupt) if good else ())
        return [next(results) if fault is None else fault for fault in faults], check

    def _predicted(self, job: Job, interrupts: Interrupts) -> Answer:
        """Predict the channels of a job, and precode them if it says so."""
        interrupts()
        began, before = time.perf_counter(), interrupts.worked()
        request = job.request
        assert isinstance(request, PredictRequest)
        try:
            found = self._predictor.predict(request)
        except WireError as fault:
            return Answer(job, fault, time.perf_counter() - began)
        arrays = prediction_arrays(request, found)
        if request.options.precodes:
            (precoded,) = self._precode([precode_request(request, found)], interrupts)
            if isinstance(precoded, WireError):
                return Answer(job, precoded, time.perf_counter() - began)
            arrays |= precoded
        self.costs.learn(job.key, job.drops, interrupts.worked() - before)
        return Answer(job, {name: arrays[name] for name in request.want}, time.perf_counter() - began, found.notes)

    def _solved(self, job: Job, interrupts: Interrupts) -> Answer:
        """Solve the precoding problem of a job."""
        interrupts()
        began, before = time.perf_counter(), interrupts.worked()
        request, combiner = combine_antennas(job.request)
        outcome = fault_of_request(request, interrupts)
        found = self._solve(request, interrupts) if outcome is None else outcome
        if not isinstance(found, WireError):
            if combiner is not None:
                found[RECEIVE_COMBINER.name] = combiner
            self.costs.learn(job.key, job.drops, interrupts.worked() - before)
        return Answer(job, found, time.perf_counter() - began)

    def _solve(self, request: PrecodeRequest, interrupt: Interrupt) -> Arrays | WireError:
        channels = writable_channels(request.channels, request.convention)
        arrays = solve_request(self._engines.of(request), request, channels, self.device, interrupt)
        return OVERFLOW if not is_finite(arrays) else {name: arrays[name] for name in request.want}

    def _precode(
        self, requests: Sequence[PrecodeRequest], interrupt: Interrupt, checked: bool = True
    ) -> list[Arrays | WireError]:
        if len(requests) > 1 and sum(len(request.channels) for request in requests) > self._most_drops(requests[0]):
            return [outcome for request in requests for outcome in self._precode([request], interrupt, checked)]
        wanted = requests[0].want if len(requests) == 1 else {name for request in requests for name in request.want}
        if self.device.type == "cuda":  # by which `is_finite` reads one number per drop
            wanted = {*wanted, "sum_rate"}
        whole = self._in_blocks(requests, wanted, interrupt, checked)
        outcomes: list[Arrays | WireError] = []
        start, arrays = 0, whole
        for request in requests:
            stop = start + len(request.channels)
            if len(requests) > 1:
                arrays = {name: values[start:stop] for name, values in whole.items()}
            outcomes.append({name: arrays[name] for name in request.want} if is_finite(arrays) else OVERFLOW)
            start = stop
        return outcomes

    def _in_blocks(
        self, requests: Sequence[PrecodeRequest], wanted: Collection[str], interrupt: Interrupt, checked: bool
    ) -> Arrays:
        """Compute the wanted arrays for all drops: of several requests at once, of one in blocks."""
        first = requests[0]
        drops = sum([len(request.channels) for request in requests])
        step = self._most_drops(first) if drops > 1 else drops
        if drops > 1 and len(requests) == 1 and not self._is_recorded(first):
            step = min(step, self._drops_between_interrupts(first))
        if drops <= step:
            return self._block(requests, 0, drops, wanted, checked)
        whole: Arrays = {}
        for start in range(0, drops, step):
            if start:
                interrupt()
            part = self._block([first], start, min(start + step, drops), wanted, checked)
            if not start:
                shapes = {name: (drops, *values.shape[1:]) for name, values in part.items()}
                whole = {name: empty_array(first.room, name, shapes[name], part[name].dtype) for name in part}
            for name, values in part.items():
                whole[name][start : start + len(values)] = values
        return whole

    def _most_drops(self, request: PrecodeRequest) -> int:
        """Return the drops of a block of limited memory."""
        _, users, antennas = request.channels.shape
        return drops_per_block(users, antennas, device_type=self.device.type)

    def _is_recorded(self, request: PrecodeRequest) -> bool:
        """Return whether CUDA graphs compute a request: in milliseconds, but each size of block has to be captured."""
        scheme, users = request.scheme, request.channels.shape[1]  # to ask `supports` on a CPU would import Triton
        return self.device.type == "cuda" and (scheme == "nflae" or RecordedScheme.supports(scheme, users))

    def _drops_between_interrupts(self, request: PrecodeRequest) -> int:
        key = batch_key(request)
        # At least twice the time that a single drop takes: most of it may not depend on the number of drops.
        seconds = max(BLOCK_SECONDS, 2 * self.costs.estimate(key, 1))
        step = self.costs.drops_within(key, seconds)
        return step if 2 * step < len(request.channels) else len(request.channels)

    def _block(
        self, requests: Sequence[PrecodeRequest], start: int, stop: int, wanted: Collection[str], checked: bool
    ) -> Arrays:
        """Compute some drops of one request, or all of several."""
        first = requests[0]
        engine = self._engines.of(first)
        joined = self._channels(requests, start, stop)
        budget = joint_budget(requests)
        scheme = engine if first.scheme == "nflae" else self._classical_scheme(first.scheme, engine)
        if first.near_field is None and isinstance(scheme, Engine):
            return scheme.arrays(joined, budget, wanted, checked)
        if first.near_field is None and isinstance(scheme, RecordedScheme) and engine.network.encoder.classifies:
            found = scheme.arrays(joined, budget, wanted, engine.near_field_score)
            if found is not None:
                return found
        channels = torch.from_numpy(joined).to(self.device)
        labels = None
        if isinstance(first.near_field, np.ndarray):
            given = [each.near_field[start:stop] for each in requests if isinstance(each.near_field, np.ndarray)]
            labels = torch.from_numpy(np.concatenate(given)).to(self.device)
        if labels is None and (budget.constrains_near_field or _LABELS & set(wanted)):
            # As in files, labels do not depend on the scheme.
            source = label_source(first, engine)
            return result_arrays(precode_labelled(scheme, channels, budget, source, None), names=wanted)
        return result_arrays(scheme(ChannelBatch(channels, labels), budget), names=wanted)

    def _channels(self, requests: Sequence[PrecodeRequest], start: int, stop: int) -> Channels:
        """Return h_k of some drops of one request, or all of several, in the memory of which the device reads them."""
        if self.device.type == "cuda" and stop - start > FEW:
            return page_locked_channels(requests, start, stop)
        if len(requests) == 1:
            return writable_channels(requests[0].channels[start:stop], requests[0].convention)
        return np.concatenate([writable_channels(each.channels[start:stop], each.convention) for each in requests])

    def _classical_scheme(self, spec: str, engine: Engine) -> Scheme:
        """Return a scheme in the form of the device; its recordings have the labels of one network."""
        key = spec, engine.checkpoint.name
        if key not in self._classical:
            while len(self._classical) >= _KEPT_SCHEMES:  # options make any number of them
                del self._classical[next(iter(self._classical))]
            self._classical[key] = classical_scheme(spec, self.device)
        return self._classical[key]
