"""GNU Octave with our MATLAB client on its path."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

import matlab_io

Octave = Callable[[str], str]


def octave_command(script: str) -> list[str]:
    """The command that runs a script; skips the test where Octave is missing, fails it where CI is set."""
    program = shutil.which("octave-cli")
    if program is None:
        _missing("octave-cli is not installed", "apt-get install octave")
    client = Path(matlab_io.__file__).parent / "matlab"
    options = ["--no-gui", "-q", "--no-history", "--no-init-file", "--path", str(client)]
    return [str(program), *options, "--eval", script]


def require_zeromq() -> None:
    """Skips or fails, as `octave_command` does, where Octave has no ZeroMQ."""
    if not _has_zeromq():
        _missing("Octave has no package zeromq", "apt-get install octave-zeromq")


def run_octave(script: str, folder: Path) -> str:
    """Runs a script in ``folder``; what it printed."""
    done = subprocess.run(octave_command(script), cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@lru_cache
def _has_zeromq() -> bool:
    return subprocess.run(octave_command("pkg load zeromq"), capture_output=True, check=False).returncode == 0


def _missing(what: str, remedy: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI must have it")
    pytest.skip(f"{what} ({remedy})")
