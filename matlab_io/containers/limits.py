"""Bound the work and memory that a file may cause, by its size on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from matlab_io.errors import MatFileError

__all__ = ["DEFAULT_MAX_INFLATE", "MAX_AXES", "MAX_NAME", "Allowance", "max_inflate"]

DEFAULT_MAX_INFLATE = 100.0
MAX_NAME = 1024
"""Bytes of a name; MATLAB's longest has 63."""
MAX_AXES = 64
_ANY_FILE_BYTES = 64 << 20
_ANY_FILE_ITEMS = 30_000
_BYTES_PER_ITEM = 8

_ratio: ContextVar[float] = ContextVar("max_inflate", default=DEFAULT_MAX_INFLATE)


@contextmanager
def max_inflate(ratio: float) -> Iterator[None]:
    """Set the largest ratio of decompressed to stored bytes of files that are read in the context.

    Parameters
    ----------
    ratio : float
        Largest ratio; 64 MiB are allowed for a file of any size.

    Yields
    ------
    None
    """
    token = _ratio.set(ratio)
    try:
        yield
    finally:
        _ratio.reset(token)


class Allowance:
    """Count the decompressed bytes and the fields of one file, and refuse the file beyond its bounds.

    Parameters
    ----------
    path : pathlib.Path
        File.
    item_cost : int
        Number by which the bound of fields and cells is divided, for formats that take longer to read one.
    """

    def __init__(self, path: Path, item_cost: int = 1) -> None:
        size = path.stat().st_size
        self._path, self._ratio = path, _ratio.get()
        self._bytes = max(_ANY_FILE_BYTES, int(self._ratio * size))
        self._items = (_ANY_FILE_ITEMS + size // _BYTES_PER_ITEM) // item_cost
        self._bytes_left, self._items_left = self._bytes, self._items

    def inflate(self, count: int) -> None:
        """Count decompressed bytes.

        Parameters
        ----------
        count : int
            Number of bytes.

        Raises
        ------
        MatFileError
            If there are more than the bound allows.
        """
        self._bytes_left -= count
        if self._bytes_left < 0:
            self._refuse()

    def check_array(self, count: int) -> None:
        """Check the size of one array, which is read in parts or not at all.

        Parameters
        ----------
        count : int
            Its decompressed bytes.

        Raises
        ------
        MatFileError
            If it has more than the bound allows.
        """
        if count > self._bytes:
            self._refuse()

    def item(self, name: str) -> None:
        """Count a variable, field or cell.

        Parameters
        ----------
        name : str
            Its name; long ones count several times.

        Raises
        ------
        MatFileError
            If there are more than the bound allows.
        """
        self._items_left -= 1 + len(name) // 256
        if self._items_left < 0:
            raise MatFileError(
                f"{self._path}: has more than {self._items} fields and cells, more than a file of its size can hold"
                " with data; save the channels alone"
            )

    def _refuse(self) -> None:
        raise MatFileError(
            f"{self._path}: decompresses to more than {self._bytes / 1e6:.0f} MB, the limit for a file of its size;"
            f" give a --max-inflate above {self._ratio:g} (Python: matlab_io.max_inflate) if its source is trusted"
        )
