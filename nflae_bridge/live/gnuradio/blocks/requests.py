"""Request the precoders of a flowgraph's items, and answer those that are late by a policy; without GNU Radio."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import name_remedy
from matlab_io.errors import NflaeError
from matlab_io.result import Result
from nflae_bridge.files.validation import fault_of, good_drops
from nflae_bridge.live.client.connection import ServerAddress
from nflae_bridge.live.client.requests import SchemeChoice, make_request
from nflae_bridge.live.client.slots import SlotAnswer, SlotClient
from nflae_bridge.live.errors import BadChannels, BadRequest, BridgeError, TooLarge
from nflae_bridge.live.gnuradio.computation.items import result_metadata
from nflae_bridge.live.gnuradio.pmt import Pmt
from simulator.downlink.budget import LinkBudget
from simulator.problems.options import OPTION_NAMES, ProblemOptions
from simulator.schemes.options import SchemeError
from simulator.schemes.registry import check_scheme

LatePolicy: TypeAlias = Literal["hold", "zeros", "block"]

LATE_KEY, ITEM_KEY, ERROR_KEY = "nflae_late", "nflae_item", "nflae_error"
_OF_SEVERAL = ("window", "streams", "power_scope", "receive_antennas")  # of several drops, or antennas of a user
_OPTIONS = (
    *("scheme", "effort", "refine", "convention", "near_field"),
    *(name for name in OPTION_NAMES if name not in _OF_SEVERAL),
)
_LAYOUT = "skn"
_CHOICE = ("scheme", "refine", "effort")
_BLOCK_SECONDS = 0.1  # longest wait in one call: between two, the flowgraph can be stopped
_UNSCALED = "its rates are not finite numbers: scale the channels, power and noise power to a common unit"


@dataclass(frozen=True)
class ServerOptions:
    """Hold the server of the precoders and the options of its answers.

    Parameters
    ----------
    address : str
        ZeroMQ address of ``nflae serve``.
    timeout : float
        Time after which a request without an answer is given up, s.
    precode : mapping
        Further options of `Client.precode`: those of the scheme and of the precoding problem of a drop; labels of
        ``near_field``, bool (users,), are those of every item.
    server_key, client_key : Path or None
        As for `Client`.

    Raises
    ------
    NflaeError
        If the address is malformed, the time is not positive, only one key is given, or an option does not exist or is
        out of its range.
    """

    address: str
    timeout: float = 10.0
    precode: Mapping[str, Any] = field(default_factory=dict)
    server_key: Path | None = None
    client_key: Path | None = None

    def __post_init__(self) -> None:
        ServerAddress(self.address, self.timeout, self.server_key, self.client_key)
        for name in self.precode:
            if name in _OF_SEVERAL:
                raise NflaeError(f"Precoder has no option {name!r}: an item is one drop of users with one antenna")
            if name not in _OPTIONS:
                raise NflaeError(f"Precoder has no option {name!r}: {name_remedy(name, _OPTIONS)}")
        try:
            check_scheme(self._choice().scheme, ("nflae",))
        except SchemeError as error:
            raise NflaeError(f"{error}; a package with a scheme of the server's must be installed here too") from None

    def _choice(self) -> SchemeChoice:
        return SchemeChoice(**{name: self.precode[name] for name in _CHOICE if name in self.precode})

    @property
    def labels(self) -> npt.NDArray[Any] | None:
        """Labels of the users, (users,), that every item has; None where the scheme or a fitted panel finds them."""
        given = self.precode.get("near_field")
        return None if given is None or isinstance(given, str) else np.asarray(given)

    def check(self, users: int, antennas: int, power: float | None) -> None:
        """Check the options against the size of an item.

        Parameters
        ----------
        users, antennas : int
            Size of an item.
        power : float or None
            Total power, W; None where only antennas have limits.

        Raises
        ------
        BadRequest
            As `Client.precode` does.
        """
        rest = {name: value for name, value in self.precode.items() if name not in (*_CHOICE, "near_field")}
        convention: Any = rest.pop("convention", "hermitian")
        labels = self.precode.get("near_field") if self.labels is None else self.labels[None]
        budget = {"power": power, "noise_power": 1.0}
        item = np.ones((1, users, antennas), np.complex64)
        make_request(item, labels, budget, self._choice(), _LAYOUT, convention, None, cast("ProblemOptions", rest))

    def connect(self) -> SlotClient:
        """Return a client."""
        keys = {"server_key": self.server_key, "client_key": self.client_key}
        options = {"convention": "hermitian", **self.precode, "layout": _LAYOUT}
        if self.labels is not None:
            del options["near_field"]
        return SlotClient(self.address, self.timeout, **keys, **options)


@dataclass(frozen=True)
class LateOptions:
    """Hold the treatment of late items.

    Parameters
    ----------
    policy : {"hold", "zeros", "block"}
        Answer late items by the last precoders, by zeros, or wait for theirs.
    deadline : float
        Longest wait for the answer of the items of one call, s; not for ``"block"``.
    max_items : int
        Largest number of items per request.

    Raises
    ------
    NflaeError
        If a value is out of its range.
    """

    policy: LatePolicy = "hold"
    deadline: float = 0.02
    max_items: int = 64

    def __post_init__(self) -> None:
        if self.policy not in get_args(LatePolicy):
            raise NflaeError(f"late must be one of {', '.join(get_args(LatePolicy))}, got {self.policy!r}")
        if not 0 <= self.deadline < float("inf"):
            raise NflaeError(f"deadline_ms must be at least 0 and finite, got {1e3 * self.deadline:g}")
        if self.max_items < 1:
            raise NflaeError(f"max_items must be at least 1, got {self.max_items}")


@dataclass
class ItemCounts:
    """Count the items of a precoder block.

    Parameters
    ----------
    items : int
        Items answered, the following ones included.
    late : int
        Items answered by the policy, because their own answer was not there in time.
    bad : int
        Items that cannot be precoded, or that the server refused; they are answered with zeros.
    """

    items: int = 0
    late: int = 0
    bad: int = 0


@dataclass(frozen=True)
class AnsweredItems:
    """Hold the precoders of consecutive items.

    Parameters
    ----------
    precoders : numpy.ndarray
        Complex64, (items, users, antennas).
    metadata : list of dict
        PMT values per item by their tags' names.
    late : int
        Late items among them.
    fault : str
        Reason for which items are late or bad; ``""`` without any.
    """

    precoders: npt.NDArray[np.complex64]
    metadata: list[dict[Pmt, Pmt]]
    late: int = 0
    fault: str = ""


class ItemRequests:
    """Request precoders for the items of a stream, in the order of their numbers.

    Parameters
    ----------
    server : ServerOptions
        Server.
    late : LateOptions
        Treatment of late items.
    scaled : bool
        Multiply the precoders by the amplitudes sqrt(P_k).
    budget : LinkBudget
        Link budget; `budget` may be replaced while items are requested.
    has_total_power : bool
        The budget's power holds; false where only antennas have limits, until `set_budget` states a power.

    Attributes
    ----------
    counts : ItemCounts
        Counts.
    """

    def __init__(
        self,
        server: ServerOptions,
        late: LateOptions,
        scaled: bool,
        budget: LinkBudget,
        has_total_power: bool = True,
    ) -> None:
        self._server, self._late, self._scaled, self.budget = server, late, scaled, budget
        self._has_total_power = has_total_power
        self.counts = ItemCounts()
        self._slots: SlotClient | None = None
        self._pending: tuple[int, int, int] | None = None  # first item, number of items, slot
        self._before = 0, 0  # answers, and requests dropped by the last of them

    def set_budget(self, **quantities: float) -> None:
        """Change quantities of the link budget, from the next request on; raises BudgetError for a bad one."""
        self.budget = replace(self.budget, **quantities)
        self._has_total_power |= "power" in quantities

    def start(self) -> None:
        """Connect; the counts begin anew."""
        self.counts, self._pending, self._before = ItemCounts(), None, (0, 0)
        self._slots = self._server.connect()

    def stop(self) -> None:
        """Disconnect; a request under way is given up."""
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def answer(self, first: int, channels: npt.NDArray[np.complex64]) -> AnsweredItems | None:
        """Return the precoders of the next items.

        Parameters
        ----------
        first : int
            Number of the first item.
        channels : numpy.ndarray
            Complex64, (items, users, antennas); at least one item.

        Returns
        -------
        AnsweredItems or None
            Precoders of at least one of the items; with the policy ``"block"`` None while they are not there, then the
            next call must be for the same items.
        """
        assert self._slots is not None, "start was not called"
        count = self._pending[1] if self._pending else min(len(channels), self._late.max_items)
        channels = channels[:count]
        good = good_drops(channels)
        metadata: list[dict[Pmt, Pmt]] = [{} for _ in channels]
        for row in np.flatnonzero(~good).tolist():
            metadata[row] = {ERROR_KEY: fault_of(channels[row], row).describe()}
        answered = AnsweredItems(np.zeros(channels.shape, np.complex64), metadata)
        if good.any():
            outcome = self._request(first, channels, good)
            if outcome is None or isinstance(outcome, BridgeError):
                replaced = self._without_answer(outcome, answered, good)
                if replaced is None:
                    return None
                answered = replaced
            else:
                self._fill(answered, first, good, outcome.result)
        self._pending = None
        self.counts.items += count
        self.counts.late += answered.late
        errors = [str(entries[ERROR_KEY]) for entries in metadata if ERROR_KEY in entries]
        self.counts.bad += len(errors)
        return answered if answered.fault or not errors else replace(answered, fault=errors[0])

    def _request(
        self, first: int, channels: npt.NDArray[np.complex64], good: npt.NDArray[np.bool_]
    ) -> SlotAnswer | BridgeError | None:
        """Request the usable items, unless that is done, and wait; the slot is the number of the last of them."""
        assert self._slots is not None
        slot = first + int(np.flatnonzero(good)[-1])
        if self._pending is None:
            self._slots.submit(slot, channels if good.all() else channels[good], **self._options(int(good.sum())))
            self._pending = first, len(channels), slot
        blocking = self._late.policy == "block"
        return self._slots.wait(slot, _BLOCK_SECONDS if blocking else self._late.deadline)

    def _options(self, items: int) -> dict[str, Any]:
        """Return the options of the next request that those of the client do not state."""
        options: dict[str, Any] = asdict(self.budget)
        if not self._has_total_power:
            del options["power"]
        if self._server.labels is not None:
            options["near_field"] = np.tile(self._server.labels, (items, 1))
        return options

    def _fill(self, answered: AnsweredItems, first: int, good: npt.NDArray[np.bool_], result: Result) -> None:
        precoders = self._amplitudes(result)
        for row, item in enumerate(np.flatnonzero(good).tolist()):
            if not np.isfinite(result.sum_rate[row]):
                answered.metadata[item] |= {ERROR_KEY: _UNSCALED}
                continue
            answered.precoders[item] = precoders[row]
            answered.metadata[item] |= {ITEM_KEY: np.uint64(first + item), **result_metadata(result, row)}

    def _without_answer(
        self, error: BridgeError | None, answered: AnsweredItems, good: npt.NDArray[np.bool_]
    ) -> AnsweredItems | None:
        """Answer items by the policy, refused ones by zeros; None for the policy ``"block"``."""
        assert self._slots is not None
        usable = np.flatnonzero(good).tolist()
        if isinstance(error, (BadRequest, BadChannels, TooLarge)):  # the same request is refused again
            for item in usable:
                answered.metadata[item][ERROR_KEY] = str(error)
            return answered
        if self._late.policy == "block":
            if error is not None:
                self._pending = None
                time.sleep(_BLOCK_SECONDS)
            return None
        held = self._slots.current() if self._late.policy == "hold" else None
        for item in usable:
            answered.metadata[item][LATE_KEY] = "zeros"
            if held is not None and np.isfinite(held.result.sum_rate[-1]):
                answered.precoders[item] = self._amplitudes(held.result)[-1]
                entries = {LATE_KEY: "hold", ITEM_KEY: np.uint64(held.slot), **result_metadata(held.result, -1)}
                answered.metadata[item] |= entries
        return replace(answered, late=len(usable), fault=str(error or self.reason()))

    def reason(self) -> str:
        """Return the reason for which answers are late: that of the last request dropped, or the deadline."""
        assert self._slots is not None
        if self._slots.answered != self._before[0]:
            self._before = self._slots.answered, self._slots.dropped
        if self._slots.dropped > self._before[1]:
            return self._slots.fault
        limit = "yet" if self._late.policy == "block" else f"within {1e3 * self._late.deadline:g} ms"
        remedy = "" if self._slots.answered else "; unless `nflae serve` runs there, start it"
        return f"{self._server.address}: no answer {limit}{remedy}"

    def _amplitudes(self, result: Result) -> npt.NDArray[np.complex64]:
        precoders = result.precoder
        if self._scaled:
            precoders = (precoders * np.sqrt(result.power)[..., None]).astype(np.complex64)
        return precoders
