"""Precode the CSI of a flowgraph on a server, without stopping the flowgraph while that is away."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pmt
from gnuradio import gr

from nflae_bridge.live.gnuradio.blocks.requests import (
    AnsweredItems,
    ItemCounts,
    ItemRequests,
    LateOptions,
    LatePolicy,
    ServerOptions,
)
from nflae_bridge.live.gnuradio.blocks.sizes import vector_of
from nflae_bridge.live.gnuradio.pmt import encode
from nflae_bridge.live.protocol.frames import DEFAULT_ADDRESS
from simulator.downlink.budget import DEFAULT_POWER, LinkBudget

_LOG_SECONDS, _LOG_WAIT_SECONDS = 1.0, 5.0


class Precoder(gr.sync_block):
    """Compute precoders for CSI: item i of the output is the precoder of item i of the input, on ``nflae serve``.

    Input and output: vectors of users * antennas complex numbers, h_1 ... h_K and w_1 ... w_K. Message ports:
    ``results`` has one PDU per item, its dictionary as the tags and its vector as the output; ``late`` a dictionary per
    call of the scheduler with late items.

    Parameters
    ----------
    users, antennas : int
        Size of an item.
    address : str
        ZeroMQ address of the server.
    late : {"hold", "zeros", "block"}
        Treatment of items without an answer at the deadline: the last precoders, zeros, or a wait for theirs.
    deadline_ms : float
        Longest wait per call of the scheduler, ms; not for ``"block"``.
    scaled : bool
        Multiply by sqrt(P_k), so that x = sum_k w_k s_k; otherwise the vectors have unit norm.
    result_tags : bool
        Add the tags of the results to those of late and unusable items.
    power, noise_power, alpha_c, min_rate : float
        Link budget, in W, as a share, and in bps/Hz; see `set_budget`. The power is 1 W by default, or that of the
        antennas' limits alone.
    convention : {"hermitian", "direct"}
        Items hold h_k with y_k = h_k^H x, or the rows of H with y = H x.
    max_items : int
        Largest number of items per request.
    timeout : float
        Time after which a request without an answer is given up, s.
    server_key, client_key : str
        The server's NAME.key and the client's NAME.key_secret; ``""`` without keys.
    **options
        Further options of `Client.precode`: ``scheme``, ``effort``, ``refine``, ``near_field`` with labels (users,) or
        a panel, and those of the precoding problem of a drop.

    Raises
    ------
    NflaeError
        If an argument is unknown or out of its range, or the address is malformed.
    """

    def __init__(
        self,
        users: int,
        antennas: int,
        address: str = DEFAULT_ADDRESS,
        *,
        late: LatePolicy = "hold",
        deadline_ms: float = 20.0,
        scaled: bool = True,
        result_tags: bool = True,
        power: float | None = None,
        noise_power: float = 0.01,
        alpha_c: float = 1.0,
        min_rate: float = 0.0,
        convention: str = "hermitian",
        max_items: int = 64,
        timeout: float = 10.0,
        server_key: str = "",
        client_key: str = "",
        **options: Any,
    ) -> None:
        item = vector_of(users=users, antennas=antennas)
        gr.sync_block.__init__(self, "nflae Precoder", [item], [item])
        keys = {"server_key": Path(server_key) if server_key else None}
        keys["client_key"] = Path(client_key) if client_key else None
        server = ServerOptions(address, timeout, {"convention": convention, **options}, **keys)
        has_total_power = power is not None or "power_per_antenna" not in options
        total = DEFAULT_POWER if power is None else power
        budget = LinkBudget(total, noise_power, alpha_c, min_rate)
        server.check(users, antennas, total if has_total_power else None)
        policy = LateOptions(late, deadline_ms / 1e3, max_items)
        self._requests = ItemRequests(server, policy, scaled, budget, has_total_power)
        self._shape, self._tagged, self._policy = (-1, users, antennas), result_tags, late
        self._source = pmt.intern("nflae")
        self._ports = {name: pmt.intern(name) for name in ("results", "late")}
        for port in self._ports.values():
            self.message_port_register_out(port)
        self._unlogged, self._logged_at, self._fault = ItemCounts(), 0.0, ""
        self._waiting_since = math.inf

    @property
    def counts(self) -> ItemCounts:
        """Items, and late and bad ones among them, since the start."""
        return self._requests.counts

    def set_budget(self, **quantities: float) -> None:
        """Change ``power``, ``noise_power``, ``alpha_c`` or ``min_rate`` from the next item on."""
        self._requests.set_budget(**quantities)

    def start(self) -> bool:
        """Connect to the server."""
        self._requests.start()
        return True

    def stop(self) -> bool:
        """Disconnect, and log the counts."""
        self._log(0.0)
        counts = self.counts
        self.logger.info(f"{counts.items} items, {counts.late} late ({self._policy}), {counts.bad} bad")
        self._requests.stop()
        return True

    def work(self, input_items: list[npt.NDArray[Any]], output_items: list[npt.NDArray[Any]]) -> int:
        """Answer the next items.

        Parameters
        ----------
        input_items, output_items : list of numpy.ndarray
            Vectors per port, one per row.

        Returns
        -------
        int
            Items answered; 0 while their answer is awaited.
        """
        first = self.nitems_read(0)
        answered = self._requests.answer(first, input_items[0].reshape(self._shape))
        if answered is None:
            self._note_waiting(first)
            return 0
        self._waiting_since = math.inf
        count = len(answered.precoders)
        output_items[0].reshape(self._shape)[:count] = answered.precoders
        self._publish(first, answered)
        self._note(first, answered)
        return count

    def _publish(self, first: int, answered: AnsweredItems) -> None:
        """Add the tags, and send the messages of a port that is connected."""
        subscribed = self.message_subscribers(self._ports["results"])
        is_read = pmt.is_pair(subscribed)
        for row, entries in enumerate(answered.metadata):
            converted = {pmt.intern(name): pmt.deserialize_str(encode(value)) for name, value in entries.items()}
            own = pmt.make_dict()
            for key, value in converted.items():
                own = pmt.dict_add(own, key, value)
                if self._tagged or str(key) in ("nflae_late", "nflae_item", "nflae_error"):
                    self.add_item_tag(0, self.nitems_written(0) + row, key, value, self._source)
            if is_read:
                vector = answered.precoders[row].ravel()
                self.message_port_pub(self._ports["results"], pmt.cons(own, pmt.init_c32vector(vector.size, vector)))
        if answered.late:
            fields = {"nflae_item": np.uint64(first), "items": answered.late, "policy": self._policy}
            fields["fault"] = answered.fault
            self.message_port_pub(self._ports["late"], pmt.deserialize_str(encode(fields)))

    def _note(self, first: int, answered: AnsweredItems) -> None:
        """Remember late and bad items for the log, which has a line per second at most."""
        if answered.fault:
            self._unlogged.items = first + len(answered.precoders)
            self._unlogged.late += answered.late
            self._unlogged.bad += sum("nflae_error" in entries for entries in answered.metadata)
            self._fault = answered.fault
        self._log(_LOG_SECONDS)

    def _note_waiting(self, first: int) -> None:
        """Log, at intervals, the item that waits for its answer, and the reason."""
        now = time.monotonic()
        self._waiting_since = min(self._waiting_since, now)
        if now - max(self._waiting_since, self._logged_at) >= _LOG_WAIT_SECONDS:
            waited = now - self._waiting_since
            self.logger.warn(f"item {first} has waited for {waited:.0f} s (block): {self._requests.reason()}")
            self._logged_at = now

    def _log(self, interval: float) -> None:
        unlogged = self._unlogged
        if not (unlogged.late or unlogged.bad) or time.monotonic() - self._logged_at < interval:
            return
        self.logger.warn(
            f"{unlogged.late} items late ({self._policy}), {unlogged.bad} bad (zeros), up to item {unlogged.items - 1}:"
            f" {self._fault}"
        )
        self._unlogged, self._logged_at = ItemCounts(), time.monotonic()
