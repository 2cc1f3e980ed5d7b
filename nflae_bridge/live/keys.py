"""CURVE keys: who may talk to a server, and with whom a client talks.

A pair is two files in ZeroMQ's certificate format: NAME.key, the public half, to give away, and NAME.key_secret.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import zmq
import zmq.auth

from matlab_io.errors import NflaeError


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair in ``folder``: (public file, secret file), the secret one readable by its owner alone.

    Raises NflaeError if a file of that name is there already, OSError if the folder can't be written.
    """
    targets = folder / f"{name}.key", folder / f"{name}.key_secret"
    for target in targets:
        if target.exists():
            raise NflaeError(f"{target} is there already: give another NAME, or remove it if nobody uses it any more")
    folder.mkdir(parents=True, exist_ok=True)
    # mkdtemp's folder is closed to others, so the secret is never readable by them, whatever the umask.
    with tempfile.TemporaryDirectory(dir=folder) as closed:
        for made, target in zip(zmq.auth.create_certificates(closed, name), targets, strict=True):
            os.chmod(made, 0o600 if target.suffix == ".key_secret" else 0o644)
            os.rename(made, target)
    return targets


def read_public_key(path: Path) -> bytes:
    """The public key in a certificate file, either half. Raises NflaeError if there is none."""
    return _load(path)[0]


def read_key_pair(path: Path) -> tuple[bytes, bytes]:
    """(public, secret) of a NAME.key_secret file. Raises NflaeError if it has no secret key."""
    public, secret = _load(path)
    if secret is None:
        raise NflaeError(f"{path} holds no secret key: give the .key_secret file that `nflae keys` wrote beside it")
    return public, secret


def check_client_keys(folder: Path) -> None:
    """Raises NflaeError unless the folder has .key files and each holds a public key."""
    if not folder.is_dir():
        raise NflaeError(f"{folder} is no folder: put the clients' NAME.key files into one and give that")
    keys = [read_public_key(path) for path in sorted(folder.glob("*.key"))]
    if not keys:
        raise NflaeError(f"{folder} has no NAME.key file: nobody could connect; `nflae keys` makes a pair")


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except OSError as error:
        raise NflaeError(f"{path}: {(error.strerror or 'no such file').lower()}; `nflae keys` makes a pair") from None
    except (ValueError, UnicodeDecodeError):
        raise NflaeError(f"{path} is no key file: `nflae keys` makes a pair") from None
