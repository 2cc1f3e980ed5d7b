"""What a server can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nflae_bridge.live.protocol import DEFAULT_ADDRESS


@dataclass(frozen=True)
class ServerSettings:
    """How to serve.

    bind: ZeroMQ addresses to listen on. model, device: see `engine.load_scheme`.
    max_batch: drops computed at once. max_wait: how long a batch may wait for the requests that the last one shows
    to be on their way, s. queue, queue_bytes: requests, and bytes of them, that may wait; more get ``busy``.
    max_message_bytes: size of a frame above which ZeroMQ drops the connection.
    max_users, max_drops: of a request; more get ``too_large``.
    server_key: the server's secret CURVE certificate; client_keys: folder of the public ones it lets in.
    insecure: any address may be bound without keys. metrics_port: for Prometheus, on the loopback.
    """

    bind: tuple[str, ...] = (DEFAULT_ADDRESS,)
    model: str = "auto"
    device: str = "auto"
    max_batch: int = 64
    max_wait: float = 1e-3
    queue: int = 1024
    queue_bytes: int = 1 << 30
    max_message_bytes: int = 64 << 20
    max_users: int = 128
    max_drops: int = 16384
    server_key: Path | None = None
    client_keys: Path | None = None
    insecure: bool = False
    metrics_port: int | None = None
