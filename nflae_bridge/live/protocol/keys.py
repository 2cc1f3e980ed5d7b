"""Make and read CURVE keys, which authenticate and encrypt the connections of servers and clients.

A pair is two files in ZeroMQ's certificate format: NAME.key, the public key, and NAME.key_secret, both keys.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from pathlib import Path

import zmq
from zmq.utils import z85

from matlab_io.errors import NflaeError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_ENTRY = re.compile(rb'^[ \t]*(public|secret)-key[ \t]*=[ \t]*["\']?([!-~]{40})["\']?[ \t\r]*$', re.MULTILINE)
_MAX_FILE_BYTES = 64 << 10
_OTHER_ACCOUNTS = 0o077


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
    entries = f'metadata\ncurve\n    public-key = "{public_key}"\n'
    _create(public, f"# Public ZeroMQ CURVE certificate\n\n{entries}", 0o644)
    try:
        text = f'# Secret ZeroMQ CURVE certificate: for its owner only\n\n{entries}    secret-key = "{secret_key}"\n'
        _create(secret, text, 0o600)
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
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = (getattr(error, "strerror", None) or "not readable").lower()
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
    except (KeyError, ValueError, struct.error):
        return False


def read_client_keys(folder: Path) -> set[bytes]:
    """Read the public keys of the clients that may connect.

    Parameters
    ----------
    folder : Path
        Folder of NAME.key files.

    Returns
    -------
    set of bytes
        Keys, Z85-encoded.

    Raises
    ------
    NflaeError
        If it has no .key file, or one without a public key.
    """
    if not folder.is_dir():
        raise NflaeError(f"{folder} is not a folder: put the clients' NAME.key files into a folder and give that")
    keys = {read_public_key(path) for path in key_files(folder)}
    if not keys:
        raise NflaeError(f"{folder} has no NAME.key file, so no client could connect: `nflae keys` makes a pair")
    return keys


def key_files(folder: Path) -> list[Path]:
    """Return the files of public keys in a folder.

    Parameters
    ----------
    folder : Path
        Folder.

    Returns
    -------
    list of Path
        Files NAME.key, sorted.
    """
    return sorted(folder.glob("*.key"))
