"""Read the files given as arguments, without PyTorch; print refusals, CPU seconds and peak memory of each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.fuzz.mutated_files import read_both_ways


def main(paths: list[str]) -> None:
    """Print one line of JSON per file."""
    for path in paths:
        said, seconds = zip(*read_both_ways(Path(path)), strict=True)
        status = Path("/proc/self/status").read_text()
        memory = int(status.split("VmHWM:")[1].split()[0]) / 1024  # not ru_maxrss, which counts the parent's
        print(json.dumps({"path": path, "outcomes": said, "seconds": max(seconds), "memory": memory}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
