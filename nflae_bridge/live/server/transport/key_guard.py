"""Admit clients by their public keys, which may change while the server runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import zmq
from zmq.utils import z85

from matlab_io.errors import NflaeError
from nflae_bridge.live.log import EventLog
from nflae_bridge.live.protocol.keys import key_files, read_client_keys, read_public_key

_ZAP_ADDRESS = "inproc://zeromq.zap.01"
_CHECK_MS = 200  # interval between checks of the folder while no client connects


class KeyGuard:
    """Admit the clients whose public keys are in a folder: ZeroMQ's authentication handler, in a thread of its own.

    The folder is read again when it has changed, and on `reread`. A key that was removed is refused from the next
    connection on; connections that exist remain.

    Parameters
    ----------
    context : zmq.Context
        Context of the sockets to protect.
    folder : Path
        Folder of the clients' NAME.key files.
    log : EventLog
        Log of refused keys and of changes of the folder.

    Raises
    ------
    NflaeError
        If the folder has no .key file, or one without a public key.

    References
    ----------
    ZeroMQ RFC 27, "ZeroMQ Authentication Protocol".
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], folder: Path, log: EventLog) -> None:
        self._folder = folder
        self._log = log
        self._state = _folder_state(folder)
        self._keys = read_client_keys(folder)
        self._must_reread = False
        self._stopping = False
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ZAP_ADDRESS)
        self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
        self._thread.start()

    def reread(self) -> None:
        """Read the folder again, soon; safe in a signal handler."""
        self._must_reread = True

    def stop(self) -> None:
        """Admit no further client and end the thread."""
        self._stopping = True
        self._thread.join()

    def _run(self) -> None:
        with self._socket:
            while not self._stopping:
                try:
                    arrived = self._socket.poll(_CHECK_MS)
                    self._refresh()
                    if arrived:
                        self._socket.send_multipart(self._reply(self._socket.recv_multipart()))
                except zmq.ContextTerminated:
                    return
                except zmq.ZMQError as error:
                    self._log.warning("authentication_failed", reason=error)

    def _reply(self, request: list[bytes]) -> list[bytes]:
        version, number, _, address, _, mechanism, *credentials = request
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials and len(credentials[0]) == 32 else b""
        if key in self._keys:
            return [version, number, b"200", b"OK", key, b""]
        self._log.warning(
            "client_refused", address=address.decode(errors="replace"), key=key.decode(), reason="key not registered"
        )
        return [version, number, b"400", b"key not registered", b"", b""]

    def _refresh(self) -> None:
        state = _folder_state(self._folder)
        if state == self._state and not self._must_reread:
            return
        self._state, self._must_reread = state, False
        keys = set()
        for path in key_files(self._folder):
            try:
                keys.add(read_public_key(path))
            except NflaeError as error:  # refused, as a removed key is; the others remain
                self._log.warning("client_key_ignored", reason=error)
        self._log.info("client_keys", folder=self._folder, keys=len(keys), added=len(keys - self._keys))
        self._keys = keys


@contextmanager
def reread_on_hangup(guard: KeyGuard | None) -> Iterator[None]:
    """Read the clients' keys again on SIGHUP.

    Without a guard, outside the main thread, and where there is no such signal, without effect.

    Parameters
    ----------
    guard : KeyGuard or None
        Guard of the server.

    Yields
    ------
    None
        While the handler is in place.
    """
    number = getattr(signal, "SIGHUP", None)
    if guard is None or number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(received: int, frame: FrameType | None) -> None:
        guard.reread()

    before = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, before)


def _folder_state(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return name, inode, size and time of change of each key file; equal as long as none has changed."""
    found = []
    for path in key_files(folder):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return found
