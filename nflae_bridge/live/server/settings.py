"""Define the settings of a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nflae_bridge.live.protocol import DEFAULT_ADDRESS


@dataclass(frozen=True)
class ServerSettings:
    """Hold the settings of a server.

    Parameters
    ----------
    bind : tuple of str
        ZeroMQ addresses to bind.
    model, device : str
        As for `load_scheme`.
    max_batch : int
        Largest number of drops per micro-batch.
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
    metrics_port : int or None
        Port of the Prometheus metrics on the loopback interface.
    """

    bind: tuple[str, ...] = (DEFAULT_ADDRESS,)
    model: str = "auto"
    device: str = "auto"
    max_batch: int = 64
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
    metrics_port: int | None = None
