"""Programs of tests in forks of one process that holds torch and scipy: each is spared their import."""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

PACKAGES = (
    "h5py",
    "matplotlib.backends.backend_agg",
    "rich.console",
    "scipy.io",
    "scipy.optimize",
    "torch.onnx",
    "zmq",
)
PACKAGES += ("nflae_bridge.live.server.loop", "nflae_bridge.plots.style", "nflae_bridge.studies.evaluation.evaluate")
# Sends its arguments, folder, environment and standard streams, passes SIGTERM on to the process that it is told of,
# and ends with the exit status received.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    request = [sys.argv[1:], os.getcwd(), dict(os.environ)]
    socket.send_fds(connection, [b"-"], [0, 1, 2])
    connection.sendall(json.dumps(request).encode())
    connection.shutdown(socket.SHUT_WR)
    process = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "little")
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(process, number))
    status = connection.recv(4, socket.MSG_WAITALL)
sys.exit(int.from_bytes(status, "little", signed=True) if status else "the program ended without an exit status")
"""


@cache
def warm_address() -> str:
    """The socket of the warm process, which is started by the first call and ends with this process."""
    folder = tempfile.TemporaryDirectory()
    address = str(Path(folder.name) / "warm")
    command = [sys.executable, "-c", "from tests.warm_python import serve; serve()", address]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"

    def end() -> None:
        process.kill()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    return address


def warm_nflae(folder: Path) -> Path:
    """Make an executable ``nflae`` in a folder whose commands run in forks; ``--python CODE`` runs code instead."""
    (folder / "nflae").write_text(CLIENT.format(python=sys.executable, address=warm_address()))
    (folder / "nflae").chmod(0o755)
    return folder / "nflae"


class WarmProgram:
    """``nflae ARGUMENTS`` in a fork, with the part of the interface of `subprocess.Popen` that tests use.

    Its log is read from ``stderr`` unless a file is given for it.
    """

    def __init__(self, *arguments: object, stdout: IO[Any] | None = None, stderr: IO[Any] | None = None) -> None:
        self.returncode: int | None = None
        self.stderr: IO[str] | None = None
        if stderr is None:
            read, write = os.pipe()
            self.stderr = open(read)  # noqa: SIM115
        else:
            write = os.dup(stderr.fileno())
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(warm_address())
        request = [list(map(str, arguments)), os.getcwd(), dict(os.environ)]
        socket.send_fds(self._connection, [b"-"], [0, 1 if stdout is None else stdout.fileno(), write])
        self._connection.sendall(json.dumps(request).encode())
        self._connection.shutdown(socket.SHUT_WR)
        os.close(write)
        self.pid = self._number()

    def _number(self) -> int:
        received = self._connection.recv(4, socket.MSG_WAITALL)
        assert len(received) == 4, "the warm process has ended"
        return int.from_bytes(received, "little", signed=True)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = self._number()
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, waited for."""
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("nflae", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """End it by SIGTERM."""
        self.send_signal(signal.SIGTERM)


def run_warm(*arguments: object, timeout: float) -> subprocess.CompletedProcess[str]:
    """``nflae ARGUMENTS`` in a fork, to its end: exit status and what it wrote."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        program = WarmProgram(*arguments, stdout=out, stderr=err)
        try:
            status = program.wait(timeout)
        finally:
            program.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, status, out.read(), err.read())


def serve() -> NoReturn:
    """Run programs until the end of the standard input."""
    for name in PACKAGES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of an interrupted test run: its servers are stopped first
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[1])
    server.listen()
    print("listening", flush=True)
    running: dict[int, tuple[int, socket.socket]] = {}  # process and connection by the descriptor that shows its end
    while True:
        ready = select.select([0, server, *running], [], [])[0]
        if 0 in ready:
            os._exit(0)
        for descriptor in set(ready) & set(running):
            child, connection = running.pop(descriptor)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            _send(connection, status)
            connection.close()
            os.close(descriptor)
        if server in ready:
            connection, _ = server.accept()
            child = os.fork()
            if not child:
                for descriptor, (_, other) in running.items():
                    os.close(descriptor)
                    other.close()
                server.close()
                _run(connection)
            _send(connection, child)
            running[os.pidfd_open(child)] = child, connection


def _send(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # the process that started the program has ended
        connection.sendall(number.to_bytes(4, "little", signed=True))


def _run(connection: socket.socket) -> NoReturn:
    status = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        with connection.makefile("rb") as file:
            arguments, directory, environment = json.load(file)
        connection.close()
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        status = _status(arguments)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _status(arguments: Sequence[str]) -> int:
    """Run a program; its exit status, as the interpreter finds it."""
    try:
        if arguments[:1] == ["--python"]:
            sys.argv, sys.path[0] = ["-c"], ""
            scope: dict[str, Any] = {"__name__": "__main__"}
            exec(arguments[1], scope)
        else:
            from nflae_bridge.cli.console import main

            sys.argv = ["nflae", *arguments]
            main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0
