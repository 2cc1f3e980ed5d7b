"""Compare the round trip of 100 drops from Octave with that of the Python client.

Drops have 256 antennas and 10 users: 2 MB per way. Both clients use the same `nflae serve`, in turns, so that other
load on the machine affects both alike:

    python benchmarks/octave_roundtrip.py -o roundtrip.md

The table also has the times of encoding and decoding in Octave, measured without a server.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import matlab_io
from nflae_bridge import Client

ANTENNAS, USERS = 256, 10
CLIENT = Path(matlab_io.__file__).parent / "matlab"

OCTAVE = """
randn('twister', 1);
H = single(randn({antennas}, {users}, {drops})) + 1i * single(randn({antennas}, {users}, {drops}));
c = nflae.Client('{address}');
wanted = {{'Scheme', '{scheme}'}};
for i = 1:5, c.precode(H, wanted{{:}}); end
for i = 1:{calls}
  call = tic; c.precode(H, wanted{{:}}); printf('call %.6f\\n', toc(call));
end
for i = 1:{calls}
  call = tic; [header, payload] = nflae.internal.precode_request(H, wanted); nflae.wire.encode_header(header);
  printf('encode %.6f\\n', toc(call));
end
reply.arrays = struct('name', 'precoder', 'shape', size(H), 'dtype', 'complex64');
for i = 1:{calls}
  call = tic; nflae.wire.decode_arrays(reply, payload, nflae.wire.frame_bytes(reply));
  printf('decode %.6f\\n', toc(call));
end
"""


@contextmanager
def running_server() -> Iterator[str]:
    """Run an `nflae serve` and yield its address."""
    command = [sys.executable, "-m", "nflae_bridge.cli", "serve", "--bind", "tcp://127.0.0.1:*"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(re.findall(r"address=(\S+)", line)[0] for line in process.stderr if "event=listening" in line)
        finally:
            process.terminate()


def from_python(address: str, scheme: str, drops: int, calls: int) -> list[float]:
    """Return the duration of each call, s."""
    rng = np.random.default_rng(1)
    shape = (drops, USERS, ANTENNAS)
    channels = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    seconds = []
    with Client(address) as client:
        for call in range(5 + calls):
            started = time.perf_counter()
            client.precode(channels, scheme=scheme)
            if call >= 5:
                seconds.append(time.perf_counter() - started)
    return seconds


def from_octave(address: str, scheme: str, drops: int, calls: int) -> dict[str, list[float]]:
    """Return the durations of each `call`, `encode` and `decode`, s."""
    script = OCTAVE.format(address=address, scheme=scheme, drops=drops, calls=calls, antennas=ANTENNAS, users=USERS)
    with tempfile.TemporaryDirectory() as folder:
        command = ["octave-cli", "--no-gui", "-q", "--no-history", "--no-init-file", "--path", str(CLIENT)]
        done = subprocess.run([*command, "--eval", script], cwd=folder, capture_output=True, text=True, check=True)
    seconds: dict[str, list[float]] = {}
    for line in done.stdout.splitlines():
        name, figure = line.split()
        seconds.setdefault(name, []).append(float(figure))
    return seconds


def milliseconds(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return 1e3 * float(np.median(seconds))


def row(address: str, scheme: str, drops: int, calls: int, rounds: int) -> str:
    """Measure one row of the table."""
    python: list[float] = []
    octave: dict[str, list[float]] = {"call": [], "encode": [], "decode": []}
    for _ in range(rounds):
        python += from_python(address, scheme, drops, calls)
        for name, seconds in from_octave(address, scheme, drops, calls).items():
            octave[name] += seconds
    octave_ms, python_ms = milliseconds(octave["call"]), milliseconds(python)
    return (
        f"| {scheme} | {drops} | {python_ms:.2f} | {octave_ms:.2f} | {octave_ms / python_ms:.2f} |"
        f" {milliseconds(octave['encode']):.2f} | {milliseconds(octave['decode']):.2f} |"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="write the table to this file too")
    parser.add_argument("--drops", type=int, nargs="+", default=[100, 1], help="drops per request (default: 100 1)")
    parser.add_argument("--calls", type=int, default=40, help="calls per round (default: 40)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per client (default: 3)")
    options = parser.parse_args()
    lines = [
        "| scheme | drops | Python, ms | Octave, ms | ratio | of it encoding, ms | decoding the precoders, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    with running_server() as address:
        for drops in options.drops:
            for scheme in ("mrt", "nflae"):
                lines.append(row(address, scheme, drops, options.calls, options.rounds))
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if options.output:
        options.output.write_text(table)


if __name__ == "__main__":
    main()
