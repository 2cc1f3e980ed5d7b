"""Serialised PMTs with a few bytes changed: decoded to what encodes to the same value, or refused in one line."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from nflae_bridge.live.gnuradio import pmt
from nflae_bridge.live.gnuradio.pmt import Pair, PmtError, Vector

BYTES = 50e6


def value(chance: random.Random, depth: int = 0) -> Any:
    """A PMT of a seed."""
    kinds = 9 if depth > 3 else 14
    kind = chance.randrange(kinds)
    scalars = [None, True, "freq", 7, -(2**40), np.uint64(2**63), 1.5, 1 - 2j]
    if kind < len(scalars):
        return scalars[kind]
    if kind == 8:
        dtype = chance.choice(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16"])
        return np.arange(chance.randrange(40)).astype(dtype)
    parts = [value(chance, depth + 1) for _ in range(chance.randrange(1, 4))]
    if kind == 9:
        return Pair(parts[0], "end")
    if kind == 10:
        return {f"key{index}": part for index, part in enumerate(parts)}
    return {11: parts, 12: tuple(parts), 13: Vector(parts)}[kind]


def hostile(seed: int) -> bytes:
    """The bytes of a seed."""
    chance = random.Random(seed)
    content = bytearray(pmt.encode(value(chance)))
    if chance.random() < 0.05:
        content = bytearray([7] * chance.randrange(1, 100_000))  # pairs in pairs
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(content)) if content else 0
        action = chance.randrange(4)
        if action == 0 and content:
            content[at] = chance.choice([0, 0x7F, 0xFF, chance.randrange(256)])
        elif action == 1:
            content[at : at + 4] = b"\xff\xff\xff\xff"
        elif action == 2:
            del content[at:]
        else:
            content[at:at] = content[at : at + 16]
    return bytes(content)


def attempt(seed: int, folder: Path) -> list[str]:
    """What decoding the bytes of a seed must not do, in words."""
    content = hostile(seed)
    tracemalloc.start()
    try:
        decoded = pmt.decode(content)
    except PmtError as error:
        return [] if "\n" not in str(error) else [f"refused in several lines: {error}"]
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    found = [f"takes {peak / 1e6:.0f} MB"] if peak > BYTES else []
    try:
        again = pmt.decode(pmt.encode(decoded))
    except PmtError as error:
        return [*found, f"decoded to what cannot be encoded: {error}"]
    return found if repr(again) == repr(decoded) else [*found, f"{decoded!r} became {again!r}"]
