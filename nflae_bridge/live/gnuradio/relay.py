"""The loop: gather what is there, precode it, hand it to every output, and only then gather again.

Outputs that can wait (push, rep) thus make the input wait, and a sender on a push socket with it: nothing is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import zmq

from matlab_io.errors import NflaeError
from matlab_io.result import Result
from nflae_bridge.files.validation import fault_of, good_drops
from nflae_bridge.live.gnuradio.counts import Counts
from nflae_bridge.live.gnuradio.inlet import Arrival, Inlet, Warn
from nflae_bridge.live.gnuradio.link_parameters import LinkParameters
from nflae_bridge.live.gnuradio.outlets import Answer, Outlet
from nflae_bridge.live.gnuradio.pmt import Pmt

_LOOK_SECONDS = 0.1
# At the end, for messages that have arrived already, and for readers to take what is finished.
_DRAIN_SECONDS = 2.0
_FLUSH_SECONDS = 5.0


class Precode(Protocol):
    """Channels complex64 (drops, users, antennas) and a link budget in, a `Result` of as many drops out."""

    def __call__(
        self,
        channels: npt.NDArray[np.complex64],
        *,
        power: float,
        noise_power: float,
        alpha_c: float,
        min_rate: float,
    ) -> Result: ...


@dataclass(frozen=True)
class RelayOptions:
    """max_batch: drops computed at a time. scaled: precoders sqrt(P_k) w_k instead of w_k. direct: the input is
    conj(h_k), as in y = H x. facts: some output wants more than precoders, labels, powers. on_bad_drop: stop at a drop
    nobody can precode for, or answer it with zeros.
    """

    max_batch: int = 64
    scaled: bool = False
    direct: bool = False
    facts: bool = False
    on_bad_drop: Literal["error", "skip"] = "skip"


class Relay:
    """Drops from an inlet through ``precode`` to outlets, in order, none left out.

    tick: called several times a second. stopping: whether to finish what was taken and return.
    """

    def __init__(
        self,
        inlet: Inlet,
        outlets: Sequence[Outlet],
        precode: Precode,
        options: RelayOptions,
        counts: Counts,
        warn: Warn,
        tick: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._inlet, self._outlets, self._precode, self._options = inlet, outlets, precode, options
        self._counts, self._warn, self._tick, self._stopping = counts, warn, tick, stopping

    def run(self) -> None:
        """Work until it is time to stop.

        Raises NflaeError for a bad drop if these are errors, and what ``precode`` raises.
        """
        self._inlet.start()
        try:
            self._work()
        finally:
            self._counts.unsent = self._counts.received - self._counts.sent

    def _work(self) -> None:
        passed = True
        while not self._stopping():
            self._tick()
            passed = self._pass_on(self._inlet.gather(self._options.max_batch, _LOOK_SECONDS))
        deadline = time.monotonic() + _DRAIN_SECONDS
        while passed and time.monotonic() < deadline:
            arrivals = self._inlet.gather(self._options.max_batch, 0, ask=False)
            passed = bool(arrivals) and self._pass_on(arrivals)

    def _pass_on(self, arrivals: list[Arrival]) -> bool:
        """False if some output did not take the answers before the end."""
        if not arrivals:
            return True
        answers = list(self._answers(arrivals))
        for outlet in self._outlets:
            outlet.put(answers)
        self._flush()
        left = max(outlet.waiting for outlet in self._outlets)
        self._counts.sent += sum(len(arrival.channels) for arrival in arrivals) - left
        return not left

    def _flush(self) -> None:
        """Until every outlet has sent what it was given; once it is time to stop, for a few seconds at most."""
        deadline = None
        while True:
            for outlet in self._outlets:
                outlet.advance()
            waiting = [outlet for outlet in self._outlets if outlet.waiting]
            if not waiting:
                return
            if deadline is None and self._stopping():
                deadline = time.monotonic() + _FLUSH_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                return
            poller = zmq.Poller()
            for outlet in waiting:
                outlet.register(poller)
            poller.poll(round(1e3 * _LOOK_SECONDS))
            self._tick()

    def _answers(self, arrivals: list[Arrival]) -> Iterator[Answer]:
        """Arrivals on the same terms are computed together."""
        for terms, alike in groupby(arrivals, key=lambda arrival: arrival.terms):
            group = list(alike)
            start, everything = 0, self._compute(group, terms)
            for arrival in group:
                part = slice(start, start + len(arrival.channels))
                yield Answer(
                    arrival.number,
                    everything.precoders[part],
                    everything.labels[part],
                    everything.powers[part],
                    everything.facts[part],
                    arrival.tags,
                    arrival.metadata,
                )
                start = part.stop

    def _compute(self, arrivals: list[Arrival], terms: LinkParameters) -> Answer:
        """One answer to all of the arrivals; zeros where there is none."""
        channels = np.concatenate([arrival.channels for arrival in arrivals])
        drops, users, antennas = channels.shape
        facts: list[dict[str, Pmt]] = [{} for _ in range(drops)]
        everything = Answer(
            arrivals[0].number,
            np.zeros((drops, users, antennas), np.complex64),
            np.zeros((drops, users), np.uint8),
            np.zeros((drops, users), np.float32),
            facts if self._options.facts else (),
        )
        faults = _faults(arrivals, channels)
        good = np.array([not fault for fault in faults])
        if good.any():
            kept = channels if good.all() else channels[good]
            result = self._precode(
                kept.conj() if self._options.direct else kept,
                power=terms.power,
                noise_power=terms.noise_power,
                alpha_c=terms.alpha_c,
                min_rate=terms.min_rate,
            )
            scale = np.sqrt(result.power)[..., None] if self._options.scaled else np.ones(1)
            everything.precoders[good] = result.precoder * scale
            everything.labels[good] = result.near_field
            everything.powers[good] = result.power
            for row, place in enumerate(np.flatnonzero(good).tolist() if self._options.facts else ()):
                facts[place] = _facts(result, row)
            for place in np.flatnonzero(good)[~np.isfinite(result.sum_rate)].tolist():
                faults[place] = "its rates come out as no finite numbers; are the channels scaled beyond reason?"
                for values in (everything.precoders, everything.labels, everything.powers):
                    values[place] = 0
        numbers = [arrival.number + row for arrival in arrivals for row in range(len(arrival.channels))]
        for place, fault in enumerate(faults):
            if fault:
                self._note_fault(numbers[place], fault)
                facts[place] = {"nflae_error": fault}
        return everything

    def _note_fault(self, number: int, fault: str) -> None:
        """Count a bad item. Raises NflaeError for it if that is what was asked for."""
        if self._options.on_bad_drop == "error":
            raise NflaeError(f"item {number}: {fault}; --on-bad-drop skip answers such items with zeros")
        self._counts.bad += 1
        self._warn("bad_drop", f"item {number} is answered with zeros: {fault}")


def _faults(arrivals: list[Arrival], channels: npt.NDArray[np.complex64]) -> list[str]:
    """What is wrong with each drop, or nothing."""
    faults = [arrival.fault for arrival in arrivals for _ in arrival.channels]
    for place in np.flatnonzero(~good_drops(channels)).tolist():
        if not faults[place]:
            faults[place] = fault_of(channels[place], place).describe(first=0)
    return faults


def _facts(result: Result, row: int) -> dict[str, Pmt]:
    """What is known of a drop besides its precoders, as tags and PDU metadata name it."""
    return {
        "nflae_near_field": result.near_field[row].astype(np.uint8),
        "nflae_near_field_score": result.near_field_score[row].astype(np.float32),
        "nflae_power": result.power[row].astype(np.float32),
        "nflae_rate": result.rate[row].astype(np.float32),
        "nflae_sum_rate": float(result.sum_rate[row]),
        "nflae_feasible": bool(result.feasible[row]),
        "nflae_fallback": bool(result.fallback[row]),
    }
