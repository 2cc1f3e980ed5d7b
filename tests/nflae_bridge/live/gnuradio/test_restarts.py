"""Right items after restarts of flowgraph, ``nflae stream`` and server, killed and stopped, with real GNU Radio."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zmq

from nflae_bridge import precode
from tests.channel_files import random_channels
from tests.nflae_bridge.live.gnuradio.relays import wait_until
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import (  # noqa: F401
    ANTENNAS,
    INPUT_OF,
    USERS,
    free_address,
    gnuradio,
    streaming,
)
from tests.nflae_bridge.live.live_server import LiveServer
from tests.sockets import bounded_context

HERE = Path(__file__).parent
KINDS = ("push", "pub", "rep")
RESTARTS = int(os.environ.get("NFLAE_RESTARTS", "2"))

pytestmark = [pytest.mark.gnuradio, pytest.mark.slow]


@contextmanager
def process(*command: object, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        running = subprocess.Popen([str(part) for part in command], stderr=file, stdout=file)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def rows_of(path: Path) -> npt.NDArray[np.float64]:
    """Whole rows of a file that a flowgraph writes."""
    data = path.read_bytes() if path.exists() else b""
    return np.frombuffer(data[: len(data) // 32 * 32]).reshape(-1, 4)


class Setup:
    """Addresses, and commands for both programs."""

    def __init__(self, folder: Path, python: str, kind: str, tags: str) -> None:
        self.folder, self.python, self.kind, self.tags = folder, python, kind, tags
        self.csi, self.precoders = free_address(), free_address()

    def relay(self, *, log: str = "relay.log", seconds: float = 0.0) -> Any:
        option = ",tags" if self.tags == "tags" else ""
        ends = f"{INPUT_OF[self.kind]}:{self.csi}{option}", f"{self.kind}:{self.precoders}{option}"
        script = "tests.nflae_bridge.live.gnuradio.echo_stream"
        return process(sys.executable, "-m", script, *ends, seconds, log=self.folder / log)

    def flowgraph(self, run: int) -> Any:
        path = self.file(run)
        command = (
            self.python,
            HERE / "numbered_flowgraph.py",
            self.kind,
            self.tags,
            self.csi,
            self.precoders,
            run,
            path,
        )
        return process(*command, log=self.folder / "flowgraph.log")

    def file(self, run: int) -> Path:
        return self.folder / f"run{run}.bin"

    def log(self) -> str:
        return (self.folder / "relay.log").read_text()


@pytest.fixture(params=[(kind, tags) for kind in KINDS for tags in ("bare", "tags")], ids="-".join)
def setup(request: pytest.FixtureRequest, tmp_path: Path, gnuradio: str) -> Setup:  # noqa: F811
    return Setup(tmp_path, gnuradio, *request.param)


def check(rows: npt.NDArray[np.float64], run: int, setup: Setup) -> None:
    """Every answer is of this run and in order, and has the item of its number."""
    assert (rows[:, 0] == run).all(), (run, np.unique(rows[:, 0]))
    assert (np.diff(rows[:, 1]) > 0).all()
    if setup.tags == "tags":
        assert (rows[:, 3] == rows[:, 1]).all()


def stop(running: subprocess.Popen[bytes], turn: int) -> None:
    """Kill on even turns, stop on odd ones."""
    if turn % 2:
        running.terminate()
    else:
        running.kill()
    assert running.wait(60) is not None


def test_every_flowgraph_gets_its_own_items(setup: Setup) -> None:
    with setup.relay(seconds=0.0005) as relay:  # slower than the sender: old answers always wait
        for run in range(1, 2 + RESTARTS):
            with setup.flowgraph(run) as flowgraph:
                wait_until(lambda run=run: len(rows_of(setup.file(run))) > 300)  # type: ignore[misc]
                stop(flowgraph, run)
            rows = rows_of(setup.file(run))
            check(rows, run, setup)
            if setup.kind != "pub":
                assert (rows[:, 1] == np.arange(len(rows))).all(), rows[:3]
        assert relay.poll() is None, setup.log()


def test_a_flowgraph_goes_on_through_restarts_of_the_stream(setup: Setup) -> None:
    with setup.flowgraph(1) as flowgraph:
        seen = 0
        for turn in range(1 + RESTARTS):
            with setup.relay() as relay:
                wait_until(lambda seen=seen: len(rows_of(setup.file(1))) > seen + 300)  # type: ignore[misc]
                stop(relay, turn)
            time.sleep(0.1)
            seen = len(rows_of(setup.file(1)))
        assert flowgraph.poll() is None
        rows = rows_of(setup.file(1))
    check(rows, 1, setup)
    if setup.kind == "rep":
        assert "event=prompted" in setup.log()


@pytest.mark.timeout(600 + 60 * RESTARTS)
def test_no_item_is_lost_through_restarts_of_the_server() -> None:
    channels = random_channels(40 * (1 + RESTARTS), USERS, ANTENNAS)
    address, csi, precoders = free_address(), free_address(), free_address()
    ends = ("--csi", f"pull:{csi},bind", "--precoders", f"push:{precoders}")
    answers: list[bytes] = []
    with bounded_context() as context, context.socket(zmq.PUSH) as source, context.socket(zmq.PULL) as sink:
        source.connect(csi)
        sink.connect(precoders)
        server = LiveServer("--device", "cpu", bind=address)
        try:
            with streaming("--server", address, "--server-timeout", 300, "--max-batch", 4, *ends) as running:
                for turn, block in enumerate(np.split(channels, 1 + RESTARTS)):
                    for drop in block:
                        source.send(drop.tobytes())
                    assert sink.poll(60_000)
                    answers.append(sink.recv())
                    if turn < RESTARTS:
                        server.stop(signal.SIGKILL if turn % 2 else signal.SIGTERM)
                        server = LiveServer("--device", "cpu", bind=address)
                while sum(map(len, answers)) < channels.nbytes:
                    assert sink.poll(60_000)
                    answers.append(sink.recv())
                counts = running.stop()
        finally:
            server.stop()
    found = np.frombuffer(b"".join(answers), np.complex64).reshape(channels.shape)
    np.testing.assert_allclose(found, precode(channels, scheme="rzf").precoder, atol=1e-5)
    assert (counts["sent"], counts["substituted"]) == (len(channels), 0)
