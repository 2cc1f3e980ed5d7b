"""TCP ports of tests that run side by side: free ones, and those of the documentation, for one test at a time."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_CHOICE = random.SystemRandom()  # not of the generator that tests seed: tests run side by side


def free_tcp_port() -> int:
    """Choose a free TCP port of the loopback that the system gives to no connection and no other test by itself."""
    first = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32768
    while True:
        port = _CHOICE.randrange(10_000, max(first, 20_000))
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@contextmanager
def documented_ports() -> Iterator[None]:
    """Hold the ports 5555 to 5559, which the examples of the documentation bind: one test of this machine at a time."""
    with (Path(tempfile.gettempdir()) / f"nflae_documented_ports.{os.getuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
