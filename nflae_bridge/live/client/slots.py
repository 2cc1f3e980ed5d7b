"""Request precoders slot by slot from a loop that does not wait for them."""

from __future__ import annotations

import copy
import inspect
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import name_remedy
from matlab_io.result import Result
from nflae_bridge.live.client.blocking import Client
from nflae_bridge.live.client.connection import refuse_pickling
from nflae_bridge.live.client.requests import checked_seconds, convert
from nflae_bridge.live.errors import BadRequest, BridgeError
from simulator.problems.options import OPTION_NAMES

_OPTIONS = (
    tuple(each.name for each in inspect.signature(Client.precode).parameters.values() if each.kind is each.KEYWORD_ONLY)
    + OPTION_NAMES
)


def _check_options(options: Iterable[str]) -> None:
    for name in options:
        if name not in _OPTIONS:
            raise TypeError(f"SlotClient has no option {name!r}: {name_remedy(name, _OPTIONS)}")


def _copied(options: dict[str, Any]) -> dict[str, Any]:
    """Return options whose arrays and lists the caller cannot change any more."""
    return {name: _copied_value(name, value) for name, value in options.items()}


def _copied_value(name: str, value: Any) -> Any:
    if isinstance(value, str | np.generic):
        return value
    if hasattr(value, "__array__"):
        return np.array(convert(name, "npt.ArrayLike", value))
    return copy.deepcopy(list(value)) if isinstance(value, Iterable) else value


@dataclass(frozen=True)
class SlotAnswer:
    """Hold the result in use and the slot that it was computed for.

    Parameters
    ----------
    result : Result
        Precoders and powers.
    slot : int
        Slot whose channels it is for.
    seconds : float
        Time from the request to its answer, s.
    """

    result: Result
    slot: int
    seconds: float


class SlotClient:
    """Keep the newest precoders of a loop; a thread of its own waits for the server.

    The channels of a newer slot replace those that wait for their turn. An answer that is not there within the deadline
    is dropped, and so is a request that the server refuses or that is lost; the answer before it stays in use.

    Parameters
    ----------
    address : str
        Address of the server.
    deadline : float
        Largest time from a request to its answer, s.
    server_key, client_key : Path, optional
        As for `Client`.
    **options
        Options of `Client.precode`, e.g. ``noise_power``.

    Attributes
    ----------
    answered, replaced, dropped : int
        Slots answered in time, replaced by newer ones before their turn, and dropped.
    fault : str
        Reason for the last drop; ``""`` before the first.

    Raises
    ------
    TypeError
        If `Client.precode` has no such option.
    BadRequest
        As `Client` does.
    """

    def __init__(
        self,
        address: str,
        deadline: float,
        *,
        server_key: Path | None = None,
        client_key: Path | None = None,
        **options: Any,
    ) -> None:
        _check_options(options)
        self.answered = self.replaced = self.dropped = 0
        self.fault = ""
        timeout = checked_seconds(deadline, "deadline")
        self._client = Client(address, timeout=timeout, server_key=server_key, client_key=client_key)
        self._options = options
        self._waiting: tuple[int, npt.NDArray[Any], dict[str, Any]] | None = None
        self._answer: SlotAnswer | None = None
        self._outcome: tuple[int, SlotAnswer | BridgeError] | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="slots", daemon=True)
        self._thread.start()

    def submit(self, slot: int, channels: npt.ArrayLike, **options: Any) -> None:
        """Request the precoders of a slot, without waiting for them.

        Parameters
        ----------
        slot : int
            Number of the slot.
        channels : array_like
            Channels, (drops, users, antennas), e.g. one drop per subcarrier. They and all options are copied.
        **options
            Options of `Client.precode` that differ from those of the constructor for this slot.

        Raises
        ------
        TypeError
            If `Client.precode` has no such option.
        BadRequest
            If the slot is no whole number, the channels are no complex array, or an array among the options is none of
            numbers.
        BridgeError
            If the client is closed.
        """
        _check_options(options)
        slot = convert("slot", "int", slot)
        given = convert("channels", "npt.ArrayLike", channels)
        if not np.iscomplexobj(given) and "c" not in str(options.get("layout", self._options.get("layout"))):
            raise BadRequest(f"channels must be complex, got {given.dtype} of shape {given.shape}")
        waiting = slot, np.array(given), _copied(self._options | options)
        with self._changed:
            if self._closed:
                raise BridgeError("this client is closed: make another SlotClient")
            self.replaced += self._waiting is not None
            self._waiting = waiting
            self._changed.notify_all()

    def wait(self, slot: int, seconds: float) -> SlotAnswer | BridgeError | None:
        """Wait for the answer of the slot submitted last.

        Parameters
        ----------
        slot : int
            Number of that slot.
        seconds : float
            Longest time, s.

        Returns
        -------
        SlotAnswer, BridgeError or None
            Answer, the reason for which it was dropped, or None if there is neither in time.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ended(slot) is not None, seconds)
            return self._ended(slot)

    def _ended(self, slot: int) -> SlotAnswer | BridgeError | None:
        return self._outcome[1] if self._outcome is not None and self._outcome[0] == slot else None

    def current(self) -> SlotAnswer | None:
        """Return the newest answer, or None before the first.

        Returns
        -------
        SlotAnswer or None
        """
        return self._answer

    def close(self) -> None:
        """End the thread; a request under way is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._client.close()
        self._thread.join()

    __reduce__ = refuse_pickling

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting is not None)
                if self._closed or self._waiting is None:
                    return
                (slot, channels, options), self._waiting = self._waiting, None
            began = time.monotonic()
            outcome: SlotAnswer | BridgeError
            try:
                outcome = SlotAnswer(self._client.precode(channels, **options), slot, time.monotonic() - began)
            except BridgeError as error:
                outcome = error
            except Exception as error:  # the thread goes on with the next slot
                outcome = BridgeError(f"{type(error).__name__}: {error}")
            with self._changed:
                if isinstance(outcome, SlotAnswer):
                    self._answer = outcome
                    self.answered += 1
                else:
                    self.fault = str(outcome)
                    self.dropped += 1
                self._outcome = slot, outcome
                self._changed.notify_all()
