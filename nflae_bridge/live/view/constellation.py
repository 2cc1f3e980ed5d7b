"""Send received symbols to a live view, and check those that it receives."""

from __future__ import annotations

import http.client
import math
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import numpy.typing as npt

from matlab_io.arguments import convert_argument
from matlab_io.errors import NflaeError

MAX_SYMBOLS = 4096
"""Largest number of symbols of a message; the page draws them all."""
CONTENT_TYPE = "application/octet-stream"

_TIMEOUT = 5.0
_ACCEPTED = 204
_MAX_USER = 10**6


def send_constellation(
    url: str, symbols: npt.ArrayLike, *, user: int | None = None, evm_db: float | None = None, token: str | None = None
) -> None:
    """Send received symbols to the live view of ``nflae serve --http`` or ``nflae stream --http``.

    Parameters
    ----------
    url : str
        URL of the page, e.g. ``http://127.0.0.1:8080``.
    symbols : array_like
        Symbols after equalisation, complex (symbols,); of more than 4096 the last ones are sent.
    user : int, optional
        User that has received them, counted from 1.
    evm_db : float, optional
        Error vector magnitude, dB.
    token : str, optional
        Token of the view.

    Raises
    ------
    NflaeError
        If the URL, the token or the symbols are malformed, the view does not answer, or it refuses the symbols.
    """
    url = convert_argument("url", "str", url)
    host, port = _host_and_port(url)
    if token is not None and not (token.isascii() and token.isprintable()):
        raise NflaeError("token must be that of --http-token: letters, digits, or characters of _.~-")
    points = np.ravel(convert_argument("symbols", "npt.ArrayLike", symbols))[-MAX_SYMBOLS:]
    if not (np.abs(points) <= np.finfo(np.float32).max).all():
        raise NflaeError("the symbols must be finite")
    given = {"user": user, "evm_db": evm_db}
    query = urlencode({name: value for name, value in given.items() if value is not None})
    headers = {"Content-Type": CONTENT_TYPE} | ({"Authorization": f"Bearer {token}"} if token else {})
    body = np.ascontiguousarray(points, "<c8").tobytes()
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("POST", f"/constellation?{query}", body, headers)
        answer = connection.getresponse()
        reason = answer.read(1000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise NflaeError(f"{url[:80]}: no live view answers ({error}); start nflae serve --http HOST:PORT") from None
    finally:
        connection.close()
    if answer.status != _ACCEPTED:
        raise NflaeError(f"{url[:80]}: refused ({answer.status}): {reason[:200]}")


def _host_and_port(url: str) -> tuple[str, int | None]:
    """Return host and port of the URL of a view."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname and " " not in parts.hostname:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise NflaeError(f"{url[:80]}: not the URL of a live view; give http://HOST:PORT")


def read_constellation(query: str, body: bytes) -> dict[str, Any]:
    """Read the symbols of a probe.

    Parameters
    ----------
    query : str
        Query of the URL.
    body : bytes
        Symbols, little-endian complex64.

    Returns
    -------
    dict
        ``points``, pairs of real and imaginary part; ``user`` and ``evm_db`` where they are given.

    Raises
    ------
    NflaeError
        If the symbols are none, too many or not finite, or a quantity is no number or out of range.
    """
    if not body or len(body) % 8 or len(body) > 8 * MAX_SYMBOLS:
        raise NflaeError(f"the body must be 1 to {MAX_SYMBOLS} complex64 symbols, 8 bytes each, got {len(body)} bytes")
    points = np.frombuffer(body, "<f4").reshape(-1, 2)
    if not np.isfinite(points).all():
        raise NflaeError("the symbols must be finite")
    found: dict[str, Any] = {"points": [[float(f"{x:.4g}") for x in point] for point in points.tolist()]}
    for name, values in parse_qs(query).items():
        if name not in ("user", "evm_db"):
            continue
        try:
            number = float(values[-1])
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise NflaeError(f"{name} must be a number, got {values[-1][:40]!r}")
        if name == "user" and not (number.is_integer() and 1 <= number <= _MAX_USER):
            raise NflaeError(f"user must be a whole number, counted from 1, got {values[-1][:40]!r}")
        found[name] = int(number) if name == "user" else number
    return found
