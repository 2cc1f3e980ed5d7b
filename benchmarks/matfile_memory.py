"""Measure the peak memory of processing a large -v7.3 file, which the block must bound, not the file.

The script makes a channel file of the given size, then runs two child processes and reports the peak resident memory
and the time of each:

    read      opens the file and reads it in blocks
    results   also writes a -v7.3 result of the same shape, block by block

or, with --command, a given command in which {input} and {output} stand for the files:

    python benchmarks/matfile_memory.py --gib 4
    python benchmarks/matfile_memory.py --gib 4 --command "nflae precode {input} -o {output} --scheme zf"

The memory of the imports alone is measured as `imports`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from matlab_io import ResultFile, open_channels, write_channels
from matlab_io.result import RESULT_ARRAYS

ANTENNAS, USERS = 256, 8


def repeated(drops: int, block: int) -> Iterator[npt.NDArray[np.complex64]]:
    """Yield one random block of drops repeatedly, so that making the file takes little time."""
    rng = np.random.default_rng(0)
    shape = (block, USERS, ANTENNAS)
    channels = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    for start in range(0, drops, block):
        yield channels[: min(block, drops - start)]


def work(source: Path, target: Path | None, block: int) -> None:
    """Read every drop of `source`; with a `target`, write a result of that shape too."""
    with open_channels(source) as file:
        if target is None:
            for start in range(0, file.drops, block):
                file.read(start, min(start + block, file.drops))
            return
        with ResultFile(
            target,
            version="7.3",
            antennas=file.antennas,
            users=file.users,
            drop_axes=file.drop_axes,
            convention=file.convention,
            info={"scheme": "mrt"},
            inputs=(source,),
        ) as result:
            for start in range(0, file.drops, block):
                channels = file.read(start, min(start + block, file.drops))
                gain = np.linalg.norm(channels, axis=-1)
                others = RESULT_ARRAYS[1:]
                arrays = {entry.name: np.ones(entry.shape(*channels.shape), entry.dtype) for entry in others}
                result.write(start, {"precoder": channels / gain[..., np.newaxis], **arrays})


# Run by a small process in between, since Linux adds the memory of the parent process to that of a command.
METER = """
import json, resource, subprocess, sys
status = subprocess.run(sys.argv[1:], check=False).returncode
print(json.dumps([status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Return the peak resident memory of a command, MiB, and its time, s; exit if it fails."""
    started = time.perf_counter()
    meter = [sys.executable, "-c", METER, *command]
    output = subprocess.run(meter, stdout=subprocess.PIPE, text=True, check=True).stdout
    *shown, last = output.splitlines()
    print(*shown, sep="\n", end="\n" if shown else "")
    status, peak = json.loads(last)
    if status:
        raise SystemExit(f"{shlex.join(command)} failed with status {status}")
    unit = 1 if sys.platform == "darwin" else 1024
    return peak * unit / 2**20, time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the channel file (default 4)")
    parser.add_argument("--block", type=int, default=256, help="drops read at a time (default 256)")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary folder)")
    parser.add_argument("--command", help="measure this command instead, with {input} and {output}")
    parser.add_argument("--child", choices=["imports", "read", "results"], help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.child != "imports":
            target = options.source.with_name("result.mat") if options.child == "results" else None
            work(options.source, target, options.block)
        return
    drops = max(1, round(options.gib * 2**30 / (8 * ANTENNAS * USERS)))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, target = Path(folder, "channels.mat"), Path(folder, "result.mat")
        blocks = repeated(drops, 1024)
        write_channels(source, blocks, users=USERS, antennas=ANTENNAS, drops=drops, version="7.3")
        print(f"{source.stat().st_size / 2**30:.2f} GiB: {ANTENNAS} x {USERS} x {drops} complex single")
        if options.command:
            command = shlex.split(options.command.format(input=source, output=target))
            runs = {"command": command}
        else:
            this = [
                sys.executable,
                __file__,
                "--source",
                str(source),
                "--block",
                str(options.block),
                "--child",
            ]
            runs = {name: [*this, name] for name in ("imports", "read", "results")}
        for name, command in runs.items():
            memory, seconds = measure(command)
            print(f"{name:8s} peak {memory:7.0f} MiB  {seconds:6.1f} s")


if __name__ == "__main__":
    main()
