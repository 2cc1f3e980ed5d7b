"""Compare `nflae precode` of a large -v7.3 file with bare h5py that reads the same bytes and writes equal results.

The script makes a file of scenario `paper` (256 antennas, 10 users), then runs in turns, so that other load on the
machine affects both alike:

    precode   `nflae precode`, a process of its own, timed from its start to its end, and by its own report: without
              start-up and without forcing the results to the disk
    bare      a process with h5py and NumPy alone that reads H and writes arrays of the names, shapes and types of the
              results, in blocks as large; timed from its start to its end, and without start-up

Both read a file in the system's cache, and write into the cache: the strictest comparison. With ``--disk`` the file is
dropped from the cache before every run and bare h5py too forces its results to the disk, as for a recording that is
opened for the first time; only whole processes are compared then.

The processor time of the whole processes, of all threads together, is compared too: other load on the machine affects
it less.

Files are in single precision and not compressed, as `nflae` writes them, so that reading takes little time. With
``--deflated`` they are as MATLAB's `save -v7.3` makes them by default, in double precision and deflated.

    python benchmarks/precode_file.py --gigabytes 2 -o precode_file.md
    python benchmarks/precode_file.py --gigabytes 2 --effort fast
    python benchmarks/precode_file.py --gigabytes 2 --disk
    python benchmarks/precode_file.py --gigabytes 2 --deflated
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

ANTENNAS, USERS = 256, 10
DRAWN = 4096  # drops that are drawn; a larger file repeats them
KINDS = ("precode", "bare")


def repeated(drops: int) -> Iterator[npt.NDArray[np.complex64]]:
    """Yield channels of scenario `paper`, repeated, so that making the file takes little time."""
    from simulator.channels.sources import Request, draw

    drawn = np.concatenate(list(draw("paper", Request(drops=min(drops, DRAWN), users=USERS, antennas=ANTENNAS)).blocks))
    for start in range(0, drops, len(drawn)):
        yield drawn[: min(len(drawn), drops - start)]


def deflated(plain: Path, target: Path) -> None:
    """Copy a channel file in double precision and compressed; MATLAB uses level 3."""
    with h5py.File(plain) as single, h5py.File(target, "w", userblock_size=512) as double:
        H = single["H"]
        parts = np.dtype([("real", "f8"), ("imag", "f8")])
        dataset = double.create_dataset(
            "H", H.shape, parts, chunks=(8, *H.shape[1:]), compression="gzip", compression_opts=3
        )
        dataset.attrs["MATLAB_class"] = np.bytes_("double")
        for start in range(0, len(H), 1024):
            block = H[start : start + 1024].astype(parts)
            for name in parts.names or ():
                block[name] *= np.pi / 3  # no trailing zero digits, which would compress too well
            dataset[start : start + 1024] = block
    with plain.open("rb") as single_file, target.open("r+b") as double_file:
        double_file.write(single_file.read(512))  # MATLAB's header


def bare(source: Path, results: Path, target: Path, block: int, disk: bool) -> float:
    """Read H of `source` and write arrays like those of `results` to `target`, block by block.

    With `disk` the output is forced to the disk. Returns the duration, s.
    """
    began = time.perf_counter()
    with h5py.File(source) as channels, h5py.File(results) as like, h5py.File(target, "w") as output:
        H = channels["H"]
        names = [name for name, item in like.items() if isinstance(item, h5py.Dataset)]
        written = {name: output.create_dataset(name, like[name].shape, like[name].dtype) for name in names}
        parts = {name: np.ones((block, *item.shape[1:]), item.dtype) for name, item in written.items()}
        for start in range(0, len(H), block):
            read = H[start : start + block]
            for name, item in written.items():
                # The block read is written where it needs no conversion, which is slow in HDF5.
                same = name == "precoder" and read.dtype == item.dtype
                item[start : start + len(read)] = read if same else parts[name][: len(read)]
    if disk:
        on_disk(target)
    return time.perf_counter() - began


def on_disk(path: Path, forget: bool = False) -> None:
    """Force a file to the disk, and with `forget` drop it from the system's cache."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
        if forget:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def run(
    kind: str, source: Path, results: Path, target: Path, options: argparse.Namespace
) -> tuple[float, float, float]:
    """Return the duration of the whole process and of its work alone, and its processor time, s."""
    if kind == "precode":
        command = [sys.executable, "-m", "nflae_bridge.cli", "precode", str(source), "-o", str(target)]
        command += ["--scheme", options.scheme, "--device", options.device]
        command += ["--effort", options.effort] if options.effort else []
    else:
        command = [sys.executable, __file__, "--bare", str(source), str(results), str(target)]
        command += ["--block", str(options.block), *(["--disk"] if options.disk else [])]
    if options.disk:
        on_disk(source, forget=True)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout
    whole, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    found = re.search(r"in ([\d.]+) s", output)
    assert found is not None, output
    return whole, float(found[1]), processor


