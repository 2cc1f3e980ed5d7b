"""Files of every version and crafted ones with a few bytes changed, cut, doubled or inserted."""

from __future__ import annotations

import contextlib
import random
import struct
import tempfile
import time
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from matlab_io import MatFileError, find_arrays, open_channels, write_channels
from tests.fuzz.crafted_files import CRAFTED

SECONDS = 2.0
MEGABYTES = 300.0
VERSIONS = ("4", "6", "7", "7 inside", "7.3", "npy", "npz")
CRAFTED_SHARE = 0.003  # they take a hundred times as long as the others


@cache
def whole(version: str) -> bytes:
    """A small file: channels, a scalar, a string and a struct."""
    rng = np.random.default_rng(0)
    drops = 1 if version == "4" else 3
    channels = (rng.standard_normal((drops, 2, 5)) + 1j * rng.standard_normal((drops, 2, 5))).astype(np.complex64)
    extra = {"noise_power": 0.25, "name": "uav"}
    more = {} if version == "4" else {"site": {"x": np.ones((2, 3)), "name": "mast"}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.mat"
        if version == "npy":
            with path.open("wb") as file:
                np.save(file, channels)
            return path.read_bytes()
        if version == "npz":
            with path.open("wb") as file:
                np.savez_compressed(file, H=channels, noise_power=np.float64(0.25))
            return path.read_bytes()
        stored = version.split()[0]
        write_channels(path, [channels], users=2, antennas=5, drops=drops, version=stored, extra=extra | more)
        return path.read_bytes()


@cache
def crafted(name: str) -> bytes:
    """A file of `crafted_files`."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # names in it depend on no folder
        path = Path("crafted.mat")
        CRAFTED[name](path)
        return path.read_bytes()


def mutated(seed: int) -> bytes:
    """The file of a seed."""
    chance = random.Random(seed)
    if chance.random() < CRAFTED_SHARE:
        return bytes(_mutate(bytearray(crafted(chance.choice(list(CRAFTED)))), chance))
    version = chance.choice(VERSIONS)
    content = whole(version)
    if version == "7 inside":  # the bytes behind the compression, compressed again
        start = 128
        out = bytearray(content[:start])
        while start < len(content):
            kind, count = struct.unpack_from("<2I", content, start)
            inner = _mutate(bytearray(zlib.decompress(content[start + 8 : start + 8 + count])), chance)
            packed = zlib.compress(bytes(inner))
            out += struct.pack("<2I", kind, len(packed)) + packed
            start += 8 + count
        return bytes(out)
    return bytes(_mutate(bytearray(content), chance))


def _mutate(content: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        if not content:
            break
        at = chance.randrange(len(content))
        action = chance.randrange(8)
        if action < 4:
            content[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        elif action == 4:
            content[at : at + 4] = struct.pack("<I", chance.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**16, 10**6]))
        elif action == 5:
            del content[at : at + chance.choice([1, 4, 8, 100])]
        elif action == 6:
            content[at:at] = content[at : at + chance.choice([8, 64, 500])]
        else:
            content[at:at] = bytes(chance.randrange(256) for _ in range(chance.choice([1, 8])))
    return content


def attempt(seed: int, folder: Path) -> list[str]:
    """What reading the file of a seed must not do, in words."""
    path = folder / "mutated.mat"
    path.write_bytes(mutated(seed))
    before = _megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again here
    found = []
    outcomes = read_both_ways(path)
    for said, seconds in outcomes:
        if said and not (said.startswith(f"{path}: ") and "\n" not in said and len(said) < 2000):
            found.append(f"refused with {said[:300]!r}")
        if seconds > SECONDS:
            found.append(f"takes {seconds:.1f} s")
    if (memory := _megabytes("VmHWM") - before) > MEGABYTES:
        found.append(f"takes {memory:.0f} MB")
    return found


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def read_both_ways(path: Path) -> list[tuple[str, float]]:
    """Read a file in each way: the refusal, "" where it was read, and the CPU seconds."""

    def channels() -> None:
        with open_channels(path, allow_real=True) as file:
            file.read(0, min(file.drops, 1000))

    outcomes = []
    for way in (channels, lambda: find_arrays(path, lambda name: True)):
        start = time.process_time()
        said = ""
        try:
            way()
        except MatFileError as error:
            said = str(error)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        outcomes.append((said, time.process_time() - start))
    return outcomes
