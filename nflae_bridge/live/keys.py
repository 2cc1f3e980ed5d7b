"""Make and read CURVE keys, which authenticate and encrypt the connections of servers and clients.

A pair is two files in ZeroMQ's certificate format: NAME.key, the public key, and NAME.key_secret, both keys.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import zmq
import zmq.auth

from matlab_io.errors import NflaeError


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys; the secret file is readable by its owner alone.

    Parameters
    ----------
    folder : Path
        Folder of the files; it is created if it does not exist.
    name : str
        Name of the pair.

    Returns
    -------
    public, secret : Path
        Files NAME.key and NAME.key_secret.

    Raises
    ------
    NflaeError
        If a file of that name exists.
    OSError
        If the folder cannot be written.
    """
    targets = folder / f"{name}.key", folder / f"{name}.key_secret"
    for target in targets:
        if target.exists():
            raise NflaeError(f"{target} exists already: give another NAME, or remove it if the key is not in use")
    folder.mkdir(parents=True, exist_ok=True)
    # mkdtemp's folder is closed to other accounts: the secret is never readable by them, whatever the umask.
    with tempfile.TemporaryDirectory(dir=folder) as private:
        for made, target in zip(zmq.auth.create_certificates(private, name), targets, strict=True):
            os.chmod(made, 0o600 if target.suffix == ".key_secret" else 0o644)
            os.rename(made, target)
    return targets


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
        If the file holds no key.
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
        If the file holds no secret key.
    """
    public, secret = _load(path)
    if secret is None:
        raise NflaeError(f"{path} holds no secret key: give the .key_secret file that `nflae keys` wrote beside it")
    return public, secret


def check_client_keys(folder: Path) -> None:
    """Check the folder of the clients' public keys.

    Parameters
    ----------
    folder : Path
        Folder of NAME.key files.

    Raises
    ------
    NflaeError
        If it has no .key file, or one without a public key.
    """
    if not folder.is_dir():
        raise NflaeError(f"{folder} is not a folder: put the clients' NAME.key files into a folder and give that")
    keys = [read_public_key(path) for path in sorted(folder.glob("*.key"))]
    if not keys:
        raise NflaeError(f"{folder} has no NAME.key file, so no client could connect: `nflae keys` makes a pair")


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        return zmq.auth.load_certificate(path)
    except OSError as error:
        raise NflaeError(f"{path}: {(error.strerror or 'no such file').lower()}; `nflae keys` makes a pair") from None
    except (ValueError, UnicodeDecodeError):
        raise NflaeError(f"{path} is not a key file: `nflae keys` makes a pair") from None