def table(seconds: dict[str, list[tuple[float, float, float]]], drops: int, disk: bool) -> str:
    """Format medians and their ratios; with `disk` only those of whole processes."""
    whole, work, processor = (
        {kind: float(np.median([run[at] for run in seconds[kind]])) for kind in KINDS} for at in range(3)
    )
    lines = ["| | precode, s | bare h5py, s | ratio | drops/s |", "|---|---|---|---|---|"]
    rows = [("whole process", whole), ("without start-up", work), ("processor time, whole process", processor)]
    for name, median in rows[:1] if disk else rows:
        precode, bare_h5py = median["precode"], median["bare"]
        rate, ratio = drops / precode, precode / bare_h5py
        lines.append(f"| {name} | {precode:.2f} | {bare_h5py:.2f} | {ratio:.2f} | {rate:.0f} |")
    return "\n".join(lines) + "\n"


def measured(folder: Path, options: argparse.Namespace) -> str:
    """Make the file, run both in turns and return the table."""
    from matlab_io import write_channels

    drops = max(1, round(options.gigabytes * 1e9 / ((16 if options.deflated else 8) * ANTENNAS * USERS)))
    source, results, target = folder / "channels.mat", folder / "like.mat", folder / "out.mat"
    write_channels(source, repeated(drops), users=USERS, antennas=ANTENNAS, drops=drops, version="7.3")
    if options.deflated:
        plain = source.rename(folder / "plain.mat")
        deflated(plain, source)
        plain.unlink()
    seconds: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    run(
        "precode", source, results, results, options
    )  # not counted: it fills the caches, and `bare` writes arrays like its results
    for turn in range(options.rounds):
        for kind in KINDS if turn % 2 else reversed(KINDS):
            seconds[kind].append(run(kind, source, results, target, options))
            target.unlink()
            print(f"{kind}: {seconds[kind][-1][0]:.2f} s, of it work {seconds[kind][-1][1]:.2f} s", file=sys.stderr)
    size = f"{ANTENNAS} antennas, {USERS} users, {drops} drops: {source.stat().st_size / 1e9:.2f} GB"
    storage = "from disk to disk" if options.disk else "in the cache"
    storage += ", double precision deflated" if options.deflated else ""
    effort = f" --effort {options.effort}" if options.effort else ""
    heading = f"{size}; {options.scheme}{effort}, {os.cpu_count()} cores, {options.rounds} rounds, {storage}"
    return f"{heading}\n\n{table(seconds, drops, options.disk)}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the table to this file too")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the channel file (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--scheme", default="nflae", help="precoding scheme (default: nflae)")
    parser.add_argument("--effort", choices=("fast", "balanced", "best"), help="effort of precode (default: best)")
    parser.add_argument("--device", default="cpu", help="device of precode (default: cpu)")
    parser.add_argument("--block", type=int, default=256, help="drops bare h5py reads at a time (default: 256)")
    parser.add_argument("--disk", action="store_true", help="from disk to disk instead of from cache to cache")
    parser.add_argument("--deflated", action="store_true", help="double precision and deflated, as MATLAB does")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary folder)")
    parser.add_argument("--bare", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(f"in {bare(*options.bare, options.block, options.disk):.3f} s")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        text = measured(Path(folder), options)
    print(text, end="")
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
