"""Check the sizes of the blocks, and form the signature of an item from them."""

from __future__ import annotations

import math
import operator

import numpy as np

from matlab_io.errors import NflaeError

_MAX_BYTES = 2**31 - 1  # of an item: GNU Radio holds its size in an int


def vector_of(**sizes: int) -> tuple[type[np.complex64], int]:
    """Return the signature of a port of vectors.

    Parameters
    ----------
    **sizes : int
        Sizes whose product is the length of a vector, by the name of the argument.

    Returns
    -------
    dtype : type
        complex64.
    length : int
        Length.

    Raises
    ------
    NflaeError
        If a size is no whole number of at least 1, or the vector is too long for GNU Radio.
    """
    for name, size in sizes.items():
        try:
            whole = operator.index(size)
        except TypeError:
            whole = 0
        if whole < 1:
            raise NflaeError(f"{name} must be a whole number of at least 1, got {size!r}")
    length = math.prod(map(int, sizes.values()))
    if length * np.dtype(np.complex64).itemsize > _MAX_BYTES:
        raise NflaeError(f"{' * '.join(sizes)} = {length} complex numbers: longer than an item of GNU Radio may be")
    return np.complex64, length
