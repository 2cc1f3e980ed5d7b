"""Python programs of tests in forks of one process that holds torch and scipy: each is spared their import."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

PACKAGES = ("click", "h5py", "numpy", "rich.console", "scipy.io", "scipy.optimize", "torch", "zmq")
# Sends its arguments, folder, environment and standard streams; ends with the exit status received.
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    request = [sys.argv[1:], os.getcwd(), dict(os.environ)]
    socket.send_fds(connection, [b"-"], [0, 1, 2])
    connection.sendall(json.dumps(request).encode())
    connection.shutdown(socket.SHUT_WR)
    status = connection.recv(1)
sys.exit(status[0] if status else "the program ended without an exit status")
"""


@contextmanager
def warm_nflae(folder: Path) -> Iterator[Path]:
    """Make an executable ``nflae`` in a folder whose commands run in forks; ``--python CODE`` runs code instead."""
    address = str(folder / "warm")
    command = [sys.executable, "-c", "from tests.warm_python import serve; serve()", address]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        (folder / "nflae").write_text(CLIENT.format(python=sys.executable, address=address))
        (folder / "nflae").chmod(0o755)
        yield folder / "nflae"
        process.terminate()


def serve() -> None:
    """Run programs until the process is terminated."""
    for name in PACKAGES:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(sys.argv[1])
        server.listen()
        print("listening", flush=True)
        running: list[int] = []
        while True:
            connection, _ = server.accept()
            running = [child for child in running if os.waitpid(child, os.WNOHANG) == (0, 0)]
            child = os.fork()
            if not child:
                server.close()
                _run(connection)
            running.append(child)
            connection.close()


def _run(connection: socket.socket) -> NoReturn:
    status = 1
    try:
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        with connection.makefile("rb") as file:
            arguments, directory, environment = json.load(file)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        status = _status(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([status]))
        os._exit(status)


def _status(arguments: list[str]) -> int:
    """Run a program; its exit status, as the interpreter finds it."""
    try:
        if arguments[:1] == ["--python"]:
            sys.argv, sys.path[0] = ["-c"], ""
            scope: dict[str, Any] = {"__name__": "__main__"}
            exec(arguments[1], scope)
        else:
            from nflae_bridge.cli.group import main

            sys.argv = ["nflae", *arguments]
            main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    return 0
