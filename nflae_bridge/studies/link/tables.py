"""Write the results of a link study as CSV; every function returns a file's content."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from nflae_bridge.studies.link.sweep import Point
from simulator.link_level.counting import Counts, Tally

_FIRST = ["scheme", "snr_db"]
_COLUMNS = (
    *("blocks", "block_errors", "bler", "bler_low", "bler_high"),
    *("bits", "bit_errors", "ber", "ber_low", "ber_high"),
    *("evm_db", "sinr_db", "served_share", "near_field_share", "goodput", "se", "expected_se"),
)


def goodput(tally: Tally, channel_uses: int) -> Counts:
    """Compute the information bits of error-free blocks over all channel uses, blocks not sent included.

    Parameters
    ----------
    tally
        Counts.
    channel_uses
        Channel uses per block.

    Returns
    -------
    ndarray
        Goodput per user, bps/Hz, one entry per entry of the counts.
    """
    return tally.delivered_bits / (tally.chances * channel_uses)


def summary_table(points: Sequence[Point], users: int, channel_uses: int) -> bytes:
    """Tabulate schemes and SNRs: error rates over all blocks of all users, goodput and SE summed over users.

    Parameters
    ----------
    points
        The sweep's SNRs.
    users
        Users per drop.
    channel_uses
        Channel uses per block.

    Returns
    -------
    bytes
        Content of the CSV file.
    """
    rows = (
        [scheme, f"{point.snr_db:g}", *row, "errors" if point.stopped else "drops"]
        for point in points
        for scheme, found in point.sums.items()
        for row in _rows(found.pooled(), channel_uses, users)
    )
    return _csv([*_FIRST, *_COLUMNS, "stopped_by"], rows)


def users_table(points: Sequence[Point], channel_uses: int) -> bytes:
    """Tabulate schemes, SNRs and users, counted from 1.

    Parameters
    ----------
    points
        The sweep's SNRs.
    channel_uses
        Channel uses per block.

    Returns
    -------
    bytes
        Content of the CSV file.
    """
    rows = (
        [scheme, f"{point.snr_db:g}", str(user), *row]
        for point in points
        for scheme, found in point.sums.items()
        for user, row in enumerate(_rows(found, channel_uses, 1), start=1)
    )
    return _csv([*_FIRST, "user", *_COLUMNS], rows)


def timeline_table(points: Sequence[Point], drops: npt.NDArray[np.int64], users: int, channel_uses: int) -> bytes:
    """Tabulate schemes, SNRs and drops, counted from 1 as in the file, over whole passes over the file.

    Parameters
    ----------
    points
        The sweep's SNRs.
    drops
        Indices of the drops, int64.
    users
        Users per drop.
    channel_uses
        Channel uses per block.

    Returns
    -------
    bytes
        Content of the CSV file.
    """
    rows = (
        [scheme, f"{point.snr_db:g}", str(drop + 1), *row]
        for point in points
        for scheme in point.sums
        for drop, row in zip(drops, _rows(point.series(scheme), channel_uses, users), strict=True)
    )
    return _csv([*_FIRST, "drop", *_COLUMNS], rows)


def _rows(found: Tally, channel_uses: int, users: int) -> list[list[str]]:
    bler_low, bler_high = found.block_interval()
    ber_low, ber_high = found.bit_interval()
    columns: list[tuple[Counts, str]] = [
        *((found.blocks, ".0f"), (found.block_errors, ".0f")),
        *((found.bler, ".4e"), (bler_low, ".4e"), (bler_high, ".4e")),
        *((found.bits, ".0f"), (found.bit_errors, ".0f")),
        *((found.ber, ".4e"), (ber_low, ".4e"), (ber_high, ".4e")),
        *((found.evm_db, ".4f"), (found.sinr_db, ".4f")),
        *((found.blocks / found.chances, ".6f"), (found.near_field / found.chances, ".6f")),
        (users * goodput(found, channel_uses), ".6f"),
        *((users * found.rate / found.chances, ".6f"), (users * found.expected_rate / found.chances, ".6f")),
    ]
    return [
        ["" if math.isnan(values[entry]) else f"{values[entry]:{form}}" for values, form in columns]
        for entry in range(len(found.blocks))
    ]


def _csv(header: list[str], rows: Iterable[list[str]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
