"""Make and read CURVE keys, which authenticate and encrypt the connections of servers and clients.

A pair is two files in ZeroMQ's certificate format: NAME.key, the public key, and NAME.key_secret, both keys.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import zmq
from zmq.utils import z85

from matlab_io.errors import NflaeError
from nflae_bridge.live.log import EventLog

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_ENTRY = re.compile(rb'^[ \t]*(public|secret)-key[ \t]*=[ \t]*["\']?([!-~]{40})["\']?[ \t\r]*$', re.MULTILINE)
_MAX_FILE_BYTES = 64 << 10
_OTHER_ACCOUNTS = 0o077
_ZAP_ADDRESS = "inproc://zeromq.zap.01"
_CHECK_SECONDS = 0.5  # interval between checks of the folder while no client connects


def check_name(name: str) -> None:
    """Check the name of a pair of keys.

    Parameters
    ----------
    name : str
        Name.

    Raises
    ------
    NflaeError
        Unless it consists of 1 to 64 letters, digits, ``.``, ``-`` and ``_``, and begins with none of the first two.
    """
    if not _NAME.fullmatch(name):
        raise NflaeError(
            f"NAME {name!r}: give 1 to 64 letters, digits, '.', '_' or '-', without '.' or '-' at the beginning; the"
            " folder is the second argument"
        )


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys; the secret file is readable by its owner alone.

    Parameters
    ----------
    folder : Path
        Folder of the files; it is created if it does not exist.
    name : str
        Name of the pair, see `check_name`.

    Returns
    -------
    public, secret : Path
        Files NAME.key and NAME.key_secret.

    Raises
    ------
    NflaeError
        If the name is not plain, a file of that name exists, or the file system cannot restrict access to the secret.
    OSError
        If the folder cannot be written.
    """
    check_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    public, secret = folder / f"{name}.key", folder / f"{name}.key_secret"
    public_key, secret_key = (key.decode() for key in zmq.curve_keypair())
    lines = "# ZeroMQ CURVE {} certificate\n\nmetadata\ncurve\n" + f'    public-key = "{public_key}"\n'
    _create(public, lines.format("public"), 0o644)
    try:
        _create(secret, lines.format("**secret**") + f'    secret-key = "{secret_key}"\n', 0o600)
    except BaseException:
        public.unlink()
        raise
    return public, secret


def _create(path: Path, text: str, mode: int) -> None:
    """Write a new file whose mode is right before it has content, whatever the umask."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode & 0o600)
    except FileExistsError:
        raise NflaeError(f"{path} exists already: give another NAME, or remove it if the key is not in use") from None
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, mode)
            _check_closed(path, os.fstat(descriptor), mode)
            file.write(text)
    except BaseException:
        path.unlink()
        raise


def _check_closed(path: Path, status: os.stat_result, mode: int = 0o600) -> None:
    if mode & _OTHER_ACCOUNTS == 0 and status.st_mode & _OTHER_ACCOUNTS:
        raise NflaeError(
            f"{path} is open to other accounts (mode {stat.S_IMODE(status.st_mode):o}), and holds a secret key: run"
            f" chmod 600 on it, or keep it on a file system with permissions"
        )


def read_public_key(path: Path) -> bytes:
    """Read the public key of a certificate file of either kind.

    Parameters
    ----------
    path : Path
        NAME.key or NAME.key_secret.

    Returns
    -------
    bytes
        Public key, Z85-encoded.

    Raises
    ------
    NflaeError
        If the file holds no key, or a secret key and is open to other accounts.
    """
    return _load(path)[0]


def read_key_pair(path: Path) -> tuple[bytes, bytes]:
    """Read both keys of a NAME.key_secret file.

    Parameters
    ----------
    path : Path
        NAME.key_secret.

    Returns
    -------
    public, secret : bytes
        Keys, Z85-encoded.

    Raises
    ------
    NflaeError
        If the file holds no secret key, one of another pair, or is open to other accounts.
    """
    public, secret = _load(path)
    if secret is None:
        raise NflaeError(f"{path} holds no secret key: give the .key_secret file that `nflae keys` wrote beside it")
    if zmq.curve_public(secret) != public:
        raise NflaeError(f"{path}: public and secret key are not of one pair; `nflae keys` makes a pair")
    return public, secret


def _load(path: Path) -> tuple[bytes, bytes | None]:
    """Return the public and, if there is one, the secret key of a regular file."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_MAX_FILE_BYTES) if stat.S_ISREG(status.st_mode) else b""
    except OSError as error:
        reason = (error.strerror or "not readable").lower()
        raise NflaeError(f"{path}: {reason}; `nflae keys` makes a pair") from None
    keys = {bytes(kind): bytes(key) for kind, key in _ENTRY.findall(content)}
    if b"public" not in keys or not all(_is_key(key) for key in keys.values()):
        raise NflaeError(f"{path} is not a key file: `nflae keys` makes a pair")
    if b"secret" in keys:
        _check_closed(path, status)
    return keys[b"public"], keys.get(b"secret")


def _is_key(key: bytes) -> bool:
    try:
        return len(z85.decode(key)) == 32
    except (KeyError, ValueError, OverflowError):
        return False


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
        self._keys = _read_client_keys(folder)
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
        """Admit nobody further and end the thread."""
        self._stopping = True
        self._thread.join()

    def _run(self) -> None:
        with self._socket:
            while not self._stopping:
                try:
                    arrived = self._socket.poll(1e3 * _CHECK_SECONDS)
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
        for path in _key_files(self._folder):
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


def _read_client_keys(folder: Path) -> set[bytes]:
    if not folder.is_dir():
        raise NflaeError(f"{folder} is not a folder: put the clients' NAME.key files into a folder and give that")
    keys = {read_public_key(path) for path in _key_files(folder)}
    if not keys:
        raise NflaeError(f"{folder} has no NAME.key file, so no client could connect: `nflae keys` makes a pair")
    return keys


def _key_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.key"))


def _folder_state(folder: Path) -> list[tuple[str, int, int, int]]:
    """Return name, inode, size and time of change of each key file; equal as long as none has changed."""
    found = []
    for path in _key_files(folder):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return found
