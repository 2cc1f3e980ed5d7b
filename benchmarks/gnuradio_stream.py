"""Measure the speed of `nflae stream`, and count the vectors that it loses, reorders or alters.

    GNU Radio file source -> ZMQ PUSH Sink -> nflae stream -> ZMQ PULL Source -> file sink

at full speed; then every vector received is compared with the result of `nflae_bridge.precode` for the vector
sent. Needs GNU Radio 3.10, whose Python (``--gnuradio-python``) runs the flowgraph.

    python benchmarks/gnuradio_stream.py
    python benchmarks/gnuradio_stream.py --scheme nflae --items 20000 -o gnuradio_stream.md
    python benchmarks/gnuradio_stream.py --scheme nflae --antennas 256 --users 8 --items 5000
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOLERANCE = 1e-6
BLOCK = 1000


def flowgraph(source: str, target: str, items: int, length: int, csi: str, precoders: str) -> None:
    """Run the GNU Radio side; print the seconds between the start and the last vector."""
    from gnuradio import blocks, gr, zeromq

    size = gr.sizeof_gr_complex
    sending, receiving = gr.top_block(), gr.top_block()
    sending.connect(blocks.file_source(size * length, source, False), zeromq.push_sink(size, length, csi))
    head = blocks.head(size * length, items)
    receiving.connect(zeromq.pull_source(size, length, precoders), head, blocks.file_sink(size * length, target))
    receiving.start()
    began = time.monotonic()
    sending.start()
    while head.nitems_written(0) < items and time.monotonic() - began < 600:
        time.sleep(0.005)
    seconds = time.monotonic() - began
    received = head.nitems_written(0)
    time.sleep(0.2)  # duplicates, if any, arrive in this time
    for part in (sending, receiving):
        part.stop()
        part.wait()
    print(json.dumps({"seconds": seconds, "received": received}))


def free_address() -> str:
    """Return a loopback address with a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run once, compare the vectors, and return the row of the table."""
    import numpy as np

    items, users, antennas = arguments.items, arguments.users, arguments.antennas
    sent, received = folder / "sent.c64", folder / "received.c64"
    rng = np.random.default_rng(0)
    shape = (items, users, antennas)
    channels = np.memmap(sent, np.complex64, "w+", shape=shape)
    for start in range(0, items, BLOCK):
        parts = rng.standard_normal((min(BLOCK, items - start), users, antennas, 2), np.float32)
        channels[start : start + BLOCK] = parts.view(np.complex64)[..., 0] / np.sqrt(2 * antennas)
    channels.flush()
    csi, precoders = free_address(), free_address()
    command = [sys.executable, "-m", "nflae_bridge.cli", "stream", "--users", users, "--antennas", antennas]
    command += ["--scheme", arguments.scheme, "--max-batch", arguments.max_batch]
    command += ["--csi", f"pull:{csi}", "--precoders", f"push:{precoders}"]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as stream:
        assert stream.stderr is not None
        for line in stream.stderr:
            if "event=ready" in line:
                break
        graph = [arguments.gnuradio_python, __file__, "--flowgraph", sent, received, items, users * antennas]
        done = subprocess.run([*map(str, graph), csi, precoders], capture_output=True, text=True, check=False)
        stream.send_signal(signal.SIGTERM)
        log = stream.stderr.read()
    if done.returncode:
        raise SystemExit(done.stderr)
    describe = json.loads(done.stdout)
    counts = dict(re.findall(r"(\w+)=(\d+)", log.split("event=stopped")[1]))
    rows = np.fromfile(received, np.complex64).reshape(-1, users, antennas)
    reordered, altered, largest = compare(channels, rows, arguments.scheme)
    return {
        "size": f"{antennas} x {users}",
        "scheme": arguments.scheme,
        "sent": items,
        "lost": items - len(rows),
        "reordered": reordered,
        "altered": altered,
        "largest difference": f"{largest:.1e}",
        "vectors/s": f"{len(rows) / describe['seconds']:.0f}",
        "MB/s each way": f"{8e-6 * rows.size / describe['seconds']:.0f}",
        "counted by nflae": f"{counts['received']} in, {counts['sent']} out",
    }


def compare(channels: Any, rows: Any, scheme: str) -> tuple[int, int, float]:
    """Count reordered and altered vectors, and return the largest difference of the others."""
    import numpy as np

    from nflae_bridge import precode

    reordered, altered, largest = 0, 0, 0.0
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        # Neighbours too, to distinguish a reordered vector from an altered one.
        first = max(0, start - BLOCK)
        around = precode(np.array(channels[first : start + 2 * BLOCK]), scheme=scheme).precoder
        expected = around[start - first : start - first + len(block)]
        difference = np.abs(block - expected).max((1, 2))
        wrong = np.flatnonzero(~(difference <= TOLERANCE))
        largest = max(largest, float(np.delete(difference, wrong).max(initial=0)))
        for place in wrong:
            elsewhere = (np.abs(around - block[place]).max((1, 2)) <= TOLERANCE).any()
            reordered += int(elsewhere)
            altered += int(not elsewhere)
    return reordered, altered, largest


def main() -> None:
    """Run the measurement and print the table; run the flowgraph with ``--flowgraph``."""
    if sys.argv[1:2] == ["--flowgraph"]:
        source, target, items, length, csi, precoders = sys.argv[2:]
        flowgraph(source, target, int(items), int(length), csi, precoders)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000, help="vectors to send (default 100000)")
    parser.add_argument("--antennas", type=int, default=64)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--scheme", default="mrt")
    parser.add_argument("--max-batch", type=int, default=64)
    parser.add_argument("--gnuradio-python", default="/usr/bin/python3")
    parser.add_argument("-o", "--output", type=Path, help="file to write the table to as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measure(arguments, Path(folder))
    row["CPU cores"] = os.cpu_count()
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in row.items())])
    print(table)
    if arguments.output is not None:
        arguments.output.write_text(table + "\n")


if __name__ == "__main__":
    main()
