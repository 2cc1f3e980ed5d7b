"""Define the settings of a live view: address, token, array."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass

from matlab_io.arguments import convert_argument
from matlab_io.errors import NflaeError

SPEED_OF_LIGHT = 299_792_458.0

_MIN_TOKEN = 8  # characters
_MAX_TOKEN = 256
_ARRAY = re.compile(r"(?:line|panel:([1-9]\d{0,3})x([1-9]\d{0,3})):(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class ViewSettings:
    """Hold the settings of a live view.

    Parameters
    ----------
    address : str
        ``HOST:PORT``, the host an IP address or ``localhost``; port ``*``: any free one.
    token : str or None
        Text that every request must contain; required unless the host is a loopback address.
    array : str or None
        Geometry of the antennas, spaced by half a wavelength of a carrier: ``line:GHZ`` for a map of positions,
        ``panel:ROWSxCOLUMNS:GHZ`` for a map of azimuth and elevation; None for the beams over the angle of a line.

    Raises
    ------
    NflaeError
        If a setting is of another type or form, or the token is missing.
    """

    address: str
    token: str | None = None
    array: str | None = None

    def __post_init__(self) -> None:
        """Check all settings."""
        for name, kind in (("address", "str"), ("token", "str | None"), ("array", "str | None")):
            convert_argument(name, kind, getattr(self, name))
        host, port = self.host, self.port  # raise for a malformed address
        if self.token is None:
            if not self.is_local:
                raise NflaeError(
                    f"--http {host}:{port}: other machines reach this address; add --http-token TEXT, or give"
                    f" 127.0.0.1:{port}"
                )
        elif not (_MIN_TOKEN <= len(self.token) <= _MAX_TOKEN and re.fullmatch(r"[\w.~-]+", self.token, re.ASCII)):
            raise NflaeError(
                f"--http-token must have {_MIN_TOKEN} to {_MAX_TOKEN} letters, digits, or characters of _.~-"
            )
        if self.array is not None and not self.wavelength > 0:
            raise NflaeError(f"--http-array {self.array[:40]!r}: the carrier must be positive")

    @property
    def host(self) -> str:
        """Host to bind, an IP address."""
        name = self.address.rpartition(":")[0].removeprefix("[").removesuffix("]")
        try:
            return "127.0.0.1" if name == "localhost" else str(ipaddress.ip_address(name))
        except ValueError:
            raise NflaeError(
                f"--http {self.address[:80]}: not HOST:PORT with an IP address or localhost, e.g. 127.0.0.1:8080"
            ) from None

    @property
    def port(self) -> int:
        """TCP port; 0 for any free one."""
        text = self.address.rpartition(":")[2]
        if text == "*":
            return 0
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 1 << 16):
            raise NflaeError(f"--http {self.address[:80]}: the port must be 1 to 65535, or * for any free one")
        return int(text)

    @property
    def is_local(self) -> bool:
        """True if the address is out of reach of other machines."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def wavelength(self) -> float:
        """Wavelength of the array's carrier, m; NaN where no array is stated."""
        found = self._parsed_array
        if found is None:
            return math.nan
        return SPEED_OF_LIGHT / (1e9 * float(found[3])) if float(found[3]) else 0.0

    @property
    def panel(self) -> tuple[int, int] | None:
        """Rows and columns of a panel; None for a line, or where no array is stated."""
        found = self._parsed_array
        return None if found is None or found[1] is None else (int(found[1]), int(found[2]))

    @property
    def _parsed_array(self) -> re.Match[str] | None:
        if self.array is None:
            return None
        found = _ARRAY.fullmatch(self.array)
        if found is None:
            raise NflaeError(
                f"--http-array {self.array[:40]!r}: give line:GHZ or panel:ROWSxCOLUMNS:GHZ, spaced by half a"
                " wavelength, e.g. line:30 or panel:16x16:30"
            )
        return found
