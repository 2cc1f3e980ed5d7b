"""``nflae stream`` as a program: usage, addresses that can't be had, signals, status lines, a server in between."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import zmq

from matlab_io.errors import NflaeError
from nflae_bridge import precode
from nflae_bridge.live.gnuradio.counts import Journal
from nflae_bridge.live.gnuradio.sockets.endpoints import Endpoint, parse_endpoint
from tests.channel_files import Run, random_channels
from tests.nflae_bridge.live.gnuradio.relays import wait_until
from tests.nflae_bridge.live.gnuradio.test_flowgraphs import ANTENNAS, USERS, Streaming, free_address, streaming
from tests.nflae_bridge.live.live_server import LiveServer
from tests.sockets import bounded_context

SIZE = ("--users", 4, "--antennas", 16)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("pull:tcp://127.0.0.1:5556", Endpoint("pull", "tcp://127.0.0.1:5556", bind=False)),
        ("sub:tcp://h:1,tags,bind,key=a=b", Endpoint("sub", "tcp://h:1", bind=True, tags=True, key="a=b")),
        ("req:ipc:///tmp/x,pdu", Endpoint("req", "ipc:///tmp/x", bind=False, pdu=True)),
        ("push:tcp://*:5557", Endpoint("push", "tcp://*:5557", bind=True)),
        ("sub:tcp://h:1,tags,latest,pmt=3.9", Endpoint("sub", "tcp://h:1", False, tags=True, latest=True, pmt="3.9")),
        ("push:tcp://*:1,pdu,pmt=3.8", Endpoint("push", "tcp://*:1", bind=True, pdu=True, pmt="3.8")),
        ("pub:tcp://127.0.0.1:1,connect", Endpoint("pub", "tcp://127.0.0.1:1", bind=False)),
        ("pull:tcp://127.0.0.1:*,bind", Endpoint("pull", "tcp://127.0.0.1:*", bind=True)),
    ],
)
def test_endpoints_are_read(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text, is_input=endpoint.is_input) == endpoint
    assert parse_endpoint(str(endpoint), is_input=endpoint.is_input) == endpoint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--csi", "push:tcp://127.0.0.1:1"), "KIND one of pull, sub, req"),
        (("--csi", "pull"), "expected KIND:ADDRESS"),
        (("--csi", "pull:tcp://127.0.0.1"), "tcp://HOST:PORT"),
        (("--csi", "pull:tcp://127.0.0.1:99999"), "at most 65535"),
        (("--csi", "pull:carrier-pigeon://x:1"), "tcp://HOST:PORT"),
        (("--csi", "pull:tcp://127.0.0.1:1,loud"), "no option 'loud'"),
        (("--csi", "pull:tcp://127.0.0.1:1,key=x"), "no option 'key=x'"),
        (("--csi", "pull:tcp://127.0.0.1:1,tags,pdu"), "leave out tags or pdu"),
        (("--csi", "pull:tcp://127.0.0.1:1,pmt=3.7,pdu"), "pmt=3.10|3.9|3.8"),
        (("--csi", "pull:tcp://127.0.0.1:1,pmt=3.9"), "add pdu or tags"),
        (("--csi", "pull:tcp://127.0.0.1:1", "--labels", "pub:tcp://*:1,latest"), "no option 'latest' for pub"),
        (("--csi", "pull:tcp://127.0.0.1:1", "--labels", "pub:tcp://*:2", "--fallback", "hold"), "on a --server"),
        (("--csi", "pull:tcp://127.0.0.1:0"), "port 0 cannot be connected to"),
        (("--csi", "pull:tcp://127.0.0.1:1", "--labels", "pub:tcp://127.0.0.1:*,connect"), "port * cannot be"),
        (("--csi", "pull:tcp://127.0.0.1:1,connect,bind"), "either binds or connects"),
        (("--csi", "pull:tcp://127.0.0.1:1", "--labels", "push:tcp://127.0.0.1:1"), "--csi and --labels have one"),
        (("--csi", "pull:tcp://localhost:1", "--labels", "push:tcp://*:1"), "--csi and --labels have one"),
        (("--csi", "pull:tcp://127.0.0.1:1"), "no output"),
        (("--csi", "pull:tcp://127.0.0.1:1", "--precoders", "push:tcp://*:2", "--result-tags"), "needs --precoders"),
        (
            ("--csi", "pull:tcp://127.0.0.1:1", "--labels", "push:tcp://*:2", "--server", "x", "--device", "cpu"),
            "options of the server",
        ),
    ],
)
def test_wrong_usage_is_explained(nflae: Run, arguments: tuple[str, ...], words: str) -> None:
    done = nflae("stream", *SIZE, *arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ipc:///no/such/folder/socket", "ipc:///no/such/folder/socket: "),
        ("tcp://192.0.2.1:5557", "this machine has no such address"),
    ],
)
def test_addresses_that_cannot_be_had_make_one_line(nflae: Run, address: str, words: str) -> None:
    done = nflae("stream", *SIZE, "--csi", "pull:tcp://127.0.0.1:1", "--precoders", f"push:{address}")
    assert done.exit_code == 1
    assert words in done.output
    assert len(done.output.splitlines()) == 1


def test_a_port_in_use_makes_one_line(nflae: Run) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
        for arguments in (
            ("--csi", "pull:tcp://127.0.0.1:1", "--precoders", f"push:{address}"),
            ("--csi", f"pull:{address},bind", "--precoders", "push:tcp://127.0.0.1:*"),
        ):
            done = nflae("stream", *SIZE, *arguments)
            assert done.exit_code == 1
            assert f"{address}: it is in use by another program" in done.output
            assert len(done.output.splitlines()) == 1


def test_an_impossible_budget_is_named(nflae: Run) -> None:
    done = nflae("stream", *SIZE, "--csi", "pull:tcp://127.0.0.1:1", "--labels", "push:tcp://*:2", "--alpha-c", 2)
    assert done.exit_code == 1
    assert "--alpha-c 2: alpha_c must be a share of the power" in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_the_counts(number: int) -> None:
    csi, precoders = free_address(), free_address()
    channels = random_channels(100, USERS, ANTENNAS)
    with (
        bounded_context() as context,
        context.socket(zmq.PUSH) as source,
        context.socket(zmq.PULL) as sink,
        streaming("--csi", f"pull:{csi},bind", "--precoders", f"push:{precoders}", "--status-every", 0.2) as running,
    ):
        source.connect(csi)
        sink.connect(precoders)
        source.send(channels.tobytes())
        rows = b""
        while len(rows) < channels.nbytes:
            assert sink.poll(60_000)
            rows += sink.recv()
        wait_until(lambda: any("event=status received=100 sent=100" in line for line in running.lines))
        counts = running.stop(number)
    np.testing.assert_allclose(
        np.frombuffer(rows, np.complex64).reshape(channels.shape), precode(channels, scheme="rzf").precoder, atol=1e-6
    )
    assert (counts["received"], counts["sent"], counts["unsent"]) == (100, 100, 0)
    assert counts["items_per_s"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_of_an_absent_server_can_be_interrupted(number: int) -> None:
    """Ctrl-C during the computation of the first batch, which waits for a server that is not there."""
    arguments = ("--server", free_address(), "--server-timeout", 600, "--csi", f"pull:{free_address()}")
    running = Streaming("--users", USERS, "--antennas", ANTENNAS, *arguments, "--precoders", "push:tcp://127.0.0.1:*")
    try:
        wait_until(lambda: any("event=server_absent" in line for line in running.lines))
        running.stop(number)  # within 60 s, a tenth of the server's time limit
    finally:
        running.process.kill()
        running.process.wait()


@pytest.mark.slow
def test_a_reader_that_never_comes_does_not_keep_it_from_ending() -> None:
    csi = free_address()
    arguments = ("--csi", f"pull:{csi},bind", "--precoders", "push:tcp://127.0.0.1:*", "--status-every", 0.2)
    with bounded_context() as context, context.socket(zmq.PUSH) as source, streaming(*arguments) as running:
        source.connect(csi)
        source.send(random_channels(5, USERS, ANTENNAS).tobytes())
        wait_until(lambda: any("event=status received=5 sent=0" in line for line in running.lines))
        counts = running.stop()
    assert (counts["received"], counts["sent"], counts["unsent"]) == (5, 0, 5)


@pytest.mark.slow
def test_a_server_may_compute(server: LiveServer) -> None:
    csi, precoders = free_address(), free_address()
    channels = random_channels(20, USERS, ANTENNAS)
    arguments = ("--server", server.address, "--csi", f"pull:{csi},bind", "--precoders", f"push:{precoders}")
    with (
        bounded_context() as context,
        context.socket(zmq.PUSH) as source,
        context.socket(zmq.PULL) as sink,
        streaming(*arguments) as running,
    ):
        source.linger = 0
        source.connect(csi)
        sink.connect(precoders)
        source.send(channels.tobytes())
        assert sink.poll(60_000)
        rows = np.frombuffer(sink.recv(), np.complex64).reshape(channels.shape)
        running.stop()
    np.testing.assert_allclose(rows, precode(channels, scheme="rzf").precoder, atol=1e-5)


def test_items_that_a_killed_stream_had_received_are_counted_by_the_next(tmp_path: Path) -> None:
    journal, csi = tmp_path / "journal", free_address()
    arguments = ("--csi", f"pull:{csi},bind", "--precoders", f"push:{free_address()}", "--journal", journal)

    def unfinished() -> int:
        return int(journal.read_text().split()[2])

    with bounded_context() as context, context.socket(zmq.PUSH) as source:
        source.connect(csi)
        with streaming(*arguments) as running:
            assert unfinished() == 0
            source.send(random_channels(5, USERS, ANTENNAS).tobytes())
            wait_until(lambda: unfinished() == 5)
            running.process.kill()
            running.process.wait()
        assert unfinished() == 5
        with streaming(*arguments) as running:
            wait_until(lambda: unfinished() == 0)
            counts = running.stop()
    assert (counts["lost"], counts["gaps"], counts["received"]) == (5, 1, 0)
    assert any("event=lost_in_restart items=5" in line for line in running.lines)


@pytest.mark.parametrize(
    ("content", "option", "status", "words"),
    [
        (b"my only copy", "", 1, "is not a journal of nflae stream, and is left as it is"),
        (b"", ",tags", 2, "numbers of items show what is lost"),
    ],
)
def test_a_journal_is_a_file_of_its_own(
    nflae: Run, tmp_path: Path, content: bytes, option: str, status: int, words: str
) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    ends = ("--csi", f"pull:tcp://127.0.0.1:1{option}", "--precoders", f"push:{free_address()}")
    done = nflae("stream", *SIZE, *ends, "--scheme", "rzf", "--journal", path)
    assert done.exit_code == status
    assert words in " ".join(done.output.split())
    assert path.read_bytes() == content


def test_two_streams_cannot_use_one_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal")
    with pytest.raises(NflaeError, match="journal of a running nflae stream"):
        Journal(tmp_path / "journal")
    first.close()
    Journal(tmp_path / "journal").close()
