"""Define the settings of a server."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from matlab_io.arguments import convert_argument
from matlab_io.errors import NflaeError
from nflae_bridge.live.addresses import check_well_formed
from nflae_bridge.live.protocol.frames import DEFAULT_ADDRESS
from nflae_bridge.live.view.address import ViewSettings

_LONGEST_TEXT = 4096  # a path of Linux
_LONGEST_SECONDS = 1e6  # what a thread can wait for ends at 9e9 s
_LARGEST = {"metrics_port": 65535, "busy_poll": 1.0}
_MAY_BE_ZERO = ("busy_poll", "max_wait", "grace")


@dataclass(frozen=True)
class ServerSettings:
    """Hold the settings of a server.

    Parameters
    ----------
    bind : tuple of str
        ZeroMQ addresses to bind.
    model, device : str
        As for `load_scheme`.
    effort : str or None
        Effort in place of the model, as for `nflae_bridge.precode`.
    max_batch : int
        Largest number of drops per micro-batch.
    busy_poll : float
        Time for which the loop polls its sockets without sleeping after it has been busy, s.
    max_wait : float
        Longest time that a micro-batch waits for the number of requests of the one before it, s.
    queue, queue_bytes : int
        Largest number of waiting requests, and of bytes of all requests that are received, wait or are computed;
        further requests get ``busy``.
    max_message_bytes : int
        Size of a frame above which ZeroMQ closes the connection.
    max_users, max_drops : int
        Limits of one request; larger ones get ``too_large``.
    max_seconds : float
        Longest computation of one request, s; those estimated to take longer get ``too_large``.
    grace : float
        Longest time from the signal that stops the server until it ends, s.
    server_key : Path or None
        The server's secret CURVE certificate.
    client_keys : Path or None
        Folder of the public certificates of the clients that may connect.
    insecure : bool
        Permission to bind addresses that other machines reach without keys.
    shared_memory : bool
        Clients on this host may send large arrays through shared memory; without keys, on Linux.
    metrics_port : int or None
        Port of the Prometheus metrics on the loopback interface.
    view : ViewSettings or None
        Address, token and array of the live view.

    Raises
    ------
    NflaeError
        If a setting is of another type or out of range, an address is malformed, or one of the keys is missing; the
        message names the setting.
    """

    bind: tuple[str, ...] = (DEFAULT_ADDRESS,)
    model: str = "auto"
    device: str = "auto"
    effort: str | None = None
    max_batch: int = 64
    busy_poll: float = 0.0
    max_wait: float = 1e-3
    queue: int = 1024
    queue_bytes: int = 128 << 20
    max_message_bytes: int = 64 << 20
    max_users: int = 128
    max_drops: int = 16384
    max_seconds: float = 5.0
    grace: float = 10.0
    server_key: Path | None = None
    client_keys: Path | None = None
    insecure: bool = False
    shared_memory: bool = True
    metrics_port: int | None = None
    view: ViewSettings | None = None

    def __post_init__(self) -> None:
        """Check all settings, and convert them to the types stated."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "view":
                if not isinstance(value, ViewSettings | None):
                    raise NflaeError(f"view must be ViewSettings(...) or None, got {type(value).__name__}")
                continue
            converted = _addresses(value) if field.name == "bind" else _converted(field.name, str(field.type), value)
            object.__setattr__(self, field.name, converted)
        if (self.server_key is None) != (self.client_keys is None):
            raise NflaeError("server_key and client_keys must be given together")


def _addresses(value: Any) -> tuple[str, ...]:
    """Return the addresses to bind."""
    if not isinstance(value, list | tuple) or not value:
        raise NflaeError(f"bind must be a tuple of addresses, e.g. ({DEFAULT_ADDRESS!r},), got {value!r:.60}")
    addresses = tuple(convert_argument("bind", "str", address) for address in value)
    for address in addresses:
        try:
            check_well_formed(address)
        except NflaeError as error:
            raise NflaeError(f"bind: {error}") from None
    return addresses


def _converted(name: str, annotation: str, value: Any) -> Any:
    """Return the value of a setting in its type, within its range."""
    is_path = annotation.startswith("Path")
    value = convert_argument(name, f"str | {annotation}" if is_path else annotation, value)
    if isinstance(value, str):
        if not value or "\0" in value or len(value) > _LONGEST_TEXT:
            raise NflaeError(f"{name} must have 1 to {_LONGEST_TEXT} characters and no null, got {value!r:.60}")
        return Path(value) if is_path else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        least = 0 if name in _MAY_BE_ZERO else 1 if isinstance(value, int) else math.ulp(0.0)
        most = _LARGEST.get(name, _LONGEST_SECONDS if isinstance(value, float) else math.inf)
        if not least <= value <= most:
            lower = "at least 0" if not least else "positive" if isinstance(value, float) else "at least 1"
            upper = "" if math.isinf(most) else f" and at most {most:.10g}"
            raise NflaeError(f"{name} must be {lower}{upper}, got {value:.10g}")
    return value
