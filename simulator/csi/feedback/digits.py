"""Pack numbers into exactly B bits: digits of a mixed radix, subsets by rank, bytes with the first bit highest."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from math import comb

import numpy as np
import numpy.typing as npt


def join_digits(digits: Sequence[int], radices: Sequence[int]) -> int:
    """Return the number that digits form in a mixed radix, the first digit highest.

    Parameters
    ----------
    digits, radices
        Digits, each from 0 to its radix - 1.

    Returns
    -------
    int
        Number from 0 to the product of the radices - 1.
    """
    number = 0
    for digit, radix in zip(digits, radices, strict=True):
        number = number * radix + digit
    return number


def split_digits(number: int, radices: Sequence[int]) -> list[int]:
    """Invert `join_digits`.

    Parameters
    ----------
    number
        The number.
    radices
        Radices, the highest digit's first.

    Returns
    -------
    list of int
        Digits.
    """
    digits = []
    for radix in reversed(radices):
        number, digit = divmod(number, radix)
        digits.append(digit)
    return digits[::-1]


@cache
def _binomials(size: int, count: int) -> tuple[int, ...]:
    """Return C(n, count) for n = 0 ... size - 1."""
    return tuple(comb(n, count) for n in range(size))


def subset_rank(members: Sequence[int], size: int) -> int:
    """Compute the rank of a subset in the combinatorial number system, sum_i C(c_i, i) for c_1 < c_2 < ...

    Parameters
    ----------
    members
        Members of the subset, ascending, from 0 to ``size`` - 1.
    size
        Number of elements of the whole set.

    Returns
    -------
    int
        Rank from 0 to C(size, members) - 1.
    """
    return sum(_binomials(size, place)[member] for place, member in enumerate(members, 1))


def subset_of_rank(rank: int, count: int, size: int) -> list[int]:
    """Invert `subset_rank`.

    Parameters
    ----------
    rank
        Rank of the subset.
    count
        Number of its members.
    size
        Number of elements of the whole set.

    Returns
    -------
    list of int
        Members, ascending.
    """
    members = []
    for place in range(count, 0, -1):
        column = _binomials(size, place)
        member = bisect_right(column, rank) - 1
        members.append(member)
        rank -= column[member]
    return members[::-1]


def pack_reports(numbers: Sequence[int], bits: int) -> npt.NDArray[np.uint8]:
    """Write numbers of B bits as bytes, the first bit highest, the last byte padded with zeros.

    Parameters
    ----------
    numbers
        One per report, from 0 to 2^B - 1.
    bits
        B.

    Returns
    -------
    ndarray
        uint8 (reports, ceil(B / 8)).
    """
    length = -(-bits // 8)
    padding = 8 * length - bits
    packed = b"".join((number << padding).to_bytes(length, "big") for number in numbers)
    return np.frombuffer(packed, np.uint8).reshape(len(numbers), length).copy()


def unpack_reports(packed: npt.NDArray[np.uint8], bits: int) -> list[int]:
    """Invert `pack_reports`.

    Parameters
    ----------
    packed
        uint8 (reports, ceil(B / 8)).
    bits
        B.

    Returns
    -------
    list of int
        Numbers from 0 to 2^B - 1.
    """
    padding = 8 * packed.shape[1] - bits
    return [int.from_bytes(row.tobytes(), "big") >> padding for row in packed]
